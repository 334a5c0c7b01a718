package apply

import (
	"context"
	"errors"
	"fmt"

	"cdc-sidecar/schema"
)

// Logs is what Clocks can tell of a Postgres' log, for Settle. Clocks that cannot are taken for such as know of no transaction.
type Logs interface {
	// Logged are the numbers that the database gave the transactions behind from, to and with the seq to; whole: there are no
	// others.
	Logged(from, to uint64) (xids []uint32, whole bool)
}

// Settle returns a seq of the head's own stream such that every transaction at or before it is visible to reads that begin from
// then on. A transaction can be in the log, and so in the stream, before anybody sees it: in Postgres as long as its commit
// waits for a slow standby. Settle waits for those, and for no transaction that is merely open.
func (a *Applier) Settle(ctx context.Context) (uint64, error) {
	clocks := a.options.Clocks
	if clocks == nil {
		return 0, errors.New("only the head, which has the row clocks, knows what its log has")
	}
	last := schema.Position{Epoch: clocks.Epoch(), Seq: clocks.Last()}
	a.mu.Lock()
	from := a.settled
	a.mu.Unlock()
	switch {
	case from.Epoch != last.Epoch:
		from = schema.Position{}
	case from.Seq >= last.Seq:
		return last.Seq, nil
	}
	var xids []uint32
	whole := false
	if logs, ok := clocks.(Logs); ok {
		xids, whole = logs.Logged(from.Seq, last.Seq)
	}
	ses, err := a.take(ctx)
	if err != nil {
		return 0, err
	}
	if err := ses.settle(ctx, a.options.Office, xids, whole); err != nil {
		a.spoiled(ses)
		return 0, fmt.Errorf("wait until what the log has to %d can be read: %w", last.Seq, err)
	}
	a.release(ses)
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.settled.Epoch != last.Epoch || a.settled.Seq < last.Seq {
		a.settled = last
	}
	return last.Seq, nil
}
