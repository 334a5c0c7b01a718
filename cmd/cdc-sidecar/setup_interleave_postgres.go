package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"cdc-sidecar/catalog"
	"cdc-sidecar/schema"
)

type postgresInterleaver struct {
	config Config
	conn   *pgx.Conn
}

// interleaveLock bounds the wait for a sequence that a transaction under way has taken a number of: whoever inserts next
// must not wait behind us for long.
const interleaveLock = "10s"

func openPostgresInterleaver(ctx context.Context, c Config) (interleaver, error) {
	config, err := pgx.ParseConfig(c.Database.URL())
	if err != nil {
		return nil, errors.New("the database URL is not understood by the Postgres driver")
	}
	config.RuntimeParams["lock_timeout"] = interleaveLock
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return nil, err
	}
	return &postgresInterleaver{c, conn}, nil
}

func (p *postgresInterleaver) close() { _ = p.conn.Close(context.Background()) }

// plan has one transaction for each sequence. Tables may share one.
func (p *postgresInterleaver) plan(ctx context.Context, i interleaving) ([]string, error) {
	tables, err := catalog.ReadPostgres(ctx, p.conn, p.config.Database.DefaultSchema())
	if err != nil {
		return nil, err
	}
	shared, names := map[string][]generatedKey{}, []string{}
	for _, k := range generatedKeys(p.config, tables) {
		if shared[k.sequence.Name] == nil {
			names = append(names, k.sequence.Name)
		}
		shared[k.sequence.Name] = append(shared[k.sequence.Name], k)
	}
	var statements []string
	var refused []error
	for _, name := range names {
		statement, err := p.planSequence(ctx, i, shared[name])
		var no *schema.RefusedError
		switch {
		case errors.As(err, &no): // all of them are told at once
			refused = append(refused, err)
		case err != nil:
			return nil, fmt.Errorf("look at sequence %s: %w", name, err)
		case statement != "":
			statements = append(statements, statement)
		}
	}
	return statements, errors.Join(refused...)
}

// planSequence is the statement for one sequence and all columns that it fills; empty when there is nothing to do.
func (p *postgresInterleaver) planSequence(ctx context.Context, i interleaving, keys []generatedKey) (string, error) {
	s := keys[0].sequence
	switch {
	case s.Increment < 1:
		return "", &schema.RefusedError{What: "sequence " + s.Name + " counts down", Remedy: fmt.Sprintf("ALTER SEQUENCE %s INCREMENT BY -%d, and RESTART it with a number of this office's own", s.Name, i.every)}
	case s.Cycle:
		return "", &schema.RefusedError{What: "sequence " + s.Name + " begins anew at its end, with numbers that may be other offices'", Remedy: "ALTER SEQUENCE " + s.Name + " NO CYCLE"}
	}
	var increment, start, last, most int64
	var called bool
	err := p.conn.QueryRow(ctx, fmt.Sprintf(`SELECT q.seqincrement, q.seqstart, s.last_value, s.is_called, %s
		FROM pg_sequence q, %s s WHERE q.seqrelid = $1::regclass`, greatestKey(keys, nil), s.Name), s.Name).Scan(&increment, &start, &last, &called, &most)
	if err != nil {
		return "", err
	}
	used, next := last-1, last
	if called {
		used, next = last, last+increment
	}
	if increment == i.every && i.owns(start) && i.owns(next) {
		if next <= most { // greater keys are no matter as long as they are other offices'
			err = p.conn.QueryRow(ctx, "SELECT "+greatestKey(keys, &i)).Scan(&most)
		}
		if err != nil || next > most {
			return "", err
		}
	}
	for _, k := range keys {
		if err := i.fits("column "+k.String(), max(used, most), k.sequence.Max); err != nil {
			return "", err
		}
	}
	return interleaveSequence(i, s, keys), nil
}

// interleaveSequence looks at the last number itself, when nobody can take one any more: it may run much later than it was
// planned. ALTER SEQUENCE does for an identity's sequence, too, and leaves its table alone. START is for TRUNCATE …
// RESTART IDENTITY.
func interleaveSequence(i interleaving, s *catalog.Sequence, keys []generatedKey) string {
	comment := ""
	if s.Cached {
		comment = "-- connections that are open have taken numbers in advance: restart the applications\n"
	}
	return fmt.Sprintf(`%[1]sBEGIN;
ALTER SEQUENCE %[2]s INCREMENT BY %[3]d START WITH %[4]d;
SELECT pg_catalog.setval(%[5]s, used + 1 + ((%[4]d - used - 1) %% %[3]d + %[3]d) %% %[3]d, false) FROM (
  SELECT greatest(%[6]s, (SELECT CASE WHEN is_called THEN last_value ELSE last_value - 1 END FROM %[2]s)) AS used) AS keys;
COMMIT`, comment, s.Name, i.every, max(i.offset, i.above(s.Min-1)), literal(s.Name), greatestKey(keys, nil))
}

// greatestKey is an expression for the greatest value in the columns, far below all numbers when there is none. With own
// it is the greatest of those that this office gives out; the order lets the key's index find it.
func greatestKey(keys []generatedKey, own *interleaving) string {
	queries := []string{"-9223372036854775807"}
	for _, k := range keys {
		column, condition := pgx.Identifier{k.column()}.Sanitize(), ""
		if own != nil {
			condition = fmt.Sprintf(" AND (%s %% %d + %[2]d) %% %[2]d = %d", column, own.every, own.offset%own.every)
		}
		queries = append(queries, fmt.Sprintf("(SELECT %s::bigint FROM %s WHERE %[1]s IS NOT NULL%[3]s ORDER BY %[1]s DESC LIMIT 1)",
			column, pgx.Identifier{k.table.OwnSchema, k.table.Name}.Sanitize(), condition))
	}
	return "greatest(" + strings.Join(queries, ", ") + ")"
}

// literal is a text in SQL.
func literal(text string) string { return "'" + strings.ReplaceAll(text, "'", "''") + "'" }

func (p *postgresInterleaver) execute(ctx context.Context, statements []string) error {
	for _, statement := range statements {
		_, err := p.conn.PgConn().Exec(ctx, statement).ReadAll()
		if err == nil {
			continue
		}
		_, name, _ := strings.Cut(statement, "ALTER SEQUENCE ")
		name, _, _ = strings.Cut(name, " INCREMENT")
		no := &schema.RefusedError{What: "interleave sequence " + name, Cause: err}
		var server *pgconn.PgError
		switch {
		case !errors.As(err, &server):
			return fmt.Errorf("interleave sequence %s: %w", name, err)
		case server.Code == "42501":
			no.Remedy = "run what the same command with --print-sql prints as the owner of the sequence"
		case server.Code == "55P03":
			no.Remedy = "run it again when no transaction is open that has inserted; it goes on where it stopped"
		}
		return no
	}
	return nil
}
