package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"cdc-sidecar/admin"
	"cdc-sidecar/fleet"
)

// second is another sidecar process for an office, with an admin socket of its own.
type second struct {
	office *fleet.Office // only its folder: to ask for its status and read its log
	cmd    *exec.Cmd
	done   chan error
}

// startSecond starts it with the office's configuration but for the admin socket and, unless it is empty, the data folder.
func startSecond(t *testing.T, o *fleet.Office, data string) *second {
	t.Helper()
	s := &second{office: &fleet.Office{Spec: o.Spec, Dir: o.Dir + "2", Index: o.Index}, done: make(chan error, 1)}
	must(t, os.MkdirAll(s.office.Dir, 0o700))
	text := strings.ReplaceAll(o.Configuration(), "unix:"+o.Socket(), "unix:"+s.office.Socket())
	if data != "" {
		text = strings.ReplaceAll(text, "data: "+o.Data(), "data: "+data)
	}
	must(t, os.WriteFile(s.office.Config(), []byte(text), 0o600))
	log, err := os.Create(s.office.Log())
	must(t, err)
	defer log.Close()
	s.cmd = exec.CommandContext(context.WithoutCancel(t.Context()), binary(t, "CDC_RACE_BINARY"), "run", "--config", s.office.Config())
	s.cmd.Env, s.cmd.Stdout, s.cmd.Stderr = fleet.Environment(), log, log
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	must(t, s.cmd.Start())
	go func() { s.done <- s.cmd.Wait() }()
	t.Cleanup(func() {
		_ = s.cmd.Process.Kill() // an error: it has ended, as it should
		if t.Failed() {
			text, _ := os.ReadFile(s.office.Log())
			t.Logf("the second sidecar of %s:\n%s", o.Name, text)
		}
	})
	return s
}

// stop is SIGTERM; a sidecar that only waits ends as cleanly as one that works.
func (s *second) stop(t *testing.T) {
	t.Helper()
	must(t, s.cmd.Process.Signal(syscall.SIGTERM))
	select {
	case err := <-s.done:
		must(t, err)
	case <-within(t, stuck).Done():
		t.Fatal("the second sidecar does not end")
	}
}

// Two sidecars for one office with the same journal: the second waits, says for whom, and takes over when the first dies.
func TestASecondSidecarTakesOver(t *testing.T) {
	bin, set := binary(t, "CDC_RACE_BINARY"), shared.Set(t)
	f := company(t, set, bin, three(set)...)
	var l ledger
	must(t, f.Start(within(t, stuck)))
	for _, first := range []*fleet.Office{f.Offices[atHead], f.Offices[atSouth]} {
		pid := first.Pid()
		waits := startSecond(t, first, "")
		says(t, waits.office, "capture is waiting", "held by another process", fmt.Sprint(pid))
		l.goesOn(t, f) // nobody minds it
		l.write(t, f.Offices...)
		first.Kill()
		captures(t, waits.office)
		l.write(t, f.Offices...)
		waits.stop(t)
		l.returns(t, f, first)
	}
	l.settles(t, f)
}

// blocked waits until capture says that somebody has to decide, for these reasons, and wants it not to be ready then.
func blocked(t *testing.T, o *fleet.Office, want ...string) {
	t.Helper()
	says(t, o, append(want, "capture is blocked")...)
	s, err := o.Status(within(t, stuck))
	must(t, err)
	if s.State != admin.Blocked || s.Ready {
		t.Errorf("%s: state %s, ready %v; want blocked and not ready", o.Name, s.State, s.Ready)
	}
}

// staysBlocked wants a restart to change nothing, and the others to go on without the office.
func staysBlocked(t *testing.T, f *fleet.Fleet, o *fleet.Office, want ...string) {
	t.Helper()
	before, err := o.Status(within(t, stuck))
	must(t, err)
	must(t, o.Stop(within(t, stuck)))
	must(t, o.Start())
	blocked(t, o, want...)
	after, err := o.Status(within(t, stuck))
	must(t, err)
	if after.Journal.Source != before.Journal.Source || after.Capture.Transactions > 0 {
		t.Errorf("%s: the journal's place was %s and is %s, %d transactions captured: blocked means none", o.Name, before.Journal.Source, after.Journal.Source, after.Capture.Transactions)
	}
	var l ledger
	l.rows = 1_000_000 // far from what else the test writes
	l.write(t, f.Head())
	for _, other := range f.Offices {
		if other == o {
			continue
		}
		must(t, fleet.Until(within(t, stuck), string(other.Name)+" goes on", func(ctx context.Context) error {
			d, err := other.DigestOf(ctx, `SELECT order_id, line FROM order_lines WHERE order_id > 1000000`)
			if err == nil && d.Rows != 1 {
				err = fmt.Errorf("%d rows", d.Rows)
			}
			return err
		}))
	}
}

// One session writes its statements into the binlog where its rows should be: capture stops there, by name, and never
// skips it. What came before has arrived; what comes after does not pass it.
func TestAStatementInTheBinlog(t *testing.T) {
	bin, set := binary(t, "CDC_RACE_BINARY"), shared.Set(t)
	f := company(t, set, bin, three(set)...)
	var l ledger
	must(t, f.Start(within(t, stuck)))
	l.goesOn(t, f)
	l.settles(t, f)
	south := f.Offices[atSouth]
	db, err := south.DB()
	must(t, err)
	conn, err := db.Conn(within(t, stuck))
	must(t, err)
	for _, s := range []string{`SET SESSION binlog_format = STATEMENT`, `UPDATE order_lines SET price = 99 WHERE order_id = 1`, `SET SESSION binlog_format = ROW`} {
		_, err := conn.ExecContext(within(t, stuck), s)
		must(t, err)
	}
	must(t, conn.Close())
	l.write(t, south)
	blocked(t, south, "binlog_format", "UPDATE")
	staysBlocked(t, f, south, "binlog_format", "UPDATE")
	d, err := f.Head().DigestOf(within(t, stuck), fmt.Sprintf(`SELECT order_id, line FROM order_lines WHERE order_id = %d OR price = 99`, l.rows))
	must(t, err)
	if d.Rows != 0 {
		t.Error("what was written behind the statement has passed it")
	}
}
