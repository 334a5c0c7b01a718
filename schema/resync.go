package schema

import (
	"errors"
	"fmt"
	"slices"

	"google.golang.org/protobuf/encoding/protowire"
)

// Want says what a Fetch is answered with.
type Want uint8

// What may be asked for.
const (
	WantTables Want = iota + 1 // the definitions of all tables that the head sends, and about how many rows they have
	WantHashes                 // keys and the hashes of their rows (HashRow)
	WantRows                   // whole rows
)

// Fetch asks the head for a stretch of a table, in the order of its key there, or for the rows of some keys. Of one office the
// head serves one at a time: a newer one takes the place of an older. The answer is one Chunk or several.
type Fetch struct {
	ID    uint64 // given by who asks; every Chunk of the answer bears it
	Want  Want
	Table TableName
	// From is the key (AppendKey) behind which the stretch begins; nil: the table's first.
	From []byte
	// Keys, when there are any, are asked for instead of a stretch. The answer says of each whether there is such a row.
	Keys [][]byte
	// Where is an expression (CEL, over row) that rows must meet; empty: all do.
	Where string
	// Chunks and Bytes bound the answer: after so many chunks, or when so many bytes of rows were read, the rest is to be asked
	// for again.
	Chunks uint32
	Bytes  uint64
}

// TableSize is a table in the answer to WantTables.
type TableSize struct {
	Table *Table
	Rows  uint64 // by the database's own estimate
	Bytes uint64
}

// Chunk is the body of a MessageChunk: some rows as they are at the place in the sender's stream at which it stands, which the
// envelope's seq names: behind that transaction, before the next. It is unnumbered: whoever is not exactly there drops it, and
// asks again.
type Chunk struct {
	To   Office
	ID   uint64 // of the Fetch
	Part uint32 // 0, 1, 2 … of one answer
	Last bool   // of this answer
	// Next is the key behind the last row that was looked at; From of what follows. Done: nothing follows.
	Next []byte
	Done bool
	// Error says why the Fetch cannot be served: no such table here, an expression that cannot be read.
	Error  string
	Tables []TableSize
	// Rows are a Batch of one transaction, packed with Codec: an Insert for each row, with all columns or (WantHashes) with the
	// key's alone; a Delete for each key that was asked for and is not there.
	Rows  []byte
	Codec Codec
	// Hashes are those of the Inserts, in order (WantHashes).
	Hashes []uint64
	// Moving are the places in the batch of rows that were written while they were read: nothing is said of them.
	Moving []uint32
	// Disputed are the places of rows of which a change waits at the head: it is not there as it came. It is said of rows that
	// were asked for by their keys.
	Disputed []uint32

	changes []Change // what Changes gave, once it has
}

// AppendKey appends the key of an image, by which any office finds the row: the columns by name (KeyByName).
func (t *Table) AppendKey(b []byte, r Row) []byte {
	for _, k := range t.KeyByName() {
		b = protowire.AppendVarint(b, uint64(r[k].state))
		b = protowire.AppendString(b, r[k].text)
	}
	return b
}

// DecodeKey reads what AppendKey wrote, at this or another office, into an image with the key's columns alone.
func (t *Table) DecodeKey(b []byte) (Row, error) {
	r := make(Row, len(t.Columns))
	for _, k := range t.KeyByName() {
		state, n := protowire.ConsumeVarint(b)
		if n < 0 || state > uint64(Present) {
			return nil, fmt.Errorf("a key of table %s cannot be read", t.TableName)
		}
		text, m := protowire.ConsumeString(b[n:])
		if m < 0 {
			return nil, fmt.Errorf("a key of table %s cannot be read", t.TableName)
		}
		r[k] = Value{state: State(state), text: text}
		b = b[n+m:]
	}
	if len(b) > 0 {
		return nil, fmt.Errorf("a key of table %s has more columns than here", t.TableName)
	}
	return r, nil
}

// Compare asks a branch, by the head, to compare its tables with the head's, and what to do about it.
type Compare struct {
	To   Office
	ID   uint64 // given by who asks; the Reports bear it
	Spec []byte // what exactly, as JSON of the room that does it; empty: not any more
}

// Report is what a branch says of a comparison that the head asked for: how far it is, and in the end what it found.
type Report struct {
	ID   uint64
	Body []byte // JSON of the room that does it
	Done bool
}

func appendCompare(c *Compare) []byte {
	b := appendText(nil, 1, string(c.To))
	return appendBytes(appendUint(b, 2, c.ID), 3, c.Spec)
}

func (c *Compare) decode(b []byte) error {
	return fields(b, func(n protowire.Number, v uint64, body []byte) error {
		switch n {
		case 1:
			c.To = Office(body)
		case 2:
			c.ID = v
		case 3:
			c.Spec = append([]byte(nil), body...)
		}
		return nil
	})
}

func appendReport(r *Report) []byte {
	return appendBool(appendBytes(appendUint(nil, 1, r.ID), 2, r.Body), 3, r.Done)
}

func (r *Report) decode(b []byte) error {
	return fields(b, func(n protowire.Number, v uint64, body []byte) error {
		switch n {
		case 1:
			r.ID = v
		case 2:
			r.Body = append([]byte(nil), body...)
		case 3:
			r.Done = v != 0
		}
		return nil
	})
}

func appendFetch(f *Fetch) []byte {
	b := appendUint(nil, 1, f.ID)
	b = appendUint(b, 2, uint64(f.Want))
	b = appendText(b, 3, f.Table.Schema)
	b = appendText(b, 4, f.Table.Name)
	b = appendBytes(b, 5, f.From)
	for _, k := range f.Keys {
		b = protowire.AppendBytes(protowire.AppendTag(b, 6, protowire.BytesType), k)
	}
	b = appendText(b, 7, f.Where)
	b = appendUint(b, 8, uint64(f.Chunks))
	return appendUint(b, 9, f.Bytes)
}

func (f *Fetch) decode(b []byte) error {
	return fields(b, func(n protowire.Number, v uint64, body []byte) error {
		switch n {
		case 1:
			f.ID = v
		case 2:
			f.Want = narrow[Want](v)
		case 3:
			f.Table.Schema = string(body)
		case 4:
			f.Table.Name = string(body)
		case 5:
			f.From = append([]byte(nil), body...)
		case 6:
			f.Keys = append(f.Keys, append([]byte(nil), body...))
		case 7:
			f.Where = string(body)
		case 8:
			f.Chunks = narrow[uint32](v)
		case 9:
			f.Bytes = v
		}
		return nil
	})
}

// AppendChunk appends a Chunk.
func AppendChunk(b []byte, c *Chunk) []byte {
	b = appendText(b, 1, string(c.To))
	b = appendUint(b, 2, c.ID)
	b = appendUint(b, 3, uint64(c.Part))
	b = appendBool(b, 4, c.Last)
	b = appendBytes(b, 5, c.Next)
	b = appendBool(b, 6, c.Done)
	b = appendText(b, 7, c.Error)
	for i := range c.Tables {
		s := &c.Tables[i]
		e := protowire.AppendBytes(protowire.AppendTag(nil, 1, protowire.BytesType), appendTable(nil, s.Table))
		e = appendUint(appendUint(e, 2, s.Rows), 3, s.Bytes)
		b = protowire.AppendBytes(protowire.AppendTag(b, 8, protowire.BytesType), e)
	}
	b = appendUint(b, 9, uint64(c.Codec))
	if len(c.Hashes) > 0 {
		b = protowire.AppendTag(b, 10, protowire.BytesType)
		b = protowire.AppendVarint(b, uint64(8*len(c.Hashes)))
		for _, h := range c.Hashes {
			b = protowire.AppendFixed64(b, h)
		}
	}
	b = appendPlaces(b, 11, c.Moving)
	b = appendBytes(b, 12, c.Rows)
	return appendPlaces(b, 13, c.Disputed)
}

func appendPlaces(b []byte, n protowire.Number, places []uint32) []byte {
	var e []byte
	for _, m := range places {
		e = protowire.AppendVarint(e, uint64(m))
	}
	return appendBytes(b, n, e)
}

// DecodeChunk reads a Chunk. Rows points into b.
func DecodeChunk(b []byte) (*Chunk, error) {
	c := &Chunk{}
	err := fields(b, func(n protowire.Number, v uint64, body []byte) error {
		switch n {
		case 1:
			c.To = Office(body)
		case 2:
			c.ID = v
		case 3:
			c.Part = narrow[uint32](v)
		case 4:
			c.Last = v != 0
		case 5:
			c.Next = append([]byte(nil), body...)
		case 6:
			c.Done = v != 0
		case 7:
			c.Error = string(body)
		case 8:
			s, err := decodeTableSize(body)
			c.Tables = append(c.Tables, s)
			return err
		case 9:
			c.Codec = narrow[Codec](v)
		case 10:
			return c.decodeHashes(body)
		case 11:
			return decodePlaces(body, &c.Moving)
		case 12:
			c.Rows = body
		case 13:
			return decodePlaces(body, &c.Disputed)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("decode chunk: %w", err)
	}
	return c, nil
}

func decodeTableSize(b []byte) (TableSize, error) {
	var s TableSize
	err := fields(b, func(n protowire.Number, v uint64, body []byte) (err error) {
		switch n {
		case 1:
			s.Table, err = decodeTable(body)
		case 2:
			s.Rows = v
		case 3:
			s.Bytes = v
		}
		return err
	})
	if err == nil && s.Table == nil {
		err = errors.New("a table without a definition")
	}
	return s, err
}

func (c *Chunk) decodeHashes(b []byte) error {
	for len(b) > 0 {
		h, n := protowire.ConsumeFixed64(b)
		if n < 0 {
			return protowire.ParseError(n)
		}
		c.Hashes, b = append(c.Hashes, h), b[n:]
	}
	return nil
}

func decodePlaces(b []byte, places *[]uint32) error {
	for len(b) > 0 {
		m, n := protowire.ConsumeVarint(b)
		if n < 0 {
			return protowire.ParseError(n)
		}
		*places, b = append(*places, narrow[uint32](m)), b[n:]
	}
	return nil
}

// Changes are the rows of the chunk: Inserts and Deletes of one table, none when there are no rows. It checks that hashes and
// moving places fit them. They are read once.
func (c *Chunk) Changes() ([]Change, error) {
	if len(c.Rows) == 0 || c.changes != nil {
		return c.changes, nil
	}
	batch, _, err := UnpackBatch(c.Rows, c.Codec, 0)
	if err != nil {
		return nil, err
	}
	if len(batch.Transactions) != 1 {
		return nil, fmt.Errorf("a chunk of %d transactions", len(batch.Transactions))
	}
	changes, inserts := batch.Transactions[0].Changes, 0
	for i := range changes {
		if changes[i].Op != Insert && changes[i].Op != Delete || changes[i].Table != changes[0].Table {
			return nil, errors.New("a chunk with something else than rows of one table")
		}
		if changes[i].Op == Insert {
			inserts++
		}
	}
	if len(c.Hashes) > 0 && len(c.Hashes) != inserts {
		return nil, fmt.Errorf("a chunk of %d rows with %d hashes", inserts, len(c.Hashes))
	}
	for _, m := range slices.Concat(c.Moving, c.Disputed) {
		if int(m) >= len(changes) {
			return nil, fmt.Errorf("a chunk of %d rows says something of a row %d", len(changes), m)
		}
	}
	c.changes = changes
	return changes, nil
}
