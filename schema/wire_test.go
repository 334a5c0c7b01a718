package schema

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/bufbuild/protocompile"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"
)

var update = flag.Bool("update", false, "write testdata/wire anew")

// goldens is where messages of the wire form lie, byte for byte, with what wire.proto reads in them beside. A file is never
// changed once a version was released: an office that was away for a month sends such bytes.
const goldens = "../testdata/wire"

var committed = time.Date(2026, 3, 4, 5, 6, 7, 890123000, time.UTC)

// shop has a column of every kind and every attribute.
func shop() *Table {
	t := Table{TableName: TableName{Schema: "shop", Name: "orders"}, Engine: MariaDB, Key: []int{2, 0}}
	for k := KindBool; k.Valid(); k++ {
		t.Columns = append(t.Columns, Column{Name: k.String(), Kind: k, Native: "type of " + k.String(), Nullable: k != KindInt})
	}
	t.Columns[1].Size, t.Columns[1].Unsigned, t.Columns[1].Identity = 64, true, true
	t.Columns[2].Size, t.Columns[2].Scale = 12, 2
	t.Columns[4].Size, t.Columns[4].Fixed = 200, true
	t.Columns[10].Scale = -1
	t.Columns[15].Labels, t.Columns[16].Labels = []string{"small", "", "größer"}, []string{"a", "b"}
	t.Columns[18].Generated = true
	return NewTable(t)
}

func item() *Table {
	return NewTable(Table{TableName: TableName{Name: "item"}, Engine: Postgres, Key: []int{0}, Columns: []Column{
		{Name: "id", Kind: KindInt, Size: 32, Native: "integer"},
		{Name: "name", Kind: KindText, Nullable: true, Native: "text"},
		{Name: "stock", Kind: KindInt, Size: 32, Nullable: true, Native: "integer"},
	}})
}

func wide(t *Table) Row {
	r := make(Row, len(t.Columns))
	for i := range r {
		r[i] = Of("value of " + t.Columns[i].Name)
	}
	r[4], r[5], r[6], r[18] = Of(""), Of("\x00\xff\xfe not UTF-8"), NullValue(), Value{}
	return r
}

func numbered(prev, seq uint64, txs ...Transaction) (Message, Batch) {
	return Message{
		Version: WireVersion, Kind: MessageTransaction, Sender: "north", Epoch: 1767225600123, Stream: StreamAll, Prev: prev, Seq: seq,
		Body: AppendBatch(nil, txs),
	}, Batch{Transactions: txs}
}

func whole(seq uint64, changes ...Change) Transaction {
	at := Position{Epoch: 1767225600123, Seq: seq}
	return Transaction{
		Origin: "north", OriginPos: at, Pos: at, Stamp: Stamp{Millis: committed.UnixMilli(), Counter: 3}, Commit: committed,
		Seen: Position{Epoch: 1767225600001, Seq: 17}, Changes: changes, Last: true,
	}
}

// sample is a message, and what its body says.
type sample struct {
	message Message
	batch   Batch
	control *Control
	chunk   *Chunk
}

func samples(t *testing.T) map[string]sample {
	t.Helper()
	shop, item := shop(), item()
	id := func(id string) Row { return Row{Of(id), {}, {}} }
	all := map[string]sample{}
	add := func(name string, m Message, b Batch) { all[name] = sample{message: m, batch: b} }

	m, b := numbered(41, 42, whole(42, Change{Table: shop, Op: Insert, After: wide(shop)}))
	add("every-kind", m, b)
	m, b = numbered(41, 42, whole(42,
		Change{Table: item, Op: Insert, After: Row{Of("1"), NullValue(), Of("5")}},
		Change{Table: item, Op: Update, After: Row{Of("1"), {}, Of("4")}},
		Change{Table: item, Op: Update, Before: id("1"), After: Row{Of("2"), NullValue(), Of("4")}},
		Change{Table: item, Op: Update, Before: Row{Of("2"), NullValue(), Of("4")}, After: Row{Of("2"), Of("x"), Of("4")}},
		Change{Table: shop, Op: Delete, Before: wide(shop)},
		Change{Table: item, Op: Delete, Before: id("2")},
		Change{Table: item, Op: Truncate},
	))
	add("every-operation", m, b)
	changed := stock().with(func(d *Definition) { d.Columns[2].Name, d.Columns[1].Size, d.Comment = "count", 30, "größer" })
	m, b = numbered(41, 42, whole(42,
		Change{Table: changed.Table, Op: Define, Definition: &DefinitionChange{Was: stock(), Is: changed, Statement: "ALTER TABLE stock …"}},
		Change{Table: item, Op: Define, Definition: &DefinitionChange{Was: &Definition{Table: item, Details: make([]ColumnDetail, 3)}}},
	))
	add("definition", m, b)
	forwarded := whole(44, Change{Table: item, Op: Insert, After: Row{Of("9"), Of("of south"), NullValue()}})
	forwarded.Origin, forwarded.OriginPos, forwarded.Seen = "south", Position{Epoch: 3, Seq: 4}, Position{}
	m, b = numbered(42, 45, whole(43, Change{Table: item, Op: Delete, Before: id("3")}), forwarded, whole(45))
	m.Acknowledged = []Acknowledgement{{Office: "east", Pos: Position{Epoch: 1, Seq: 2}}, {Office: "south", Pos: Position{Epoch: 3, Seq: 4}}}
	add("group", m, b)
	part := whole(46, Change{Table: item, Op: Delete, Before: id("4")})
	part.Part, part.Last = 300, false
	m, b = numbered(45, 46, part)
	m.Part, m.More = 301, true
	add("part", m, b)
	m, b = numbered(46, 47, whole(47, Change{Table: item, Op: Insert, After: Row{Of("5"), Of(strings.Repeat("again and ", 200)), Of("1")}}))
	var err error
	if m.Body, m.Codec, err = Pack(m.Body); err != nil || m.Codec != CodecZstd {
		t.Fatal(m.Codec, err)
	}
	add("compressed", m, b)
	old := whole(1, Change{Table: item, Op: Delete, Before: id("-1")})
	old.Stamp, old.Commit = Stamp{Millis: -1}, time.Date(1969, 12, 31, 23, 59, 59, 0, time.UTC)
	m, b = numbered(0, 1, old)
	m.KeyID, m.Signature = "key 1", []byte{1, 0, 255}
	add("signed", m, b)
	for name, c := range controls() {
		all["control-"+name] = sample{message: Message{Version: WireVersion, Kind: MessageControl, Sender: "north", Epoch: 5, Body: AppendControl(nil, c)}, control: c}
	}
	chunk := &Chunk{
		To: "north", ID: 7, Part: 2, Last: true, Next: []byte("\x02\x011"), Done: true, Error: "why not",
		Tables: []TableSize{{Table: item, Rows: 12, Bytes: 300}}, Hashes: []uint64{1, 1 << 63},
		Moving: []uint32{1, 300}, Disputed: []uint32{0, 2},
		Rows: AppendBatch(nil, []Transaction{{Origin: "head", Last: true, Changes: []Change{{Table: item, Op: Delete, Before: id("4")}}}}),
	}
	all["chunk"] = sample{message: Message{Version: WireVersion, Kind: MessageChunk, Sender: "hq", Epoch: 5, Stream: StreamAll, Prev: 8, Seq: 8, Body: AppendChunk(nil, chunk)}, chunk: chunk}
	return all
}

func controls() map[string]*Control {
	return map[string]*Control{
		"hello":                {Hello: &Hello{Progress: Position{Epoch: 7, Seq: 8}, First: 1, Last: 9, Program: "v1.2.3", Engine: MariaDB}},
		"welcome":              {Welcome: &Welcome{To: "north", Progress: Position{Epoch: 7, Seq: 8}, First: 1, Last: 9, Expired: true, Program: "v1.2.3"}},
		"marker":               {Marker: &Marker{Seen: Position{Epoch: 7, Seq: 8}, After: 9}},
		"tail":                 {Tail: &Tail{First: 1, Last: 9, Answers: 3}},
		"resend":               {Resend: &Resend{To: "north", Epoch: 7, From: 8, Part: 3, Limit: 1 << 20}},
		"welcome-acknowledged": {Welcome: &Welcome{To: "north", First: 1, Last: 9, Restored: true, Acknowledged: Position{Epoch: 7, Seq: 6}}},
		"leave":                {Leave: &Leave{}},
		"definitions":          {Definitions: &Definitions{To: "north", ID: 7, Part: 3, More: true, Codec: CodecZstd, Body: []byte("{}")}},
	}
}

func TestGoldens(t *testing.T) {
	spec := specification(t)
	all := samples(t)
	if *update {
		if err := os.MkdirAll(goldens, 0o755); err != nil {
			t.Fatal(err)
		}
		for name, s := range all {
			golden(t, name+".bin", AppendMessage(nil, &s.message))
		}
	}
	files, err := filepath.Glob(goldens + "/*.bin")
	if err != nil || len(files) != len(all) {
		t.Fatalf("%d golden files for %d samples: %v", len(files), len(all), err)
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".bin")
		t.Run(name, func(t *testing.T) {
			raw, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			want, known := all[name]
			if !known {
				t.Fatal("no sample has this name")
			}
			got, err := DecodeMessage(raw)
			if err != nil {
				t.Fatal(err)
			}
			body := checkBody(t, got, want)
			envelope := want.message
			envelope.Body = got.Body // how zstd packs may change with its version
			if !reflect.DeepEqual(got, envelope) {
				t.Errorf("the envelope is %+v, want %+v", got, envelope)
			}
			if got := AppendMessage(nil, &got); !bytes.Equal(got, raw) {
				t.Errorf("encodes as\n%x, not\n%x", got, raw)
			}
			twin := spec.dump(t, "Message", raw) + "body:\n" + spec.dump(t, bodyOf(got.Kind), body)
			if golden := golden(t, name+".txt", []byte(twin)); twin != string(golden) {
				t.Errorf("wire.proto reads\n%s\nwant\n%s", twin, golden)
			}
		})
	}
}

// checkBody compares what the body says, and returns it unpacked.
func checkBody(t *testing.T, m Message, want sample) []byte {
	t.Helper()
	body, err := Unpack(m.Body, m.Codec)
	if err != nil {
		t.Fatal(err)
	}
	if want.control != nil {
		got, err := DecodeControl(body)
		if err != nil || !reflect.DeepEqual(&got, want.control) {
			t.Errorf("control %+v, %v; want %+v", got, err, want.control)
		}
		if again := AppendControl(nil, &got); !bytes.Equal(again, body) {
			t.Errorf("the body encodes as\n%x, not\n%x", again, body)
		}
		return body
	}
	if want.chunk != nil {
		got, err := DecodeChunk(body)
		if err != nil || !reflect.DeepEqual(got, want.chunk) {
			t.Errorf("chunk %+v, %v; want %+v", got, err, want.chunk)
		}
		if again := AppendChunk(nil, got); !bytes.Equal(again, body) {
			t.Errorf("the body encodes as\n%x, not\n%x", again, body)
		}
		return body
	}
	got, err := DecodeBatch(body, m.Epoch)
	if err != nil || !reflect.DeepEqual(got, want.batch) {
		t.Errorf("batch %+v, %v; want %+v", got, err, want.batch)
	}
	if again := AppendBatch(nil, want.batch.Transactions); !bytes.Equal(again, body) {
		t.Errorf("the body encodes as\n%x, not\n%x", again, body)
	}
	return body
}

func bodyOf(kind MessageKind) protoreflect.Name {
	switch kind {
	case MessageControl:
		return "Control"
	case MessageChunk:
		return "Chunk"
	}
	return "Batch"
}

// golden returns the file, or with -update writes it first.
func golden(t *testing.T, name string, content []byte) []byte {
	t.Helper()
	file := filepath.Join(goldens, name)
	if *update {
		if err := os.WriteFile(file, content, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	have, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return have
}

// protoSpec is wire.proto, compiled.
type protoSpec struct {
	messages protoreflect.MessageDescriptors
}

func specification(t testing.TB) protoSpec {
	t.Helper()
	compiler := protocompile.Compiler{Resolver: &protocompile.SourceResolver{}}
	files, err := compiler.Compile(t.Context(), "wire.proto")
	if err != nil {
		t.Fatal(err)
	}
	return protoSpec{files[0].Messages()}
}

// fataler is what testing.T and rapid.T share.
type fataler interface {
	Helper()
	Fatalf(format string, args ...any)
}

// read parses raw as the specification says: nothing in it may be unknown, and it must be written as the specification's
// own encoder writes it.
func (s protoSpec) read(t fataler, name protoreflect.Name, raw []byte) *dynamicpb.Message {
	t.Helper()
	m := dynamicpb.NewMessage(s.messages.ByName(name))
	if err := proto.Unmarshal(raw, m); err != nil {
		t.Fatalf("wire.proto cannot read %s: %v", name, err)
	}
	again, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil || !bytes.Equal(again, raw) {
		t.Fatalf("wire.proto writes %s as\n%x, not\n%x, %v", name, again, raw, err)
	}
	unknown(t, m)
	return m
}

func unknown(t fataler, m protoreflect.Message) {
	t.Helper()
	if len(m.GetUnknown()) > 0 {
		t.Fatalf("%s has fields that wire.proto does not know: %x", m.Descriptor().Name(), m.GetUnknown())
	}
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case f.Message() == nil:
		case f.IsList():
			for i := range v.List().Len() {
				unknown(t, v.List().Get(i).Message())
			}
		default:
			unknown(t, v.Message())
		}
		return true
	})
}

// dump is a message for people, in words of the specification: its text form, which protobuf's own package takes care to
// write differently each time.
func (s protoSpec) dump(t fataler, name protoreflect.Name, raw []byte) string {
	t.Helper()
	var b strings.Builder
	dump(&b, s.read(t, name, raw), "  ")
	return b.String()
}

func dump(b *strings.Builder, m protoreflect.Message, indent string) {
	var set []protoreflect.FieldDescriptor
	m.Range(func(f protoreflect.FieldDescriptor, _ protoreflect.Value) bool {
		set = append(set, f)
		return true
	})
	slices.SortFunc(set, func(a, b protoreflect.FieldDescriptor) int { return int(a.Number() - b.Number()) })
	for _, f := range set {
		values := []protoreflect.Value{m.Get(f)}
		if f.IsList() {
			values = nil
			for i := range m.Get(f).List().Len() {
				values = append(values, m.Get(f).List().Get(i))
			}
		}
		for _, v := range values {
			switch {
			case f.Message() != nil:
				fmt.Fprintf(b, "%s%s:\n", indent, f.Name())
				dump(b, v.Message(), indent+"  ")
			case f.Kind() == protoreflect.BytesKind && f.FullName() == "cdc.Message.body":
				fmt.Fprintf(b, "%s%s: %d bytes\n", indent, f.Name(), len(v.Bytes()))
			case f.Kind() == protoreflect.BytesKind:
				fmt.Fprintf(b, "%s%s: %q\n", indent, f.Name(), v.Bytes())
			case f.Kind() == protoreflect.StringKind:
				fmt.Fprintf(b, "%s%s: %q\n", indent, f.Name(), v.String())
			default:
				fmt.Fprintf(b, "%s%s: %v\n", indent, f.Name(), v.Interface())
			}
		}
	}
}

// A message that lost its end, or was cut anywhere else, is never taken for a shorter one.
func TestTruncatedMessageIsNotOurs(t *testing.T) {
	for name, s := range samples(t) {
		if name == "signed" || s.control != nil {
			continue // the body is not the last; or it may be empty, and says nothing then
		}
		raw := AppendMessage(nil, &s.message)
		for n := range raw {
			if _, err := DecodeMessage(raw[:n]); !errors.Is(err, ErrNotOurs) {
				t.Fatalf("%s cut to %d of %d bytes: %v", name, n, len(raw), err)
			}
		}
	}
}

func TestDecodeMessageErrors(t *testing.T) {
	good := func() Message {
		m, _ := numbered(1, 2, whole(2))
		return m
	}
	for name, c := range map[string]struct {
		change func(*Message)
		want   error
	}{
		"good":                  {func(*Message) {}, nil},
		"no version":            {func(m *Message) { m.Version = 0 }, ErrNotOurs},
		"a later version":       {func(m *Message) { m.Version = WireVersion + 1 }, ErrUnknown},
		"no sender":             {func(m *Message) { m.Sender = "" }, ErrNotOurs},
		"no name of an office":  {func(m *Message) { m.Sender = "North" }, ErrNotOurs},
		"no kind":               {func(m *Message) { m.Kind = 0 }, ErrUnknown},
		"a later kind":          {func(m *Message) { m.Kind = MessageControl + 1 }, ErrUnknown},
		"an empty chain":        {func(m *Message) { m.Prev = m.Seq }, ErrNotOurs},
		"a chain backwards":     {func(m *Message) { m.Prev = m.Seq + 1 }, ErrNotOurs},
		"no epoch":              {func(m *Message) { m.Epoch = 0 }, ErrNotOurs},
		"no body":               {func(m *Message) { m.Body = nil }, ErrNotOurs},
		"control has no chain":  {func(m *Message) { m.Kind, m.Prev, m.Seq, m.Epoch, m.Body = MessageControl, 0, 0, 0, nil }, nil},
		"resolutions are known": {func(m *Message) { m.Kind = MessageResolution }, nil},
	} {
		t.Run(name, func(t *testing.T) {
			m := good()
			c.change(&m)
			got, err := DecodeMessage(AppendMessage(nil, &m))
			if !errors.Is(err, c.want) || errors.Is(err, ErrUnknown) && got.Sender != "north" {
				t.Errorf("got %v of %q, want %v", err, got.Sender, c.want)
			}
		})
	}
	for name, raw := range map[string][]byte{
		"nothing": nil, "text": []byte("hello, is this a queue?"), "JSON": []byte(`{"id": 1}`), "zeros": make([]byte, 100),
		"a group": {0x0b, 0x0c}, "an unfinished field": {0x08},
	} {
		if _, err := DecodeMessage(raw); !errors.Is(err, ErrNotOurs) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Numbers of a newer program must not look like ours because they are cut to our width; and what it adds is passed over.
func TestNewerNumbers(t *testing.T) {
	m, _ := numbered(1, 2, whole(2))
	raw := AppendMessage(nil, &m)
	with := func(fields ...[]byte) []byte { return slices.Concat(append([][]byte{raw}, fields...)...) }
	number := func(n protowire.Number, v uint64) []byte { return appendUint(nil, n, v) }
	if _, err := DecodeMessage(with(number(2, 256+1))); !errors.Is(err, ErrUnknown) {
		t.Errorf("kind 257: %v", err)
	}
	if _, err := DecodeMessage(with(number(1, 1<<32+1))); !errors.Is(err, ErrUnknown) {
		t.Errorf("version 2³²+1: %v", err)
	}
	got, err := DecodeMessage(with(number(12, 256)))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Unpack(got.Body, got.Codec); !errors.Is(err, ErrUnknown) {
		t.Errorf("codec 256: %v", err)
	}
	added := with(number(99, 7), appendText(nil, 100, "new"), []byte{0xa5, 0x1f, 1, 2, 3, 4}) // the last: a fixed32
	if got, err := DecodeMessage(added); err != nil || !reflect.DeepEqual(got, m) {
		t.Errorf("with more fields: %+v, %v", got, err)
	}
}
