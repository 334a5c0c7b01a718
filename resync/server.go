package resync

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"cdc-sidecar/schema"
)

const (
	// chunkRows and chunkBytes bound a chunk: enough that its costs are spread, little enough that a row is seldom written
	// while its chunk is read, and that a poor line has it in seconds.
	chunkRows  = 8000
	chunkBytes = 1 << 20
	// readyMost bounds the chunks of one office that are read and not sent: what waits gets old, and moves.
	readyMost = 2
	// serveMost bounds the offices that are read for at once.
	serveMost = 3
	// answerChunks is what one request is answered with unless it asks for less.
	answerChunks = 16
)

// Reader reads the head's tables, in the order of their keys, without locks.
type Reader interface {
	// Tables are the tables with a key.
	Tables(ctx context.Context) ([]schema.TableSize, error)
	// Stretch reads rows behind from (nil: the first), about so many bytes; more: there are others behind.
	Stretch(ctx context.Context, table schema.TableName, from schema.Row, limit, bytes int) (t *schema.Table, rows []schema.Row, more bool, err error)
	// Find reads rows of keys, nil where there is none.
	Find(ctx context.Context, table schema.TableName, keys []schema.Row) (t *schema.Table, rows []schema.Row, err error)
	Definition(ctx context.Context, table schema.TableName) (*schema.Table, error)
}

// Source is the head's database and what its log says.
type Source interface {
	Reader
	// Settle returns a seq of the office's stream: everything to it is visible to whoever reads from now on.
	Settle(ctx context.Context) (uint64, error)
	// Mark writes a mark into the office's own log, behind everything that a read has seen by now.
	Mark(ctx context.Context) (uint64, error)
	// Disputed reports whether a change of the row waits here.
	Disputed(ctx context.Context, row schema.RowID) (bool, error)
}

// Clocks tell when rows were touched last.
type Clocks interface {
	// Reached returns when the clocks know the office's stream to seq.
	Reached(ctx context.Context, seq uint64) error
	// Passed returns when the clocks know the office's own log to a mark.
	Passed(ctx context.Context, mark uint64) error
	// Last is how far the clocks know the stream.
	Last() uint64
	// Touched is the seq of the last touch of a row, or of its whole table; 0: none is known.
	Touched(table schema.TableName, row schema.RowID) (uint64, error)
	// TableTouched is the seq of the last touch of any row of the table.
	TableTouched(table schema.TableName) uint64
	// Released is the last seq of which they may have forgotten the touches.
	Released() uint64
}

// ServerConfig is what a Server needs to know.
type ServerConfig struct {
	Sends    func(schema.TableName) bool // tables that others may have
	Nudge    func()                      // an answer is ready
	Reported func(from schema.Office, r *schema.Report)
	Log      *slog.Logger
}

// Server answers, at the head, what branches ask of its tables. It keeps nothing but what is under way.
type Server struct {
	cfg    ServerConfig
	source Source
	clocks Clocks

	mu      sync.Mutex
	asked   map[schema.Office]*serving
	wake    chan struct{}
	serving chan struct{} // as many as may be served at once
	counts  ServerCounts
}

// ServerCounts are totals since the start.
type ServerCounts struct{ Chunks, Rows, Moving uint64 }

// serving is one office's request and its answer as far as it is ready.
type serving struct {
	office  schema.Office
	fetch   schema.Fetch
	started bool
	void    chan struct{} // closed when a newer one takes its place
	room    chan struct{} // as many answers may wait
	ready   []*answer
	marks   sync.WaitGroup // of answers of which it is not known yet what the read has seen
}

// answer is a chunk, complete but for what has moved since it was read.
type answer struct {
	chunk   schema.Chunk
	table   schema.TableName
	rows    []schema.RowID
	settled uint64 // everything to here was visible to the read
	seen    uint64 // nothing behind here was; set, under Server.mu, when it is known
	known   bool   // seen is
	placed  bool   // it is as true elsewhere
	byKey   bool   // the rows were asked for: what is said of them is decided on
}

// NewServer makes a Server; Run lets it work.
func NewServer(cfg ServerConfig, source Source, clocks Clocks) *Server {
	return &Server{
		cfg: cfg, source: source, clocks: clocks, asked: map[schema.Office]*serving{}, wake: make(chan struct{}, 1),
		serving: make(chan struct{}, serveMost),
	}
}

// Asked takes a request. A newer one of an office takes the place of the older.
func (s *Server) Asked(from schema.Office, f *schema.Fetch) {
	s.mu.Lock()
	if old := s.asked[from]; old != nil {
		if old.fetch.ID >= f.ID {
			s.mu.Unlock()
			return // said twice
		}
		close(old.void)
	}
	s.asked[from] = &serving{office: from, fetch: *f, void: make(chan struct{}), room: make(chan struct{}, readyMost)}
	s.mu.Unlock()
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// Reported passes on what a branch says of a comparison.
func (s *Server) Reported(from schema.Office, r *schema.Report) {
	if s.cfg.Reported != nil {
		s.cfg.Reported(from, r)
	}
}

// Run serves until ctx ends. What fails is not answered: whoever asked asks again.
func (s *Server) Run(ctx context.Context) error {
	var workers sync.WaitGroup
	defer workers.Wait()
	for {
		for _, v := range s.fresh() {
			workers.Go(func() { s.serve(ctx, v) })
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-s.wake:
		}
	}
}

func (s *Server) fresh() (all []*serving) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, v := range s.asked {
		if !v.started {
			v.started = true
			all = append(all, v)
		}
	}
	return all
}

func (s *Server) serve(ctx context.Context, v *serving) {
	select {
	case s.serving <- struct{}{}:
		defer func() { <-s.serving }()
	case <-v.void:
		return
	case <-ctx.Done():
		return
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		select {
		case <-v.void:
			cancel()
		case <-ctx.Done():
		}
	}()
	err := s.answer(ctx, v)
	if err == nil {
		v.marks.Wait()
	}
	if err == nil || ctx.Err() != nil {
		return
	}
	s.cfg.Log.Warn("a request for rows is not served", "office", v.office, "table", v.fetch.Table.String(), "cause", err)
	var refused *refusal
	if errors.As(err, &refused) {
		_, _ = s.give(ctx, v, &answer{chunk: schema.Chunk{Error: refused.Error(), Last: true}, placed: true, known: true}) // it has no mark that could fail
	}
}

// refusal is an error that asking again does not mend.
type refusal struct{ cause error }

func (r *refusal) Error() string { return r.cause.Error() }
func (r *refusal) Unwrap() error { return r.cause }

func (s *Server) answer(ctx context.Context, v *serving) error {
	if v.fetch.Want == schema.WantTables {
		return s.tables(ctx, v)
	}
	t, err := s.source.Definition(ctx, v.fetch.Table)
	switch {
	case err != nil:
		return err
	case t == nil, !s.cfg.Sends(v.fetch.Table):
		return &refusal{fmt.Errorf("the head has no table %s, or does not send it (flow)", v.fetch.Table)}
	}
	where, err := NewFilter(v.fetch.Where, t, v.office)
	if err != nil {
		return &refusal{err}
	}
	if len(v.fetch.Keys) > 0 {
		return s.keys(ctx, v, t)
	}
	return s.stretches(ctx, v, t, where)
}

func (s *Server) tables(ctx context.Context, v *serving) error {
	all, err := s.source.Tables(ctx)
	if err != nil {
		return err
	}
	var sent []schema.TableSize
	for _, t := range all {
		if s.cfg.Sends(t.Table.TableName) {
			sent = append(sent, t)
		}
	}
	_, err = s.give(ctx, v, &answer{chunk: schema.Chunk{Tables: sent, Last: true}, placed: true})
	return err
}

func (s *Server) stretches(ctx context.Context, v *serving, t *schema.Table, where *Filter) error {
	var from schema.Row
	if len(v.fetch.From) > 0 {
		var err error
		if from, err = t.DecodeKey(v.fetch.From); err != nil {
			return &refusal{err}
		}
	}
	chunks, bytes, most := v.fetch.Chunks, 0, chunkBytes
	if v.fetch.Bytes > 0 {
		most = int(min(v.fetch.Bytes, chunkBytes))
	}
	if chunks == 0 || chunks > answerChunks {
		chunks = answerChunks
	}
	for part := uint32(0); ; part++ {
		settled, err := s.source.Settle(ctx)
		if err != nil {
			return err
		}
		now, rows, more, err := s.source.Stretch(ctx, v.fetch.Table, from, chunkRows, most)
		if err == nil && from != nil {
			err = unchanged(t, now)
		}
		if err != nil {
			return err
		}
		t = now
		a := &answer{table: v.fetch.Table, settled: settled, chunk: schema.Chunk{Part: part, Done: !more}}
		if len(rows) > 0 {
			from = rows[len(rows)-1]
			a.chunk.Next = t.AppendKey(nil, from)
		}
		if rows, err = where.Matching(rows); err != nil {
			return &refusal{err}
		}
		n, err := a.fill(t, v.fetch.Want, rows)
		if err != nil {
			return err
		}
		bytes += n
		a.chunk.Last = !more || part+1 == chunks || v.fetch.Bytes > 0 && uint64(bytes) >= v.fetch.Bytes
		if wanted, err := s.give(ctx, v, a); !wanted || a.chunk.Last {
			return err
		}
	}
}

// unchanged wants a table to be what it was when keys of it were read. What fails is asked for again.
func unchanged(was, now *schema.Table) error {
	if was != now && was.Fingerprint() != now.Fingerprint() {
		return fmt.Errorf("table %s was changed while it was read", now.TableName)
	}
	return nil
}

// keysBatch is how many rows of keys are read at once, at most. The first are fewer, which tells how large they are.
const (
	keysBatch = 500
	keysFirst = 50
)

func (s *Server) keys(ctx context.Context, v *serving, t *schema.Table) error {
	part, most := uint32(0), keysFirst
	for rest := v.fetch.Keys; len(rest) > 0; part++ {
		batch := rest[:min(len(rest), most)]
		rest = rest[len(batch):]
		keys := make([]schema.Row, len(batch))
		for i, k := range batch {
			var err error
			if keys[i], err = t.DecodeKey(k); err != nil {
				return &refusal{err}
			}
		}
		settled, err := s.source.Settle(ctx)
		if err != nil {
			return err
		}
		now, rows, err := s.source.Find(ctx, v.fetch.Table, keys)
		if err == nil {
			err = unchanged(t, now)
		}
		if err != nil {
			return err
		}
		a := &answer{table: v.fetch.Table, settled: settled, byKey: true, chunk: schema.Chunk{Part: part, Last: len(rest) == 0}}
		for i, r := range rows {
			if r != nil && t.RowID(r) != t.RowID(keys[i]) {
				rows[i] = nil // to this database 'a' means 'A': the row that was asked for is not there
			}
		}
		bytes, err := a.found(t, keys, rows)
		if err != nil {
			return err
		}
		most = min(max(len(batch)*chunkBytes/max(bytes, 1), 1), keysBatch)
		if wanted, err := s.give(ctx, v, a); !wanted {
			return err
		}
	}
	return nil
}

// fill takes rows into the answer, and returns their bytes.
func (a *answer) fill(t *schema.Table, want schema.Want, rows []schema.Row) (int, error) {
	changes, hasher := make([]schema.Change, len(rows)), schema.NewHasherAs(t, t)
	for i, r := range rows {
		a.rows = append(a.rows, t.RowID(r))
		if want == schema.WantHashes {
			a.chunk.Hashes = append(a.chunk.Hashes, hasher.Hash(r))
			r = keyOf(t, r)
		}
		changes[i] = schema.Change{Table: t, Op: schema.Insert, After: r}
	}
	return a.pack(changes)
}

// found takes what was found of keys into the answer, and returns its bytes.
func (a *answer) found(t *schema.Table, keys, rows []schema.Row) (int, error) {
	changes := make([]schema.Change, len(keys))
	for i, r := range rows {
		a.rows = append(a.rows, t.RowID(keys[i]))
		if changes[i] = (schema.Change{Table: t, Op: schema.Insert, After: r}); r == nil {
			changes[i] = schema.Change{Table: t, Op: schema.Delete, Before: keys[i]}
		}
	}
	return a.pack(changes)
}

func (a *answer) pack(changes []schema.Change) (n int, err error) {
	if len(changes) == 0 {
		return 0, nil
	}
	body := schema.AppendBatch(nil, []schema.Transaction{{Origin: "head", Last: true, Changes: changes}})
	a.chunk.Rows, a.chunk.Codec, err = schema.Pack(body)
	return len(body), err
}

func keyOf(t *schema.Table, r schema.Row) schema.Row {
	key := make(schema.Row, len(r))
	for _, k := range t.Key {
		key[k] = r[k]
	}
	return key
}

// give makes an answer ready, when there is room. It reports false when nobody wants it any more, or when it failed. The answer
// may not stand before anything that the read has seen: at a place before that, the branch has not got it, and would have to take
// it for a difference. How far that is, the log says; the next stretch is read meanwhile.
func (s *Server) give(ctx context.Context, v *serving, a *answer) (wanted bool, err error) {
	var mark uint64
	if !a.known {
		if mark, err = s.source.Mark(ctx); err != nil {
			return false, err
		}
	}
	select {
	case v.room <- struct{}{}:
	case <-ctx.Done():
		return false, ctx.Err()
	}
	a.chunk.To, a.chunk.ID = v.office, v.fetch.ID
	s.mu.Lock()
	v.ready = append(v.ready, a)
	known := a.known
	s.mu.Unlock()
	if known {
		s.cfg.Nudge()
		return true, nil
	}
	v.marks.Go(func() {
		if s.clocks.Passed(ctx, mark) != nil {
			return // nobody wants it any more
		}
		last := s.clocks.Last()
		s.mu.Lock()
		a.seen, a.known = last, true
		s.mu.Unlock()
		s.cfg.Nudge()
	})
	return true, nil
}

// readyLimit bounds the wait for the clocks, which are a moment behind the journal: the stream must not wait for answers.
const readyLimit = time.Second

// Ready returns the answers that may stand behind seq. Of each row that was touched between the read and there nothing is said.
func (s *Server) Ready(ctx context.Context, seq uint64) ([]Answer, error) {
	s.mu.Lock()
	var all []*answer
	for _, v := range s.asked {
		for len(v.ready) > 0 && v.ready[0].known && v.ready[0].seen <= seq {
			<-v.room
			all, v.ready = append(all, v.ready[0]), v.ready[1:]
		}
	}
	s.mu.Unlock()
	if len(all) == 0 {
		return nil, nil
	}
	waiting, cancel := context.WithTimeout(ctx, readyLimit)
	defer cancel()
	if err := s.clocks.Reached(waiting, seq); err != nil {
		return nil, ctx.Err() // dropped: whoever asked asks again
	}
	out := make([]Answer, 0, len(all))
	for _, a := range all {
		if err := s.settle(a); err != nil {
			return nil, err
		}
		if err := s.disputes(waiting, a); err != nil {
			return nil, ctx.Err() // dropped, too
		}
		out = append(out, Answer{To: a.chunk.To, Chunk: schema.AppendChunk(nil, &a.chunk)})
	}
	return out, nil
}

// Answer is one chunk for one office, encoded.
type Answer struct {
	To    schema.Office
	Chunk []byte
}

// settle marks what has moved.
func (s *Server) settle(a *answer) error {
	forgotten := s.clocks.Released() > a.settled // it waited so long that they may not know any more
	if !a.placed && !schema.Planted(schema.MovingBelieved) && (forgotten || s.clocks.TableTouched(a.table) > a.settled) {
		for i, row := range a.rows {
			seq, err := s.clocks.Touched(a.table, row)
			if err != nil {
				return fmt.Errorf("look up what moved in table %s: %w", a.table, err)
			}
			if forgotten || seq > a.settled {
				a.chunk.Moving = append(a.chunk.Moving, uint32(i))
			}
		}
	}
	s.mu.Lock()
	s.counts.Chunks++
	s.counts.Rows += uint64(len(a.rows))
	s.counts.Moving += uint64(len(a.chunk.Moving))
	s.mu.Unlock()
	return nil
}

// disputes marks the rows of which a change waits here. It is asked behind the place of the answer: what the branch is told by then
// that we have met, and waits, waits already.
func (s *Server) disputes(ctx context.Context, a *answer) error {
	if !a.byKey {
		return nil
	}
	for i, row := range a.rows {
		disputed, err := s.source.Disputed(ctx, row)
		if err != nil {
			return err
		}
		if disputed {
			a.chunk.Disputed = append(a.chunk.Disputed, uint32(i))
		}
	}
	return nil
}

// Counts are totals since the start.
func (s *Server) Counts() ServerCounts {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.counts
}
