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

// Database is the branch's own database.
type Database interface {
	Reader
	// Keys reads keys alone, like Stretch.
	Keys(ctx context.Context, table schema.TableName, from schema.Row, limit int) (t *schema.Table, keys []schema.Row, more bool, err error)
	// Create makes a table of the head's definition, and makes its changes be captured, before it returns.
	Create(ctx context.Context, t *schema.Table) error
	// Chunk applies rows as the head has them at a place of its stream: Inserts are written whatever stands, Deletes are of rows
	// that are not there. Rows with own changes that the head has not met are passed by. The joins are saved with them. It returns
	// how many rows have to wait because another row here has their unique values.
	Chunk(ctx context.Context, head schema.Office, at schema.Position, changes []schema.Change, save []Join) (parked int, err error)
	// Claim makes own rows go up as if they had been changed now; absent: that there are no such rows; restored: the database went
	// back to an earlier state.
	Claim(ctx context.Context, table schema.TableName, keys []schema.Row, absent, restored bool) error
	Joins(ctx context.Context) ([]Join, error)
	SaveJoins(ctx context.Context, joins []Join) error
	DropJoins(ctx context.Context, tables []string) error
	// Overtake returns when the office's own log has been read to what is committed now.
	Overtake(ctx context.Context) error
	// Held reports whether a row has own changes that the head has not met, as far as the own log has been read.
	Held(table schema.TableName, row schema.RowID) (bool, error)
	// Disputed reports whether something of the row waits here for a person, or for another row.
	Disputed(ctx context.Context, row schema.RowID) (bool, error)
	// Arrived returns when the head has met everything that is committed here now.
	Arrived(ctx context.Context) error
	// Last is the end of this office's stream, which has everything that is committed here now.
	Last(ctx context.Context) (schema.Position, error)
}

// Join is a row of schema.JoinsTable.
type Join struct {
	Table   string
	Pending bool
	At      schema.Position
	State   []byte
}

// Head is the way to the head.
type Head interface {
	Say(to schema.Office, c schema.Control)
	// Greet makes the head welcome us soon.
	Greet()
}

// Mode says how a new branch joins.
type Mode string

// The modes.
const (
	Diff    Mode = "diff"    // what differs comes
	Replace Mode = "replace" // all rows come, and those that only the branch has go
	None    Mode = "none"    // the tables are equal already
)

// Extra says what becomes of rows that only the branch has.
type Extra string

// The ways.
const (
	Send   Extra = "send"
	Delete Extra = "delete"
	Keep   Extra = "keep"
)

// Config is what a Client needs to know.
type Config struct {
	Office   schema.Office
	Dir      string // for the keys of tables under way
	Mode     Mode
	Extra    Extra
	Rows     uint64 // a second; 0: no limit
	Bytes    uint64 // a second
	Receives func(schema.TableName) bool
	Sends    func(schema.TableName) bool
	Log      *slog.Logger
	Now      func() time.Time // nil: time.Now
	// Matches says whether a name matches a glob, as the configuration writes it; an empty one: any.
	Matches func(glob string, table schema.TableName) bool
	// Ordered is told of a job that a schema change asks for; may be nil.
	Ordered func(j *Job, o schema.RowsOrder)
	// Called is how a table is called here now that had that name when a schema change changed it; nil: as it was.
	Called func(ctx context.Context, table schema.TableName) (schema.TableName, error)
}

// Client makes a branch equal to its head, and compares it. One pass over a table runs at a time.
type Client struct {
	cfg  Config
	db   Database
	head Head
	pace pace

	taking turn // held while a chunk is taken, and to change what is waited for
	wanted *exchange

	// saving is held while the state of a join is saved, so that what a life of it that is over saves does not come behind what
	// the next one does.
	saving turn

	mu       sync.Mutex
	patience time.Duration      // with the next request
	life     int                // counts the joins begun
	stop     context.CancelFunc // ends the one that is under way; nil: none is
	pause    context.CancelFunc // lets the job under way wait; nil: none is
	id       uint64
	standing Standing
	star     state // of schema.JoinAll
	known    bool  // star is what the database has
	tables   map[string]*progress
	at       schema.Position // where the last chunk stood
	jobs     []*Job
	asked    map[uint64]*Job // by the head
	wake     chan struct{}
}

// turn is a mutex that is held while the database is waited for. Being a channel, it lets a simulation's time go on meanwhile
// (testing/synctest), as a sync.Mutex would not.
type turn chan struct{}

func (t turn) lock()   { t <- struct{}{} }
func (t turn) unlock() { <-t }

// Standing is how this branch stands to the head.
type Standing struct {
	Head         schema.Office
	Progress, At schema.Position
	First        uint64
	Lost         string
	Restored     bool
}

// NewClient makes a Client; Run lets it work.
func NewClient(cfg Config, db Database, head Head) *Client {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Client{
		cfg: cfg, db: db, head: head, pace: newPace(cfg.Rows, cfg.Bytes), id: uint64(cfg.Now().UnixMicro()),
		tables: map[string]*progress{}, wake: make(chan struct{}, 1), taking: make(turn, 1), saving: make(turn, 1),
	}
}

func (c *Client) rouse() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// Run joins where that is due, and does the jobs that it is given, until ctx ends or the database fails.
func (c *Client) Run(ctx context.Context) error {
	if err := c.load(ctx); err != nil {
		return err
	}
	for {
		worked, err := c.work(ctx)
		if err != nil {
			return err
		}
		if worked {
			continue
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-c.wake:
		}
	}
}

func (c *Client) work(ctx context.Context) (bool, error) {
	if worked, err := c.join(ctx); worked || err != nil {
		return worked, err
	}
	return c.job(ctx)
}

// taker deals with one chunk. After an error it is as if it had not been called.
type taker func(ctx context.Context, at schema.Position, c *schema.Chunk, changes []schema.Change) error

// exchange is one request to the head and what is done with the answer. Client.taking guards it.
type exchange struct {
	fetch  schema.Fetch
	any    bool // the place of the answer does not matter: our apply of the head's stream stands still
	take   taker
	part   uint32 // expected next
	next   []byte // the key behind what was taken
	event  chan struct{}
	done   bool
	missed bool // it has to be asked for again
	err    error
}

const (
	// askAgain is how long nothing may come of a request before it is made again, at least; at most it is askAgainMost, for
	// lines on which a chunk takes minutes.
	askAgain     = 5 * time.Second
	askAgainMost = 2 * time.Minute
)

// errRefused wraps what the head says cannot be served.
var errRefused = errors.New("the head cannot serve it")

// exchange asks the head, again and again, until the answer has been taken whole. take is called while the apply of the head's
// stream stands still at the chunk's place; it may take from f.Keys what need not be asked for again.
func (c *Client) exchange(ctx context.Context, f *schema.Fetch, anyPlace bool, take taker) error {
	byKey := len(f.Keys) > 0
	pause := lookLater
	for {
		c.mu.Lock()
		c.id++
		f.ID = c.id
		patience := max(c.patience, askAgain)
		c.mu.Unlock()
		began := c.cfg.Now()
		asked := *f
		e := &exchange{fetch: asked, any: anyPlace, take: take, event: make(chan struct{}, 1), next: f.From}
		c.want(e)
		c.head.Say("", schema.Control{Fetch: &asked})
		done, some, err := c.await(ctx, e, patience)
		c.waited(patience, c.cfg.Now().Sub(began), some || e.missed)
		if err != nil || done {
			return err
		}
		if some {
			pause = lookLater
		}
		if byKey && len(f.Keys) == 0 {
			return nil // the last part was lost, and nothing is left to be asked for
		}
		if f.From = e.next; byKey {
			f.From = nil
		}
		if e.missed { // the stream is somewhere else just now: give it time to come here
			if err := sleep(ctx, pause); err != nil {
				return err
			}
			pause = min(2*pause, lookLaterMost)
		}
	}
}

// waited keeps how long an answer is waited for: twice what the last one took, for an answer stands behind whatever of the
// head's stream is not applied here yet, and would be void if it was asked for again before it comes.
func (c *Client) waited(patience, took time.Duration, came bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.patience = 2 * patience; came {
		c.patience = 2 * took
	}
	c.patience = min(max(c.patience, askAgain), askAgainMost)
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

func (c *Client) want(e *exchange) {
	c.taking.lock()
	defer c.taking.unlock()
	c.wanted = e
}

// await returns when the answer is whole, when it has to be asked for again, or when nothing has come of it for a while. Behind
// it nothing of this exchange is taken any more.
func (c *Client) await(ctx context.Context, e *exchange, patience time.Duration) (done, some bool, err error) {
	timer := time.NewTimer(patience)
	defer timer.Stop()
	for waiting := true; waiting; {
		select {
		case <-ctx.Done():
			waiting, err = false, ctx.Err()
		case <-timer.C:
			waiting = false
		case <-e.event:
			timer.Reset(patience)
			c.taking.lock()
			waiting = !e.done && !e.missed && e.err == nil
			c.taking.unlock()
		}
	}
	c.want(nil)
	if err == nil {
		err = e.err
	}
	return e.done, e.part > 0, err
}

// Take takes a chunk; see peer.Joiner.
func (c *Client) Take(ctx context.Context, _ schema.Office, at schema.Position, exact bool, chunk *schema.Chunk) error {
	c.taking.lock()
	defer c.taking.unlock()
	e := c.wanted
	if e == nil || e.done || e.missed || e.err != nil || chunk.ID != e.fetch.ID {
		return nil
	}
	err := c.take(ctx, e, at, exact, chunk)
	select {
	case e.event <- struct{}{}:
	default:
	}
	return err
}

func (c *Client) take(ctx context.Context, e *exchange, at schema.Position, exact bool, chunk *schema.Chunk) error {
	placed := exact || e.any || len(chunk.Tables) > 0 || schema.Planted(schema.ChunkAnywhere)
	switch {
	case chunk.Error != "":
		e.err = fmt.Errorf("%w: %s", errRefused, chunk.Error)
		return nil
	case !placed || chunk.Part != e.part:
		e.missed = true
		return nil
	}
	changes, err := chunk.Changes()
	if err == nil {
		err = e.take(ctx, at, chunk, changes)
	}
	var rejected *schema.RejectedError
	switch {
	case err == nil:
	case errors.Is(err, ErrElsewhere):
		e.missed = true
		return nil
	case errors.As(err, &rejected), errors.Is(err, schema.ErrUnknown), errors.Is(err, errOfTable):
		e.err = err
		return nil
	default:
		e.missed = true
		return err // the session's: it begins anew, and we ask again
	}
	c.mu.Lock()
	c.at = at
	c.mu.Unlock()
	e.part++
	if e.done = chunk.Last; len(chunk.Next) > 0 {
		e.next = chunk.Next
	}
	return nil
}

// ErrElsewhere is wrapped by Database.Chunk: the apply of the head's stream does not stand at the chunk's place.
var ErrElsewhere = errors.New("the stream is not at the place of the chunk")

// errOfTable marks errors that concern one table, whatever the connection does.
var errOfTable = errors.New("the table cannot be compared")
