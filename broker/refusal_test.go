package broker

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"

	amqp "github.com/rabbitmq/amqp091-go"

	"cdc-sidecar/schema"
)

// secret is the password of every user that the tests make; no message may show it.
const secret = "very-secret"

// rights are a user's permissions on a virtual host: regular expressions.
type rights struct{ Configure, Write, Read string }

// as makes a user of this name and returns the broker's URL for it.
func as(ctx context.Context, t *testing.T, broker, name string, r rights) string {
	t.Helper()
	grant(ctx, t, broker, name, r)
	u, err := url.Parse(broker)
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.UserPassword(name, secret)
	return u.String()
}

func grant(ctx context.Context, t *testing.T, broker, name string, r rights) {
	t.Helper()
	rabbit := shared.Set(t).RabbitMQ[0]
	account := map[string]string{"password": secret, "tags": ""}
	lower := map[string]string{"configure": r.Configure, "write": r.Write, "read": r.Read}
	err := errors.Join(rabbit.API(ctx, "PUT", "users/"+name, account, nil),
		rabbit.API(ctx, "PUT", "permissions/"+vhost(broker)+"/"+name, lower, nil))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := rabbit.API(context.WithoutCancel(ctx), "DELETE", "users/"+name, nil, nil); err != nil && !strings.Contains(err.Error(), "404") {
			t.Error(err)
		}
	})
}

// granted takes the permissions out of a remedy, which is a command for rabbitmqctl.
func granted(t *testing.T, remedy string) rights {
	t.Helper()
	found := regexp.MustCompile(`set_permissions -p \S+ \S+ '([^']*)' '([^']*)' '([^']*)'`).FindStringSubmatch(remedy)
	if found == nil {
		t.Fatalf("no set_permissions in %q", remedy)
	}
	return rights{found[1], found[2], found[3]}
}

// wantRefused checks that err is a refusal with these words and a remedy, which it returns, and shows no password.
func wantRefused(t *testing.T, err error, words ...string) string {
	t.Helper()
	var refused *schema.RefusedError
	if !errors.As(err, &refused) {
		t.Fatalf("not refused: %v", err)
	}
	for _, word := range append(words, "remedy:") {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("%q does not say %q", err, word)
		}
	}
	if strings.Contains(err.Error(), secret) {
		t.Errorf("%q shows the password", err)
	}
	return refused.Remedy
}

func TestRefusedLogin(t *testing.T) {
	ctx, broker := bench(t)
	north := as(ctx, t, broker, "north", rights{})
	u, _ := url.Parse(north)
	host := u.Host
	wrong := *u
	wrong.User = url.UserPassword("north", "not-"+secret)
	nowhere := *u
	nowhere.Path = "/nowhere"
	foreign := *u
	foreign.Path, foreign.RawPath = "//", "/%2F"
	for _, test := range []struct {
		name, url string
		words     []string
	}{
		{"wrong password", wrong.String(), []string{"north@" + host + "/" + vhost(broker), "change_password north"}},
		{"no such virtual host", nowhere.String(), []string{"north@" + host + "/nowhere", "rabbitmqctl add_vhost nowhere"}},
		{"somebody else's virtual host", foreign.String(), []string{"north@" + host, "set_permissions -p / north"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := OpenPublisher(ctx, branchOffice(test.url, "north"))
			wantRefused(t, err, test.words...)
			findings := Check(ctx, branchOffice(test.url, "north"))
			if len(findings) != 1 || findings[0].Severity != schema.Failure || findings[0].Fix == "" {
				t.Errorf("doctor finds %+v", findings)
			}
		})
	}
}

func TestRefusedURL(t *testing.T) {
	for _, bad := range []string{"", "http://x:" + secret + "@h/v", "amqp://x:" + secret + "%zz@h/v", "amqp://x:" + secret + " @h/v", "amqp://x:" + secret + "@h/v?heartbeat=0"} {
		_, err := OpenPublisher(t.Context(), headOffice(bad))
		wantRefused(t, err, "broker URL")
	}
}

func TestConfig(t *testing.T) {
	for _, test := range []struct {
		url, user, shown string
		strict           bool
	}{
		{"amqp://north:" + secret + "@h:1/v", "north", "north@h:1/v", true},
		{"amqp://other:" + secret + "@h/v", "other", "other@h:5672/v", false},
		{"amqps://north:" + secret + "@h/v", "north", "north@h:5671/v", true},
		{"amqp://h", "guest", "guest@h:5672/", false},
		{"amqps://h/v?auth_mechanism=EXTERNAL", "", "@h:5671/v", false},
		{"amqps://north@h/v?auth_mechanism=external", "north", "north@h:5671/v", true},
	} {
		c := branchOffice(test.url, "north")
		if c.User() != test.user || c.String() != test.shown || Strict(c) != test.strict {
			t.Errorf("%s: user %q, shown as %q, strict %v", test.url, c.User(), c, Strict(c))
		}
	}
}

// TestRemediesSuffice gives a user that has nothing what each refusal's remedy says, until everything works.
func TestRemediesSuffice(t *testing.T) {
	ctx, broker := bench(t)
	for _, open := range []Config{headOffice(broker), branchOffice(broker, "north")} {
		cfg := open
		cfg.URL = as(ctx, t, broker, string(cfg.Office), rights{})
		remedy := wantRefused(t, Declare(ctx, cfg), "cdc.", string(cfg.Office)+"@")
		grant(ctx, t, broker, string(cfg.Office), granted(t, remedy))
		if err := Declare(ctx, cfg); err != nil {
			t.Fatalf("%s with what the remedy gives: %v", cfg.Office, err)
		}
	}
	head, north := headOffice(as(ctx, t, broker, "center", granted(t, headOffice(broker).grant()))), branchOffice(broker, "north")
	north.URL = as(ctx, t, broker, "north", granted(t, north.grant()))
	publish(ctx, t, openPublisher(ctx, t, head), numbered(0, 1))
	publish(ctx, t, openPublisher(ctx, t, north), numbered(1, 2))
	for i, cfg := range []Config{north, head} {
		c := openConsumer(ctx, t, cfg)
		from := ""
		got := receive(ctx, t, c, 1, func(d *Delivery, _ int) bool { from = d.UserID; return true })
		if got[0] != i || from != []string{"center", "north"}[i] || !c.claimed {
			t.Errorf("%s got %v from %q; marked its session: %v", cfg.Office, got, from, c.claimed)
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		for _, f := range Check(ctx, cfg) {
			if f.Severity != schema.Fine {
				t.Errorf("doctor finds %+v", f)
			}
		}
	}
	// A branch may neither speak for the head nor hear what others say to it.
	_, err := publishOne(ctx, Config{URL: north.URL, Office: "north", Role: schema.Head})
	wantRefused(t, err, "north@", "set_permissions", "cdc.head")
	_, err = OpenConsumer(ctx, Config{URL: north.URL, Office: "center", Role: schema.Branch})
	wantRefused(t, err, "north@", "set_permissions", "cdc.office.center")
	// Only the head removes an office.
	wantRefused(t, RemoveOffice(ctx, north, "center"), "north@")
	if err := RemoveOffice(ctx, head, "north"); err != nil {
		t.Fatal(err)
	}
}

// publishOne is for permissions that only the first message asks for.
func publishOne(ctx context.Context, cfg Config) (int, error) {
	p, err := OpenPublisher(ctx, cfg)
	if err != nil {
		return 0, err
	}
	defer func() { _ = p.Close() }()
	return p.Publish(ctx, numbered(0, 1))
}

// TestMadeByAdministrator is an office that may configure nothing.
func TestMadeByAdministrator(t *testing.T) {
	ctx, broker := bench(t)
	all := granted(t, branchOffice(broker, "north").grant())
	north := branchOffice(as(ctx, t, broker, "north", rights{Write: all.Write, Read: all.Read}), "north")
	wantRefused(t, Declare(ctx, north), "no exchange cdc.head", "does not let us make it")
	if got := severities(Check(ctx, north)); !slices.Contains(got, "broker.publish failure") || !slices.Contains(got, "broker.queue failure") {
		t.Errorf("doctor finds %v", got)
	}
	head := headOffice(broker)
	if err := Declare(ctx, head); err != nil {
		t.Fatal(err)
	}
	wantRefused(t, Declare(ctx, north), "no queue cdc.office.north", "does not let us make it")
	if err := Declare(ctx, branchOffice(broker, "north")); err != nil {
		t.Fatal(err)
	}
	if err := Declare(ctx, north); err != nil {
		t.Fatal(err)
	}
	publish(ctx, t, openPublisher(ctx, t, head), numbered(0, 1))
	c := openConsumer(ctx, t, north)
	if got := receive(ctx, t, c, 1, everything); got[0] != 0 {
		t.Errorf("got %v", got)
	}
	if c.ActiveElsewhere() {
		t.Error("an office that may not mark its session thinks another is active")
	}
	want := []string{"broker.login ok", "broker.version ok", "broker.identity ok", "broker.publish ok", "broker.queue warning", "broker.consume ok"}
	if got := severities(Check(ctx, north)); !slices.Equal(got, want) {
		t.Errorf("doctor finds %v, want %v", got, want)
	}
}

func severities(findings []schema.Finding) []string {
	var all []string
	for _, f := range findings {
		all = append(all, f.Check+" "+string(f.Severity))
	}
	return all
}

func TestWrongQueue(t *testing.T) {
	for _, test := range []struct {
		name      string
		arguments amqp.Table
		queue     string
		consume   string
	}{
		{"classic", nil, "failure", "failure"},
		{"another bound", amqp.Table{
			"x-queue-type": "quorum", "x-single-active-consumer": true, "x-max-length-bytes": 1000,
			"x-overflow": "drop-head", "x-delivery-limit": deliveryLimit,
		}, "failure", "ok"},
	} {
		t.Run(test.name, func(t *testing.T) {
			ctx, broker := bench(t)
			north := branchOffice(broker, "north")
			err := converse(ctx, north, "test", func(s *session) error {
				_, err := s.channel.QueueDeclare("cdc.office.north", true, false, false, false, test.arguments)
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
			remedy := wantRefused(t, Declare(ctx, north), "cdc.office.north", "inequivalent arg", "nothing is lost")
			if want := "rabbitmqctl -p " + vhost(broker) + " delete_queue cdc.office.north"; !strings.Contains(remedy, want) {
				t.Errorf("remedy %q, want %q", remedy, want)
			}
			got := severities(Check(ctx, north))
			for _, want := range []string{"broker.queue " + test.queue, "broker.consume " + test.consume} {
				if !slices.Contains(got, want) {
					t.Errorf("doctor finds %v, want %s", got, want)
				}
			}
			if err := shared.Set(t).RabbitMQ[0].DeleteQueue(ctx, vhost(broker), "cdc.office.north"); err != nil {
				t.Fatal(err)
			}
			if err := Declare(ctx, north); err != nil {
				t.Fatal(err)
			}
		})
	}
}

func TestWrongExchange(t *testing.T) {
	ctx, broker := bench(t)
	north := branchOffice(broker, "north")
	err := converse(ctx, north, "test", func(s *session) error {
		return s.channel.ExchangeDeclare(headExchange, amqp.ExchangeFanout, true, false, false, false, nil)
	})
	if err != nil {
		t.Fatal(err)
	}
	wantRefused(t, Declare(ctx, north), "cdc.head", "topic")
}

// TestCheckChangesNothing looks at a broker before, and while a sidecar runs.
func TestCheckChangesNothing(t *testing.T) {
	ctx, broker := bench(t)
	north := branchOffice(as(ctx, t, broker, "north", rights{".*", ".*", ".*"}), "north")
	list := func() string {
		var queues, exchanges []struct {
			Name  string `json:"name"`
			Vhost string `json:"vhost"`
		}
		rabbit := shared.Set(t).RabbitMQ[0]
		if err := errors.Join(rabbit.API(ctx, "GET", "queues/"+vhost(broker), nil, &queues), rabbit.API(ctx, "GET", "exchanges/"+vhost(broker), nil, &exchanges)); err != nil {
			t.Fatal(err)
		}
		return fmt.Sprint(queues, exchanges)
	}
	before := list()
	want := []string{"broker.login ok", "broker.version ok", "broker.identity ok", "broker.publish ok", "broker.queue ok"}
	if got := severities(Check(ctx, north)); !slices.Equal(got, want) {
		t.Errorf("doctor finds %v, want %v", got, want)
	}
	if after := list(); after != before {
		t.Errorf("doctor left %s, there was %s", after, before)
	}

	head := headOffice(broker)
	if err := errors.Join(Declare(ctx, head), Declare(ctx, north)); err != nil {
		t.Fatal(err)
	}
	publish(ctx, t, openPublisher(ctx, t, head), numbered(0, 3))
	got := severities(Check(ctx, north))
	if want := append(want, "broker.consume ok"); !slices.Equal(got, want) {
		t.Errorf("doctor finds %v, want %v", got, want)
	}
	again := 0
	numbers := receive(ctx, t, openConsumer(ctx, t, north), 3, func(d *Delivery, _ int) bool {
		if d.Redelivered {
			again++
		}
		return true
	})
	if fmt.Sprint(numbers) != "[0 1 2]" || again != 0 {
		t.Errorf("after doctor came %v, %d of them had been moved", numbers, again)
	}
	shared := severities(Check(ctx, branchOffice(broker, "north")))
	if !slices.Contains(shared, "broker.identity warning") {
		t.Errorf("of a shared user doctor finds %v", shared)
	}
	if n := waiting(ctx, t, Config{URL: broker, Office: "center", Role: schema.Head}); n != 0 {
		t.Errorf("doctor's probes reached the head: %d messages", n)
	}
}

func TestTeardown(t *testing.T) {
	ctx, broker := bench(t)
	head, north := declared(ctx, t, broker)
	if err := Teardown(ctx, north); err != nil {
		t.Fatal(err)
	}
	// The head's queue still needs the branches' exchange.
	publish(ctx, t, openPublisher(ctx, t, north), numbered(0, 1))
	if err := errors.Join(Teardown(ctx, head), Teardown(ctx, head), RemoveOffice(ctx, head, "nobody")); err != nil {
		t.Fatal(err)
	}
	for _, exchange := range []string{headExchange, branchExchange} {
		err := converse(ctx, head, "test", func(s *session) error {
			return s.channel.ExchangeDeclarePassive(exchange, amqp.ExchangeTopic, true, false, false, false, nil)
		})
		if !replied(err, amqp.NotFound) {
			t.Errorf("exchange %s after the last teardown: %v", exchange, err)
		}
	}
}
