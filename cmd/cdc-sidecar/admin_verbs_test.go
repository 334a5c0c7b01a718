package main

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"cdc-sidecar/admin"
	"cdc-sidecar/schema"
)

// fakeSidecar stands for a running one.
type fakeSidecar struct {
	status  admin.Status
	live    error
	removed []schema.Office
	log     admin.Conflicts // nil: none
	jobs    admin.Jobs      // nil: none
}

func (s *fakeSidecar) Status() admin.Status { return s.status }
func (s *fakeSidecar) Live() error          { return s.live }

func (s *fakeSidecar) RemoveOffice(_ context.Context, name schema.Office) error {
	if s.status.Role != schema.Head {
		return admin.ErrNotHead
	}
	if !slices.ContainsFunc(s.status.Peers, func(p admin.Peer) bool { return p.Office == name }) {
		return admin.ErrUnknownOffice
	}
	s.removed = append(s.removed, name)
	return nil
}

// running is a head with three branches, none of them well, at a fixed time.
func running(now time.Time) *fakeSidecar {
	before := func(d time.Duration) time.Time { return now.Add(-d) }
	peer := func(name schema.Office, state admin.PeerState, unacknowledged uint64, heard time.Duration) admin.Peer {
		return admin.Peer{
			Office: name, Role: schema.Branch, Engine: schema.MariaDB, State: state, Unacknowledged: unacknowledged,
			LastHeard: before(heard), LastApplied: before(2 * heard), Progress: admin.Position{Epoch: 1, Seq: 70}, Acknowledged: admin.Position{Epoch: 1, Seq: 80},
		}
	}
	north := peer("north", admin.PeerHalted, 3, 4*time.Second)
	north.Halted = admin.HaltOf(&schema.RejectedError{
		Table: schema.TableName{Name: "orders"}, Key: "id=7", Column: "vat", Cause: errors.New("no such column"), Remedy: "ALTER TABLE orders ADD COLUMN vat int",
	})
	north.Conflicts, north.Parked = admin.ConflictCounts{Total: 7, Open: 2}, 1
	return &fakeSidecar{status: admin.Status{
		Office: "head", Role: schema.Head, Engine: schema.Postgres, Version: "1.2.3", State: admin.Degraded, Ready: true,
		Since: before(time.Hour), Started: before(time.Hour),
		Corridors: []admin.Corridor{
			{Name: admin.CaptureCorridor, State: admin.CorridorRunning},
			{Name: admin.ShipCorridor, State: admin.CorridorWaiting, Error: "broker: connection refused", Attempts: 2},
		},
		Journal: admin.Journal{Epoch: 1, First: 40, Last: 100, Published: 90, Released: 39, Bytes: 3 << 20, Budget: 10 << 30},
		Capture: admin.Capture{LagSeconds: 0.25, LastCommit: before(time.Second)},
		Peers: []admin.Peer{
			north, peer("south", admin.PeerSilent, 61, 3*time.Hour+12*time.Minute), peer("west", admin.PeerExpired, 1000, 72*time.Hour),
			{Office: "new", Role: schema.Branch, State: admin.PeerActive},
		},
		Conflicts: admin.ConflictCounts{Total: 9, Open: 2},
		Parked:    2,
		Waiting: []admin.WaitingTable{
			{Table: "goods", Changes: 1, Needs: "column vat: the table here has no such column; remedy: ALTER TABLE \"public\".\"goods\" ADD COLUMN \"vat\" integer"},
			{Table: "orders", Changes: 1},
		},
		Apply:             admin.Apply{LastApplied: before(90 * time.Second)},
		RetentionDeadline: now.Add(21*time.Hour + 5*time.Minute),
		Notices:           []string{"all offices share one broker user: any of them can speak for any other"},
	}}
}

// serveAdmin answers for s at a fresh address until the test ends, and gives a configuration that names the address.
func serveAdmin(t *testing.T, s *fakeSidecar, network, token string) string {
	t.Helper()
	address, more := "127.0.0.1:0", ""
	if network == "unix" {
		address = "unix:" + filepath.Join(t.TempDir(), "s")
	}
	ctx, cancel := context.WithCancel(t.Context())
	l, err := admin.Listen(ctx, address)
	if err != nil {
		cancel()
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() {
		ended <- admin.Serve(ctx, l, admin.Options{Source: s, Conflicts: s.log, Jobs: s.jobs, Token: token})
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	if network == "tcp" {
		address = l.Addr().String()
	}
	if token != "" {
		more = "admin_token: " + token
	}
	return configAt(t, address, more)
}

func TestStatusText(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	golden(t, "testdata/status.golden", statusText(running(now).status, now))
}

// A branch that joins says how far it is, and one that synchronises by schedule when it does so next.
func TestStatusTextOfJoining(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	s := admin.Status{
		Office: "north", Role: schema.Branch, Engine: schema.MariaDB, Version: "1.2.3", State: admin.Degraded, Ready: true,
		Corridors: []admin.Corridor{{Name: admin.ShipCorridor, State: admin.CorridorClosed}},
		Sync:      admin.Sync{Mode: admin.SyncScheduled, Schedule: "30 2 * * *", Next: now.Add(14*time.Hour + 30*time.Minute), Last: now.Add(-10 * time.Hour)},
		Joining: &admin.Joining{Phase: "taking rows", Why: "this office is new", Since: now.Add(-time.Minute), Tables: []admin.JoinTable{
			{Table: "customers", State: admin.JoinDone, Rows: 5000, Total: 4900},
			{Table: "orders", State: admin.JoinRunning, Rows: 250000, Total: 1000000, RowsPerSecond: 20000, Remaining: 37.5},
			{Table: "prices", State: admin.JoinWaiting},
		}},
	}
	golden(t, "testdata/status_joining.golden", statusText(s, now))
	s.Sync, s.Joining = admin.Sync{Mode: admin.SyncManual}, nil
	if got := statusText(s, now); !strings.Contains(got, "sync: manual, closed until the next one (cdc-sidecar sync --wait), last never\n") {
		t.Errorf("got %s", got)
	}
}

func TestOfficesText(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	golden(t, "testdata/offices.golden", officesText(admin.Offices{Office: "head", Offices: running(now).status.Peers}, now))
	if got := officesText(admin.Offices{Office: "head"}, now); got != "no other office is known to head yet\n" {
		t.Errorf("got %q", got)
	}
}

func TestStatusVerb(t *testing.T) {
	for _, network := range []string{"tcp", "unix"} {
		for _, token := range []string{"", "secret"} {
			t.Run(network+token, func(t *testing.T) {
				config := serveAdmin(t, running(time.Now()), network, token)
				code, stdout, stderr := verb(t, "status", "--config", config)
				if code != exitOK || !strings.Contains(stdout, "north    branch mariadb") || stderr != "" {
					t.Errorf("%d %s %s", code, stdout, stderr)
				}
				code, stdout, stderr = verb(t, "status", "--json", "--config", config)
				var got struct {
					OK      bool
					Result  admin.Status
					Summary struct {
						State   string
						Unsent  int
						Reasons []string
					}
				}
				if err := json.Unmarshal([]byte(stdout), &got); err != nil || code != exitOK || stderr != "" {
					t.Fatalf("%d %s %s: %v", code, stdout, stderr, err)
				}
				if !got.OK || got.Summary.State != "degraded" || got.Summary.Unsent != 10 || len(got.Summary.Reasons) != 3 || len(got.Result.Peers) != 4 {
					t.Errorf("got %s", stdout)
				}
			})
		}
	}
}

func TestStatusWithoutTheToken(t *testing.T) {
	config := serveAdmin(t, running(time.Now()), "tcp", "secret")
	t.Setenv("CDC_ADMIN_TOKEN", "another")
	code, stdout, stderr := verb(t, "status", "--config", config)
	if code != exitEnvironment || stdout != "" || !strings.Contains(stderr, "wants its admin token") {
		t.Errorf("%d %q %q", code, stdout, stderr)
	}
}

// lineWriter tells of every write, and cancels after the second.
type lineWriter struct {
	strings.Builder
	writes int
	enough context.CancelFunc
}

func (w *lineWriter) Write(p []byte) (int, error) {
	if w.writes++; w.writes == 2 {
		w.enough()
	}
	return w.Builder.Write(p)
}

// Watching goes on when the sidecar goes away, and its end by a signal is a clean one.
func TestStatusWatch(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), stuck)
	defer cancel()
	w := &lineWriter{enough: cancel}
	config := configAt(t, "unix:"+filepath.Join(t.TempDir(), "nobody"))
	if code := execute(ctx, []string{"status", "--watch", "--config", config}, output{Out: w, Err: w}); code != exitOK {
		t.Errorf("exit code %d", code)
	}
	if got := strings.Count(w.String(), "the sidecar does not answer"); got != 2 {
		t.Errorf("%d answers: %s", got, w.String())
	}
}

func TestOfficesVerbs(t *testing.T) {
	head := running(time.Now())
	config := serveAdmin(t, head, "tcp", "")
	code, stdout, stderr := verb(t, "offices", "list", "--config", config)
	if code != exitOK || !strings.Contains(stdout, "south") || stderr != "" {
		t.Errorf("%d %s %s", code, stdout, stderr)
	}
	code, stdout, stderr = verb(t, "offices", "remove", "south", "--config", config)
	if code != exitOK || !strings.Contains(stdout, "office south is removed") || !slices.Equal(head.removed, []schema.Office{"south"}) {
		t.Errorf("%d %s %s, removed %v", code, stdout, stderr, head.removed)
	}
	code, _, stderr = verb(t, "offices", "remove", "nobody", "--config", config)
	if code != exitRuntime || !strings.Contains(stderr, "remove office nobody: no member has this name") {
		t.Errorf("%d %s", code, stderr)
	}
}

func TestOfficesRemoveAtABranch(t *testing.T) {
	branch := running(time.Now())
	branch.status.Role = schema.Branch
	code, _, stderr := verb(t, "offices", "remove", "south", "--config", serveAdmin(t, branch, "unix", ""))
	if code != exitRuntime || !strings.Contains(stderr, "kept at the head office") {
		t.Errorf("%d %s", code, stderr)
	}
}

func TestHealthcheck(t *testing.T) {
	well, unready, dead := running(time.Now()), running(time.Now()), running(time.Now())
	unready.status.Ready = false
	dead.live = errors.New("the supervisor hangs")
	for _, c := range []struct {
		name string
		of   *fakeSidecar
		args []string
		code int
		want string
	}{
		{"alive", unready, nil, exitOK, "ok=true"},
		{"dead", dead, nil, exitRuntime, "ok=false the supervisor hangs"},
		{"ready", well, []string{"--ready"}, exitOK, "ok=true"},
		{"not ready", unready, []string{"--ready"}, exitRuntime, "ok=false ship is waiting: broker: connection refused"},
	} {
		t.Run(c.name, func(t *testing.T) {
			args := append([]string{"healthcheck", "--config", serveAdmin(t, c.of, "tcp", "secret")}, c.args...)
			code, stdout, stderr := verb(t, args...)
			if code != c.code || !strings.Contains(stdout, c.want) || stderr != "" {
				t.Errorf("%d %q %q, want %d %q", code, stdout, stderr, c.code, c.want)
			}
		})
	}
}

// Somebody else's server at the address is said to be that, and is no success.
func TestAnotherServerAtTheAddress(t *testing.T) {
	for name, answer := range map[string]http.HandlerFunc{
		"text":  func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("<html>hello")) },
		"error": func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "bad gateway", http.StatusBadGateway) },
	} {
		t.Run(name, func(t *testing.T) {
			l, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // a test's listener ends with the test
			if err != nil {
				t.Fatal(err)
			}
			server := &http.Server{Handler: answer, ReadHeaderTimeout: stuck}
			ended := make(chan error, 1)
			go func() { ended <- server.Serve(l) }()
			defer func() { _ = server.Close(); <-ended }()
			code, stdout, stderr := verb(t, "status", "--config", configAt(t, l.Addr().String()))
			if code != exitEnvironment || stdout != "" || !strings.Contains(stderr, "is no cdc-sidecar") {
				t.Errorf("%d %q %q", code, stdout, stderr)
			}
		})
	}
}

func TestSpans(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0 s", 59 * time.Second: "59 s", 61 * time.Second: "1 m 1 s", 3*time.Hour + 12*time.Minute: "3 h 12 m", 49 * time.Hour: "2 d 1 h",
	} {
		if got := span(d); got != want {
			t.Errorf("%v: got %q, want %q", d, got, want)
		}
	}
	for n, want := range map[int64]string{0: "0 B", 1023: "1023 B", 1024: "1.0 KiB", 10 << 30: "10.0 GiB", 5000 << 40: "5000.0 TiB"} {
		if got := size(n); got != want {
			t.Errorf("%d: got %q, want %q", n, got, want)
		}
	}
}
