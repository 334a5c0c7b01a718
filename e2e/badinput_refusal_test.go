package e2e

import (
	"context"
	"fmt"
	"net/url"
	"strings"
	"testing"

	"cdc-sidecar/fleet"
	"cdc-sidecar/schema"
	"cdc-sidecar/servers"
)

// captures waits until the office's own changes are captured, whoever else is there.
func captures(t *testing.T, o *fleet.Office) {
	t.Helper()
	must(t, fleet.Until(within(t, stuck), string(o.Name)+" is ready", func(ctx context.Context) error {
		s, err := o.Status(ctx)
		if err == nil && !s.Ready {
			err = fmt.Errorf("not ready: %v", s.Reasons())
		}
		return err
	}))
}

func TestWrongBrokerPassword(t *testing.T) {
	bin, set := binary(t, "CDC_RACE_BINARY"), shared.Set(t)
	f := company(t, set, bin,
		fleet.Spec{Name: "head", Role: schema.Head, Database: set.Postgres[0]},
		fleet.Spec{Name: "north", Role: schema.Branch, Database: set.Postgres[1]})
	var l ledger
	must(t, f.Start(within(t, stuck)))
	north := f.Offices[1]
	must(t, north.Stop(within(t, stuck)))
	l.write(t, f.Offices...)

	configure(t, north, ":guest@", ":wr0ng@")
	refused(t, north, "broker", "login", "password in the broker URL")
	diagnosed(t, north, "login", "password in the broker URL")
	configure(t, north, "/"+f.VHost()+"\n", "/elsewhere\n")
	refused(t, north, "broker", "elsewhere", "rabbitmqctl add_vhost elsewhere")
	l.write(t, f.Offices...)

	configure(t, north)
	healthy(t, north)
	l.returns(t, f, north)
	l.settles(t, f)
}

// clerk is a database user of ours with everything but the right to read the log.
type clerk struct {
	office *fleet.Office
	create []string // statements that make it
	lacks  string   // the privilege
	revoke string   // takes away what apply needs
	right  string   // what the message then names
}

func clerks(f *fleet.Fleet) []clerk {
	return []clerk{{
		office: f.Offices[1], lacks: "REPLICATION", right: "INSERT",
		create: []string{
			`CREATE ROLE {clerk} LOGIN PASSWORD 'right'`, `GRANT CREATE ON DATABASE {database} TO {clerk}`, `GRANT ALL ON SCHEMA public TO {clerk}`,
			`ALTER TABLE orders OWNER TO {clerk}`, `ALTER TABLE order_lines OWNER TO {clerk}`,
		},
		revoke: `REVOKE INSERT ON order_lines FROM {clerk}`,
	}, {
		office: f.Offices[2], lacks: "REPLICATION SLAVE", right: "INSERT",
		create: []string{
			`CREATE USER {clerk}@'%' IDENTIFIED BY 'right'`, `GRANT ALL ON cdc_sidecar.* TO {clerk}@'%'`,
			`GRANT SELECT, UPDATE, DELETE ON {database}.* TO {clerk}@'%'`, `GRANT INSERT ON {database}.order_lines TO {clerk}@'%'`,
			`GRANT INSERT ON {database}.orders TO {clerk}@'%'`,
		},
		revoke: `REVOKE INSERT ON order_lines FROM {clerk}@'%'`,
	}}
}

// A wrong password and a missing privilege end the first start; each message's statement, given to the server as it is
// written, mends it. A privilege that is lost later is waited for.
func TestWrongPasswordAndMissingPrivileges(t *testing.T) {
	bin, set := binary(t, "CDC_RACE_BINARY"), shared.Set(t)
	f := company(t, set, bin, three(set)...)
	var l ledger
	must(t, f.Head().Start())
	captures(t, f.Head())
	for _, c := range clerks(f) {
		l.write(t, f.Head())
		c.isRefused(t)
		must(t, c.office.Start())
		captures(t, c.office)
	}
	l.goesOn(t, f)
	for _, c := range clerks(f) {
		must(t, c.office.Exec(within(t, stuck), c.statement(c.revoke)))
		l.write(t, f.Offices...)
		says(t, c.office, "receive is waiting", "order_lines", c.right, "GRANT")
		must(t, c.office.Exec(within(t, stuck), remedies(t, c.office)))
		l.goesOn(t, f)
	}
	l.settles(t, f)
}

func (c clerk) isRefused(t *testing.T) {
	t.Helper()
	for _, s := range c.create {
		must(t, c.office.Exec(within(t, stuck), c.statement(s)))
	}
	u, err := url.Parse(c.office.URL)
	must(t, err)
	u.User = url.UserPassword(c.name(), "wr0ng")
	configure(t, c.office, c.office.URL, u.String())
	refused(t, c.office, "password", "correct")
	diagnosed(t, c.office, "password")
	u.User = url.UserPassword(c.name(), "right")
	configure(t, c.office, c.office.URL, u.String())
	refused(t, c.office, c.lacks)
	fix := diagnosed(t, c.office, c.lacks, c.name()).Fix
	must(t, c.office.Exec(within(t, stuck), firstStatement(fix)))
	healthy(t, c.office)
}

// name is the user's: users belong to the whole server, which other tests share.
func (c clerk) name() string { return c.database() + "_clerk" }

func (c clerk) database() string {
	u, err := url.Parse(c.office.URL)
	if err != nil {
		return ""
	}
	return strings.TrimPrefix(u.Path, "/")
}

func (c clerk) statement(text string) string {
	return strings.NewReplacer("{clerk}", c.name(), "{database}", c.database()).Replace(text)
}

// remedies is the statement that the running sidecar's status names.
func remedies(t *testing.T, o *fleet.Office) string {
	t.Helper()
	s, err := o.Status(within(t, stuck))
	must(t, err)
	for _, reason := range s.Reasons() {
		if _, remedy, ok := strings.Cut(reason, "remedy: "); ok {
			statement, _, _ := strings.Cut(remedy, ", or flow:")
			return statement
		}
	}
	t.Fatalf("no remedy in %q", s.Reasons())
	return ""
}

// Databases and a broker that cannot be reached are waited for, by name, and no restart is needed when they are back.
func TestUnreachableServersAreWaitedFor(t *testing.T) {
	bin, set := binary(t, "CDC_RACE_BINARY"), shared.Set(t)
	own := servers.ForTest(t, servers.Spec{Postgres: 1, MariaDB: 1})
	f := company(t, set, bin,
		fleet.Spec{Name: "head", Role: schema.Head, Database: set.Postgres[0]},
		fleet.Spec{Name: "north", Role: schema.Branch, Database: own.Postgres[0]},
		fleet.Spec{Name: "south", Role: schema.Branch, Database: own.MariaDB[0]})
	head, north, south := f.Offices[0], f.Offices[1], f.Offices[2]
	must(t, own.Postgres[0].Stop(within(t, stuck)))
	must(t, own.MariaDB[0].Stop(within(t, stuck)))
	head.Link.Cut()
	for _, o := range f.Offices {
		must(t, o.Start())
	}
	var l ledger
	captures(t, head) // whatever the broker does
	l.write(t, head)
	says(t, head, "ship is waiting", address(t, head.Link.URL))
	for _, o := range []*fleet.Office{north, south} {
		says(t, o, "capture is waiting", address(t, o.URL))
		diagnosedAway(t, o, address(t, o.URL))
	}
	diagnosedAway(t, head, address(t, head.Link.URL))

	must(t, own.Postgres[0].Start(within(t, stuck)))
	must(t, own.MariaDB[0].Start(within(t, stuck)))
	must(t, head.Link.Restore())
	reconnect(t, north, south)
	l.goesOn(t, f)
	l.settles(t, f)
}

// reconnect has the applications notice that the connections which they have to a restarted server are gone.
func reconnect(t *testing.T, offices ...*fleet.Office) {
	t.Helper()
	for _, o := range offices {
		must(t, fleet.Until(within(t, stuck), string(o.Name)+"'s application is connected", func(ctx context.Context) error {
			return o.Exec(ctx, `SELECT 1`)
		}))
	}
}

func address(t *testing.T, text string) string {
	t.Helper()
	u, err := url.Parse(text)
	must(t, err)
	return u.Host
}

// diagnosedAway wants doctor to say that nothing answers at the address; there is no statement that mends that.
func diagnosedAway(t *testing.T, o *fleet.Office, address string) {
	t.Helper()
	for _, f := range doctor(t, o) {
		if f.Severity == schema.Failure && strings.Contains(f.Message+f.Cause, address) {
			return
		}
	}
	t.Errorf("doctor for %s says nothing of %s", o.Name, address)
}
