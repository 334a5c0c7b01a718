package e2e

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"strings"
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

// The head has rows from before any sidecar, and goes on writing; two branches without any table join at once.
func TestJoin(t *testing.T) {
	set := shared.Set(t)
	bin := binary(t, "CDC_RACE_BINARY")
	rows := sized(3000, 60000)
	f := companyOf(t, fleet.Options{
		Broker: set.RabbitMQ[0], Binary: bin,
		Offices: []fleet.Spec{
			{Name: "hq", Role: schema.Head, Database: set.Postgres[0]},
			{Name: "north", Role: schema.Branch, Database: set.Postgres[1]},
			{Name: "south", Role: schema.Branch, Database: set.MariaDB[0]},
		},
		Schema: func(ctx context.Context, o *fleet.Office) error {
			if err := fleet.CreateTables(ctx, o); err != nil || o.Role == schema.Branch {
				return err
			}
			return fill(ctx, o, rows)
		},
	})
	hq := f.Head()
	if err := hq.Start(); err != nil {
		t.Fatal(err)
	}
	alone := &fleet.Fleet{Offices: f.Offices[:1]}
	load := &fleet.Workload{Writers: 2, Pause: 2 * time.Millisecond}
	ctx, end := context.WithCancel(within(t, stuck))
	wait, err := load.Start(ctx, alone)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Offices[1].Start(); err != nil {
		t.Fatal(err)
	}
	if err := f.Offices[2].Start(); err != nil {
		t.Fatal(err)
	}
	if err := f.Met(within(t, stuck)); err != nil {
		t.Fatal(err)
	}
	end()
	if err := wait(); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Equal(within(t, stuck)); err != nil {
		t.Error(err)
	}
	for _, o := range f.Offices[1:] {
		stdout, stderr, code := ask(t, o, bin, "verify")
		if code != 0 || strings.TrimSpace(stdout) != "" {
			t.Errorf("verify at %s: exit %d\n%s\n%s", o.Name, code, stdout, stderr)
		}
	}
}
