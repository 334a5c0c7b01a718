package capture

import (
	"context"
	"fmt"
	"hash/fnv"
	"time"

	"github.com/jackc/pgx/v5"

	"cdc-sidecar/schema"
)

const (
	// holdSpace keeps our advisory locks apart from an application's ("cdcs").
	holdSpace = 0x63646373
	// holdPulse is how often we look whether the lock's connection still lives, and how long it may take to answer thrice.
	holdPulse = 10 * time.Second
)

// Hold takes the office's lock, so that two sidecars never serve one office. The lock lives with its own connection: lost is
// closed when that breaks, and everything must stop then. The error wraps schema.ErrHeld when another process has it.
func (c PostgresConfig) Hold(ctx context.Context) (release func(), lost <-chan struct{}, err error) {
	conn, err := c.connect(ctx)
	if err != nil {
		return nil, nil, err
	}
	if err := c.lock(ctx, conn); err != nil {
		_ = conn.Close(context.WithoutCancel(ctx))
		return nil, nil, err
	}
	holding, cancel := context.WithCancel(context.WithoutCancel(ctx))
	gone, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		watch(holding, conn)
		if holding.Err() == nil {
			close(gone)
		}
		closing, done := context.WithTimeout(context.WithoutCancel(holding), closeLimit)
		defer done()
		_ = conn.Close(closing)
	}()
	return func() { cancel(); <-ended }, gone, nil
}

func (c PostgresConfig) lock(ctx context.Context, conn *pgx.Conn) error {
	h := fnv.New32a()
	_, _ = h.Write([]byte(c.Office))
	key := int32(h.Sum32())
	var got bool
	if err := conn.QueryRow(ctx, `SELECT pg_try_advisory_lock($1::int4, $2::int4)`, int32(holdSpace), key).Scan(&got); err != nil {
		return c.refused("take the office's lock", err)
	}
	if got {
		return nil
	}
	holder := "unknown"
	_ = conn.QueryRow(ctx, `SELECT format('server process %s (%s)', a.pid, coalesce(host(a.client_addr), 'local'))
		FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid
		WHERE l.locktype = 'advisory' AND l.granted AND l.classid = $1::int8::oid AND l.objid = $2::int8::oid AND l.objsubid = 2
		AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())`,
		int64(holdSpace), int64(uint32(key))).Scan(&holder)
	return fmt.Errorf("office %s: %w: %s", c.Office, schema.ErrHeld, holder)
}

// watch returns when ctx ends or the connection no longer answers.
func watch(ctx context.Context, conn *pgx.Conn) {
	for {
		// A broken connection shows at once here, a half-open one at the ping.
		waiting, cancel := context.WithTimeout(ctx, holdPulse)
		_, err := conn.WaitForNotification(waiting)
		quiet := waiting.Err() != nil && !conn.IsClosed()
		cancel()
		if ctx.Err() != nil || err != nil && !quiet {
			return
		}
		asking, cancel := context.WithTimeout(ctx, 3*holdPulse)
		err = conn.Ping(asking)
		cancel()
		if err != nil {
			return
		}
	}
}
