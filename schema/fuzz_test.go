package schema

import (
	"bytes"
	"errors"
	"reflect"
	"testing"
)

// What can be read of a chunk is read the same again, and its rows are whole.
func FuzzDecodeChunk(f *testing.F) {
	seeds(f, func(m Message, _, body []byte) {
		if m.Kind == MessageChunk {
			f.Add(body)
			f.Add(body[:len(body)/2])
		}
	})
	t := NewTable(Table{TableName: TableName{Name: "t"}, Engine: MySQL, Columns: []Column{{Name: "id", Kind: KindInt, Size: 32}}, Key: []int{0}})
	rows := AppendBatch(nil, []Transaction{{Changes: []Change{{Table: t, Op: Insert, After: Row{Of("1")}}, {Table: t, Op: Delete, Before: Row{Of("2")}}}}})
	f.Add(AppendChunk(nil, &Chunk{To: "a", ID: 1, Part: 2, Rows: rows, Hashes: []uint64{7}, Moving: []uint32{0}, Disputed: []uint32{1}, Tables: []TableSize{{Table: t, Rows: 3}}}))
	f.Add(AppendChunk(nil, &Chunk{To: "a", ID: 1, Rows: rows, Hashes: []uint64{7, 8}}))
	f.Fuzz(func(t *testing.T, raw []byte) {
		c, err := DecodeChunk(raw)
		if err != nil {
			return
		}
		again, err := DecodeChunk(AppendChunk(nil, c))
		if c.Rows, c.Next = some(c.Rows), some(c.Next); err != nil {
			t.Fatalf("%v; it was %+v", err, c)
		}
		if again.Rows, again.Next = some(again.Rows), some(again.Next); !reflect.DeepEqual(again, c) {
			t.Fatalf("%+v; it was %+v", again, c)
		}
		changes, err := c.Changes()
		if err != nil {
			return
		}
		for i := range changes {
			if err := changes[i].Validate(); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// A key that can be read is written the same, whatever bytes it came from.
func FuzzDecodeKey(f *testing.F) {
	table := NewTable(Table{
		TableName: TableName{Name: "t"}, Engine: Postgres,
		Columns: []Column{{Name: "b", Kind: KindText}, {Name: "v", Kind: KindText}, {Name: "a", Kind: KindInt, Size: 64}}, Key: []int{0, 2},
	})
	f.Add(table.AppendKey(nil, Row{Of("x"), {}, Of("12")}))
	f.Add(table.AppendKey(nil, Row{Of(""), {}, NullValue()}))
	f.Fuzz(func(t *testing.T, raw []byte) {
		r, err := table.DecodeKey(raw)
		if err != nil {
			return
		}
		again, err := table.DecodeKey(table.AppendKey(nil, r))
		if err != nil || !reflect.DeepEqual(again, r) || !r[1].IsUnchanged() {
			t.Fatalf("%v, %v; it was %v", again, err, r)
		}
	})
}

func FuzzUnpack(f *testing.F) {
	for _, body := range [][]byte{nil, []byte("short"), bytes.Repeat([]byte("squeeze "), 100)} {
		packed, codec, err := Pack(body)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(packed, uint8(codec))
	}
	f.Fuzz(func(t *testing.T, raw []byte, codec uint8) {
		body, err := Unpack(raw, Codec(codec))
		switch {
		case err != nil:
			if known := Codec(codec) == CodecNone || Codec(codec) == CodecZstd; known == errors.Is(err, ErrUnknown) {
				t.Fatal(err)
			}
		case len(body) > MaxBody && Codec(codec) != CodecNone:
			t.Fatalf("%d bytes of %d", len(body), len(raw))
		}
	})
}

// A definition that can be read is one that can be used: its key has its columns, each is there once; and it is written the same.
func FuzzParseDefinition(f *testing.F) {
	table := NewTable(Table{TableName: TableName{"s", "t"}, Engine: MySQL, Columns: []Column{{Name: "id", Kind: KindInt, Size: 32}, {Name: "e", Kind: KindEnum, Labels: []string{"a", "é"}}}, Key: []int{0}})
	f.Add(AppendDefinition(nil, &Definition{
		Table: table, Details: []ColumnDetail{{ID: 1, Serial: true}, {ID: 2, Default: Expression{Kind: LiteralValue, Text: "a"}, Comment: "c"}},
		Indexes:     []Index{{Name: "i", Unique: true, Parts: []IndexPart{{Column: "e", Prefix: 3}}, Where: Expression{Kind: NativeText, Text: "e > 'a'"}}},
		ForeignKeys: []ForeignKey{{Name: "f", Columns: []string{"id"}, Parent: TableName{Name: "p"}, ParentColumns: []string{"id"}, OnDelete: Cascade}},
		Checks:      []Check{{Name: "c", Expression: Expression{Kind: PortableText, Text: `"id" > 0`}}}, Comment: "d",
	}))
	f.Add([]byte(`{"Name":"t","Columns":[{"Name":"a","Kind":2}],"details":[{}],"Key":[7]}`))
	f.Add([]byte(`{"Name":"t","Columns":null,"details":null} {}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		d, err := ParseDefinition(raw)
		if err != nil {
			return
		}
		checkDefinition(t, d)
	})
}

func FuzzParseDefinitionChange(f *testing.F) {
	d := &Definition{Table: NewTable(Table{TableName: TableName{Name: "t"}, Engine: Postgres, Columns: []Column{{Name: "a", Kind: KindText}}, Key: []int{0}}), Details: make([]ColumnDetail, 1)}
	f.Add(marshalChange(&DefinitionChange{Is: d, Statement: "CREATE TABLE t (a text PRIMARY KEY)"}))
	f.Add(marshalChange(&DefinitionChange{Was: d, Is: d}))
	f.Add([]byte(`{"was":{},"is":null}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		c, err := ParseDefinitionChange(raw)
		if err != nil {
			return
		}
		if c.Name().Name == "" {
			t.Fatalf("%+v is of no table", c)
		}
		for _, d := range []*Definition{c.Was, c.Is} {
			if d != nil {
				checkDefinition(t, d)
			}
		}
	})
}

func checkDefinition(t *testing.T, d *Definition) {
	t.Helper()
	for _, k := range d.KeyByName() {
		_ = d.Columns[k].Name
	}
	for i := range d.Columns {
		if d.Detail(d.Columns[i].Name) != &d.Details[i] {
			t.Fatalf("column %d is not found by its name", i)
		}
	}
	text := AppendDefinition(nil, d)
	again, err := ParseDefinition(text)
	if err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	if !bytes.Equal(AppendDefinition(nil, again), text) || again.Fingerprint() != d.Fingerprint() {
		t.Fatalf("%s, and was %s", AppendDefinition(nil, again), text)
	}
}
