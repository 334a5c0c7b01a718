package capture

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"cdc-sidecar/schema"
)

// Hold takes the office's lock, so that two sidecars never serve one office. The lock lives with its own connection: lost is
// closed when that breaks, and everything must stop then. The error wraps schema.ErrHeld when another process has it.
func (c MySQLConfig) Hold(ctx context.Context) (release func(), lost <-chan struct{}, err error) {
	db, _, err := c.connect(ctx)
	if err != nil {
		return nil, nil, err
	}
	conn, err := db.Conn(ctx)
	if err != nil {
		_ = db.Close()
		return nil, nil, c.refused("take the office's lock", err)
	}
	closeBoth := func() { _, _ = conn.Close(), db.Close() } // a connection that is lent out outlives the door
	if err := c.lock(ctx, conn); err != nil {
		closeBoth()
		return nil, nil, err
	}
	holding, cancel := context.WithCancel(context.WithoutCancel(ctx))
	gone, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		watchMySQL(holding, conn)
		if holding.Err() == nil {
			close(gone)
		}
		closeBoth()
	}()
	return func() { cancel(); <-ended }, gone, nil
}

func (c MySQLConfig) lock(ctx context.Context, conn *sql.Conn) error {
	name := "cdc_sidecar_" + string(c.Office) // at most 52 of 64 characters
	var got sql.NullBool
	if err := conn.QueryRowContext(ctx, "SELECT GET_LOCK(?, 0)", name).Scan(&got); err != nil {
		return c.refused("take the office's lock", err)
	}
	if got.Bool {
		return nil
	}
	holder := "unknown"
	_ = conn.QueryRowContext(ctx, `SELECT CONCAT('server connection ', IS_USED_LOCK(?),
		COALESCE((SELECT CONCAT(' (', HOST, ')') FROM information_schema.PROCESSLIST WHERE ID = IS_USED_LOCK(?)), ''))`, name, name).Scan(&holder)
	return fmt.Errorf("office %s: %w: %s", c.Office, schema.ErrHeld, holder)
}

// watchMySQL returns when ctx ends or the connection no longer answers. Asking also keeps the connection from being closed
// by wait_timeout.
func watchMySQL(ctx context.Context, conn *sql.Conn) {
	pulse := time.NewTicker(holdPulse)
	defer pulse.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-pulse.C:
		}
		asking, cancel := context.WithTimeout(ctx, 3*holdPulse)
		err := conn.PingContext(asking)
		cancel()
		if err != nil {
			return
		}
	}
}
