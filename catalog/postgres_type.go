package catalog

import (
	"context"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"cdc-sidecar/schema"
)

// postgresType is what a type that the server does not have built in comes down to.
type postgresType struct {
	base     uint32 // behind all domains
	modifier int32  // that the domains give the base; -1: none
	enum     bool
	name     string
	labels   []string
}

type postgresTypes map[uint32]postgresType

const typeChains = `
	WITH RECURSIVE chain (of, oid, modifier) AS (
		SELECT t.oid, t.oid, -1 FROM pg_type t WHERE t.oid = ANY($1)
		UNION
		SELECT c.of, t.typbasetype, t.typtypmod FROM chain c JOIN pg_type t ON t.oid = c.oid WHERE t.typtype = 'd')
	SELECT c.of, c.oid, c.modifier, t.typtype = 'e', t.typname::text,
	       ARRAY(SELECT e.enumlabel::text FROM pg_enum e WHERE e.enumtypid = t.oid ORDER BY e.enumsortorder)
	FROM chain c JOIN pg_type t ON t.oid = c.oid WHERE t.typtype <> 'd'`

// readPostgresTypes follows domains to their base and reads enum labels.
func readPostgresTypes(ctx context.Context, q PostgresQuerier, oids []uint32) (postgresTypes, error) {
	types := postgresTypes{}
	var unknown []uint32
	for _, oid := range oids {
		if _, builtIn := postgresKinds[oid]; !builtIn {
			unknown = append(unknown, oid)
		}
	}
	if len(unknown) == 0 {
		return types, nil
	}
	rows, err := q.Query(ctx, typeChains, unknown) //nolint:rowserrcheck // ForEachRow returns it
	if err != nil {
		return nil, err
	}
	var of uint32
	var t postgresType
	_, err = pgx.ForEachRow(rows, []any{&of, &t.base, &t.modifier, &t.enum, &t.name, &t.labels}, func() error {
		types[of] = t
		t.labels = nil // the next row gets its own
		return nil
	})
	return types, err
}

// describe fills in what the type says of a column: kind, size, scale, labels.
func (types postgresTypes) describe(c *schema.Column, oid uint32, modifier int32) {
	if t, ok := types[oid]; ok {
		if t.enum {
			c.Kind, c.Labels = schema.KindEnum, t.labels
			return
		}
		if t.base != oid {
			oid, modifier = t.base, t.modifier
		}
		if t.name == "citext" { // text with another comparison; an extension, so its number is not known
			c.Kind = schema.KindText
			return
		}
	}
	kind, ok := postgresKinds[oid]
	if !ok {
		c.Kind = schema.KindNative
		return
	}
	c.Kind, c.Size, c.Unsigned = kind.kind, kind.size, oid == pgtype.OIDOID
	modify(c, oid, modifier)
}

// postgresKinds are the built-in types that have a kind of their own; all others are native. Postgres never gives a type
// another number.
var postgresKinds = map[uint32]struct {
	kind schema.Kind
	size int
}{
	pgtype.BoolOID:        {schema.KindBool, 0},
	pgtype.Int2OID:        {schema.KindInt, 16},
	pgtype.Int4OID:        {schema.KindInt, 32},
	pgtype.Int8OID:        {schema.KindInt, 64},
	pgtype.OIDOID:         {schema.KindInt, 32},
	pgtype.NumericOID:     {schema.KindDecimal, 0},
	pgtype.Float4OID:      {schema.KindFloat, 32},
	pgtype.Float8OID:      {schema.KindFloat, 64},
	pgtype.TextOID:        {schema.KindText, 0},
	pgtype.VarcharOID:     {schema.KindText, 0},
	pgtype.BPCharOID:      {schema.KindText, 0},
	pgtype.NameOID:        {schema.KindText, 63},
	pgtype.ByteaOID:       {schema.KindBytes, 0},
	pgtype.DateOID:        {schema.KindDate, 0},
	pgtype.TimeOID:        {schema.KindTime, 0},
	pgtype.TimetzOID:      {schema.KindTimeTZ, 0},
	pgtype.TimestampOID:   {schema.KindTimestamp, 0},
	pgtype.TimestamptzOID: {schema.KindTimestampTZ, 0},
	pgtype.IntervalOID:    {schema.KindInterval, 0},
	pgtype.JSONOID:        {schema.KindJSON, 0},
	pgtype.JSONBOID:       {schema.KindJSON, 0},
	pgtype.UUIDOID:        {schema.KindUUID, 0},
	pgtype.BitOID:         {schema.KindBit, 0},
	pgtype.VarbitOID:      {schema.KindBit, 0},
}

const (
	// lengthHeader is what Postgres adds to the modifier of varchar(n), char(n) and numeric(p, s).
	lengthHeader = 4
	// fullFraction is how many digits of a second Postgres keeps where the type does not say.
	fullFraction = 6
)

// modify reads a type modifier: length, precision and scale.
func modify(c *schema.Column, oid uint32, modifier int32) {
	switch oid {
	case pgtype.VarcharOID, pgtype.BPCharOID:
		if modifier >= lengthHeader {
			c.Size, c.Fixed = int(modifier-lengthHeader), oid == pgtype.BPCharOID
		}
	case pgtype.NumericOID:
		c.Scale = -1
		if modifier >= lengthHeader {
			m := modifier - lengthHeader
			// The scale is a signed number of 11 bits: numeric(3, -2) counts hundreds.
			c.Size, c.Scale = int(m>>16), int(m&0x7ff^0x400)-0x400
		}
	case pgtype.TimeOID, pgtype.TimetzOID, pgtype.TimestampOID, pgtype.TimestamptzOID:
		c.Scale = fullFraction
		if modifier >= 0 {
			c.Scale = int(modifier)
		}
	case pgtype.BitOID, pgtype.VarbitOID:
		c.Fixed = oid == pgtype.BitOID
		if modifier >= 0 {
			c.Size = int(modifier)
		}
	}
}
