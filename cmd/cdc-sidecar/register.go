package main

import (
	"context"
	"database/sql"
	"fmt"
	"strconv"
	"strings"
	"time"

	"cdc-sidecar/apply"
	"cdc-sidecar/peer"
	"cdc-sidecar/schema"
)

// register keeps the head's members in cdc_sidecar.offices. It is asked every few seconds, so it opens a connection each
// time and holds none.
type register struct {
	db      office
	applier *apply.Applier
}

const (
	memberActive  = "active"
	memberExpired = "expired"
)

// Senders are the streams that this office has begun to apply.
func (r register) Senders(ctx context.Context) (map[schema.Office]schema.Position, error) {
	return r.applier.Senders(ctx)
}

// Members reads all members of this head.
func (r register) Members(ctx context.Context) ([]peer.Member, error) {
	var out []peer.Member
	err := r.with(func(db *sql.DB) error {
		rows, err := db.QueryContext(ctx, r.bind(`SELECT member, engine, epoch, reported_epoch, reported_seq, state, heard FROM cdc_sidecar.offices WHERE office = ?`), r.db.name)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var m peer.Member
			var state string
			var heard int64
			if err := rows.Scan(&m.Office, &m.Engine, &m.Epoch, &m.Reported.Epoch, &m.Reported.Seq, &state, &heard); err != nil {
				return err
			}
			m.Expired, m.Heard = state == memberExpired, time.UnixMicro(heard)
			out = append(out, m)
		}
		return rows.Err()
	})
	if err != nil {
		return nil, fmt.Errorf("read the members: %w", err)
	}
	return out, nil
}

// Save writes members, all over one connection: the head writes down what fifty report every few seconds.
func (r register) Save(ctx context.Context, members ...peer.Member) error {
	return r.with(func(db *sql.DB) error {
		for i := range members {
			if err := r.save(ctx, db, &members[i]); err != nil {
				return fmt.Errorf("record member %s: %w", members[i].Office, err)
			}
		}
		return nil
	})
}

func (r register) save(ctx context.Context, db *sql.DB, m *peer.Member) error {
	state := memberActive
	if m.Expired {
		state = memberExpired
	}
	set := []any{m.Engine, int64(m.Epoch), int64(m.Reported.Epoch), int64(m.Reported.Seq), state, m.Heard.UnixMicro(), r.db.name, m.Office}
	res, err := db.ExecContext(ctx, r.bind(`UPDATE cdc_sidecar.offices SET engine = ?, epoch = ?, reported_epoch = ?, reported_seq = ?, state = ?, heard = ? WHERE office = ? AND member = ?`), set...)
	if err != nil {
		return err
	}
	if n, err := res.RowsAffected(); err != nil || n > 0 {
		return err
	}
	_, err = db.ExecContext(ctx, r.bind(`INSERT INTO cdc_sidecar.offices (engine, epoch, reported_epoch, reported_seq, state, heard, office, member) VALUES (?, ?, ?, ?, ?, ?, ?, ?)`), set...)
	return err
}

// Remove deletes one member.
func (r register) Remove(ctx context.Context, name schema.Office) error {
	err := r.with(func(db *sql.DB) error {
		_, err := db.ExecContext(ctx, r.bind(`DELETE FROM cdc_sidecar.offices WHERE office = ? AND member = ?`), r.db.name, name)
		return err
	})
	if err != nil {
		return fmt.Errorf("remove member %s: %w", name, err)
	}
	return nil
}

func (r register) with(f func(*sql.DB) error) error {
	db, err := r.db.sql()
	if err != nil {
		return err
	}
	defer db.Close()
	return f(db)
}

// bind turns ? into $1, $2 … where the engine wants that.
func (r register) bind(query string) string {
	if r.db.dsn.Scheme != "postgres" {
		return query
	}
	var b strings.Builder
	n := 0
	for _, c := range query {
		if c != '?' {
			b.WriteRune(c)
			continue
		}
		n++
		b.WriteString("$" + strconv.Itoa(n))
	}
	return b.String()
}
