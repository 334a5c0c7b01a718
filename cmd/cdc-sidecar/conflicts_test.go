package main

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"cdc-sidecar/admin"
	"cdc-sidecar/schema"
)

// fakeLog is a conflict log in memory, the newest first.
type fakeLog struct {
	entries []admin.Conflict
	asked   []admin.ConflictFilter
}

func (l *fakeLog) List(_ context.Context, f admin.ConflictFilter) ([]admin.Conflict, error) {
	l.asked = append(l.asked, f)
	var out []admin.Conflict
	for _, c := range l.entries {
		if (f.Before == 0 || c.ID < f.Before) && (f.State == "" || c.State == f.State) && len(out) < f.Limit {
			c.Local.Row, c.Remote.Row, c.Remote.Before, c.Result = nil, nil, nil, nil
			out = append(out, c)
		}
	}
	return out, nil
}

func (l *fakeLog) Show(_ context.Context, id int64) (admin.Conflict, error) {
	for _, c := range l.entries {
		if c.ID == id {
			return c, nil
		}
	}
	return admin.Conflict{}, fmt.Errorf("conflict %d: %w", id, admin.ErrUnknownConflict)
}

func (l *fakeLog) Resolve(_ context.Context, id int64, take string) (admin.Conflict, error) {
	for i := range l.entries {
		c := &l.entries[i]
		switch {
		case c.ID != id:
		case c.State == admin.ConflictResolved:
			return admin.Conflict{}, fmt.Errorf("conflict %d: %w", id, admin.ErrResolved)
		default:
			c.State, c.Taken = admin.ConflictResolved, take
			return *c, nil
		}
	}
	return admin.Conflict{}, fmt.Errorf("conflict %d: %w", id, admin.ErrUnknownConflict)
}

// met is two rows that met at a fixed time; an empty image is a row that is not there.
func met(id int64, kind, policy, winner, state, local, remote, result string) admin.Conflict {
	at := time.Date(2026, 3, 1, 12, 0, int(id), 0, time.UTC)
	image := func(s string) json.RawMessage {
		if s == "" {
			return json.RawMessage("null")
		}
		return json.RawMessage(s)
	}
	return admin.Conflict{
		ID: id, DecidedAt: at, Table: "orders", Key: fmt.Sprintf("id=%d", id), Kind: kind, Policy: policy, Winner: winner, State: state,
		Local: admin.ConflictSide{Office: "hq", At: at.Add(-1500 * time.Millisecond), Row: image(local)},
		Remote: admin.ConflictSide{
			Office: "north", At: at.Add(-time.Second), Counter: 3, Position: admin.Position{Epoch: 1, Seq: 9}, Before: image(""), Row: image(remote),
		},
		Result: image(result),
	}
}

func sampleConflicts() []admin.Conflict {
	const ada, bea = `{"id":"7","name":"Ada","stock":"3","note":null}`, `{"id":"7","name":"Bea","stock":"5","note":""}`
	latest := met(1, "update/update", "latest", "remote", admin.ConflictDecided, ada, bea, bea)
	latest.Remote.Before = json.RawMessage(`{"id":"7"}`)
	merged := met(2, "update/update", "{add: [stock]}", "merged", admin.ConflictDecided, ada, bea, `{"id":"7","name":"Bea","stock":"6","note":""}`)
	merged.Remote.Before = json.RawMessage(`{"id":"7","name":"Ada","stock":"2","note":""}`)
	deleted := met(3, "update/delete", "head", "local", admin.ConflictDecided, ada, "", ada)
	open := met(4, "delete/update", "manual", "none", admin.ConflictOpen, "", bea, "")
	resolved := met(5, "insert/insert", "manual", "none", admin.ConflictResolved, ada, bea, bea)
	resolved.Taken, resolved.ResolvedAt, resolved.Local.Office, resolved.Local.At = "remote", resolved.DecidedAt.Add(time.Hour), "", time.Time{}
	parked := met(6, "unique", "[north, south]", "none", admin.ConflictParked, ada, `{"id":"8","name":"`+strings.Repeat("long ", 20)+`","photo":"\u001b[31m\u202e","flag":"NULL","pad":" x"}`, "")
	parked.Key = "code=" + strings.Repeat("x", 60) + "\x1b[2J"
	applied := met(7, "unique", "latest", "none", admin.ConflictResolved, ada, bea, "")
	applied.ResolvedAt = applied.DecidedAt.Add(time.Minute)
	return []admin.Conflict{applied, parked, resolved, open, deleted, merged, latest}
}

func TestConflictsText(t *testing.T) {
	golden(t, "testdata/conflicts_list.golden", conflictsText(admin.ConflictList{Conflicts: sampleConflicts(), More: true}))
	if got := conflictsText(admin.ConflictList{}); got != "the conflict log has no such entry\n" {
		t.Errorf("got %q", got)
	}
}

func TestConflictText(t *testing.T) {
	var all strings.Builder
	for _, c := range slices.Backward(sampleConflicts()) {
		text, err := conflictText(c, "cdc-sidecar --config 'my office.yaml'")
		if err != nil {
			t.Fatal(err)
		}
		all.WriteString(text + "-----\n")
	}
	if strings.ContainsAny(all.String(), "\x1b\u202e") {
		t.Error("a row's text moves the cursor")
	}
	golden(t, "testdata/conflicts_show.golden", all.String())
	broken := met(1, "update/update", "latest", "remote", admin.ConflictDecided, `[1]`, "", "")
	if _, err := conflictText(broken, "x"); err == nil || !strings.Contains(err.Error(), "LOCAL: head: not a JSON object") {
		t.Errorf("got %v", err)
	}
}

// conflictHead is a head's running sidecar with a conflict log.
func conflictHead(t *testing.T, entries []admin.Conflict) (*fakeLog, string) {
	t.Helper()
	head := running(time.Now())
	log := &fakeLog{entries: entries}
	head.log = log
	return log, serveAdmin(t, head, "unix", "")
}

func TestConflictsList(t *testing.T) {
	log, config := conflictHead(t, sampleConflicts())
	code, stdout, stderr := verb(t, "conflicts", "list", "--table", "public.orders", "--config", config)
	if code != exitOK || stderr != "" || strings.Count(stdout, "\n") != 8 || !strings.Contains(stdout, "hq ⇄ north") {
		t.Errorf("%d %s %s", code, stdout, stderr)
	}
	if want := (admin.ConflictFilter{Table: "public.orders", Limit: admin.DefaultConflicts + 1}); log.asked[0] != want {
		t.Errorf("asked %+v, want %+v", log.asked[0], want)
	}
	code, stdout, _ = verb(t, "conflicts", "list", "--state", "open", "--limit", "1", "--json", "--config", config)
	var got struct {
		OK      bool
		Summary struct {
			Conflicts int
			More      bool
		}
		Result admin.ConflictList
	}
	if err := json.Unmarshal([]byte(stdout), &got); err != nil || code != exitOK || !got.OK {
		t.Fatalf("%d %s: %v", code, stdout, err)
	}
	if got.Summary.Conflicts != 1 || got.Summary.More || len(got.Result.Conflicts) != 1 || got.Result.Conflicts[0].ID != 4 {
		t.Errorf("got %s", stdout)
	}
}

// A list is asked for in pages that neither repeat nor leave out an entry.
func TestConflictsListInPages(t *testing.T) {
	const size = 2*admin.MaxConflicts + 3
	var entries []admin.Conflict
	for id := int64(size); id > 0; id-- {
		entries = append(entries, met(id, "update/update", "latest", "local", admin.ConflictDecided, "", "", ""))
	}
	log, config := conflictHead(t, entries)
	for _, c := range []struct {
		args  []string
		got   int
		more  bool
		pages int
	}{
		{[]string{"--all"}, size, false, 3},
		{[]string{"--limit", "1500"}, 1500, true, 2},
		{[]string{"--limit", "1000"}, 1000, true, 1},
		{nil, admin.DefaultConflicts, true, 1},
	} {
		log.asked = nil
		code, stdout, stderr := verb(t, append([]string{"conflicts", "list", "--json", "--config", config}, c.args...)...)
		var got struct{ Result admin.ConflictList }
		if err := json.Unmarshal([]byte(stdout), &got); err != nil || code != exitOK {
			t.Fatalf("%d %s: %v", code, stderr, err)
		}
		list := got.Result.Conflicts
		if len(list) != c.got || got.Result.More != c.more || len(log.asked) != c.pages {
			t.Errorf("%q: %d entries, more %t, %d pages; want %d, %t, %d", c.args, len(list), got.Result.More, len(log.asked), c.got, c.more, c.pages)
		}
		for i, entry := range list {
			if entry.ID != int64(size-i) {
				t.Fatalf("%q: entry %d is %d, want %d", c.args, i, entry.ID, size-i)
			}
		}
	}
}

func TestConflictsShowAndResolve(t *testing.T) {
	log, config := conflictHead(t, sampleConflicts())
	code, stdout, stderr := verb(t, "conflicts", "show", "4", "--config", config)
	command := "cdc-sidecar --config " + config + " conflicts resolve 4 --take remote"
	if code != exitOK || !strings.Contains(stdout, command+"\n") || stderr != "" {
		t.Errorf("%d %s %s, want %s", code, stdout, stderr, command)
	}
	code, stdout, stderr = verb(t, strings.Fields(command)[1:]...)
	if code != exitOK || stdout != "conflict 4 is resolved: the row of north is the row of orders id=4 now, and goes out to all offices\n" || log.entries[3].Taken != "remote" {
		t.Errorf("%d %s %s", code, stdout, stderr)
	}
	code, _, stderr = verb(t, "conflicts", "resolve", "4", "--take", "local", "--config", config)
	if code != exitRuntime || !strings.Contains(stderr, "conflict 4: it was resolved already") || log.entries[3].Taken != "remote" {
		t.Errorf("again: %d %s", code, stderr)
	}
	code, stdout, _ = verb(t, "conflicts", "resolve", "1", "--take", "local", "--json", "--config", config)
	var got struct {
		OK     bool
		Result admin.Conflict
	}
	if err := json.Unmarshal([]byte(stdout), &got); err != nil || code != exitOK || !got.OK || got.Result.Taken != "local" || got.Result.State != admin.ConflictResolved {
		t.Errorf("%d %s: %v", code, stdout, err)
	}
	for _, args := range [][]string{{"show", "99"}, {"resolve", "99", "--take", "local"}} {
		code, stdout, stderr := verb(t, append(append([]string{"conflicts"}, args...), "--config", config)...)
		if code != exitRuntime || stdout != "" || !strings.Contains(stderr, "conflict 99: the conflict log has no such entry") {
			t.Errorf("%q: %d %s %s", args, code, stdout, stderr)
		}
	}
}

func TestConflictsCommandLines(t *testing.T) {
	for want, args := range map[string][]string{
		"want the ID of one conflict":              {"show"},
		`"x" is no ID of a conflict`:               {"show", "x"},
		`"0" is no ID of a conflict`:               {"resolve", "0", "--take", "local"},
		"which row is to be taken?":                {"resolve", "1"},
		"want --take local (the head's)":           {"resolve", "1", "--take", "head"},
		"--state new: want one of decided, open":   {"list", "--state", "new"},
		"--limit 0: want at least 1":               {"list", "--limit", "0"},
		"--all and --limit contradict":             {"list", "--limit", "5", "--all"},
		"list takes no argument":                   {"list", "orders"},
		`unknown verb "lst"; did you mean "list"?`: {"lst"},
	} {
		code, stdout, stderr := verb(t, append(append([]string{"conflicts"}, args...), "--config", "none.yaml")...)
		if code != exitConfig || stdout != "" || !strings.Contains(stderr, want) {
			t.Errorf("%q: %d %q %q, want %q", args, code, stdout, stderr, want)
		}
	}
}

// A branch says where the log is, whether its sidecar runs or not.
func TestConflictsAtABranch(t *testing.T) {
	config := write(t, "cdc-sidecar.yaml", "office: north\nrole: branch\ndatabase: postgres://cdc@127.0.0.1:1/shop\nbroker: amqp://north@127.0.0.1:1/\nadmin: unix:/nonexistent/s\n")
	for _, args := range [][]string{{"list"}, {"show", "1"}, {"resolve", "1", "--take", "local"}} {
		code, stdout, stderr := verb(t, append(append([]string{"conflicts"}, args...), "--config", config)...)
		if code != exitRuntime || stdout != "" || !strings.Contains(stderr, "the conflict log is at the head") {
			t.Errorf("%q: %d %s %s", args, code, stdout, stderr)
		}
	}
}

// At a branch nobody counts conflicts; what is parked there is its own.
func TestStatusTextAtABranch(t *testing.T) {
	s := admin.Status{Office: "north", Role: schema.Branch, Peers: []admin.Peer{{Office: "hq", Role: schema.Head}}, Parked: 4}
	text := statusText(s, time.Now())
	if !strings.Contains(text, "! parked changes: 4 ") || strings.Contains(text, "conflicts list") {
		t.Errorf("got %s", text)
	}
	if line := strings.Fields(strings.Split(text, "\n")[1]); !slices.Equal(line[len(line)-3:], []string{"-", "4", "-"}) {
		t.Errorf("conflicts, parked and time left of the branch are %q", line[len(line)-3:])
	}
}
