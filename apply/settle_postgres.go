package apply

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"cdc-sidecar/schema"
)

// The pauses between two looks at whether transactions have become visible; the server has no signal for it. A commit without
// standbys takes about the first, one that waits for a standby that is away may take any number of the last.
const (
	settlePause    = 5 * time.Millisecond
	settlePauseMax = 500 * time.Millisecond
)

// settle asks the server's own snapshot. Where numbers are missing, those are meant that a transaction in commit can be told by:
// it waits for a standby. (One that was logged before this process looked, and does not even wait yet, would be overlooked.)
func (s *postgresSession) settle(ctx context.Context, _ schema.Office, xids []uint32, whole bool) error {
	if !whole {
		waiting, err := s.committing(ctx)
		if err != nil {
			return err
		}
		xids = append(xids, waiting...)
	}
	for pause := settlePause; ; pause = min(2*pause, settlePauseMax) {
		now, err := s.snapshot(ctx)
		if err != nil {
			return err
		}
		if xids = slices.DeleteFunc(xids, now.sees); len(xids) == 0 {
			return nil
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return fmt.Errorf("transaction %d, one of %d, has not ended its commit: does a standby of synchronous_standby_names answer? %w", xids[0], len(xids), ctx.Err())
		}
	}
}

// committing are the numbers of transactions that wait for a standby. Where other users' doings are hidden from ours
// (pg_read_all_stats shows them) and there are such standbys, these are all that are open.
func (s *postgresSession) committing(ctx context.Context) ([]uint32, error) {
	rows, err := s.conn.Query(ctx, `
		SELECT backend_xid::text::int8 FROM pg_stat_activity
		WHERE backend_xid IS NOT NULL AND (wait_event = 'SyncRep'
		      OR query = '<insufficient privilege>' AND current_setting('synchronous_standby_names') <> '')
		UNION
		SELECT transaction::text::int8 FROM pg_prepared_xacts
		WHERE EXISTS (SELECT FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND position(gid IN query) > 0)`)
	if err != nil {
		return nil, fmt.Errorf("ask which transactions wait for a standby: %w", err)
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (uint32, error) {
		var xid int64
		err := row.Scan(&xid)
		return uint32(xid), err
	})
}

// mostAhead is how far the number of a transaction in commit can be ahead of all that have ended; one that seems to be farther
// ahead is from the round before.
const mostAhead = 1 << 24

// snapshot is what a read sees that begins now: the transactions before max, but for some. Numbers go round, so they are
// compared by how far they are from max.
type snapshot struct {
	max  uint32
	open map[uint32]bool
}

func (n snapshot) sees(xid uint32) bool {
	ahead := int32(xid - n.max)
	return (ahead < 0 || ahead > mostAhead) && !n.open[xid]
}

func (s *postgresSession) snapshot(ctx context.Context) (snapshot, error) {
	var text string
	if err := s.conn.QueryRow(ctx, "SELECT pg_current_snapshot()::text").Scan(&text); err != nil {
		return snapshot{}, fmt.Errorf("ask for a snapshot: %w", err)
	}
	return parseSnapshot(text)
}

// parseSnapshot reads xmin:xmax:xid,xid,…, where the numbers count the rounds as well.
func parseSnapshot(text string) (snapshot, error) {
	n := snapshot{open: map[uint32]bool{}}
	parts := strings.Split(text, ":")
	if len(parts) != 3 {
		return n, fmt.Errorf("%q is no snapshot", text)
	}
	last, err := strconv.ParseUint(parts[1], 10, 64)
	n.max = uint32(last)
	for xid := range strings.SplitSeq(parts[2], ",") {
		if xid == "" || err != nil {
			continue
		}
		var open uint64
		open, err = strconv.ParseUint(xid, 10, 64)
		n.open[uint32(open)] = true
	}
	if err != nil {
		return n, fmt.Errorf("%q is no snapshot: %w", text, err)
	}
	return n, nil
}
