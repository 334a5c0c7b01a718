package capture

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"cdc-sidecar/schema"
)

// postgresPublication is our publication as the database has it.
type postgresPublication struct {
	exists, everything, complete bool
	tables                       map[uint32]string // quoted names
	filtered                     []string          // of these only some rows or columns are published
}

const publishedTables = `
	SELECT c.oid, n.nspname::text, c.relname::text, r.prqual IS NOT NULL OR r.prattrs IS NOT NULL
	FROM pg_publication p JOIN pg_publication_rel r ON r.prpubid = p.oid
	JOIN pg_class c ON c.oid = r.prrelid JOIN pg_namespace n ON n.oid = c.relnamespace
	WHERE p.pubname = $1`

func (s *postgresSetup) publication(ctx context.Context) (postgresPublication, error) {
	p := postgresPublication{tables: map[uint32]string{}}
	err := s.conn.QueryRow(ctx, `SELECT puballtables, pubinsert AND pubupdate AND pubdelete AND pubtruncate AND pubviaroot
		FROM pg_publication WHERE pubname = $1`, s.config.slot()).Scan(&p.everything, &p.complete)
	if errors.Is(err, pgx.ErrNoRows) {
		return p, nil
	}
	if err != nil {
		return p, s.config.refused("read publication "+s.config.slot(), err)
	}
	p.exists = true
	rows, err := s.conn.Query(ctx, publishedTables, s.config.slot()) //nolint:rowserrcheck // ForEachRow returns it
	if err != nil {
		return p, s.config.refused("read publication "+s.config.slot(), err)
	}
	var oid uint32
	var space, name string
	var filtered bool
	_, err = pgx.ForEachRow(rows, []any{&oid, &space, &name, &filtered}, func() error {
		p.tables[oid] = quoted(space, name)
		if filtered {
			p.filtered = append(p.filtered, p.tables[oid])
		}
		return nil
	})
	if err != nil {
		return p, s.config.refused("read publication "+s.config.slot(), err)
	}
	return p, nil
}

const publicationOptions = "(publish = 'insert, update, delete, truncate', publish_via_partition_root = true)"

// plan are the statements that make the publication have exactly the wanted tables, whole. It never publishes all tables:
// that would make updates fail on those without a key.
func (p postgresPublication) plan(name string, wanted []string) []string {
	var plan []string
	publication := quoted(name)
	if p.exists && p.everything {
		p = postgresPublication{}
		plan = append(plan, "DROP PUBLICATION "+publication)
	}
	if !p.exists {
		return append(plan, fmt.Sprintf("CREATE PUBLICATION %s FOR TABLE %s WITH %s", publication, strings.Join(wanted, ", "), publicationOptions))
	}
	if !p.complete {
		plan = append(plan, fmt.Sprintf("ALTER PUBLICATION %s SET %s", publication, publicationOptions))
	}
	// One statement for each table: one that we may not touch stands in no other's way.
	has := slices.Sorted(maps.Values(p.tables))
	for _, table := range has {
		if !slices.Contains(wanted, table) || slices.Contains(p.filtered, table) {
			plan = append(plan, fmt.Sprintf("ALTER PUBLICATION %s DROP TABLE %s", publication, table))
		}
	}
	for _, table := range wanted {
		if _, ok := slices.BinarySearch(has, table); !ok || slices.Contains(p.filtered, table) {
			plan = append(plan, fmt.Sprintf("ALTER PUBLICATION %s ADD TABLE %s", publication, table))
		}
	}
	return plan
}

// inspect makes sure that nobody took from the publication what we rely on, and follows the tables: a new one with a key is
// published from now on, one that lost its key is taken out, because the application could not update it any more.
// A publication that is gone, or that lost a table, is a *schema.LostError: changes may be missing.
func (s *postgresSetup) inspect(ctx context.Context) error {
	now, err := s.look(ctx)
	if err != nil {
		return err
	}
	if !now.exists {
		return &schema.LostError{Kind: schema.LostLog, What: "publication " + s.config.slot() + " is gone: changes may have been skipped since"}
	}
	wanted := s.wanted()
	for oid, name := range s.published {
		if now.tables[oid] == "" && slices.Contains(wanted, name) {
			return &schema.LostError{
				Kind: schema.LostLog,
				What: fmt.Sprintf("somebody took table %s out of publication %s: changes of it may be missing", name, s.config.slot()),
			}
		}
	}
	if plan := now.plan(s.config.slot(), wanted); len(plan) > 0 {
		if err := s.follow(ctx, plan); err != nil {
			return err
		}
		if now, err = s.publication(ctx); err != nil {
			return err
		}
	}
	s.published = now.tables
	return nil
}

// follow runs what it may of the statements. A table that is not our user's to publish, or is locked, must not stop the
// capture of all others: it is named, once, and tried again at the next inspection.
func (s *postgresSetup) follow(ctx context.Context, plan []string) error {
	var impossible []string
	for _, statement := range plan {
		err := s.execute(ctx, []string{statement})
		var pg *pgconn.PgError
		if errors.As(err, &pg) && (pg.Code == "42501" || pg.Code == "55P03") { // insufficient_privilege, lock_not_available
			impossible = append(impossible, statement)
			if !slices.Contains(s.impossible, statement) {
				s.config.log().Warn("a table is not captured as it should be", "fix", statement, "cause", pg.Message)
			}
			continue
		}
		if err != nil {
			return err
		}
		s.config.log().Warn("the tables to capture have changed; rows written to a new one before this moment are not sent", "done", statement)
	}
	s.impossible = impossible
	return nil
}
