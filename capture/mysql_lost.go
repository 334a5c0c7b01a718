package capture

import (
	"context"
	"database/sql"
	"errors"

	"cdc-sidecar/schema"
)

// row reads what the database knows of the office's journal; nil: nothing.
func (s *mysqlSetup) row(ctx context.Context) (*journalRow, error) {
	missing, err := s.missing(ctx)
	if err != nil || missing[schema.JournalTable] {
		return nil, err
	}
	var row journalRow
	err = s.db.QueryRowContext(ctx, "SELECT epoch, began FROM cdc_sidecar.journal WHERE office = ?", string(s.config.Office)).Scan(&row.epoch, &row.began)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, s.config.refused("read cdc_sidecar.journal", err)
	}
	return &row, nil
}

// Belongs looks, while the log is read, whether database and journal are still of one life: a *schema.LostError when they are
// not. Any other error says only that it could not look. Whoever reads a binlog that is reset meanwhile is told nothing.
func (c MySQLConfig) Belongs(ctx context.Context, epoch uint64, at string) error {
	s, err := c.setup(ctx)
	if err != nil {
		return err
	}
	defer s.close()
	row, err := s.row(ctx)
	if err != nil {
		return err
	}
	if _, err := judge(c.Office, epoch, at, row); err != nil {
		return err
	}
	return s.verify(ctx, at)
}

// Lose notes in the database that the office lost its way, and at a branch what the comparison has to do: the next journal
// that Prepare is called for, younger than epoch, begins the life after it. It may be called again after any interruption.
// Of a Stranger nothing is noted: the database knows nothing of us.
func (c MySQLConfig) Lose(ctx context.Context, epoch uint64, lost *schema.LostError) error {
	if lost.Kind == schema.Stranger {
		return nil
	}
	s, err := c.setup(ctx)
	if err != nil {
		return err
	}
	defer s.close()
	plan, err := s.plan(ctx) // a backup may be older than some of our tables
	if err == nil {
		err = s.execute(ctx, plan)
	}
	if err != nil {
		return err
	}
	tx, err := s.db.BeginTx(ctx, nil)
	if err != nil {
		return c.refused("note in the database that the office lost its way", err)
	}
	defer func() { _ = tx.Rollback() }()
	if c.Role == schema.Branch {
		err = c.order(ctx, tx, lost.Kind)
	}
	if err == nil {
		// MySQL sets from left to right, and what comes later sees what was set.
		_, err = tx.ExecContext(ctx, "UPDATE cdc_sidecar.journal j SET began = CASE WHEN "+stillRestored+` THEN ? ELSE ? END, epoch = GREATEST(epoch, ?)
			WHERE office = ?`, schema.BeginsRestored, begins(lost.Kind), epoch, string(c.Office))
	}
	if err == nil {
		err = tx.Commit()
	}
	if err != nil {
		return c.refused("note in the database that the office lost its way", err)
	}
	return nil
}

// order leaves word for the comparison. A table that was being joined remains so.
func (c MySQLConfig) order(ctx context.Context, tx *sql.Tx, kind schema.Lost) error {
	var before string
	err := tx.QueryRowContext(ctx, "SELECT state FROM cdc_sidecar.joins WHERE office = ? AND table_name = ? FOR UPDATE", string(c.Office), schema.JoinAll).Scan(&before)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return err
	}
	_, err = tx.ExecContext(ctx, `INSERT INTO cdc_sidecar.joins (office, table_name, pending, state) VALUES (?, ?, 0, ?)
		ON DUPLICATE KEY UPDATE state = VALUES(state), touched = touched + 1`, string(c.Office), schema.JoinAll, kind.Order(before))
	return err
}

// Began is how the life of the office's journal began, as the database knows it: an empty word for a first life.
func (c MySQLConfig) Began(ctx context.Context) (string, error) {
	s, err := c.setup(ctx)
	if err != nil {
		return "", err
	}
	defer s.close()
	row, err := s.row(ctx)
	return beganAs(row), err
}
