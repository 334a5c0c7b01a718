package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/goleak"

	"cdc-sidecar/schema"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fake is a Source that says what the test gave it.
type fake struct {
	status  Status
	live    error
	removed []schema.Office
	refuse  error
}

func (f *fake) Status() Status { return f.status }
func (f *fake) Live() error    { return f.live }

func (f *fake) RemoveOffice(_ context.Context, name schema.Office) error {
	if f.refuse != nil {
		return f.refuse
	}
	f.removed = append(f.removed, name)
	return nil
}

func sample() Status {
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	return Status{
		Office: "head", Role: schema.Head, Engine: schema.Postgres, Version: "1.2.3", State: Degraded, Ready: true, Since: at, Started: at,
		Corridors: []Corridor{
			{Name: CaptureCorridor, State: CorridorRunning, Since: at},
			{Name: ShipCorridor, State: CorridorWaiting, Since: at, Error: "connection refused", Attempts: 3, Restarts: 4},
		},
		Journal: Journal{Epoch: 7, First: 3, Last: 12, Published: 10, Released: 2, Bytes: 4096, Budget: 1 << 30, Source: "0/16B3748"},
		Capture: Capture{Transactions: 12, Changes: Changes{Insert: 5, Update: 4, Delete: 3, Truncate: 1}, LagSeconds: 0.25, LastCommit: at},
		Broker:  Broker{Connected: true, Published: 9, Bytes: 900, Returned: 1, Received: 8, ReceivedBytes: 800, Quarantined: 2},
		Peers: []Peer{{
			Office: "north", Role: schema.Branch, Engine: schema.MariaDB, State: PeerHalted, Drift: &Drift{Checked: at, Different: 3}, Progress: Position{5, 6}, Acknowledged: Position{7, 8},
			Unacknowledged: 4, LastHeard: at, LastApplied: at,
			Halted: HaltOf(&schema.RejectedError{
				Table: schema.TableName{Name: "orders"}, Key: "id=7", Column: "vat", At: schema.Position{Epoch: 5, Seq: 7},
				Cause: errors.New("no such column"), Remedy: "ALTER TABLE orders ADD COLUMN vat int",
			}),
		}},
		Conflicts: ConflictCounts{Total: 9, Open: 2, ByTable: []ConflictCount{
			{Table: "orders", Policy: "latest", Winner: "local", Count: 3}, {Table: "prices", Policy: "manual", Winner: "none", Count: 6},
		}},
		DDL: SchemaChanges{Held: 2, Failed: 1}, Parked: 5,
		Clocks: Clocks{Rows: 1000, Bytes: 64000, DiskBytes: 8000, Held: 11, Barriers: 40, BarrierSeconds: 1.5},
		Sync:   Sync{Mode: SyncScheduled, Schedule: "30 2 * * *", Next: at.Add(time.Hour), Last: at},
		Joining: &Joining{Phase: "take", Why: "this office is new", Since: at, Tables: []JoinTable{
			{Table: "orders", State: JoinRunning, Rows: 400, Total: 1000, RowsPerSecond: 200, Remaining: 3},
			{Table: "prices", State: JoinWaiting, Total: 50},
		}},
		Verify: Verify{Equal: 5, Different: 4, MissingHere: 3, MissingThere: 2, Disputed: 1, Diverged: 6, LastSuccess: at},
		Apply:  Apply{Transactions: 6, Changes: Changes{Insert: 2}, OwnReturned: 3, Repaired: 1, Duplicates: 5, Gaps: 2, LastApplied: at},
	}
}

func start(t *testing.T, o Options) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(NewHandler(o))
	t.Cleanup(s.Close)
	return s
}

func ask(t *testing.T, s *httptest.Server, method, path string, header http.Header) (int, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, s.URL+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Close = true
	for name, values := range header {
		r.Header[name] = values
	}
	if host := header.Get("Host"); host != "" {
		r.Host = host
	}
	return send(t, s, r)
}

func send(t *testing.T, s *httptest.Server, r *http.Request) (int, string) {
	t.Helper()
	reply, err := s.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer reply.Body.Close()
	body, err := io.ReadAll(reply.Body)
	if err != nil {
		t.Fatal(err)
	}
	return reply.StatusCode, string(body)
}

func TestStatusIsWhatTheSourceSays(t *testing.T) {
	s := start(t, Options{Source: &fake{status: sample()}})
	code, body := ask(t, s, "GET", "/api/v1/status", nil)
	var got Status
	if err := json.Unmarshal([]byte(body), &got); err != nil || code != http.StatusOK {
		t.Fatalf("%d %s: %v", code, body, err)
	}
	if want := sample().filled(); !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func TestEmptyListsAreListsAndAbsentTimesAreAbsent(t *testing.T) {
	s := start(t, Options{Source: &fake{}})
	_, body := ask(t, s, "GET", "/api/v1/status", nil)
	for _, want := range []string{`"corridors":[]`, `"peers":[]`, `"notices":[]`, `"findings":[]`} {
		if !strings.Contains(body, want) {
			t.Errorf("%s is not in %s", want, body)
		}
	}
	if strings.Contains(body, "retention_deadline") || strings.Contains(body, "last_commit") {
		t.Errorf("a time that there is not, in %s", body)
	}
}

func TestProbes(t *testing.T) {
	ready, unready, dead := sample(), sample(), errors.New("the supervisor hangs")
	unready.Ready = false
	for _, c := range []struct {
		name, path string
		source     *fake
		code       int
		body       string
	}{
		{"alive", "/livez", &fake{status: unready}, 200, `{"ok":true,"reasons":[]}`},
		{"dead", "/livez", &fake{live: dead}, 503, `{"ok":false,"reasons":["the supervisor hangs"]}`},
		{"ready though degraded", "/readyz", &fake{status: ready}, 200, `"ship is waiting: connection refused"`},
		{"a halted peer is a reason", "/readyz", &fake{status: ready}, 200, `office north is halted: orders.vat (id=7): no such column; remedy: ALTER TABLE`},
		{"not ready", "/readyz", &fake{status: unready}, 503, `{"ok":false,"state":"degraded"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			// Probes are answered without the token, under any name.
			code, body := ask(t, start(t, Options{Source: c.source, Token: "secret"}), "GET", c.path, http.Header{"Host": {"office.example"}})
			if code != c.code || !strings.Contains(body, c.body) {
				t.Errorf("got %d %s, want %d with %s", code, body, c.code, c.body)
			}
		})
	}
}

func TestReasons(t *testing.T) {
	for _, c := range []struct {
		peer Peer
		want string // "": nothing is wrong
	}{
		{Peer{State: PeerActive}, ""},
		{Peer{State: PeerSilent}, ""},
		{Peer{State: PeerGap}, "office west: its stream has a hole; waiting for it to send again"},
		{Peer{State: PeerHeld, Cause: "wire version 9"}, "office west is held: wire version 9"},
		{Peer{State: PeerExpired}, "office west stayed away longer than the journal reaches: it needs to join"},
		{Peer{State: PeerNeedsJoin, Cause: "its journal was lost"}, "office west: one of the two no longer holds what the other lacks: a join is needed: its journal was lost"},
		{Peer{State: PeerHalted, Halted: &Halt{Cause: "no idea"}}, "office west is halted: no idea"},
	} {
		c.peer.Office = "west"
		var want []string
		if c.want != "" {
			want = []string{c.want}
		}
		if got := (Status{Peers: []Peer{c.peer}}).Reasons(); !slices.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	joining := Status{Joining: &Joining{Phase: "take", Why: "its journal was lost", Note: "the head is not heard", Tables: []JoinTable{
		{Table: "a", State: JoinDone, Rows: 3}, {Table: "b", State: JoinRunning, Rows: 7, Total: 5}, {Table: "c", State: JoinWaiting, Total: 10},
	}}}
	if got := joining.Reasons(); !slices.Equal(got, []string{"joining (take) because its journal was lost: 10 of about 20 rows; the head is not heard"}) {
		t.Errorf("got %q", got)
	}
	joining.Joining.Tables[2].Total = 0
	if got := joining.Reasons(); !slices.Equal(got, []string{"joining (take) because its journal was lost: 10 rows; the head is not heard"}) {
		t.Errorf("got %q", got)
	}
	closed := Status{Corridors: []Corridor{{Name: ShipCorridor, State: CorridorClosed}}}
	if got := closed.Reasons(); len(got) > 0 {
		t.Errorf("a closed corridor is no reason, got %q", got)
	}
	blocked := Status{Broker: Broker{Blocked: "low on memory"}, Corridors: []Corridor{{Name: ShipCorridor, State: CorridorRunning}}}
	if got := blocked.Reasons(); !slices.Equal(got, []string{"the broker takes nothing now: low on memory"}) {
		t.Errorf("got %q", got)
	}
}

func TestGuard(t *testing.T) {
	bearer := func(token string) http.Header { return http.Header{"Authorization": {"Bearer " + token}} }
	for _, c := range []struct {
		name   string
		token  string
		header http.Header
		code   int
	}{
		{"no token wanted, by address", "", nil, 200},
		{"no token wanted, as localhost", "", http.Header{"Host": {"localhost:8350"}}, 200},
		{"no token wanted, IPv6 without port", "", http.Header{"Host": {"[::1]"}}, 200},
		{"no token wanted, under a name of somebody else's", "", http.Header{"Host": {"evil.example:8350"}}, 403},
		{"right token", "secret", bearer("secret"), 200},
		{"right token under a name", "secret", http.Header{"Authorization": {"Bearer secret"}, "Host": {"north.example"}}, 200},
		{"wrong token", "secret", bearer("Secret"), 401},
		{"longer token", "secret", bearer("secret1"), 401},
		{"no token", "secret", nil, 401},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := start(t, Options{Source: &fake{}, Token: c.token})
			for _, path := range []string{"/api/v1/status", "/api/v1/offices", "/metrics", "/"} {
				if code, body := ask(t, s, "GET", path, c.header); code != c.code {
					t.Errorf("%s: got %d %s, want %d", path, code, body, c.code)
				}
			}
		})
	}
}

func TestRemoveOffice(t *testing.T) {
	for _, c := range []struct {
		name   string
		office string
		refuse error
		code   int
		body   string
	}{
		{"removed", "south", nil, 204, ""},
		{"no name of an office", "South", nil, 400, "lower-case letter"},
		{"unknown", "south", fmt.Errorf("south: %w", ErrUnknownOffice), 404, "south: no member has this name"},
		{"at a branch", "south", ErrNotHead, 409, "kept at the head"},
		{"broker away", "south", errors.New("broker: connection refused"), 503, "connection refused"},
	} {
		t.Run(c.name, func(t *testing.T) {
			source := &fake{refuse: c.refuse}
			code, body := ask(t, start(t, Options{Source: source}), "DELETE", "/api/v1/offices/"+c.office, nil)
			if code != c.code || !strings.Contains(body, c.body) {
				t.Errorf("got %d %s, want %d with %q", code, body, c.code, c.body)
			}
			if removed := slices.Equal(source.removed, []schema.Office{"south"}); removed != (c.code == 204) {
				t.Errorf("removed %v with code %d", source.removed, code)
			}
		})
	}
}

func TestMetrics(t *testing.T) {
	c := &collector{source: &fake{status: sample()}, version: "1.2.3"}
	problems, err := testutil.CollectAndLint(c)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
	want := `
# HELP cdc_capture_events_total Changes read from the office's own log.
# TYPE cdc_capture_events_total counter
cdc_capture_events_total{op="delete"} 3
cdc_capture_events_total{op="insert"} 5
cdc_capture_events_total{op="truncate"} 1
cdc_capture_events_total{op="update"} 4
# HELP cdc_journal_entries Transactions that the journal holds.
# TYPE cdc_journal_entries gauge
cdc_journal_entries 10
# HELP cdc_journal_unsent_entries Transactions that the broker has not confirmed.
# TYPE cdc_journal_unsent_entries gauge
cdc_journal_unsent_entries 2
# HELP cdc_last_applied_commit_timestamp_seconds Commit time at the origin of the last transaction applied.
# TYPE cdc_last_applied_commit_timestamp_seconds gauge
cdc_last_applied_commit_timestamp_seconds{origin="north"} 1.7723664e+09
# HELP cdc_receive_gaps_total Holes found in streams, to be filled by a resend.
# TYPE cdc_receive_gaps_total counter
cdc_receive_gaps_total 2
# HELP cdc_source_retention_deadline_timestamp_seconds When the database's log would lose our place in it if nothing changed; +Inf while nothing threatens.
# TYPE cdc_source_retention_deadline_timestamp_seconds gauge
cdc_source_retention_deadline_timestamp_seconds +Inf
# HELP cdc_up 1 while the corridor runs.
# TYPE cdc_up gauge
cdc_up{corridor="capture"} 1
cdc_up{corridor="ship"} 0
`
	err = testutil.CollectAndCompare(c, strings.NewReader(want), "cdc_capture_events_total", "cdc_journal_entries", "cdc_journal_unsent_entries",
		"cdc_last_applied_commit_timestamp_seconds", "cdc_receive_gaps_total", "cdc_source_retention_deadline_timestamp_seconds", "cdc_up")
	if err != nil {
		t.Error(err)
	}
}

func TestMetricsOverHTTP(t *testing.T) {
	s := start(t, Options{Source: &fake{status: sample()}, Version: "1.2.3"})
	for range 2 { // a second scrape must not meet what the first left
		code, body := ask(t, s, "GET", "/metrics", nil)
		for _, want := range []string{`cdc_build_info{goversion="go`, `version="1.2.3"} 1`, "go_goroutines ", "process_start_time_seconds "} {
			if code != http.StatusOK || !strings.Contains(body, want) {
				t.Errorf("%d: %q is not in the metrics", code, want)
			}
		}
	}
}

// Every metric starts with cdc_, also those that the lint cannot see because the sample lacks them.
func TestMetricsOfAnEmptyStatusAreNumbers(t *testing.T) {
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(&collector{source: &fake{}})
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if !strings.HasPrefix(f.GetName(), "cdc_") {
			t.Errorf("%s lacks the prefix", f.GetName())
		}
		for _, m := range f.GetMetric() {
			if v := m.GetGauge().GetValue() + m.GetCounter().GetValue(); math.IsNaN(v) || v < 0 {
				t.Errorf("%s is %v", f.GetName(), v)
			}
		}
	}
	if len(families) < 20 {
		t.Errorf("only %d families", len(families))
	}
}
