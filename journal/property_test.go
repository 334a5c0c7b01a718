package journal

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"cdc-sidecar/schema"
)

// model is what a journal should be: a list.
type model struct {
	sent   []schema.Transaction // parts and transactions, complete
	open   []schema.Transaction // of a database transaction that is not complete
	head   head                 // behind open
	closed head                 // behind sent
}

func (m *model) clone() *model {
	c := *m
	c.sent, c.open = slices.Clone(m.sent), slices.Clone(m.open)
	return &c
}

func (m *model) append(txs []schema.Transaction) {
	for _, tx := range txs {
		if tx.Source != "" {
			m.head.source = tx.Source
		}
		if !tx.Seen.IsZero() {
			m.head.seen = tx.Seen
		}
		if tx.Silent() {
			m.head.stamp = m.head.stamp.Max(tx.Stamp)
		} else {
			m.number(&tx)
			m.open = append(m.open, tx)
		}
		if tx.Source != "" {
			m.sent, m.open, m.closed = append(m.sent, m.open...), nil, m.head
		}
	}
}

func (m *model) number(tx *schema.Transaction) {
	if tx.Part == 0 {
		m.head.seq++
		if tx.Origin == here {
			m.head.stamp = m.head.stamp.Max(tx.Stamp).Next(tx.Commit)
		} else {
			m.head.stamp = m.head.stamp.Max(tx.Stamp)
			acked := map[schema.Office]schema.Position{}
			for _, a := range m.head.acked {
				acked[a.Office] = a.Pos
			}
			acked[tx.Origin] = tx.OriginPos
			m.head.acked = nil
			for _, o := range []schema.Office{north, south} {
				if pos, ok := acked[o]; ok {
					m.head.acked = append(m.head.acked, schema.Acknowledgement{Office: o, Pos: pos})
				}
			}
		}
	}
	tx.Pos = schema.Position{Epoch: m.head.epoch, Seq: m.head.seq}
	if tx.Origin == here {
		tx.OriginPos, tx.Stamp, tx.Seen = tx.Pos, m.head.stamp, m.head.seen
	}
}

// resume is what a restart does.
func (m *model) resume() { m.open, m.head = nil, m.closed }

// databaseLog is the log that a capture reads: after a restart the same again from the place that the journal names.
type databaseLog struct {
	txs     []schema.Transaction
	next    int
	ids     int
	origins map[schema.Office]uint64
}

func (l *databaseLog) seek(source string) {
	l.next = 0
	for i := range l.txs {
		if l.txs[i].Source == source && source != "" {
			l.next = i + 1
		}
	}
}

// read gives the next n transactions and parts; there are always more.
func (l *databaseLog) read(t *rapid.T, n int) []schema.Transaction {
	for len(l.txs) < l.next+n {
		l.grow(t)
	}
	l.next += n
	return slices.Clone(l.txs[l.next-n : l.next])
}

func (l *databaseLog) row(t *rapid.T) schema.Change {
	l.ids++
	size := rapid.IntRange(0, 400).Draw(t, "bytes")
	switch rapid.IntRange(0, 60).Draw(t, "size") {
	case 0:
		size = groupBytes + size
	case 1:
		size = maxMessage + size
	case 2, 3, 4:
		size = 20<<10 + size
	}
	return row(l.ids, size)
}

// seen is a stamp that the office may have seen: about its own time, most often none.
func (l *databaseLog) seen(t *rapid.T) schema.Stamp {
	ahead := rapid.Int64Range(-200, 100).Draw(t, "stamp seen")
	if ahead < -100 {
		return schema.Stamp{}
	}
	return schema.Stamp{Millis: born.UnixMilli() + ahead, Counter: rapid.SampledFrom([]uint32{0, 1, 8, schema.MaxCounter}).Draw(t, "counter")}
}

// grow adds what one database transaction gives.
func (l *databaseLog) grow(t *rapid.T) {
	var txs []schema.Transaction
	large := func(make func() schema.Transaction) {
		var all []schema.Transaction
		for range rapid.SampledFrom([]int{1, 1, 1, 2, 3}).Draw(t, "parts") {
			all = append(all, make())
		}
		txs = append(txs, parts(all...)...)
	}
	switch rapid.SampledFrom([]string{"local", "local", "local", "applied", "silent", "barrier"}).Draw(t, "kind") {
	case "local":
		large(func() schema.Transaction {
			tx := local("", l.row(t))
			tx.Stamp = l.seen(t)
			return tx
		})
	case "applied":
		for range rapid.IntRange(1, 4).Draw(t, "group") {
			origin := rapid.SampledFrom([]schema.Office{north, south}).Draw(t, "origin")
			l.origins[origin]++
			large(func() schema.Transaction { return from(origin, l.origins[origin], "", l.row(t)) })
		}
	case "silent":
		txs = append(txs, silent("", uint64(len(l.txs))))
		txs[0].Stamp = l.seen(t)
	case "barrier":
		l.txs = append(l.txs, schema.Transaction{Last: true, Barrier: uint64(len(l.txs)) + 1})
		return
	}
	txs[len(txs)-1].Source = fmt.Sprint("place ", len(l.txs)+len(txs))
	l.txs = append(l.txs, txs...)
}

// machine drives a journal and its model. A crash is a copy of the folder, taken in the middle of something.
type machine struct {
	t        *testing.T
	disk     *disk
	dir      string
	journal  *Journal
	model    *model
	log      databaseLog
	released uint64
	first    uint64
}

func (m *machine) options() Options {
	o := options()
	o.vfs, o.segment, o.Budget = m.disk, 32<<10, 8<<20
	return o
}

func (m *machine) open(t *rapid.T, dir string) {
	var err error
	m.disk, m.dir = newDisk(), dir
	if m.journal, err = Open(dir, m.options()); err != nil {
		t.Fatalf("open: %v", err)
	}
	m.model.resume()
	m.log.seek(m.journal.State().Source)
}

func (m *machine) shut(t *rapid.T) {
	if err := m.journal.Close(); err != nil {
		t.Fatalf("close: %v", err)
	}
}

func (m *machine) Append(t *rapid.T) {
	txs := m.log.read(t, rapid.IntRange(1, 8).Draw(t, "n"))
	err := m.journal.Append(context.Background(), copies(txs))
	if errors.Is(err, ErrFull) {
		m.log.next -= len(txs)
		if err := m.journal.Release(m.model.closed.seq); err != nil {
			t.Fatalf("release: %v", err)
		}
		m.released = m.model.closed.seq
		return
	}
	if err != nil {
		t.Fatalf("append: %v", err)
	}
	m.model.append(txs)
}

func (m *machine) Resume(t *rapid.T) {
	source, err := m.journal.Resume()
	if err != nil || source != m.model.closed.source {
		t.Fatalf("resume at %q, %v; want %q", source, err, m.model.closed.source)
	}
	m.model.resume()
	m.log.seek(source)
}

func (m *machine) Reopen(t *rapid.T) {
	m.shut(t)
	m.open(t, m.dir)
	m.Read(t)
}

// Crash takes the power away at some step of an Append: it then has happened, or it has not.
func (m *machine) Crash(t *rapid.T) {
	txs := m.log.read(t, rapid.IntRange(1, 4).Draw(t, "n"))
	at := rapid.IntRange(1, 12).Draw(t, "at step")
	share := rapid.IntRange(0, 100).Draw(t, "percent of the unsynced")
	lost := rapid.Bool().Draw(t, "unsynced names are lost")
	var mu sync.Mutex
	image, count := "", 0
	m.disk.watch(func(string) error {
		mu.Lock()
		defer mu.Unlock()
		if count++; count == at {
			image = m.disk.image(m.t, m.dir, m.disk.unsynced()*share/100, lost)
		}
		return nil
	})
	err := m.journal.Append(context.Background(), copies(txs))
	m.shut(t)
	m.disk.watch(nil)
	if err != nil && !errors.Is(err, ErrFull) {
		t.Fatalf("append: %v", err)
	}
	after := m.model.clone()
	if err == nil {
		after.append(txs)
	}
	if image == "" { // it was over before
		image = m.disk.image(m.t, m.dir, 0, lost)
		m.model = after
	}
	m.open(t, image)
	if after.resume(); m.journal.State().Source == after.closed.source {
		m.model = after
	}
	m.Read(t)
}

func (m *machine) Release(t *rapid.T) {
	seq := rapid.Uint64Range(0, m.model.closed.seq+2).Draw(t, "seq")
	if err := m.journal.Release(seq); err != nil {
		t.Fatalf("release: %v", err)
	}
	m.released = max(m.released, min(seq, m.model.closed.seq))
}

func (m *machine) Seek(t *rapid.T) {
	s := m.journal.State()
	seq := rapid.Uint64Range(0, s.Last+3).Draw(t, "seq")
	c, err := m.journal.Seek(seq)
	var released *ReleasedError
	if seq < s.First {
		if !errors.As(err, &released) || released.First != s.First {
			t.Fatalf("seek %d: %v; the first is %d", seq, err, s.First)
		}
		return
	}
	if err != nil {
		t.Fatalf("seek %d: %v", seq, err)
	}
	entries, _, err := m.journal.Read(c, 1)
	if err != nil {
		t.Fatalf("read: %v", err)
	}
	if seq > s.Last {
		if len(entries) != 0 {
			t.Fatalf("seek %d behind the last gives %d", seq, entries[0].Seq)
		}
		return
	}
	if len(entries) != 1 || entries[0].Prev >= seq || entries[0].Seq < seq || entries[0].Part != 0 {
		t.Fatalf("seek %d gives %+v", seq, entries)
	}
}

// Check compares what a journal tells of itself with the model.
func (m *machine) Check(t *rapid.T) {
	s, want := m.journal.State(), m.model.closed
	if s.Epoch != want.epoch || s.Last != want.seq || s.Source != want.source || s.Seen != want.seen || s.Stamp != want.stamp ||
		len(s.Acknowledged)+len(want.acked) > 0 && !reflect.DeepEqual(s.Acknowledged, want.acked) {
		t.Fatalf("state %+v, want %+v", s, want)
	}
	if s.First < m.first || s.First > m.released+1 || s.Bytes < 0 {
		t.Fatalf("state %+v; it was released to %d, and began at %d before", s, m.released, m.first)
	}
	m.first = s.First
}

// Read compares everything that is held with the model.
func (m *machine) Read(t *rapid.T) {
	s := m.journal.State()
	held := m.model.sent
	for len(held) > 0 && held[0].Pos.Seq < s.First {
		held = held[1:]
	}
	same(t, all(t, m.journal), held)
}

func TestJournalIsAList(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		m := &machine{t: t, log: databaseLog{origins: map[schema.Office]uint64{}}, first: 1}
		m.model = &model{head: head{office: here, epoch: uint64(born.UnixMilli())}}
		m.model.closed = m.model.head
		m.open(r, t.TempDir())
		defer m.shut(r)
		r.Repeat(map[string]func(*rapid.T){
			"append": m.Append, "append more": m.Append, "append most": m.Append, "resume": m.Resume, "reopen": m.Reopen, "crash": m.Crash,
			"release": m.Release, "seek": m.Seek, "read": m.Read, "": m.Check,
		})
		m.Read(r)
	})
}
