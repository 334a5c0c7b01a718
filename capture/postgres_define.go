package capture

import (
	"strconv"

	"cdc-sidecar/catalog"
	"cdc-sidecar/schema"
)

// A schema change comes out of the log of a Postgres as a row of the table of definitions: its event triggers wrote it in the
// transaction that changed the table, at that place. Where there are none, capture compares a table with what it knows of it whenever
// the log announces it anew, and every inspection compares all of them (reconcile).

// definitionRows is the table of definitions in the log.
type definitionRows struct{ id, definition, statement int }

func definitionRowsOf(t *schema.Table) (*definitionRows, error) {
	d := &definitionRows{t.Column(schema.DefinitionID), t.Column(schema.DefinitionDefinition), t.Column(schema.DefinitionStatement)}
	if min(d.id, d.definition, d.statement) < 0 {
		return nil, &schema.BrokenError{What: "table cdc_sidecar.definitions has not the columns that it should have", Remedy: "teardown, then start again"}
	}
	return d, nil
}

// blindDefiner is what the decoder does where nobody notes the definitions in the log.
type blindDefiner struct {
	known  map[uint32]string // facts of each table as far as they have been told
	here   map[uint32]string // those of known that a comparison of this session told
	unkept []toldDefinition  // the same, as long as the table of definitions does not have them
}

// toldDefinition is a definition that went into the stream.
type toldDefinition struct {
	oid   uint32
	facts string
	lsn   uint64 // of the transaction's end; 0: it is open
}

// definitionRow takes a row of the table of definitions in.
func (d *postgresDecoder) definitionRow(columns *definitionRows, c *schema.Change) error {
	if !d.definitions {
		return nil
	}
	last := c.After
	if last == nil {
		last = c.Before
	}
	var was, is string
	if c.Before != nil {
		was = c.Before[columns.definition].Text()
	}
	if c.After != nil {
		if is = c.After[columns.definition].Text(); c.After[columns.definition].IsUnchanged() {
			is = was
		}
	}
	oid, _ := strconv.ParseUint(last[columns.id].Text(), 10, 32) // 0: it only asks for a look at the catalog
	statement := last[columns.statement].Text()
	if oid == 0 || statement == "" {
		return nil
	}
	if b := d.blind; b != nil {
		b.known[uint32(oid)] = is
		if b.here[uint32(oid)] == is && is != "" {
			return nil
		}
	}
	return d.defined(was, is, statement)
}

// compare tells what has become of a table that the log announced anew, before its row.
func (d *postgresDecoder) compare(rel *postgresRelation) error {
	b := d.blind
	if b == nil || !d.definitions || rel.compared || !rel.captured {
		return nil
	}
	rel.compared = true
	is, err := d.facts(rel.announced.OID)
	if err != nil {
		return err
	}
	was := b.known[rel.announced.OID]
	if is == "" || is == was {
		return nil
	}
	if !catalog.PostgresAnnounced(is, rel.announced) && catalog.PostgresAnnounced(was, rel.announced) {
		return nil // the catalog is ahead of the log, which will announce the table again
	}
	b.known[rel.announced.OID], b.here[rel.announced.OID] = is, is
	b.unkept = append(b.unkept, toldDefinition{oid: rel.announced.OID, facts: is})
	return d.defined(was, is, "")
}

// defined sends what led from one definition to another; empty facts are no table. A table that is not sent has none, and one that was
// not sent before is new.
func (d *postgresDecoder) defined(was, is, statement string) error {
	change := schema.DefinitionChange{Statement: statement}
	for _, side := range []struct {
		facts string
		into  **schema.Definition
	}{{was, &change.Was}, {is, &change.Is}} {
		if side.facts == "" {
			continue
		}
		definition, err := catalog.ParsePostgresDefinition(side.facts, d.defaultSchema)
		if err != nil {
			return &schema.BrokenError{What: "a row of table cdc_sidecar.definitions cannot be understood", Cause: err, Remedy: "upgrade cdc-sidecar"}
		}
		*side.into = definition
	}
	if change.Was != nil && !d.send(change.Was.TableName) {
		change.Was = nil
	}
	if change.Is != nil && !d.send(change.Is.TableName) {
		return nil
	}
	if !d.wants() {
		return nil
	}
	known := statement
	if statement == notSeen {
		known = ""
	}
	moved := change.Was != nil && change.Is != nil && catalog.PostgresRowsMoved(was, is, known)
	if change.Rows = moved || schema.ChangesRows(change.Was, change.Is, known); !moved && len(schema.Diff(change.Was, change.Is)) == 0 {
		return nil
	}
	if d.own != nil && !d.own(change.Name()) && d.mode != anotherOrigins {
		return nil
	}
	table := change.Is
	if table == nil {
		table = change.Was
	}
	d.add(schema.Change{Table: table.Table, Op: schema.Define, Definition: &change})
	return nil
}

// ended notes where the definitions of the transaction that ends were told.
func (b *blindDefiner) ended(lsn uint64) {
	if b == nil {
		return
	}
	for i := range b.unkept {
		if b.unkept[i].lsn == 0 {
			b.unkept[i].lsn = lsn
		}
	}
}

// durable takes out what everything up to lsn has told.
func (b *blindDefiner) durable(lsn uint64) []toldDefinition {
	if b == nil {
		return nil
	}
	n := 0
	for n < len(b.unkept) && b.unkept[n].lsn != 0 && b.unkept[n].lsn <= lsn {
		n++
	}
	done := b.unkept[:n:n]
	b.unkept = b.unkept[n:]
	return done
}
