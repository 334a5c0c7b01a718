package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"cdc-sidecar/admin"
	"cdc-sidecar/fleet"
	"cdc-sidecar/schema"
	"cdc-sidecar/servers"
)

// filled is a company of three that have the same rows from before any sidecar came.
func filled(t *testing.T, set *servers.Set, bin string, rows int, offices ...fleet.Spec) *fleet.Fleet {
	t.Helper()
	return companyOf(t, fleet.Options{
		Broker: set.RabbitMQ[0], Binary: bin, Offices: offices,
		Schema: func(ctx context.Context, o *fleet.Office) error {
			if err := fleet.CreateTables(ctx, o); err != nil {
				return err
			}
			return fill(ctx, o, rows)
		},
	})
}

// behind runs statements that the sidecar of a branch does not see as its applications' changes: they are not in MariaDB's
// log, and in Postgres' they look like what the sidecar itself applies.
func behind(t *testing.T, o *fleet.Office, statements ...string) {
	t.Helper()
	db, err := o.DB()
	must(t, err)
	conn, err := db.Conn(within(t, stuck))
	must(t, err)
	first, last := []string{"BEGIN", "UPDATE cdc_sidecar.progress SET chunks = chunks + 1 WHERE office = '" + string(o.Name) + "'"}, "COMMIT"
	if !o.Postgres() {
		first, last = []string{"SET SESSION sql_log_bin = 0"}, "SET SESSION sql_log_bin = 1"
	}
	for _, s := range slices.Concat(first, statements, []string{last}) {
		if _, err := conn.ExecContext(within(t, stuck), s); err != nil {
			t.Fatalf("%s: %s: %v", o.Name, s, err)
		}
	}
	must(t, conn.Close())
}

// answered is what a verb prints with --json.
type answered struct {
	Command string         `json:"command"`
	OK      bool           `json:"ok"`
	Error   *string        `json:"error"`
	Summary map[string]any `json:"summary"`
	Result  admin.Job      `json:"result"`
}

// asked runs a verb with --json and wants an exit code of it.
func asked(t *testing.T, o *fleet.Office, bin string, want int, args ...string) answered {
	t.Helper()
	stdout, stderr, code := ask(t, o, bin, append(args, "--json")...)
	var a answered
	decoder := json.NewDecoder(strings.NewReader(stdout))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&a); err != nil {
		t.Fatalf("%s at %s: %v\n%s\n%s", args, o.Name, err, stdout, stderr)
	}
	if code != want || a.OK != (want == 0) || a.Command != args[0] {
		t.Errorf("%s at %s: exit code %d, want %d\n%s\n%s", args, o.Name, code, want, stdout, stderr)
	}
	return a
}

// found runs verify for people and wants just these lines, in any order, and the exit code that goes with them.
func found(t *testing.T, o *fleet.Office, bin string, want []string, args ...string) {
	t.Helper()
	stdout, stderr, code := ask(t, o, bin, append([]string{"verify"}, args...)...)
	got := slices.Collect(strings.Lines(stdout))
	for i := range got {
		got[i] = strings.TrimRight(got[i], "\n")
	}
	want = slices.Sorted(slices.Values(want))
	slices.Sort(got)
	wantCode := 0
	if len(want) > 0 {
		wantCode = 4
	}
	if !slices.Equal(got, want) || code != wantCode {
		t.Errorf("verify %s at %s: exit code %d, want %d\n%s\nwant\n%s\n%s", args, o.Name, code, wantCode,
			strings.Join(got, "\n"), strings.Join(want, "\n"), stderr)
	}
}

// alter changes rows at a branch behind its sidecar's back, and returns what verify is to say of them.
func alter(t *testing.T, o *fleet.Office) []string {
	t.Helper()
	blob := `'\x01'`
	if !o.Postgres() {
		blob = `x'01'`
	}
	base := 1000 * (o.Index + 1)
	behind(t, o,
		fmt.Sprintf(`UPDATE orders SET note = 'of %s' WHERE id = 7`, o.Name),
		`UPDATE orders SET amount = amount + 1, qty = 999 WHERE id = 8`,
		`UPDATE orders SET note = '' WHERE id = 9`, // was NULL
		`DELETE FROM orders WHERE id IN (11, 12)`,
		fmt.Sprintf(`INSERT INTO orders SELECT id + %d, office, customer, amount, qty, paid, note, placed, changed FROM orders WHERE id IN (13, 14)`, 1000*base),
		`UPDATE order_lines SET photo = `+blob+` WHERE order_id = 7 AND line = 2`,
		`DELETE FROM order_lines WHERE order_id = 8 AND line = 1`,
		fmt.Sprintf(`INSERT INTO order_lines VALUES (8, %d, 'only here', NULL, NULL)`, base),
	)
	var lines []string
	for _, l := range []string{
		"orders\tdifferent\tid=7\tnote", "orders\tdifferent\tid=8\tamount, qty", "orders\tdifferent\tid=9\tnote",
		"orders\tmissing here\tid=11\t-", "orders\tmissing here\tid=12\t-",
		fmt.Sprintf("orders\tmissing there\tid=%d\t-", 1000*base+13), fmt.Sprintf("orders\tmissing there\tid=%d\t-", 1000*base+14),
		"order_lines\tdifferent\torder_id=7, line=2\tphoto", "order_lines\tmissing here\torder_id=8, line=1\t-",
		fmt.Sprintf("order_lines\tmissing there\torder_id=8, line=%d\t-", base),
	} {
		lines = append(lines, l+"\t"+string(o.Name))
	}
	return lines
}

// Rows altered behind the sidecar's back: verify names them, and none else, at the branch and at the head; repair mends them.
func TestVerify(t *testing.T) {
	bin, set := binary(t, "CDC_RACE_BINARY"), shared.Set(t)
	f := filled(t, set, bin, sized(2000, 100000), three(set)...)
	alteredRows(t, f, bin)
}

func TestVerifyWithMariaDBAsTheHead(t *testing.T) {
	wholeOnly(t)
	bin, set := binary(t, "CDC_RACE_BINARY"), shared.Set(t)
	f := filled(t, set, bin, sized(300, 100000), []fleet.Spec{
		{Name: "head", Role: schema.Head, Database: set.MariaDB[0]},
		{Name: "north", Role: schema.Branch, Database: set.Postgres[0]},
		{Name: "south", Role: schema.Branch, Database: set.Postgres[1]},
	}...)
	alteredRows(t, f, bin)
}

func alteredRows(t *testing.T, f *fleet.Fleet, bin string) {
	must(t, f.Start(within(t, stuck)))
	head, north, south := f.Head(), f.Offices[atNorth], f.Offices[atSouth]
	found(t, head, bin, nil)
	ofNorth, ofSouth := alter(t, north), alter(t, south)
	found(t, north, bin, ofNorth)
	found(t, south, bin, ofSouth)
	found(t, head, bin, ofSouth, "--office", "south")
	found(t, head, bin, slices.Concat(ofNorth, ofSouth))
	found(t, north, bin, []string{"orders\tmissing here\tid=11\t-\tnorth"}, "--table", "orders", "--where", "row.id >= 10 && row.id < 12")

	a := asked(t, north, bin, 4, "verify")
	wantFigures(t, a, figures{different: 4, here: 3, there: 3})
	if n := metric(t, north, "cdc_verify_tables_diverged"); n != 2 {
		t.Errorf("north says that %v tables diverged", n)
	}
	a = asked(t, north, bin, 0, "verify", "--repair")
	wantFigures(t, a, figures{different: 4, here: 3, there: 3, repaired: 7, sent: 3})
	found(t, north, bin, nil)
	must(t, fleet.Until(within(t, stuck), "what only north had is at the others", func(ctx context.Context) error {
		for _, o := range f.Offices {
			d, err := o.DigestOf(ctx, `SELECT id, id FROM orders WHERE id BETWEEN 2000000 AND 2999999`)
			if err == nil && d.Rows != 2 {
				err = fmt.Errorf("%s has %d rows", o.Name, d.Rows)
			}
			if err != nil {
				return err
			}
		}
		return nil
	}))

	a = asked(t, head, bin, 0, "verify", "--repair", "--prefer", "branch", "--office", "south")
	wantFigures(t, a, figures{different: 4, here: 3, there: 3, repaired: 3, sent: 7})
	_, err := f.Equal(within(t, stuck))
	must(t, err)
	found(t, head, bin, nil)
	if d, err := north.DigestOf(within(t, stuck), `SELECT id, note FROM orders WHERE id = 7 AND note = 'of south'`); err != nil || d.Rows != 1 {
		t.Errorf("south's row did not go to north: %+v, %v", d, err)
	}
	measured(t, head, north)
}

// figures are what is wanted of a report's summary.
type figures struct{ different, here, there, disputed, repaired, sent, removed float64 }

// wantFigures also wants the report to be whole: every table, with the sums that the summary has.
func wantFigures(t *testing.T, a answered, want figures) {
	t.Helper()
	n := func(key string) float64 {
		v, is := a.Summary[key].(float64)
		if !is {
			t.Errorf("the summary has no number %s: %v", key, a.Summary)
		}
		return v
	}
	got := figures{n("different"), n("missing_here"), n("missing_there"), n("disputed"), n("repaired"), n("sent"), n("removed")}
	if got != want {
		t.Errorf("%s: %+v, want %+v", a.Command, got, want)
	}
	if len(a.Result.Offices) != 1 || len(a.Result.Offices[0].Tables) != 2 || n("offices") != 1 || a.Result.State != admin.JobDone {
		t.Fatalf("the report is not of one office and two tables: %+v", a.Result)
	}
	var found, rows uint64
	for _, table := range a.Result.Offices[0].Tables {
		if table.Found() != uint64(len(table.Keys)) || table.Phase != "done" {
			t.Errorf("%s: %d keys of %d, %q", table.Table, len(table.Keys), table.Found(), table.Phase)
		}
		found, rows = found+table.Found(), rows+table.Rows
	}
	if float64(found) != want.different+want.here+want.there+want.disputed || float64(rows) != n("rows") || rows == 0 {
		t.Errorf("the tables do not add up to the summary: %d found, %d rows, %v", found, rows, a.Summary)
	}
}

// metric is a figure of the office's sidecar as its metrics have it, by name and labels.
func metric(t *testing.T, o *fleet.Office, name string) float64 {
	t.Helper()
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", o.Socket())
	}}}
	req, err := http.NewRequestWithContext(within(t, stuck), http.MethodGet, "http://sidecar/metrics", http.NoBody)
	must(t, err)
	res, err := client.Do(req)
	must(t, err)
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	must(t, err)
	for line := range strings.Lines(string(text)) {
		if value, is := strings.CutPrefix(strings.TrimSpace(line), name+" "); is {
			n, err := strconv.ParseFloat(value, 64)
			must(t, err)
			return n
		}
	}
	t.Errorf("%s has no metric %s", o.Name, name)
	return 0
}

// measured wants the metrics to have what was found by the comparisons in alteredRows: at the head of both branches, at north of
// itself, in a slice, too.
func measured(t *testing.T, head, north *fleet.Office) {
	t.Helper()
	for _, m := range []struct {
		office *fleet.Office
		result string
		want   float64
	}{
		{head, "different", 4 + 8 + 4},
		{head, "missing_here", 3 + 6 + 3},
		{head, "missing_there", 3 + 6 + 3},
		{head, "disputed", 0},
		{north, "different", 3 * 4},
		{north, "missing_here", 3*3 + 1},
		{north, "missing_there", 3 * 3},
		{north, "disputed", 0},
	} {
		if got := metric(t, m.office, `cdc_verify_rows_total{result="`+m.result+`"}`); got != m.want {
			t.Errorf("%s counts %v rows %s, want %v", m.office.Name, got, m.result, m.want)
		}
	}
	for _, o := range []*fleet.Office{head, north} {
		equal, since := metric(t, o, `cdc_verify_rows_total{result="equal"}`), metric(t, o, "cdc_verify_last_success_timestamp_seconds")
		if n := metric(t, o, "cdc_verify_tables_diverged"); n != 0 || equal == 0 || time.Since(time.Unix(int64(since), 0)) > stuck*10 {
			t.Errorf("%s: %v tables diverged, %v rows equal, last compared at %v", o.Name, n, equal, since)
		}
	}
}
