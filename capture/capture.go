package capture

import (
	"context"
	"errors"
	"fmt"
	"time"

	"cdc-sidecar/schema"
)

// Source is a database's log, read in commit order from where the journal stopped. Read is called by one goroutine, Confirm
// by another; Close when neither is.
type Source interface {
	// Read blocks until the log has something and returns it, a bounded batch. What it returns is the caller's.
	Read(ctx context.Context) ([]schema.Transaction, error)
	// Confirm says that everything to this Transaction.Source is durable with us: the log may let go. It does not block.
	Confirm(source string)
	// Close lets go of the server; what was not confirmed will be read again. It may be called again.
	Close(ctx context.Context) error
}

const (
	// partBytes is where a transaction is cut into parts, and where a batch ends: half of what a wire message may have, so
	// that a part usually is one message, and small enough for a handful of them to be nothing in memory.
	partBytes = 512 << 10
	// batchTransactions bounds a batch of tiny transactions: their structs weigh more than their changes.
	batchTransactions = 1024
	// groupBytes bounds what one call of the sink gets, and with it what one fsync has to write.
	groupBytes = 2 * partBytes
	// groupTransactions bounds it for tiny transactions.
	groupTransactions = 4 * batchTransactions
	// queueBatches is how many batches may wait while the sink works: enough to decode during an fsync, and bounded.
	queueBatches = 4
	// floodTransactions or floodBytes a second are a flood: a busy database, a bulk load, or a log that is caught up with. Then
	// a group waits for others to join it, up to lingerLimit or lingerBytes, because every group costs an fsync and becomes a
	// message, which the broker's cost goes by, and the application's disk and cores are the same. Below that every
	// transaction leaves at once.
	floodTransactions = 1000
	floodBytes        = 2 << 20
	lingerLimit       = 20 * time.Millisecond
	lingerBytes       = 256 << 10
	rateWindow        = 20 * time.Millisecond
	// silentEvery is how often an idle log's position is made durable. An idle database must not write the journal all the
	// time, and a server that shuts down waits for us by this much, so it is a second and not a minute.
	silentEvery = time.Second
	// stallLimit is how long a sink may take nothing before we let go of the log. A Postgres that shuts down waits for a
	// connected reader for ever; pg_ctl waits for 60 s; an fsync that takes longer than this is no honest one.
	stallLimit = 20 * time.Second
)

// Run hands what src reads to sink, in order, and confirms to src what sink has taken. While the sink works on one group,
// the next gathers. Transactions that carry nothing but a position are folded: only the newest goes out, at most once in
// silentEvery; a mark that somebody waits for goes out at once. Every transaction handed over carries in Seen and Stamp what
// the silent ones before it had seen.
//
// It returns nil when ctx ends, otherwise the error of the source or of the sink. It closes src by then: a Postgres that is
// being stopped waits for whoever is connected and reads no more.
func Run(ctx context.Context, src Source, sink schema.Sink, stats *Stats) error {
	running, cancel := context.WithCancel(ctx)
	defer cancel()
	defer func() { _ = src.Close(context.WithoutCancel(ctx)) }() // its outcome changes nothing: all is read again from what is durable
	batches := make(chan []schema.Transaction, queueBatches)
	ended := make(chan error, 1)
	go func() {
		defer close(batches)
		err := read(running, src, batches)
		if errors.Is(err, errStalled) {
			cancel() // the sink hangs: what else failed lets it finish what waits
		}
		ended <- err
	}()

	d := newDelivery(src, sink, stats)
	err := d.run(running, batches)
	cancel()
	if readErr := <-ended; err == nil || errors.Is(err, context.Canceled) {
		err = readErr
	}
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// read moves batches from the source to the queue until one of them fails.
func read(ctx context.Context, src Source, batches chan<- []schema.Transaction) error {
	for {
		txs, err := src.Read(ctx)
		if err != nil {
			return err
		}
		if err := enqueue(ctx, batches, txs); err != nil {
			return err
		}
	}
}

var errStalled = fmt.Errorf("nothing could be made durable for %s: let go of the database's log", stallLimit)

func enqueue(ctx context.Context, batches chan<- []schema.Transaction, txs []schema.Transaction) error {
	select {
	case batches <- txs:
		return nil
	default:
	}
	stalled := time.NewTimer(stallLimit)
	defer stalled.Stop()
	select {
	case batches <- txs:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-stalled.C:
		return errStalled
	}
}

func newDelivery(src Source, sink schema.Sink, stats *Stats) *delivery {
	return &delivery{src: src, sink: sink, stats: stats, since: time.Now(), timer: stoppedTimer()}
}

// delivery is the sink's side of Run.
type delivery struct {
	src   Source
	sink  schema.Sink
	stats *Stats

	group  []schema.Transaction
	size   int  // of group, schema.Transaction.Bytes
	urgent bool // the group has a mark that somebody waits for

	linger              time.Duration // how long a group may wait for others to join it
	timer               *time.Timer   // of linger
	transactions, bytes int           // that went since then, to tell a flood
	since               time.Time

	silent schema.Transaction // the newest position that nothing durable covers yet; none when Source is empty
	seen   schema.Position    // of the newest silent transaction
	stamp  schema.Stamp       // the greatest of all silent ones
}

func (d *delivery) run(ctx context.Context, batches <-chan []schema.Transaction) error {
	tick := time.NewTicker(silentEvery)
	defer tick.Stop()
	for {
		select {
		case txs, ok := <-batches:
			if !ok {
				return nil
			}
			d.gather(txs, batches)
		case <-tick.C:
			if d.silent.Source != "" {
				d.group, d.silent = append(d.group, d.silent), schema.Transaction{}
			}
		case <-ctx.Done():
			return ctx.Err()
		}
		if err := d.deliver(ctx); err != nil {
			return err
		}
	}
}

// gather makes a group of txs and of whatever else waits, to groupBytes and groupTransactions; in a flood also of what comes
// meanwhile.
func (d *delivery) gather(txs []schema.Transaction, batches <-chan []schema.Transaction) {
	if d.linger > 0 {
		d.timer.Reset(d.linger)
		defer d.timer.Stop()
	}
	for more := true; more; {
		for i := range txs {
			d.size += txs[i].Bytes()
			d.add(txs[i])
		}
		if d.size >= groupBytes || len(d.group) >= groupTransactions {
			return
		}
		txs, more = d.next(batches)
	}
}

// next is another batch for the group; none when the group should leave, or the source has ended.
func (d *delivery) next(batches <-chan []schema.Transaction) (txs []schema.Transaction, more bool) {
	if d.linger == 0 || d.urgent || d.size >= lingerBytes {
		select {
		case txs, more = <-batches:
		default:
		}
		return txs, more
	}
	select {
	case txs, more = <-batches:
	case <-d.timer.C:
	}
	return txs, more
}

func (d *delivery) add(tx schema.Transaction) {
	if tx.Silent() {
		if !tx.Seen.IsZero() {
			d.seen = tx.Seen
		}
		d.stamp = d.stamp.Max(tx.Stamp)
		tx.Seen, tx.Stamp = d.seen, d.stamp
		if tx.Barrier != 0 { // somebody waits for it; the position behind it does not hurry
			d.group = append(d.group, schema.Transaction{Barrier: tx.Barrier, Last: true})
			d.urgent = true
			tx.Barrier = 0
		}
		d.silent = tx
		return
	}
	if tx.Seen.IsZero() {
		tx.Seen = d.seen
	}
	if tx.Stamp == (schema.Stamp{}) {
		tx.Stamp = d.stamp
	}
	d.group, d.silent = append(d.group, tx), schema.Transaction{}
}

// deliver hands the group over and lets the log go behind it.
func (d *delivery) deliver(ctx context.Context) error {
	if len(d.group) == 0 {
		return nil
	}
	if err := d.sink(ctx, d.group); err != nil {
		return err
	}
	d.stats.delivered(d.group, time.Now())
	for i := len(d.group) - 1; i >= 0; i-- {
		if source := d.group[i].Source; source != "" {
			d.src.Confirm(source)
			break
		}
	}
	d.gone(time.Now())
	clear(d.group) // lets the rows go
	d.group, d.size, d.urgent = d.group[:0], 0, false
	return nil
}

// gone notes what went, and every rateWindow how fast.
func (d *delivery) gone(now time.Time) {
	d.transactions += len(d.group)
	d.bytes += d.size
	window := now.Sub(d.since)
	if window < rateWindow {
		return
	}
	d.linger = 0
	if seconds := window.Seconds(); float64(d.bytes) >= floodBytes*seconds || float64(d.transactions) >= floodTransactions*seconds {
		d.linger = lingerLimit
	}
	d.transactions, d.bytes, d.since = 0, 0, now
}
