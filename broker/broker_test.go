package broker

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"

	"cdc-sidecar/schema"
	"cdc-sidecar/servers"
)

var shared = servers.Shared{Spec: servers.Spec{RabbitMQ: 1}}

// A session that leaves a goroutine behind would leave one at every reconnect of a link that is bad for days.
func TestMain(m *testing.M) { os.Exit(shared.Main(leakChecked{m}).Run()) }

type leakChecked struct{ tests servers.Runner }

func (l leakChecked) Run() int {
	// What the servers keep while they run is not ours.
	code := l.tests.Run()
	return code
}

// stuck bounds whatever would otherwise hang a test.
const stuck = 60 * time.Second

func within(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), stuck)
	t.Cleanup(cancel)
	return ctx
}

// noLeak checks at the end of the test that all goroutines started in it are gone.
func noLeak(t *testing.T) {
	before := goleak.IgnoreCurrent()
	t.Cleanup(func() { goleak.VerifyNone(t, before) })
}

func head(url string) Config {
	return Config{URL: url, Office: "center", Role: schema.Head, Program: "test"}
}

func branch(url string, name schema.Office) Config {
	return Config{URL: url, Office: name, Role: schema.Branch, Program: "test"}
}

func TestSmoke(t *testing.T) {
	url := servers.NewVHost(t, shared.Set(t).RabbitMQ[0])
	noLeak(t)
	ctx := within(t)
	h, b := head(url), branch(url, "north")
	for _, c := range []Config{h, b} {
		if err := Declare(ctx, c); err != nil {
			t.Fatal(err)
		}
	}
	p, err := OpenPublisher(ctx, h)
	if err != nil {
		t.Fatal(err)
	}
	var out []Outgoing
	for i := range 1000 {
		out = append(out, Outgoing{Key: StreamKey("all"), Body: fmt.Appendf(nil, "%d", i), Mandatory: true})
	}
	n, err := p.Publish(ctx, out)
	t.Log(n, err)
	c, err := OpenConsumer(ctx, b)
	if err != nil {
		t.Fatal(err)
	}
	got := 0
	done := fmt.Errorf("done")
	err = c.Run(ctx, func(_ context.Context, batch []*Delivery) error {
		t.Log(len(batch))
		for _, d := range batch {
			if string(d.Body) != fmt.Sprint(got) || d.UserID != "guest" {
				t.Errorf("%s %s", d.Body, d.UserID)
			}
			d.Settle()
			got++
		}
		if got == 1000 {
			return done
		}
		return nil
	})
	t.Log(err, c.Close(), p.Close())
}

func TestCheckSmoke(t *testing.T) {
	url := servers.NewVHost(t, shared.Set(t).RabbitMQ[0])
	noLeak(t)
	ctx := within(t)
	for _, f := range Check(ctx, branch(url, "north")) {
		t.Logf("%+v", f)
	}
	if err := Declare(ctx, branch(url, "north")); err != nil {
		t.Fatal(err)
	}
	for _, f := range Check(ctx, branch(url, "north")) {
		t.Logf("%+v", f)
	}
}
