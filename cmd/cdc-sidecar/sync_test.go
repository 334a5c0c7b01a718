package main

import (
	"context"
	"encoding/json"
	"errors"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"cdc-sidecar/admin"
	"cdc-sidecar/schema"
)

// fakeJobs plays one job: each look at it shows the next state, and the last stays.
type fakeJobs struct {
	mu        sync.Mutex
	states    []admin.Job
	refuse    error
	forget    int // the look at which the sidecar has been started anew, and knows of no job; 0: never
	looks     int
	started   []admin.Spec
	cancelled int
	looked    func(n int) // called after each look; nil: nothing is
}

func (f *fakeJobs) Start(spec admin.Spec) (string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.refuse != nil {
		return "", f.refuse
	}
	f.started = append(f.started, spec)
	return "a1", nil
}

func (f *fakeJobs) Job(id string) (admin.Job, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.looks++
	if f.looked != nil {
		defer f.looked(f.looks)
	}
	if id != "a1" || f.looks == f.forget {
		return admin.Job{}, admin.ErrUnknownJob
	}
	j := f.states[0]
	if len(f.states) > 1 {
		f.states = f.states[1:]
	}
	j.ID, j.Spec = id, f.started[len(f.started)-1]
	return j, nil
}

func (f *fakeJobs) List() []admin.Job { return nil }

func (f *fakeJobs) Cancel(string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.cancelled++
	return nil
}

// doing is a sidecar whose job goes through the states.
func doing(role schema.Role, states ...admin.Job) (*fakeSidecar, *fakeJobs) {
	jobs := &fakeJobs{states: states}
	s := running(time.Now())
	s.status.Role, s.jobs = role, jobs
	return s, jobs
}

func job(state admin.JobState, tables ...admin.TableReport) admin.Job {
	return admin.Job{State: state, Offices: []admin.OfficeReport{{Office: "north", State: state, Tables: tables}}}
}

var (
	alike    = admin.TableReport{Table: "customers", Phase: phaseDone, Rows: 5, Total: 5, Equal: 5}
	deviates = admin.TableReport{
		Table: "orders", Phase: phaseDone, Rows: 10, Total: 9, Equal: 6, Different: 1, MissingHere: 1, MissingThere: 1, Disputed: 1,
		Keys: []admin.KeyReport{
			{Kind: schema.KeyDifferent, Key: "id=7", Columns: []string{"amount", "note"}},
			{Kind: schema.KeyMissingHere, Key: "id=8"},
			{Kind: schema.KeyMissingThere, Key: "name=tab\there"},
			{Kind: schema.KeyDisputed, Key: "id=10", Columns: []string{"note"}},
		},
		KeysLeftOut: 3,
	}
	mended = admin.TableReport{Table: "orders", Phase: phaseDone, Rows: 10, Equal: 8, Different: 1, MissingThere: 1, Repaired: 1, Sent: 1}
	moving = admin.TableReport{Table: "orders", Phase: phaseDone, Rows: 10, Equal: 9, InFlight: 1}
)

func TestSyncVerb(t *testing.T) {
	moved := admin.Moved{Sent: admin.MovedCount{Transactions: 12, Changes: 40}, Received: admin.MovedCount{Transactions: 3, Changes: 9}}
	head, jobs := doing(schema.Head,
		admin.Job{State: admin.JobWaiting, Note: "another job"}, admin.Job{State: admin.JobRunning, Note: "the broker cannot be reached"},
		admin.Job{State: admin.JobRunning, Note: "the broker cannot be reached"}, admin.Job{State: admin.JobRunning}, admin.Job{State: admin.JobDone, Moved: moved})
	config := serveAdmin(t, head, "unix", "secret")
	code, stdout, stderr := verb(t, "sync", "--wait", "--config", config)
	if code != exitOK || stdout != "sent 12 transactions (40 changes), received 3 transactions (9 changes)\n" {
		t.Errorf("%d %q", code, stdout)
	}
	if stderr != "waiting: another job\nwaiting: the broker cannot be reached\ngoing on\n" {
		t.Errorf("the notes are %q", stderr)
	}
	if !reflect.DeepEqual(jobs.started, []admin.Spec{{Kind: admin.JobSync}}) {
		t.Errorf("asked for %+v", jobs.started)
	}
	code, stdout, stderr = verb(t, "sync", "--json", "--wait", "--config", config)
	if code != exitOK || stderr != "" || !strings.Contains(stdout, `"summary":{"received":3,"sent":12,"state":"done"}`) {
		t.Errorf("%d %s %s", code, stdout, stderr)
	}
	looks := jobs.looks
	code, stdout, stderr = verb(t, "sync", "--config", config)
	if code != exitOK || stdout != "the sidecar does it (job a1)\n" || stderr != "" || jobs.looks != looks {
		t.Errorf("%d %q %q", code, stdout, stderr)
	}
}

func TestSyncOfATable(t *testing.T) {
	head, jobs := doing(schema.Head, job(admin.JobDone, mended))
	config := serveAdmin(t, head, "tcp", "")
	args := []string{"sync", "--config", config, "--table", "public.orders", "--where", "row.id > 7", "--office", "north", "--mode", "replace", "--prefer", "branch", "--extra", "keep"}
	code, stdout, stderr := verb(t, args...)
	if code != exitOK || !strings.Contains(stdout, "north    orders") || !strings.Contains(stdout, "repaired") || stderr != "" {
		t.Errorf("%d %s %s", code, stdout, stderr)
	}
	want := admin.Spec{Kind: admin.JobResync, Table: "public.orders", Where: "row.id > 7", Office: "north", Mode: "replace", Prefer: "branch", Extra: "keep"}
	if !reflect.DeepEqual(jobs.started, []admin.Spec{want}) {
		t.Errorf("asked for %+v", jobs.started)
	}
	looks := jobs.looks
	if code, stdout, _ := verb(t, append(args, "--wait=false")...); code != exitOK || jobs.looks != looks || !strings.Contains(stdout, "job a1") {
		t.Errorf("%d %s", code, stdout)
	}
}

func TestVerifyVerb(t *testing.T) {
	failed := admin.Job{State: admin.JobFailed, Error: "the head does not answer"}
	away := job(admin.JobDone, alike)
	away.Offices = append(away.Offices, admin.OfficeReport{Office: "south", State: admin.JobFailed, Error: "it is not heard"})
	for _, c := range []struct {
		name   string
		end    admin.Job
		code   int
		stdout string // whole
		stderr string // in it
	}{
		{"equal", job(admin.JobDone, alike), exitOK, "", "north    customers   5"},
		{"no office", admin.Job{State: admin.JobDone}, exitOK, "", "no office was compared"},
		{"different", job(admin.JobDone, alike, deviates), exitDiffer, "orders\tdifferent\tid=7\tamount, note\tnorth\norders\tmissing here\tid=8\t-\tnorth\n" +
			"orders\tmissing there\tname=tab\\there\t-\tnorth\norders\tdisputed\tid=10\tnote\tnorth\norders\tmore\t3 keys are not named\t-\tnorth\n", "different\n"},
		{"repaired", job(admin.JobDone, mended), exitOK, "", "repaired\n"},
		{"never quiet", job(admin.JobDone, moving), exitDiffer, "", "undecided\n"},
		{"failed", failed, exitRuntime, "", "cdc-sidecar: verify failed: the head does not answer\n"},
		{"an office failed", away, exitRuntime, "", "cdc-sidecar: office south: it is not heard\n"},
		{"cancelled by somebody", admin.Job{State: admin.JobCancelled}, exitRuntime, "", "cdc-sidecar: the job was cancelled"},
	} {
		t.Run(c.name, func(t *testing.T) {
			branch, _ := doing(schema.Branch, job(admin.JobRunning), c.end)
			config := serveAdmin(t, branch, "unix", "")
			code, stdout, stderr := verb(t, "verify", "--config", config)
			if code != c.code || stdout != c.stdout || !strings.Contains(stderr, c.stderr) {
				t.Errorf("exit code %d\n%s\n%s", code, stdout, stderr)
			}
			code, stdout, stderr = verb(t, "verify", "--json", "--config", config)
			var got struct {
				OK     bool
				Error  *string
				Result admin.Job
			}
			if err := json.Unmarshal([]byte(stdout), &got); err != nil || code != c.code || stderr != "" {
				t.Fatalf("%d %s %s: %v", code, stdout, stderr, err)
			}
			if got.OK != (code == exitOK) || (got.Error != nil) != (code == exitRuntime) || got.Result.ID != "a1" || len(got.Result.Offices) != len(c.end.Offices) {
				t.Errorf("got %s", stdout)
			}
		})
	}
}

func TestVerifyAsksForWhatTheFlagsSay(t *testing.T) {
	head, jobs := doing(schema.Head, job(admin.JobDone, mended))
	code, _, stderr := verb(t, "verify", "--config", serveAdmin(t, head, "unix", ""), "--table", "public.*", "--where", "row.id > 7", "--office", "north",
		"--repair", "--prefer", "branch", "--extra", "delete", "--rows", "50", "--timeout", "1m")
	want := admin.Spec{Kind: admin.JobVerify, Table: "public.*", Where: "row.id > 7", Office: "north", Repair: true, Prefer: "branch", Extra: "delete", Rows: 50}
	if code != exitOK || !reflect.DeepEqual(jobs.started, []admin.Spec{want}) {
		t.Errorf("%d %s, asked for %+v", code, stderr, jobs.started)
	}
}

// What cannot be meant is said before anybody is asked.
func TestSyncAndVerifyUsage(t *testing.T) {
	head := configAt(t, "unix:"+filepath.Join(t.TempDir(), "nobody"))
	branch := write(t, "branch.yaml", "office: north\nrole: branch\ndatabase: postgres://cdc:x@127.0.0.1:1/shop\nbroker: amqp://x:y@127.0.0.1:1/\nadmin: unix:/nobody\n")
	for _, c := range []struct{ config, args, want string }{
		{head, "sync --where row.id>7", "want --table, too"},
		{head, "sync --office north", "want --table, too"},
		{head, "sync --table t --mode none", "mode: want diff or replace"},
		{head, "sync --table t --office North", "lower-case"},
		{head, "sync --table t --office head", "this is the head itself"},
		{head, "sync now", "sync takes no argument"},
		{branch, "sync --table t --office south", "this is branch north"},
		{branch, "verify --office south", "ask at the head"},
		{head, "verify --where row.id>7", "want --table, too"},
		{head, "verify --prefer head", "want --repair, too"},
		{head, "verify --repair --prefer north", "prefer: want head or branch"},
		{head, "verify --office North", "--office: office name"},
		{head, "verify --continuous --json", "--continuous has no end"},
		{head, "verify --timeout -1s", "want a time"},
		{head, "verify --rows -1", "invalid argument"},
	} {
		code, stdout, stderr := verb(t, append(strings.Fields(c.args), "--config", c.config)...)
		if code != exitConfig || !strings.Contains(stderr+stdout, c.want) {
			t.Errorf("%s: %d %s %s", c.args, code, stdout, stderr)
		}
	}
}

func TestRefusedJobs(t *testing.T) {
	for _, c := range []struct {
		refuse error
		code   int
		want   string
	}{
		{admin.ErrUnknownOffice, exitRuntime, "no member has this name"},
		{&admin.SpecError{Problem: "where: there is no column x"}, exitRuntime, "there is no column x"},
	} {
		head, jobs := doing(schema.Head)
		jobs.refuse = c.refuse
		code, _, stderr := verb(t, "verify", "--config", serveAdmin(t, head, "unix", ""))
		if code != c.code || !strings.Contains(stderr, c.want) {
			t.Errorf("%d %s", code, stderr)
		}
	}
	if code, _, stderr := verb(t, "verify", "--config", configAt(t, "unix:"+filepath.Join(t.TempDir(), "nobody"))); code != exitEnvironment {
		t.Errorf("nobody there: %d %s", code, stderr)
	}
}

// An interrupt and a time-out tell the sidecar to end the job, and do not look like a success.
func TestInterruptedJobs(t *testing.T) {
	branch, jobs := doing(schema.Branch, job(admin.JobRunning, admin.TableReport{Table: "orders", Phase: "comparing"}))
	config := serveAdmin(t, branch, "unix", "")
	ctx, cancel := context.WithCancel(t.Context())
	jobs.looked = func(n int) {
		if n == 2 {
			cancel()
		}
	}
	var out, stderr strings.Builder
	code := execute(ctx, []string{"verify", "--config", config}, output{Out: &out, Err: &stderr})
	if code != exitRuntime || !strings.Contains(stderr.String(), "interrupted: the sidecar was told") || jobs.cancelled != 1 {
		t.Errorf("%d %s %s, cancelled %d times", code, out.String(), stderr.String(), jobs.cancelled)
	}
	jobs.looked = nil
	code, stdout, errText := verb(t, "sync", "--wait", "--timeout", "1ms", "--json", "--config", config)
	if code != exitRuntime || errText != "" || jobs.cancelled > 2 {
		t.Errorf("%d %s %s, cancelled %d times", code, stdout, errText, jobs.cancelled)
	}
	code, _, errText = verb(t, "verify", "--timeout", "600ms", "--config", config)
	if code != exitRuntime || !strings.Contains(errText, "--timeout") {
		t.Errorf("%d %s", code, errText)
	}
}

// A sidecar that was started anew forgot the job, and gets it again.
func TestJobOutlivesTheSidecar(t *testing.T) {
	branch, jobs := doing(schema.Branch, admin.Job{State: admin.JobRunning}, admin.Job{State: admin.JobDone})
	jobs.forget = 2
	code, _, stderr := verb(t, "sync", "--wait", "--config", serveAdmin(t, branch, "unix", ""))
	if code != exitOK || len(jobs.started) != 2 || !strings.Contains(stderr, "waiting: the sidecar was started anew; it has the job again\ngoing on\n") {
		t.Errorf("%d %q, started %d times", code, stderr, len(jobs.started))
	}
}

// One that does not come back is not waited for without end.
func TestJobOfASidecarThatIsGone(t *testing.T) {
	c, err := LoadConfig(configAt(t, "unix:"+filepath.Join(t.TempDir(), "nobody")))
	if err != nil {
		t.Fatal(err)
	}
	f := &follower{client: newClient(c), show: silence{}, id: "a1", answered: time.Now()}
	job, note, err := f.look(t.Context())
	if job != nil || !strings.Contains(note, "does not answer") || err != nil {
		t.Errorf("%v %q %v", job, note, err)
	}
	f.answered = time.Now().Add(-goneFor)
	var gone *environmentError
	if _, _, err = f.look(t.Context()); !errors.As(err, &gone) {
		t.Errorf("got %v", err)
	}
}

func TestVerifyContinuously(t *testing.T) {
	branch, jobs := doing(schema.Branch, job(admin.JobDone, alike), job(admin.JobDone, deviates))
	ctx, cancel := context.WithCancel(t.Context())
	jobs.looked = func(n int) {
		if n == 3 {
			cancel()
		}
	}
	var stdout, stderr strings.Builder
	code := execute(ctx, []string{"verify", "--continuous", "--pause", "1ms", "--config", serveAdmin(t, branch, "unix", "")}, output{Out: &stdout, Err: &stderr})
	if code != exitDiffer || strings.Count(stdout.String(), "id=7") != 1 || strings.Count(stderr.String(), "compared at") != 2 {
		t.Errorf("%d %s %s", code, stdout.String(), stderr.String())
	}
}

func TestProgressLines(t *testing.T) {
	var out strings.Builder
	l := &lineProgress{notes: notes{w: &out}}
	began := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	j := admin.Job{State: admin.JobRunning, Started: began, Spec: admin.Spec{Kind: admin.JobVerify}, Offices: []admin.OfficeReport{{
		Office: "north", State: admin.JobRunning, Tables: []admin.TableReport{
			{Table: "a", Phase: phaseDone, Rows: 200}, {Table: "b", Phase: "comparing", Rows: 300, Total: 800}, {Table: "c", Phase: "waiting", Total: 1000},
		},
	}}}
	for s := 0; s <= 25; s += 5 {
		note := ""
		if s == 20 {
			note = "the head is not heard"
		}
		l.look(j, note, began.Add(time.Duration(s)*time.Second))
	}
	l.end()
	want := "verify: 500 of about 2000 rows (25 %), 50/s, about 30 s left; north b (comparing)\n" +
		"waiting: the head is not heard\n" +
		"verify: 500 of about 2000 rows (25 %), 25/s, about 1 m 0 s left; north b (comparing)\ngoing on\n"
	if out.String() != want {
		t.Errorf("got\n%swant\n%s", out.String(), want)
	}
	j.Offices[0].Tables[2].Total = 0
	if got := progressText(j, began); got != "verify: 500 rows; north b (comparing)" {
		t.Errorf("got %q", got)
	}
	if got := progressText(admin.Job{Spec: admin.Spec{Kind: admin.JobSync}}, began); got != "sync: sent 0 transactions, received 0 transactions" {
		t.Errorf("got %q", got)
	}
}

// The bar moves, makes room for a note, and is gone in the end.
func TestProgressBar(t *testing.T) {
	var out strings.Builder
	b := &barProgress{notes: notes{w: &out}}
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	b.look(admin.Job{State: admin.JobRunning}, "", now)
	if out.String() != "" {
		t.Errorf("a bar of nothing: %q", out.String())
	}
	for _, rows := range []uint64{0, 500, 1000, 1200} { // more than the estimate
		b.look(job(admin.JobRunning, admin.TableReport{Table: "orders", Phase: "comparing", Rows: rows, Total: 1000, Seconds: 1}), "", now)
	}
	b.look(job(admin.JobRunning, admin.TableReport{Table: "orders", Phase: "comparing", Rows: 1200, Total: 1000}), "the head is not heard", now)
	b.end()
	for _, want := range []string{"north orders (comparing)", "rows/s", "50%", "waiting: the head is not heard\n"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is not in %q", want, out.String())
		}
	}
	if strings.Contains(out.String(), "100%") {
		t.Errorf("full before the end: %q", out.String())
	}
}
