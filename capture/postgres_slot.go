package capture

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"cdc-sidecar/schema"
)

// postgresSlot is our slot as the database has it.
type postgresSlot struct {
	pid         int32 // of who reads it; 0: nobody
	ours        bool  // logical, pgoutput, of this database
	confirmed   pglogrepl.LSN
	invalidated string // why; empty: it is not
	retained    int64  // bytes of log that it holds back
	status      string
}

// slot reads the slot; nil when there is none.
func (s *postgresSetup) slot(ctx context.Context) (*postgresSlot, error) {
	var slot postgresSlot
	var confirmed string
	err := s.conn.QueryRow(ctx, `
		SELECT coalesce(active_pid, 0), slot_type = 'logical' AND plugin = 'pgoutput' AND database = current_database(),
		       coalesce(confirmed_flush_lsn, '0/0')::text, coalesce(wal_status, ''),
		       coalesce(to_jsonb(s) ->> 'invalidation_reason', CASE WHEN wal_status = 'lost' THEN 'its log was removed' END, ''),
		       coalesce(pg_current_wal_insert_lsn() - restart_lsn, 0)::bigint
		FROM pg_replication_slots s WHERE slot_name = $1`, s.config.slot()).
		Scan(&slot.pid, &slot.ours, &confirmed, &slot.status, &slot.invalidated, &slot.retained)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, s.config.refused("read replication slot "+s.config.slot(), err)
	}
	slot.confirmed, err = pglogrepl.ParseLSN(confirmed)
	return &slot, err
}

// verify makes sure that the slot delivers everything behind at, the journal's durable place.
func (s *postgresSetup) verify(ctx context.Context, stream *pgconn.PgConn, at postgresPosition) error {
	if err := s.sameCluster(ctx, stream, at); err != nil {
		return err
	}
	name := s.config.slot()
	lost := func(format string, args ...any) error {
		return &schema.LostError{Kind: schema.LostLog, What: fmt.Sprintf(format, args...)}
	}
	slot, err := s.slot(ctx)
	switch {
	case err != nil:
		return err
	case slot == nil:
		return lost("replication slot %s is gone: what was written since %s cannot be read any more", name, at.lsn)
	case slot.invalidated != "":
		return lost("replication slot %s was invalidated (%s): what was written since %s cannot be read any more", name, slot.invalidated, at.lsn)
	case !slot.ours:
		return lost("replication slot %s is not ours: another plugin, kind or database", name)
	case slot.pid != 0: // where it stands is settled when its reader has ended
		return s.held(slot.pid)
	case slot.confirmed > at.lsn:
		return lost("replication slot %s was moved on or recreated by somebody else: it is at %s, the journal ends at %s", name, slot.confirmed, at.lsn)
	}
	return nil
}

// sameCluster makes sure that the database is the one of the journal, and has in its history all that the journal has. An
// upgrade to another cluster looks like a backup, too: its log has other places.
func (s *postgresSetup) sameCluster(ctx context.Context, stream *pgconn.PgConn, at postgresPosition) error {
	server, err := identify(ctx, stream)
	if err != nil {
		return err
	}
	if server.system != at.system {
		return &schema.LostError{
			Kind: schema.Restored,
			What: fmt.Sprintf("the journal belongs to the database cluster %s, this is %s with a copy of its tables", at.system, server.system),
		}
	}
	if server.timeline != at.timeline {
		if err := s.sameHistory(ctx, stream, server.timeline, at); err != nil {
			return err
		}
	}
	var text string
	if err := s.conn.QueryRow(ctx, `SELECT pg_current_wal_insert_lsn()::text`).Scan(&text); err != nil {
		return s.config.refused("read where the log ends", err)
	}
	end, err := pglogrepl.ParseLSN(text)
	if err != nil {
		return fmt.Errorf("read where the log ends: %w", err)
	}
	if end < at.lsn {
		return &schema.LostError{
			Kind: schema.Restored,
			What: fmt.Sprintf("the database was restored to an earlier state: its log ends at %s, the journal at %s", end, at.lsn),
		}
	}
	return nil
}

// sameHistory makes sure that a promoted standby, or a restored server, has all that the journal has: its timeline must have
// left ours behind at.
func (s *postgresSetup) sameHistory(ctx context.Context, stream *pgconn.PgConn, timeline int32, at postgresPosition) error {
	history, err := pglogrepl.TimelineHistory(ctx, stream, timeline)
	if err != nil {
		return s.config.refused("read the server's history", err)
	}
	for lines := bufio.NewScanner(bytes.NewReader(history.Content)); lines.Scan(); {
		var of int32
		var lsn string
		if n, _ := fmt.Sscanf(lines.Text(), "%d %s", &of, &lsn); n != 2 || of != at.timeline {
			continue
		}
		if left, err := pglogrepl.ParseLSN(lsn); err == nil && at.lsn <= left {
			return nil
		}
	}
	return &schema.LostError{
		Kind: schema.Restored,
		What: fmt.Sprintf("the server's history (timeline %d) does not contain the journal's last place, %s: a standby was promoted without it, or a backup restored", timeline, at),
	}
}

// identify asks a server who it is; the LSN is left zero.
func identify(ctx context.Context, stream *pgconn.PgConn) (postgresPosition, error) {
	system, err := pglogrepl.IdentifySystem(ctx, stream)
	if err != nil {
		return postgresPosition{}, fmt.Errorf("identify the database cluster: %w", err)
	}
	return postgresPosition{system: system.SystemID, timeline: system.Timeline}, nil
}
