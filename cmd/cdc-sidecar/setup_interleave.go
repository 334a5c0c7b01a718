package main

import (
	"context"
	"errors"
	"fmt"

	"cdc-sidecar/catalog"
	"cdc-sidecar/schema"
)

// interleaving is one office's share of the keys that databases make up: of each N numbers in a row, every office that
// shares them has one. Which is this office's is its number, the offset.
type interleaving struct {
	every  int64 // how many offices can share the keys; 0: none was asked for
	offset int64 // this office's number, from 1 to every
}

const (
	// mostInterleaved is what MySQL's variables can hold; the others of the fleet have to use the same number.
	mostInterleaved = 65535
	// suggestedInterleave leaves a small fleet room to grow, and a column of four bytes 134 million keys for each office.
	suggestedInterleave = 16
	// leastKeys is how many keys an office must have left when its share begins: to notice a full column in time, before
	// it becomes an error of the application.
	leastKeys = 1000
)

// interleavingFor checks the flags --interleave (given or not) and --offset (0: not given).
func interleavingFor(c Config, given bool, every, offset int64) (interleaving, error) {
	i := interleaving{every, offset}
	switch {
	case !given && offset == 0:
		return i, nil
	case !given:
		return i, &usageError{errors.New("--offset is this office's number among those that share the keys; say how many may share them: --interleave N")}
	case every < 2 || every > mostInterleaved:
		return i, &usageError{fmt.Errorf("--interleave %d: want a number from 2 to %d, the same at every office, and more than there will ever be offices", every, mostInterleaved)}
	case offset == 0 && c.Role == schema.Branch:
		return i, &usageError{fmt.Errorf("--interleave at a branch needs --offset K: the number of office %s, from 2 to %d, which no other office has (the head is 1)", c.Office, every)}
	case offset == 0:
		i.offset = 1
	case offset < 1 || offset > every:
		return i, &usageError{fmt.Errorf("--offset %d: want this office's number, from 1 to %d (--interleave), which no other office has (the head is 1)", offset, every)}
	}
	return i, nil
}

// command is what makes an office's keys its own; of an office that has some of them so, with the same numbers.
func (i interleaving) command(role schema.Role) string {
	switch {
	case i.every > 1:
		return fmt.Sprintf("cdc-sidecar setup --interleave %d --offset %d", i.every, i.offset)
	case role == schema.Head:
		return fmt.Sprintf("cdc-sidecar setup --interleave %d --offset 1", suggestedInterleave)
	default:
		return fmt.Sprintf("cdc-sidecar setup --interleave %d --offset K (the same %[1]d everywhere; K: this office's own number, from 2 to %[1]d)", suggestedInterleave)
	}
}

// above is the smallest of the office's numbers that is greater than n.
func (i interleaving) above(n int64) int64 { return n + 1 + catalog.Remainder(i.offset-n-1, i.every) }

// owns says whether n is one of the office's numbers.
func (i interleaving) owns(n int64) bool { return catalog.Remainder(n-i.offset, i.every) == 0 }

// fits checks that behind used there are keys enough for the office up to most, the column's greatest.
func (i interleaving) fits(column string, used, most int64) error {
	if used < most && (most-used)/i.every >= leastKeys {
		return nil
	}
	return &schema.RefusedError{
		What:   fmt.Sprintf("%s is at %d and ends at %d: with one number in %d for this office, fewer than %d keys are left", column, used, most, i.every, leastKeys),
		Remedy: "give the column and its sequence, at every office, a larger type (bigint); or flow: send, receive or none for the table; or a smaller --interleave",
	}
}

// interleaver spreads the keys that a database makes up.
type interleaver interface {
	// plan are the statements that are missing. It changes nothing, and refuses columns that are nearly full.
	plan(ctx context.Context, i interleaving) ([]string, error)
	// execute runs statements of plan.
	execute(ctx context.Context, statements []string) error
	close()
}

func openInterleaver(ctx context.Context, c Config) (interleaver, error) {
	if c.Database.Scheme == "mysql" {
		return openMySQLInterleaver(ctx, c)
	}
	return openPostgresInterleaver(ctx, c)
}

// generatedKey is a column whose values the database makes up, of a table that more than one office writes.
type generatedKey struct {
	table    *catalog.Table
	sequence *catalog.Sequence
}

func (k generatedKey) column() string { return k.table.Columns[k.sequence.Column].Name }
func (k generatedKey) String() string { return ownName(k.table) + "." + k.column() }

// generatedKeys are those of the tables whose changes go both ways.
func generatedKeys(c Config, tables []catalog.Table) []generatedKey {
	var keys []generatedKey
	for i := range tables {
		if c.Rule(tables[i].TableName).Flow != FlowBoth {
			continue
		}
		for _, s := range tables[i].GeneratedKeys() {
			keys = append(keys, generatedKey{&tables[i], s})
		}
	}
	return keys
}
