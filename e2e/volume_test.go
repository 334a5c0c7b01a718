package e2e

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"cdc-sidecar/fleet"
)

// mostMemory is what a sidecar may take, whatever a transaction's size or a backlog's length.
const mostMemory = 150 << 20

// peak is the most memory (resident, bytes) that a running sidecar has had.
func peak(t *testing.T, o *fleet.Office) int64 {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", o.Pid()))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kb, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			return kb << 10
		}
	}
	t.Fatal("no VmHWM")
	return 0
}

func lean(t *testing.T, f *fleet.Fleet) {
	t.Helper()
	for _, o := range f.Offices {
		p := peak(t, o)
		t.Logf("%s: peak memory %d MiB", o.Name, p>>20)
		if p > mostMemory {
			t.Errorf("%s took %d MiB, want at most %d", o.Name, p>>20, mostMemory>>20)
		}
	}
}

// One transaction of very many rows: applied as one at every office, in bounded memory, from Postgres and from MariaDB.
func TestOneLargeTransaction(t *testing.T) {
	set := shared.Set(t)
	f := company(t, set, binary(t, "CDC_PLAIN_BINARY"), three(set)...)
	if err := f.Start(within(t, stuck)); err != nil {
		t.Fatal(err)
	}
	rows := sized(100_000, 1_000_000)
	ctx := within(t, sized(stuck, 10*stuck))
	watching, stop := context.WithCancel(ctx)
	partial := make(chan string, len(f.Offices))
	for _, o := range f.Offices[1:] {
		go watchAtomic(watching, o, rows, partial)
	}
	insert := fmt.Sprintf(`INSERT INTO order_lines SELECT n, 1, 'sku-' || n, n %% 1000 + 0.125, decode(md5(n::text), 'hex') FROM generate_series(1, %d) n`, rows)
	if err := f.Head().Exec(ctx, insert); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Equal(ctx); err != nil {
		t.Fatal(err)
	}
	stop()
	for range f.Offices[1:] {
		if seen := <-partial; seen != "" {
			t.Error(seen)
		}
	}
	if err := f.Offices[2].Exec(ctx, `UPDATE order_lines SET price = price + 1`); err != nil {
		t.Fatal(err)
	}
	digests, err := f.Equal(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if digests["order_lines"].Rows != rows {
		t.Errorf("%d rows, want %d", digests["order_lines"].Rows, rows)
	}
	lean(t, f)
}

// watchAtomic reads the table until ctx ends: it holds nothing or everything. It sends what it saw else, or nothing.
func watchAtomic(ctx context.Context, o *fleet.Office, rows int, seen chan<- string) {
	verdict := ""
	defer func() { seen <- verdict }()
	db, err := o.DB()
	if err != nil {
		verdict = err.Error()
		return
	}
	for ctx.Err() == nil {
		var n int
		if err := db.QueryRowContext(ctx, `SELECT count(*) FROM order_lines`).Scan(&n); err != nil && ctx.Err() == nil {
			verdict = err.Error()
			return
		}
		if n != 0 && n != rows {
			verdict = fmt.Sprintf("%s shows %d of %d rows of one transaction", o.Name, n, rows)
			return
		}
		pause(ctx, 50*time.Millisecond)
	}
}

// A week's outage in small: what was written while a branch's line was down arrives after it is back, in order.
func TestABacklogArrivesInOrder(t *testing.T) {
	set := shared.Set(t)
	f := company(t, set, binary(t, "CDC_PLAIN_BINARY"), three(set)...)
	if err := f.Start(within(t, stuck)); err != nil {
		t.Fatal(err)
	}
	ctx := within(t, sized(stuck, 10*stuck))
	south := f.Offices[2]
	south.Link.Cut()
	const changes = 50 // in a transaction, the counter among them
	transactions := sized(50_000, 1_000_000) / changes
	if err := backlog(ctx, f.Head(), transactions, changes); err != nil {
		t.Fatal(err)
	}
	if err := south.Exec(ctx, `INSERT INTO order_lines VALUES (999999999, 1, 'from the far side', 1, NULL)`); err != nil {
		t.Fatal(err)
	}
	watching, stop := context.WithCancel(ctx)
	defer stop()
	verdict := make(chan string, 1)
	go watchCounter(watching, south, verdict)
	if err := south.Link.Restore(); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Equal(ctx); err != nil {
		t.Fatal(err)
	}
	stop()
	if v := <-verdict; v != "" {
		t.Error(v)
	}
	lean(t, f)
}

// backlog makes transactions of many changes; each sets the counter, row (0, 0), to its number.
func backlog(ctx context.Context, o *fleet.Office, transactions, changes int) error {
	if err := o.Exec(ctx, `INSERT INTO order_lines VALUES (0, 0, 'counter', 0, NULL)`); err != nil {
		return err
	}
	for i := 1; i <= transactions; i++ {
		first := i * changes
		if err := o.Exec(ctx, fmt.Sprintf(`BEGIN; UPDATE order_lines SET price = %d WHERE order_id = 0 AND line = 0;
			INSERT INTO order_lines SELECT n, 1, 'sku', 2.5, NULL FROM generate_series(%d, %d) n; COMMIT`, i, first, first+changes-2)); err != nil {
			return err
		}
	}
	return nil
}

func watchCounter(ctx context.Context, o *fleet.Office, verdict chan<- string) {
	db, err := o.DB()
	last := -1.0
	for err == nil && ctx.Err() == nil {
		var n float64
		if db.QueryRowContext(ctx, `SELECT price FROM order_lines WHERE order_id = 0 AND line = 0`).Scan(&n) == nil {
			if n < last {
				verdict <- fmt.Sprintf("%s: the counter went from %v back to %v", o.Name, last, n)
				return
			}
			last = n
		}
		pause(ctx, 20*time.Millisecond)
	}
	if err != nil {
		verdict <- err.Error()
		return
	}
	verdict <- ""
}
