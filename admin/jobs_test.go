package admin

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"cdc-sidecar/schema"
)

// fakeJobs knows one job.
type fakeJobs struct {
	job       Job
	started   []Spec
	cancelled []string
	refuse    error
}

func (f *fakeJobs) Start(spec Spec) (string, error) {
	if f.refuse != nil {
		return "", f.refuse
	}
	f.started = append(f.started, spec)
	return f.job.ID, nil
}

func (f *fakeJobs) Job(id string) (Job, error) {
	if id != f.job.ID {
		return Job{}, fmt.Errorf("job %s: %w", id, ErrUnknownJob)
	}
	return f.job, nil
}

func (f *fakeJobs) List() []Job { return []Job{f.job} }

func (f *fakeJobs) Cancel(id string) error {
	if _, err := f.Job(id); err != nil {
		return err
	}
	f.cancelled = append(f.cancelled, id)
	return f.refuse
}

func verified() Job {
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	return Job{
		ID: "a1", Spec: Spec{Kind: JobVerify, Table: "public.*"}, State: JobDone, Asked: at, Started: at, Ended: at.Add(time.Minute),
		Offices: []OfficeReport{{Office: "north", State: JobDone, Tables: []TableReport{{
			Table: "orders", Phase: "done", Rows: 10, Total: 10, Equal: 8, Different: 1, MissingHere: 1, Seconds: 0.5,
			Keys: []KeyReport{{Kind: schema.KeyDifferent, Key: "id=7", Columns: []string{"amount"}}, {Kind: schema.KeyMissingHere, Key: "id=8"}},
		}}}},
	}
}

func TestJobs(t *testing.T) {
	jobs := &fakeJobs{job: verified()}
	s := start(t, Options{Source: &fake{}, Jobs: jobs})
	want := Spec{Kind: JobVerify, Table: "public.*", Where: "row.id > 7", Office: "north", Repair: true, Prefer: PreferBranch, Extra: ExtraKeep, Rows: 10}
	body, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	code, answer := post(t, s, "/api/v1/jobs", string(body), nil)
	if code != http.StatusAccepted || strings.TrimSpace(answer) != `{"id":"a1"}` || !reflect.DeepEqual(jobs.started, []Spec{want}) {
		t.Errorf("%d %s, started %+v", code, answer, jobs.started)
	}
	code, answer = ask(t, s, "GET", "/api/v1/jobs/a1", nil)
	var got Job
	if err := json.Unmarshal([]byte(answer), &got); err != nil || code != http.StatusOK || !reflect.DeepEqual(got, jobs.job) {
		t.Errorf("%d %s: %v", code, answer, err)
	}
	code, answer = ask(t, s, "GET", "/api/v1/jobs", nil)
	if code != http.StatusOK || !strings.Contains(answer, `"different":1`) || strings.Contains(answer, "id=7") || len(jobs.job.Offices[0].Tables[0].Keys) != 2 {
		t.Errorf("%d %s", code, answer)
	}
	code, answer = ask(t, s, "DELETE", "/api/v1/jobs/a1", nil)
	if code != http.StatusNoContent || answer != "" || !reflect.DeepEqual(jobs.cancelled, []string{"a1"}) {
		t.Errorf("%d %s, cancelled %q", code, answer, jobs.cancelled)
	}
}

func TestJobRefusals(t *testing.T) {
	for _, c := range []struct {
		name, method, path, body string
		jobs                     *fakeJobs
		code                     int
		want                     string
	}{
		{"nobody does them", "POST", "", `{"kind":"sync"}`, nil, 503, "takes no jobs"},
		{"nobody lists them", "GET", "", "", nil, 503, "takes no jobs"},
		{"nobody shows them", "GET", "/a1", "", nil, 503, "takes no jobs"},
		{"nobody cancels them", "DELETE", "/a1", "", nil, 503, "takes no jobs"},
		{"unknown", "GET", "/b2", "", &fakeJobs{}, 404, "job b2: there is no such job"},
		{"cancel an unknown one", "DELETE", "/b2", "", &fakeJobs{}, 404, "no such job"},
		{"no kind", "POST", "", `{}`, &fakeJobs{}, 400, "kind: want sync, resync or verify"},
		{"another key", "POST", "", `{"kind":"sync","tables":"x"}`, &fakeJobs{}, 400, `unknown field \"tables\"`},
		{"no JSON", "POST", "", `kind=sync`, &fakeJobs{}, 400, "want a job, like"},
		{"a flood", "POST", "", `{"kind":"verify","where":"` + strings.Repeat("x", maxSpec) + `"}`, &fakeJobs{}, 400, "too large"},
		{"a long expression", "POST", "", `{"kind":"verify","where":"` + strings.Repeat("x", maxWhere+1) + `"}`, &fakeJobs{}, 400, "at most 4096 bytes"},
		{"sync of a table", "POST", "", `{"kind":"sync","table":"x"}`, &fakeJobs{}, 400, "sync is about everything"},
		{"no such side", "POST", "", `{"kind":"verify","repair":true,"prefer":"north"}`, &fakeJobs{}, 400, "prefer: want head or branch"},
		{"prefer without repair", "POST", "", `{"kind":"verify","prefer":"head"}`, &fakeJobs{}, 400, "want repair"},
		{"no such extra", "POST", "", `{"kind":"resync","extra":"drop"}`, &fakeJobs{}, 400, "extra: want send"},
		{"no such mode", "POST", "", `{"kind":"resync","mode":"none"}`, &fakeJobs{}, 400, "mode: want diff"},
		{"mode of verify", "POST", "", `{"kind":"verify","mode":"diff"}`, &fakeJobs{}, 400, "mode is for resync"},
		{"repair of resync", "POST", "", `{"kind":"resync","repair":true}`, &fakeJobs{}, 400, "repair is for verify"},
		{"no name of an office", "POST", "", `{"kind":"verify","office":"North"}`, &fakeJobs{}, 400, "lower-case"},
		{"unknown office", "POST", "", `{"kind":"verify","office":"west"}`, &fakeJobs{refuse: fmt.Errorf("west: %w", ErrUnknownOffice)}, 404, "west: no member"},
		{"cannot be done so", "POST", "", `{"kind":"verify"}`, &fakeJobs{refuse: &SpecError{"where: no column x"}}, 400, "where: no column x"},
		{"not now", "POST", "", `{"kind":"verify"}`, &fakeJobs{refuse: errors.New("the sidecar is still starting")}, 503, "still starting"},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := Options{Source: &fake{}}
			if c.jobs != nil {
				o.Jobs = c.jobs
			}
			s := start(t, o)
			var code int
			var body string
			if c.method == http.MethodPost {
				code, body = post(t, s, "/api/v1/jobs"+c.path, c.body, nil)
			} else {
				code, body = ask(t, s, c.method, "/api/v1/jobs"+c.path, nil)
			}
			if code != c.code || !strings.Contains(body, c.want) {
				t.Errorf("got %d %s, want %d with %s", code, body, c.code, c.want)
			}
			if c.jobs != nil && len(c.jobs.started)+len(c.jobs.cancelled) > 0 {
				t.Errorf("started %+v, cancelled %q", c.jobs.started, c.jobs.cancelled)
			}
		})
	}
}

func TestOutcomes(t *testing.T) {
	for _, c := range []struct {
		table TableReport
		want  string
		left  uint64
	}{
		{TableReport{Equal: 7}, schema.OutcomeEqual, 0},
		{TableReport{}, schema.OutcomeEqual, 0},
		{TableReport{Repaired: 7}, schema.OutcomeEqual, 0}, // a resync by replacement compares nothing
		{TableReport{Different: 1}, schema.OutcomeDifferent, 1},
		{TableReport{MissingHere: 2, Repaired: 1}, schema.OutcomeDifferent, 1},
		{TableReport{MissingThere: 2, Sent: 1, Removed: 1}, schema.OutcomeRepaired, 0},
		{TableReport{Disputed: 1, Different: 1, Repaired: 1}, schema.OutcomeDifferent, 1},
		{TableReport{Equal: 7, InFlight: 1}, schema.OutcomeUndecided, 0},
		{TableReport{Different: 1, InFlight: 1}, schema.OutcomeDifferent, 1},
	} {
		if got, left := c.table.Outcome(), c.table.Left(); got != c.want || left != c.left {
			t.Errorf("%+v: %s, %d left; want %s, %d", c.table, got, left, c.want, c.left)
		}
	}
}

func TestMetricsOfEquality(t *testing.T) {
	c := &collector{source: &fake{status: sample()}}
	want := `
# HELP cdc_snapshot_rows Rows of the table that a join has dealt with.
# TYPE cdc_snapshot_rows gauge
cdc_snapshot_rows{table="orders"} 400
cdc_snapshot_rows{table="prices"} 0
# HELP cdc_snapshot_rows_estimated About how many rows of the table a join has to deal with.
# TYPE cdc_snapshot_rows_estimated gauge
cdc_snapshot_rows_estimated{table="orders"} 1000
cdc_snapshot_rows_estimated{table="prices"} 50
# HELP cdc_sync_open 1 while the office speaks with the others: always in realtime, else during a sync.
# TYPE cdc_sync_open gauge
cdc_sync_open 0
# HELP cdc_verify_last_success_timestamp_seconds When a comparison last ran to its end.
# TYPE cdc_verify_last_success_timestamp_seconds gauge
cdc_verify_last_success_timestamp_seconds 1.7723664e+09
# HELP cdc_verify_rows_total Rows compared with the head's, by what was found.
# TYPE cdc_verify_rows_total counter
cdc_verify_rows_total{result="different"} 4
cdc_verify_rows_total{result="disputed"} 1
cdc_verify_rows_total{result="equal"} 5
cdc_verify_rows_total{result="missing_here"} 3
cdc_verify_rows_total{result="missing_there"} 2
# HELP cdc_verify_tables_diverged Tables that were not equal when they were last compared.
# TYPE cdc_verify_tables_diverged gauge
cdc_verify_tables_diverged 6
`
	err := testutil.CollectAndCompare(c, strings.NewReader(want), "cdc_snapshot_rows", "cdc_snapshot_rows_estimated", "cdc_sync_open",
		"cdc_verify_last_success_timestamp_seconds", "cdc_verify_rows_total", "cdc_verify_tables_diverged")
	if err != nil {
		t.Error(err)
	}
}
