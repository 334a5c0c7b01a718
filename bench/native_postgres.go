package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"cdc-sidecar/fleet"
	"cdc-sidecar/servers"
)

// subscription is Postgres' own logical replication.
type subscription struct {
	source database
	server *servers.Postgres
	db     string
	to     database
	pids   map[string]int
}

// subscribe makes a database with the same tables, a publication and a subscription that does not run yet.
func subscribe(ctx context.Context, source database, sourcePid int, server *servers.Postgres, name string, scale int, tables []string) (*subscription, error) {
	if err := server.CreateDatabase(ctx, name); err != nil {
		return nil, err
	}
	s := &subscription{source: source, server: server, db: name, pids: map[string]int{sourceServer: sourcePid, targetServer: server.Pid()}}
	var err error
	if s.to, err = open(server.URL(name), postgres); err != nil {
		return nil, err
	}
	if err := s.to.create(ctx, s.to.DB, scale); err != nil {
		return nil, errors.Join(err, s.close())
	}
	err = errors.Join(
		execute(ctx, source.DB, "CREATE PUBLICATION bench FOR TABLE "+strings.Join(tables, ", ")),
		execute(ctx, s.to.DB, fmt.Sprintf("CREATE SUBSCRIPTION %s CONNECTION '%s' PUBLICATION bench WITH (copy_data = false, enabled = false, create_slot = true)", name, source.url)))
	if err != nil {
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}

// open is a database with its workload.
func open(url string, k kind) (database, error) {
	db, err := fleet.OpenDB(url)
	return database{DB: db, workload: workloadOf(k), url: url}, err
}

func (s *subscription) name() string { return "native" }

func (s *subscription) target() database { return s.to }

func (s *subscription) start(ctx context.Context) error {
	return execute(ctx, s.to.DB, "ALTER SUBSCRIPTION "+s.db+" ENABLE")
}

// complete: its worker applies one transaction after another.
func (s *subscription) complete(context.Context) (bool, error) { return true, nil }

func (s *subscription) settle(context.Context) error { return nil }

func (s *subscription) processes() map[string]int { return s.pids }

func (s *subscription) measure(context.Context, int, *outcome) error { return nil }

// stop waits for the two processes of the subscription, too.
func (s *subscription) stop(ctx context.Context) error {
	if err := execute(ctx, s.to.DB, "ALTER SUBSCRIPTION "+s.db+" DISABLE"); err != nil {
		return err
	}
	return fleet.Until(ctx, "the subscription has stopped", func(ctx context.Context) error {
		var workers, senders int
		if err := s.to.QueryRowContext(ctx, "SELECT count(*) FROM pg_stat_subscription WHERE subname = $1 AND pid IS NOT NULL", s.db).Scan(&workers); err != nil {
			return err
		}
		if err := s.source.QueryRowContext(ctx, "SELECT count(*) FROM pg_replication_slots WHERE slot_name = $1 AND active", s.db).Scan(&senders); err != nil {
			return err
		}
		if workers+senders > 0 {
			return fmt.Errorf("%d workers and %d senders run", workers, senders)
		}
		return nil
	})
}

// close leaves publication and slot to the source's database.
func (s *subscription) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), leaveLimit)
	defer cancel()
	return errors.Join(
		execute(ctx, s.to.DB, "DROP SUBSCRIPTION IF EXISTS "+s.db), s.to.Close(), s.server.DropDatabase(ctx, s.db))
}
