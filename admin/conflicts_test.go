package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
)

// fakeLog is a conflict log of size entries, numbered from 1.
type fakeLog struct {
	size   int
	asked  []ConflictFilter
	taken  []string
	refuse error
}

func (l *fakeLog) entry(id int64) Conflict {
	return Conflict{
		ID: id, DecidedAt: time.UnixMicro(id).UTC(), Table: "orders", Key: fmt.Sprintf("id=%d", id), Kind: "update/update", Policy: "latest",
		Winner: "remote", State: ConflictDecided, Local: ConflictSide{Office: "hq"}, Remote: ConflictSide{Office: "north", Position: Position{1, 2}},
	}
}

func (l *fakeLog) List(_ context.Context, f ConflictFilter) ([]Conflict, error) {
	l.asked = append(l.asked, f)
	var out []Conflict
	for id := l.size; id > 0 && len(out) < f.Limit; id-- {
		out = append(out, l.entry(int64(id)))
	}
	return out, l.refuse
}

func (l *fakeLog) Show(_ context.Context, id int64) (Conflict, error) {
	if id > int64(l.size) {
		return Conflict{}, fmt.Errorf("conflict %d: %w", id, ErrUnknownConflict)
	}
	c := l.entry(id)
	c.Local.Row, c.Remote.Row = json.RawMessage(`{"id":7}`), json.RawMessage(`null`)
	return c, l.refuse
}

func (l *fakeLog) Resolve(ctx context.Context, id int64, take string) (Conflict, error) {
	c, err := l.Show(ctx, id)
	if err != nil {
		return Conflict{}, err
	}
	l.taken = append(l.taken, fmt.Sprintf("%d %s", id, take))
	c.State, c.Taken = ConflictResolved, take
	return c, nil
}

func TestConflictList(t *testing.T) {
	for _, c := range []struct {
		query string
		size  int
		want  ConflictFilter // as the log was asked
		got   int
		more  bool
	}{
		{"", 0, ConflictFilter{Limit: 51}, 0, false},
		{"", 50, ConflictFilter{Limit: 51}, 50, false},
		{"", 51, ConflictFilter{Limit: 51}, 50, true},
		{"?limit=2&table=orders&state=open&before=9", 2, ConflictFilter{Table: "orders", State: ConflictOpen, Before: 9, Limit: 3}, 2, false},
		{"?limit=1000", 1001, ConflictFilter{Limit: 1001}, 1000, true},
	} {
		log := &fakeLog{size: c.size}
		code, body := ask(t, start(t, Options{Source: &fake{}, Conflicts: log}), "GET", "/api/v1/conflicts"+c.query, nil)
		var list ConflictList
		if err := json.Unmarshal([]byte(body), &list); err != nil || code != http.StatusOK {
			t.Fatalf("%q: %d %s: %v", c.query, code, body, err)
		}
		if len(list.Conflicts) != c.got || list.More != c.more || !slices.Equal(log.asked, []ConflictFilter{c.want}) || strings.Contains(body, "null") {
			t.Errorf("%q: %d entries, more %t, asked %+v; want %d, %t, %+v", c.query, len(list.Conflicts), list.More, log.asked, c.got, c.more, c.want)
		}
	}
}

// post sends a body, as curl or a page in a browser would.
func post(t *testing.T, s *httptest.Server, path, body string, header http.Header) (int, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.URL+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Close, r.Header = true, header
	return send(t, s, r)
}

func TestConflictShowAndResolve(t *testing.T) {
	log := &fakeLog{size: 7}
	s := start(t, Options{Source: &fake{}, Conflicts: log})
	code, body := ask(t, s, "GET", "/api/v1/conflicts/7", nil)
	if code != http.StatusOK || !strings.Contains(body, `"row":{"id":7}`) || !strings.Contains(body, `"row":null`) || strings.Contains(body, "resolved_at") {
		t.Errorf("%d %s", code, body)
	}
	code, body = post(t, s, "/api/v1/conflicts/7/resolve", `{"take":"local"}`, nil)
	var c Conflict
	if err := json.Unmarshal([]byte(body), &c); err != nil || code != http.StatusOK || c.State != ConflictResolved || c.Taken != TakeLocal {
		t.Errorf("%d %s: %v", code, body, err)
	}
	if !slices.Equal(log.taken, []string{"7 local"}) {
		t.Errorf("taken %q", log.taken)
	}
}

func TestConflictRefusals(t *testing.T) {
	const resolve = "/api/v1/conflicts/7/resolve"
	for _, c := range []struct {
		name, path, body string // no body: GET
		log              *fakeLog
		code             int
		want             string
	}{
		{"list at a branch", "/api/v1/conflicts", "", nil, 404, "the conflict log is at the head"},
		{"show at a branch", "/api/v1/conflicts/7", "", nil, 404, "the conflict log is at the head"},
		{"resolve at a branch", resolve, `{"take":"local"}`, nil, 404, "the conflict log is at the head"},
		{"no state", "/api/v1/conflicts?state=new", "", &fakeLog{}, 400, "state: want decided, open, parked or resolved"},
		{"no number", "/api/v1/conflicts?limit=many", "", &fakeLog{}, 400, "limit: want a number from 1 to 1000"},
		{"none", "/api/v1/conflicts?limit=0", "", &fakeLog{}, 400, "limit: want"},
		{"too many", "/api/v1/conflicts?limit=1001", "", &fakeLog{}, 400, "limit: want"},
		{"before what", "/api/v1/conflicts?before=0", "", &fakeLog{}, 400, "before: want"},
		{"database away", "/api/v1/conflicts", "", &fakeLog{refuse: errors.New("connection refused")}, 503, "connection refused"},
		{"no number of an entry", "/api/v1/conflicts/x", "", &fakeLog{}, 400, "want the number of an entry"},
		{"unknown", "/api/v1/conflicts/8", "", &fakeLog{size: 7}, 404, "conflict 8: the conflict log has no such entry"},
		{"resolve an unknown one", resolve, `{"take":"local"}`, &fakeLog{}, 404, "conflict 7: the conflict log has no such entry"},
		{"resolved before", resolve, `{"take":"local"}`, &fakeLog{size: 7, refuse: fmt.Errorf("conflict 7: %w", ErrResolved)}, 409, "resolved already"},
		{"take what", resolve, `{"take":"merged"}`, &fakeLog{size: 7}, 400, `want {\"take\": \"local\"}`},
		{"take nothing", resolve, `{}`, &fakeLog{size: 7}, 400, "want {"},
		{"another key", resolve, `{"take":"local","why":"so"}`, &fakeLog{size: 7}, 400, "want {"},
		{"a flood", resolve, `{"take":"local"` + strings.Repeat(" ", maxBody) + `}`, &fakeLog{size: 7}, 400, "want {"},
		{"no JSON", resolve, `take=local`, &fakeLog{size: 7}, 400, "want {"},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := Options{Source: &fake{}}
			if c.log != nil {
				o.Conflicts = c.log
			}
			s := start(t, o)
			code, body := 0, ""
			if c.body == "" {
				code, body = ask(t, s, "GET", c.path, nil)
			} else {
				code, body = post(t, s, c.path, c.body, nil)
			}
			if code != c.code || !strings.Contains(body, c.want) {
				t.Errorf("got %d %s, want %d with %s", code, body, c.code, c.want)
			}
			if c.log != nil && len(c.log.taken) > 0 {
				t.Errorf("taken %q", c.log.taken)
			}
		})
	}
}

// A page that a browser has from elsewhere can send a form to 127.0.0.1, without asking first.
func TestAnotherSitesPageChangesNothing(t *testing.T) {
	for name, c := range map[string]struct {
		header http.Header
		code   int
	}{
		"no browser":     {nil, 200},
		"our own page":   {http.Header{"Sec-Fetch-Site": {"same-origin"}}, 200},
		"another's":      {http.Header{"Sec-Fetch-Site": {"cross-site"}}, 403},
		"in an old one":  {http.Header{"Origin": {"https://evil.example"}}, 403},
		"in a sandboxed": {http.Header{"Origin": {"null"}}, 403},
	} {
		t.Run(name, func(t *testing.T) {
			log := &fakeLog{size: 7}
			s := start(t, Options{Source: &fake{}, Conflicts: log})
			code, body := post(t, s, "/api/v1/conflicts/7/resolve", `{"take":"remote"}`, c.header)
			if code != c.code || (len(log.taken) > 0) != (c.code == 200) {
				t.Errorf("%d %s, taken %q", code, body, log.taken)
			}
		})
	}
}

func TestMetricsOfConflicts(t *testing.T) {
	c := &collector{source: &fake{status: sample()}}
	want := `
# HELP cdc_barrier_seconds Time that decisions waited for the head's own capture to pass the log's end.
# TYPE cdc_barrier_seconds summary
cdc_barrier_seconds_sum 1.5
cdc_barrier_seconds_count 40
# HELP cdc_barriers_total Times that a decision waited for the head's own capture to pass the log's end.
# TYPE cdc_barriers_total counter
cdc_barriers_total 40
# HELP cdc_conflicts_open Conflicts that wait for a person.
# TYPE cdc_conflicts_open gauge
cdc_conflicts_open 2
# HELP cdc_conflicts_total Conflicts decided at the head.
# TYPE cdc_conflicts_total counter
cdc_conflicts_total{policy="latest",table="orders",winner="local"} 3
cdc_conflicts_total{policy="manual",table="prices",winner="none"} 6
# HELP cdc_drift_tables Tables of a branch that differ from the head's, by its last look.
# TYPE cdc_drift_tables gauge
cdc_drift_tables{office="north"} 3
# HELP cdc_held_changes_total Changes of the head skipped at a branch, because the head will meet the branch's own of the same row.
# TYPE cdc_held_changes_total counter
cdc_held_changes_total 11
# HELP cdc_parked_changes Changes that wait because another row has their unique key, and those behind them.
# TYPE cdc_parked_changes gauge
cdc_parked_changes 5
# HELP cdc_row_clock_bytes Memory that the index of row clocks takes.
# TYPE cdc_row_clock_bytes gauge
cdc_row_clock_bytes 64000
# HELP cdc_row_clock_disk_bytes Disk that the index of row clocks takes.
# TYPE cdc_row_clock_disk_bytes gauge
cdc_row_clock_disk_bytes 8000
# HELP cdc_row_clocks Rows that have a clock.
# TYPE cdc_row_clocks gauge
cdc_row_clocks 1000
# HELP cdc_schema_steps Steps of other offices' schema changes that were not done here.
# TYPE cdc_schema_steps gauge
cdc_schema_steps{state="failed"} 1
cdc_schema_steps{state="held"} 2
`
	err := testutil.CollectAndCompare(c, strings.NewReader(want), "cdc_barrier_seconds", "cdc_barriers_total", "cdc_conflicts_open", "cdc_conflicts_total", "cdc_drift_tables", "cdc_schema_steps",
		"cdc_held_changes_total", "cdc_parked_changes", "cdc_row_clock_bytes", "cdc_row_clock_disk_bytes", "cdc_row_clocks")
	if err != nil {
		t.Error(err)
	}
}
