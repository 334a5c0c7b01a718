package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"cdc-sidecar/fleet"
	"cdc-sidecar/schema"
)

// ask runs a verb of the sidecar for an office and returns what it printed and its exit code.
func ask(t *testing.T, o *fleet.Office, bin string, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	cmd := exec.CommandContext(within(t, stuck), bin, append(args, "--config", o.Config())...)
	cmd.Env = fleet.Environment()
	var out, err bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &err
	if e := cmd.Run(); e != nil && cmd.ProcessState == nil {
		t.Fatal(e)
	}
	return out.String(), err.String(), cmd.ProcessState.ExitCode()
}

// fill writes rows of the company's tables at one office, as an application did before any sidecar came.
func fill(ctx context.Context, o *fleet.Office, rows int) error {
	statements := []string{
		fmt.Sprintf(`INSERT INTO orders SELECT n, 'old', 'Kunde ' || n, n * 1.25, n %% 100, n %% 2 = 0, CASE WHEN n %% 3 = 0 THEN NULL ELSE 'note ' || n END,
			timestamp '2026-01-02 03:04:05.5' + n * interval '1 second', timestamptz '2026-01-02 03:04:05Z' + n * interval '1 second' FROM generate_series(1, %d) n`, rows),
		fmt.Sprintf(`INSERT INTO order_lines SELECT n, l, 'sku-' || n, n * 0.125, '\x00ff'::bytea FROM generate_series(1, %d) n, generate_series(1, 2) l`, rows),
	}
	if !o.Postgres() {
		statements = []string{
			fmt.Sprintf(`INSERT INTO orders SELECT seq, 'old', concat('Kunde ', seq), seq * 1.25, seq %% 100, seq %% 2 = 0, CASE WHEN seq %% 3 = 0 THEN NULL ELSE concat('note ', seq) END,
				'2026-01-02 03:04:05.5' + INTERVAL seq SECOND, '2026-01-02 03:04:05' + INTERVAL seq SECOND FROM seq_1_to_%d`, rows),
			fmt.Sprintf(`INSERT INTO order_lines SELECT n.seq, l.seq, concat('sku-', n.seq), n.seq * 0.125, x'00ff' FROM seq_1_to_%d n, seq_1_to_2 l`, rows),
		}
	}
	return o.Exec(ctx, statements...)
}

// background runs what writes until its context ends, in the background. The function it returns ends it and waits.
func background(t *testing.T, runs ...func(ctx context.Context) error) (end func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(within(t, sized(stuck, 10*stuck)))
	ended := make(chan error, len(runs))
	for _, run := range runs {
		go func() { ended <- run(ctx) }()
	}
	end = sync.OnceFunc(func() {
		cancel()
		for range runs {
			if err := <-ended; err != nil && !errors.Is(err, context.Canceled) {
				t.Errorf("an application: %v", err)
			}
		}
	})
	t.Cleanup(end) // before the servers go
	return end
}

// ordersOf is the company's workload at some of its offices.
func ordersOf(w *fleet.Workload, offices ...*fleet.Office) func(context.Context) error {
	return func(ctx context.Context) error { return w.Run(ctx, &fleet.Fleet{Offices: offices}) }
}

// verifies asks each branch to compare itself with the head, and wants nothing to differ.
func verifies(t *testing.T, bin string, branches ...*fleet.Office) {
	t.Helper()
	for _, o := range branches {
		stdout, stderr, code := ask(t, o, bin, "verify")
		if code != 0 || strings.TrimSpace(stdout) != "" {
			t.Errorf("verify at %s: exit %d\n%s\n%s", o.Name, code, stdout, stderr)
		}
	}
}

// joined is what the office's log says of each table that has joined, in its last life that did: figures by name.
func joined(t *testing.T, o *fleet.Office) map[string]map[string]int {
	t.Helper()
	text, err := os.ReadFile(o.Log())
	must(t, err)
	all := map[string]map[string]int{}
	for line := range strings.Lines(string(text)) {
		_, rest, found := strings.Cut(line, `msg="a table is equal to the head's" table=`)
		if !found {
			continue
		}
		figures := map[string]int{}
		for _, m := range figure.FindAllStringSubmatch(rest, -1) {
			figures[strings.Trim(m[1], `"`)], _ = strconv.Atoi(m[2])
		}
		name, _, _ := strings.Cut(rest, " ")
		all[name] = figures
	}
	return all
}

var figure = regexp.MustCompile(`("[a-z ]+"|[a-z]+)=(\d+)`)

// The head has rows from before any sidecar, and goes on writing, one row of them all the time; two branches join at once.
func TestJoin(t *testing.T) {
	set := shared.Set(t)
	bin := binary(t, sized("CDC_RACE_BINARY", "CDC_PLAIN_BINARY"))
	rows := sized(12_000, 1_000_000)
	f := companyOf(t, fleet.Options{
		Broker: set.RabbitMQ[0], Binary: bin,
		Offices: []fleet.Spec{
			{Name: "hq", Role: schema.Head, Database: set.Postgres[0]},
			{Name: "north", Role: schema.Branch, Database: set.Postgres[1]},
			{Name: "south", Role: schema.Branch, Database: set.MariaDB[0]},
		},
		Schema: func(ctx context.Context, o *fleet.Office) error {
			switch o.Name {
			case "north":
				return nil // it has nothing
			case "south": // one table is there: its own collation sorts the keys otherwise than the head
				return createWare(ctx, o, "names")
			}
			if err := createWares(ctx, o); err != nil {
				return err
			}
			return fillWares(ctx, o, rows)
		},
	})
	hq := f.Head()
	must(t, hq.Start())
	rounds := 0
	end := background(t, ordersOf(&fleet.Workload{Writers: 2, Pause: 50 * time.Millisecond}, hq), func(ctx context.Context) (err error) {
		rounds, err = stir(ctx, hq, rows, 50*time.Millisecond)
		return err
	})
	for _, o := range f.Offices[1:] {
		must(t, o.Start())
	}
	long := sized(stuck, 10*stuck)
	must(t, f.Met(within(t, long)))
	end()
	n, err := sameWares(within(t, long), f)
	if err != nil {
		t.Error(err)
	}
	t.Logf("%d rows, %d rounds of the head's application meanwhile", n, rounds)
	verifies(t, bin, f.Offices[1:]...)
	for _, o := range f.Offices[1:] {
		for table, figures := range joined(t, o) {
			t.Logf("%s %s: %v", o.Name, table, figures)
		}
	}
}
