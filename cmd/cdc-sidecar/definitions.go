package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"cdc-sidecar/catalog"
	"cdc-sidecar/schema"
)

// definitions are tables by the names that the fleet has for them.
type definitions map[schema.TableName]*schema.Definition

// readTimeout bounds a look at the whole catalog: one that takes longer waits for somebody's lock.
const readTimeout = time.Minute

// readDefinitions reads what the office's tables are, those that it shares with other offices: with a key, in the log, and not left
// alone by the configuration.
func readDefinitions(ctx context.Context, c Config) (definitions, error) {
	read := readPostgresDefinitions
	if c.Database.Scheme == "mysql" {
		read = readMySQLDefinitions
	}
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	all, err := read(ctx, c)
	if err != nil {
		return nil, fmt.Errorf("read the tables' definitions: %w", err)
	}
	maps.DeleteFunc(all, func(n schema.TableName, d *schema.Definition) bool {
		return len(d.Key) == 0 || n.Schema == schema.OwnSchema || !c.shares(n) || all.besides(n)
	})
	return all, nil
}

// shares reports whether other offices have to do with the table.
func (c *Config) shares(n schema.TableName) bool { return c.Sends(n) || c.Receives(n) }

// shadows end the names of the tables in which gh-ost and pt-online-schema-change prepare a changed table x: _x_gho. No other
// office gets them.
var shadows = []string{"_gho", "_ghc", "_del", "_new", "_old"}

// besides reports whether the table is such a tool's, beside its own.
func (d definitions) besides(n schema.TableName) bool {
	if !strings.HasPrefix(n.Name, "_") {
		return false
	}
	return slices.ContainsFunc(shadows, func(end string) bool {
		base, ok := strings.CutSuffix(strings.TrimLeft(n.Name, "_"), end)
		return ok && d[schema.TableName{Schema: n.Schema, Name: base}] != nil
	})
}

func readPostgresDefinitions(ctx context.Context, c Config) (definitions, error) {
	config, err := pgx.ParseConfig(c.Database.URL())
	if err != nil {
		return nil, err
	}
	maps.Copy(config.RuntimeParams, catalog.PostgresSession())
	config.ConnectTimeout = sqlTimeout
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	rows, err := conn.Query(ctx, "SELECT oid FROM pg_class WHERE relpersistence = 'u' AND relkind IN ('r', 'p')")
	if err != nil {
		return nil, err
	}
	unlogged, err := pgx.CollectRows(rows, pgx.RowTo[uint32])
	if err != nil {
		return nil, err
	}
	found, err := catalog.ReadPostgresDefinitions(ctx, conn, c.Database.DefaultSchema())
	all := definitions{}
	for oid, d := range found {
		if !slices.Contains(unlogged, oid) {
			all[d.TableName] = d
		}
	}
	return all, err
}

func readMySQLDefinitions(ctx context.Context, c Config) (definitions, error) {
	db, err := newOffice(c, nil).sql()
	if err != nil {
		return nil, err
	}
	defer db.Close()
	found, err := catalog.ReadMySQLDefinitions(ctx, db, c.Database.DefaultSchema())
	all := definitions{}
	for _, d := range found {
		all[d.TableName] = d
	}
	return all, err
}

// engine is that of the office's tables; usual, when there are none.
func (d definitions) engine(usual schema.Engine) schema.Engine {
	for _, one := range d {
		return one.Engine
	}
	return usual
}

// names are those of all tables, in order.
func (d definitions) names() []schema.TableName {
	return slices.SortedFunc(maps.Keys(d), compareNames)
}
