package schema

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
	"pgregory.net/rapid"
)

func offices() *rapid.Generator[Office] {
	return rapid.Custom(func(t *rapid.T) Office { return Office(rapid.StringMatching(`[a-z][a-z0-9-]{0,39}`).Draw(t, "office")) })
}

func positions() *rapid.Generator[Position] {
	return rapid.Custom(func(t *rapid.T) Position {
		return Position{Epoch: rapid.Uint64().Draw(t, "epoch"), Seq: rapid.Uint64().Draw(t, "seq")}
	})
}

func columns() *rapid.Generator[Column] {
	return rapid.Custom(func(t *rapid.T) Column {
		flag := rapid.Bool()
		return Column{
			Name: rapid.String().Draw(t, "name"), Kind: Kind(rapid.IntRange(1, len(kindNames)-1).Draw(t, "kind")),
			Size: int(rapid.Uint32().Draw(t, "size")), Scale: int(rapid.Int32().Draw(t, "scale")),
			Unsigned: flag.Draw(t, "unsigned"), Fixed: flag.Draw(t, "fixed"), Nullable: flag.Draw(t, "nullable"),
			Native: rapid.String().Draw(t, "native"), Labels: some(rapid.SliceOfN(rapid.String(), 0, 3).Draw(t, "labels")),
			Generated: flag.Draw(t, "generated"), Identity: flag.Draw(t, "identity"),
		}
	})
}

// some is nil when nothing is there: empty and nil are the same on the wire.
func some[T any](s []T) []T {
	if len(s) == 0 {
		return nil
	}
	return s
}

func tables() *rapid.Generator[*Table] {
	return rapid.Custom(func(t *rapid.T) *Table {
		cols := rapid.SliceOfN(columns(), 1, 5).Draw(t, "columns")
		return NewTable(Table{
			TableName: TableName{Schema: rapid.String().Draw(t, "schema"), Name: rapid.String().Draw(t, "name")},
			Engine:    rapid.SampledFrom([]Engine{Postgres, MySQL, MariaDB}).Draw(t, "engine"), Columns: cols,
			Key: some(rapid.SliceOfN(rapid.IntRange(0, len(cols)-1), 0, len(cols)).Draw(t, "key")),
		})
	})
}

func rows(table *Table) *rapid.Generator[Row] {
	value := rapid.Custom(func(t *rapid.T) Value {
		switch State(rapid.IntRange(0, 2).Draw(t, "state")) {
		case Null:
			return NullValue()
		case Present:
			return Of(string(rapid.SliceOf(rapid.Byte()).Draw(t, "text")))
		default:
			return Value{}
		}
	})
	return rapid.Custom(func(t *rapid.T) Row {
		return rapid.SliceOfN(value, len(table.Columns), len(table.Columns)).Draw(t, "row")
	})
}

func changes(all []*Table) *rapid.Generator[Change] {
	return rapid.Custom(func(t *rapid.T) Change {
		c := Change{Table: rapid.SampledFrom(all).Draw(t, "table"), Op: Op(rapid.IntRange(1, 5).Draw(t, "op"))}
		if c.Op == Define {
			c.Definition = &DefinitionChange{Is: definitions().Draw(t, "definition"), Statement: rapid.String().Draw(t, "statement")}
			if rapid.Bool().Draw(t, "was there") {
				c.Definition.Was = definitions().Draw(t, "was")
			}
			return c
		}
		row := rows(c.Table)
		if c.Op == Delete || c.Op != Truncate && rapid.Bool().Draw(t, "has before") {
			c.Before = row.Draw(t, "before")
		}
		if c.Op == Insert || c.Op == Update {
			c.After = row.Draw(t, "after")
		}
		c.Restored = rapid.Bool().Draw(t, "restored")
		c.Blind, c.Claimed = rapid.Bool().Draw(t, "blind"), rapid.Bool().Draw(t, "claimed")
		if rapid.Bool().Draw(t, "decided") {
			c.Decided = &Decision{
				Origin: offices().Draw(t, "winner"), Known: rapid.Uint64().Draw(t, "known"),
				Stamp: Stamp{Millis: rapid.Int64().Draw(t, "decided millis"), Counter: rapid.Uint32().Draw(t, "decided counter")},
			}
		}
		return c
	})
}

// transactionsOf draws what AppendBatch takes from the journal: the epoch of all positions is the message's.
func transactionsOf(epoch uint64) *rapid.Generator[[]Transaction] {
	return rapid.Custom(func(t *rapid.T) []Transaction {
		all := rapid.SliceOfN(tables(), 1, 3).Draw(t, "tables")
		one := rapid.Custom(func(t *rapid.T) Transaction {
			tx := Transaction{
				Origin: offices().Draw(t, "origin"), OriginPos: positions().Draw(t, "origin position"), Seen: positions().Draw(t, "seen"),
				Pos:     Position{Epoch: epoch, Seq: rapid.Uint64().Draw(t, "seq")},
				Stamp:   Stamp{Millis: rapid.Int64().Draw(t, "millis"), Counter: rapid.Uint32().Draw(t, "counter")},
				Changes: some(rapid.SliceOfN(changes(all), 0, 5).Draw(t, "changes")),
				Part:    rapid.IntRange(0, 1<<20).Draw(t, "part"), Last: rapid.Bool().Draw(t, "last"),
			}
			if us := rapid.Int64Range(-1<<55, 1<<55).Draw(t, "commit"); us != 0 {
				tx.Commit = time.UnixMicro(us).UTC()
			}
			return tx
		})
		return some(rapid.SliceOfN(one, 0, 4).Draw(t, "transactions"))
	})
}

func TestBatchRoundTrip(t *testing.T) {
	spec := specification(t)
	rapid.Check(t, func(t *rapid.T) {
		epoch := rapid.Uint64().Draw(t, "epoch")
		txs := transactionsOf(epoch).Draw(t, "batch")
		prefix := []byte("before")
		raw := AppendBatch(slices.Clone(prefix), txs)
		if !bytes.HasPrefix(raw, prefix) {
			t.Fatalf("AppendBatch does not append")
		}
		raw = raw[len(prefix):]
		got, err := DecodeBatch(slices.Clone(raw), epoch)
		if err != nil || !reflect.DeepEqual(got, Batch{Transactions: txs}) {
			t.Fatalf("got %+v, %v; want %+v", got, err, txs)
		}
		spec.read(t, "Batch", raw)
		packed, codec, err := Pack(raw)
		if err != nil || len(packed) > len(raw) {
			t.Fatalf("packed %d bytes to %d: %v", len(raw), len(packed), err)
		}
		if unpacked, err := Unpack(packed, codec); err != nil || !bytes.Equal(unpacked, raw) {
			t.Fatalf("unpacked %x, %v; want %x", unpacked, err, raw)
		}
	})
}

func TestDecodedBatchIsItsOwn(t *testing.T) {
	_, b := numbered(1, 2, whole(2, Change{Table: item(), Op: Insert, After: Row{Of("1"), Of("name"), Of("2")}}))
	raw := AppendBatch(nil, b.Transactions)
	got, err := DecodeBatch(raw, 1767225600123)
	if err != nil {
		t.Fatal(err)
	}
	clear(raw)
	if !reflect.DeepEqual(got, b) {
		t.Errorf("the batch changed with the bytes that it was read from: %+v", got)
	}
}

func TestMessageRoundTrip(t *testing.T) {
	spec := specification(t)
	rapid.Check(t, func(t *rapid.T) {
		acked := rapid.Custom(func(t *rapid.T) Acknowledgement {
			return Acknowledgement{Office: offices().Draw(t, "office"), Pos: positions().Draw(t, "position")}
		})
		seq := rapid.Uint64Min(1).Draw(t, "seq")
		m := Message{
			Version: WireVersion, Kind: MessageKind(rapid.IntRange(1, 5).Draw(t, "kind")), Sender: offices().Draw(t, "sender"),
			Epoch: rapid.Uint64Min(1).Draw(t, "epoch"), Stream: rapid.String().Draw(t, "stream"), Prev: rapid.Uint64Max(seq-1).Draw(t, "prev"), Seq: seq,
			Part: rapid.Uint32().Draw(t, "part"), More: rapid.Bool().Draw(t, "more"), Continued: rapid.Bool().Draw(t, "continued"),
			Acknowledged: some(rapid.SliceOfN(acked, 0, 4).Draw(t, "acknowledged")), Codec: Codec(rapid.Uint8().Draw(t, "codec")),
			Body: rapid.SliceOfN(rapid.Byte(), 1, 200).Draw(t, "body"), KeyID: rapid.String().Draw(t, "key id"),
			Signature: some(rapid.SliceOf(rapid.Byte()).Draw(t, "signature")),
		}
		raw := AppendMessage(nil, &m)
		if got, err := DecodeMessage(raw); err != nil || !reflect.DeepEqual(got, m) {
			t.Fatalf("got %+v, %v; want %+v", got, err, m)
		}
		spec.read(t, "Message", raw)
	})
}

func TestControlRoundTrip(t *testing.T) {
	spec := specification(t)
	rapid.Check(t, func(t *rapid.T) {
		number, word := rapid.Uint64(), rapid.String()
		at := positions().Draw(t, "position")
		first, last := number.Draw(t, "first"), number.Draw(t, "last")
		c := rapid.SampledFrom([]Control{
			{Hello: &Hello{Progress: at, First: first, Last: last, Program: word.Draw(t, "program"), Engine: MySQL}},
			{Welcome: &Welcome{To: offices().Draw(t, "to"), Progress: at, First: first, Last: last, Expired: rapid.Bool().Draw(t, "expired"), Program: word.Draw(t, "program")}},
			{Marker: &Marker{Seen: at, After: last}},
			{Tail: &Tail{First: first, Last: last, Answers: number.Draw(t, "answers")}},
			{Resend: &Resend{To: offices().Draw(t, "to"), Epoch: first, From: last, Part: rapid.Uint32().Draw(t, "part"), Limit: number.Draw(t, "limit")}},
			{Definitions: &Definitions{To: offices().Draw(t, "to"), ID: first, Part: rapid.Uint32().Draw(t, "part"), More: rapid.Bool().Draw(t, "more"), Codec: CodecZstd, Body: rapid.SliceOfN(rapid.Byte(), 1, 20).Draw(t, "body")}},
		}).Draw(t, "control")
		raw := AppendControl(nil, &c)
		if got, err := DecodeControl(raw); err != nil || !reflect.DeepEqual(got, c) {
			t.Fatalf("got %+v, %v; want %+v", got, err, c)
		}
		spec.read(t, "Control", raw)
	})
}

// broken builds a batch by hand, with one table of two columns and one transaction with one change, and lets a test spoil a part.
type broken struct {
	column, table, row, change, tx []byte
}

func (b broken) batch() []byte {
	field := func(n protowire.Number, parts ...[]byte) []byte {
		body := slices.Concat(parts...)
		return protowire.AppendBytes(protowire.AppendTag(nil, n, protowire.BytesType), body)
	}
	column := slices.Concat(appendText(nil, 1, "c"), appendUint(nil, 2, uint64(KindText)))
	table := field(1, appendText(nil, 2, "t"), field(4, column), field(4, column, b.column), b.table)
	row := field(4, field(2, []byte("x")), field(2, []byte("y")), b.row)
	return slices.Concat(table, field(2, appendText(nil, 1, "north"), field(10, appendUint(nil, 1, uint64(Insert)), row, b.change), b.tx))
}

func TestDecodeBatchErrors(t *testing.T) {
	text := func(n protowire.Number, s string) []byte {
		return protowire.AppendString(protowire.AppendTag(nil, n, protowire.BytesType), s)
	}
	for name, c := range map[string]struct {
		broken broken
		want   error // nil: any
	}{
		"a kind of column":        {broken{column: appendUint(nil, 2, uint64(len(kindNames)))}, ErrUnknown},
		"no kind of column":       {broken{column: protowire.AppendVarint(protowire.AppendTag(nil, 2, protowire.VarintType), 0)}, ErrUnknown},
		"a kind that looks small": {broken{column: appendUint(nil, 2, 256+uint64(KindText))}, ErrUnknown},
		"a key of no column":      {broken{table: text(5, "\x02")}, nil},
		"a huge key":              {broken{table: text(5, "\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01")}, nil},
		"an unfinished key":       {broken{table: text(5, "\x80")}, nil},
		"a table too few":         {broken{change: appendUint(nil, 2, 1)}, nil},
		"an operation":            {broken{change: appendUint(nil, 1, 5)}, nil},
		"a large operation":       {broken{change: appendUint(nil, 1, 257)}, nil},
		"a value too many":        {broken{row: text(2, "z")}, nil},
		"states of fewer":         {broken{row: text(1, "\x02")}, nil},
		"states of more":          {broken{row: text(1, "\x02\x02\x02")}, nil},
		"a state":                 {broken{row: text(1, "\x02\x03")}, ErrUnknown},
		"a NULL with a value":     {broken{row: text(1, "\x02\x01")}, nil},
		"no values":               {broken{change: text(4, "")}, nil},
		"an image of nothing":     {broken{change: text(3, "")}, nil},
		"no name of an office":    {broken{tx: text(1, "No Office")}, nil},
		"an unfinished field":     {broken{tx: []byte{0x80}}, nil},
		"a length beyond the end": {broken{tx: []byte{0x52, 0x7f}}, nil},
		"a fixed64":               {broken{tx: []byte{0x09, 1, 2, 3, 4, 5, 6, 7, 8}}, ErrUnknown},
	} {
		_, err := DecodeBatch(c.broken.batch(), 1)
		if err == nil || c.want != nil && !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	b, err := DecodeBatch(broken{table: slices.Concat(appendUint(nil, 5, 1), appendUint(nil, 77, 1))}.batch(), 1)
	if err != nil || !reflect.DeepEqual(b.Transactions[0].Changes[0].Table.Key, []int{1}) {
		t.Errorf("a key that is not packed, and a new field: %+v, %v", b, err)
	}
}

func TestUnpackErrors(t *testing.T) {
	body := bytes.Repeat([]byte("squeeze "), 100)
	packed, codec, err := Pack(body)
	if err != nil || codec != CodecZstd {
		t.Fatal(codec, err)
	}
	if _, err := Unpack(packed, CodecZstd+1); !errors.Is(err, ErrUnknown) {
		t.Errorf("an unknown codec: %v", err)
	}
	for n := range packed {
		if got, err := Unpack(packed[:n], codec); err == nil && n > 0 {
			t.Errorf("cut to %d of %d bytes: %q", n, len(packed), got)
		}
	}
	for at := range packed {
		spoilt := slices.Clone(packed)
		spoilt[at] ^= 0x10
		if got, err := Unpack(spoilt, codec); err == nil && !bytes.Equal(got, body) {
			t.Errorf("another byte at %d is not noticed", at)
		}
	}
	bomb, codec, err := Pack(make([]byte, MaxBody+1))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Unpack(bomb, codec); err == nil {
		t.Error("a body above the bound was unpacked")
	}
}

func seeds(f *testing.F, add func(m Message, raw, body []byte)) {
	files, err := filepath.Glob(goldens + "/*.bin")
	if err != nil || len(files) == 0 {
		f.Fatal(files, err)
	}
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		m, err := DecodeMessage(raw)
		if err != nil {
			f.Fatal(err)
		}
		body, err := Unpack(m.Body, m.Codec)
		if err != nil {
			f.Fatal(err)
		}
		add(m, raw, body)
	}
}

// What can be read at all is read the same again after it was written.
func FuzzDecodeMessage(f *testing.F) {
	seeds(f, func(_ Message, raw, _ []byte) {
		f.Add(raw)
		f.Add(raw[:len(raw)/2])
	})
	f.Fuzz(func(t *testing.T, raw []byte) {
		m, err := DecodeMessage(raw)
		switch {
		case errors.Is(err, ErrNotOurs), errors.Is(err, ErrUnknown) && m.Sender != "":
			return
		case err != nil:
			t.Fatalf("neither ours nor not: %v", err)
		}
		again, err := DecodeMessage(AppendMessage(nil, &m))
		if m.Body, m.Signature, again.Body, again.Signature = some(m.Body), some(m.Signature), some(again.Body), some(again.Signature); err != nil || !reflect.DeepEqual(again, m) {
			t.Fatalf("%+v, %v; it was %+v", again, err, m)
		}
	})
}

func FuzzDecodeBatch(f *testing.F) {
	seeds(f, func(m Message, _, body []byte) {
		if m.Kind != MessageControl {
			f.Add(body)
			f.Add(body[:len(body)/2])
		}
	})
	f.Fuzz(func(t *testing.T, raw []byte) {
		b, err := DecodeBatch(raw, 7)
		if err != nil {
			return
		}
		for i := range b.Transactions {
			for j := range b.Transactions[i].Changes {
				if err := b.Transactions[i].Changes[j].Validate(); err != nil {
					t.Fatal(err)
				}
			}
		}
		again, err := DecodeBatch(AppendBatch(nil, b.Transactions), 7)
		if err != nil || !reflect.DeepEqual(again.Transactions, b.Transactions) {
			t.Fatalf("%+v, %v; it was %+v", again, err, b)
		}
	})
}

func FuzzDecodeControl(f *testing.F) {
	seeds(f, func(m Message, _, body []byte) {
		if m.Kind == MessageControl {
			f.Add(body)
			f.Add(body[:len(body)/2])
		}
	})
	f.Fuzz(func(t *testing.T, raw []byte) {
		c, err := DecodeControl(raw)
		if err != nil {
			return
		}
		first := AppendControl(nil, &c) // of a body that says several things, the first
		again, err := DecodeControl(first)
		if err != nil || !bytes.Equal(AppendControl(nil, &again), first) {
			t.Fatalf("%+v, %v; it was %+v", again, err, c)
		}
	})
}

// Packed keeps the order of stamps, and all of a stamp that an office gives.
func TestStampsPack(t *testing.T) {
	stamps := rapid.Custom(func(t *rapid.T) Stamp {
		return Stamp{Millis: rapid.Int64Range(0, 1<<44-1).Draw(t, "millis"), Counter: rapid.Uint32Range(0, MaxCounter).Draw(t, "counter")}
	})
	rapid.Check(t, func(t *rapid.T) {
		a, b := stamps.Draw(t, "a"), stamps.Draw(t, "b")
		if UnpackStamp(a.Packed()) != a {
			t.Fatalf("%v comes back as %v", a, UnpackStamp(a.Packed()))
		}
		if a.Less(b) != (a.Packed() < b.Packed()) {
			t.Fatalf("%v and %v change places", a, b)
		}
		if next := a.Next(time.UnixMilli(b.Millis)); !a.Less(next) || next.Millis < b.Millis || next.Counter > MaxCounter {
			t.Fatalf("%v is followed by %v", a, next)
		}
	})
}
