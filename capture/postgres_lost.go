package capture

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"

	"cdc-sidecar/schema"
)

// row reads what the database knows of the office's journal; nil: nothing.
func (s *postgresSetup) row(ctx context.Context) (*journalRow, error) {
	var exists bool
	if err := s.conn.QueryRow(ctx, `SELECT to_regclass('cdc_sidecar.journal') IS NOT NULL`).Scan(&exists); err != nil {
		return nil, s.config.refused("look for cdc_sidecar.journal", err)
	}
	if !exists {
		return nil, nil
	}
	var epoch int64
	var row journalRow
	err := s.conn.QueryRow(ctx, `SELECT epoch, began FROM cdc_sidecar.journal WHERE office = $1`, string(s.config.Office)).Scan(&epoch, &row.began)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, s.config.refused("read cdc_sidecar.journal", err)
	}
	row.epoch = uint64(epoch)
	return &row, nil
}

// begin writes the journal's row of a life that begins.
func (s *postgresSetup) begin(ctx context.Context, epoch uint64, began string) error {
	_, err := s.conn.Exec(ctx, `INSERT INTO cdc_sidecar.journal (office, epoch, began) VALUES ($1, $2, $3)
		ON CONFLICT (office) DO UPDATE SET epoch = excluded.epoch, began = excluded.began`, string(s.config.Office), int64(epoch), began)
	if err != nil {
		return s.config.refused("write cdc_sidecar.journal", err)
	}
	return nil
}

// Belongs looks, while the log is read, whether database and journal are still of one life: a *schema.LostError when they are
// not. Any other error says only that it could not look.
func (c PostgresConfig) Belongs(ctx context.Context, epoch uint64, at string) error {
	conn, err := c.connect(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	row, err := (&postgresSetup{config: c, conn: conn}).row(ctx)
	if err != nil {
		return err
	}
	_, err = judge(c.Office, epoch, at, row)
	return err
}

// Lose notes in the database that the office lost its way, and at a branch what the comparison has to do: the next journal
// that Prepare is called for, younger than epoch, begins the life after it. It may be called again after any interruption.
// Of a Stranger nothing is noted: the database knows nothing of us.
func (c PostgresConfig) Lose(ctx context.Context, epoch uint64, lost *schema.LostError) error {
	if lost.Kind == schema.Stranger {
		return nil
	}
	conn, err := c.connect(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	s := postgresSetup{config: c, conn: conn}
	plan, err := s.planTables(ctx) // a backup may be older than some of them
	if err == nil {
		err = s.execute(ctx, plan)
	}
	if err != nil {
		return err
	}
	err = pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		if c.Role == schema.Branch {
			if err := c.order(ctx, tx, lost.Kind); err != nil {
				return err
			}
		}
		_, err := tx.Exec(ctx, `UPDATE cdc_sidecar.journal j SET epoch = greatest(epoch, $2), began = CASE WHEN `+stillRestored+` THEN $4 ELSE $3 END
			WHERE office = $1`, string(c.Office), int64(epoch), begins(lost.Kind), schema.BeginsRestored)
		return err
	})
	if err != nil {
		return c.refused("note in the database that the office lost its way", err)
	}
	return nil
}

// order leaves word for the comparison. A table that was being joined remains so.
func (c PostgresConfig) order(ctx context.Context, tx pgx.Tx, kind schema.Lost) error {
	var before string
	err := tx.QueryRow(ctx, `SELECT state FROM cdc_sidecar.joins WHERE office = $1 AND table_name = $2 FOR UPDATE`, string(c.Office), schema.JoinAll).Scan(&before)
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return err
	}
	_, err = tx.Exec(ctx, `INSERT INTO cdc_sidecar.joins (office, table_name, pending, state) VALUES ($1, $2, 0, $3)
		ON CONFLICT (office, table_name) DO UPDATE SET state = excluded.state, touched = joins.touched + 1`, string(c.Office), schema.JoinAll, kind.Order(before))
	return err
}

// Began is how the life of the office's journal began, as the database knows it: an empty word for a first life.
func (c PostgresConfig) Began(ctx context.Context) (string, error) {
	conn, err := c.connect(ctx)
	if err != nil {
		return "", err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	row, err := (&postgresSetup{config: c, conn: conn}).row(ctx)
	return beganAs(row), err
}
