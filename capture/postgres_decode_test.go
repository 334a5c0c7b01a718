package capture

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5/pgtype"

	"cdc-sidecar/catalog"
	"cdc-sidecar/schema"
)

// message writes pgoutput messages.
type message []byte

func (m message) u16(v int) message       { return binary.BigEndian.AppendUint16(m, uint16(v)) }
func (m message) u32(v int) message       { return binary.BigEndian.AppendUint32(m, uint32(v)) }
func (m message) u64(v int) message       { return binary.BigEndian.AppendUint64(m, uint64(v)) }
func (m message) text(s string) message   { return append(append(m, s...), 0) }
func (m message) raw(b ...byte) message   { return append(m, b...) }
func (m message) row(v ...string) message { return m.u16(len(v)).values(v) }

// values writes a row; "\x00" stands for NULL, "\x01" for a value that was not touched.
func (m message) values(values []string) message {
	for _, v := range values {
		switch v {
		case null:
			m = m.raw('n')
		case untouched:
			m = m.raw('u')
		default:
			m = append(m.raw('t').u32(len(v)), v...)
		}
	}
	return m
}

const (
	null      = "\x00"
	untouched = "\x01"
)

func begin() message         { return message{'B'}.u64(100).u64(0).u32(7) }
func commit(lsn int) message { return message{'C', 0}.u64(lsn - 8).u64(lsn).u64(0) }
func insert(oid int, values ...string) message {
	return message{'I'}.u32(oid).raw('N').row(values...)
}

// relation announces a table of text columns; those marked with * identify a row.
func relation(oid int, space, name string, identity byte, columns ...string) message {
	m := message{'R'}.u32(oid).text(space).text(name).raw(identity).u16(len(columns))
	for _, c := range columns {
		plain, isKey := strings.CutPrefix(c, "*")
		flag := byte(0)
		if isKey {
			flag = 1
		}
		m = m.raw(flag).text(plain).u32(pgtype.TextOID).u32(-1)
	}
	return m
}

// textTable defines a relation without a server: every column is text.
func textTable(rel catalog.Relation) (*schema.Table, error) {
	t := schema.Table{TableName: catalog.PostgresName(rel.Schema, rel.Name, "public"), Engine: schema.Postgres}
	for i, c := range rel.Columns {
		t.Columns = append(t.Columns, schema.Column{Name: c.Name, Kind: schema.KindText})
		if c.Identity && (!rel.Full || i == 0) {
			t.Key = append(t.Key, i)
		}
	}
	return schema.NewTable(t), nil
}

func newDecoder(role schema.Role) *postgresDecoder {
	return &postgresDecoder{
		assembler: assembler{office: "north", role: role},
		send:      func(n schema.TableName) bool { return n.Name != "private" },
		source:    func(lsn uint64) string { return fmt.Sprint(lsn) },
		define:    textTable,
		relations: map[uint32]*postgresRelation{},
	}
}

// decodeAll gives what the messages decode to, one line for each transaction and change.
func decodeAll(t *testing.T, d *postgresDecoder, messages ...message) []string {
	t.Helper()
	for i, m := range messages {
		if err := d.decode(m); err != nil {
			t.Fatalf("message %d (%c): %v", i, m[0], err)
		}
	}
	var lines []string
	for _, tx := range d.take() {
		line := fmt.Sprintf("%q %d/%d part %d last %v source %q", tx.Origin, tx.OriginPos.Epoch, tx.OriginPos.Seq, tx.Part, tx.Last, tx.Source)
		if !tx.Seen.IsZero() {
			line += " seen " + tx.Seen.String()
		}
		lines = append(lines, line)
		for i := range tx.Changes {
			c := &tx.Changes[i]
			lines = append(lines, fmt.Sprintf("  %s %s %v → %v", c.Op, c.Table.TableName, c.Before, c.After))
		}
	}
	return lines
}

var (
	orders   = relation(1, "public", "orders", 'd', "*id", "a", "b")
	full     = relation(2, "shop", "whole", 'f', "*id", "*a")
	private  = relation(3, "public", "private", 'd', "*id")
	progress = relation(9, schema.OwnSchema, schema.ProgressTable, 'd', "*office", "*origin", "epoch", "seq", "stamp_millis", "stamp_counter", "committed", "waits", "chunks", "part")
)

func applies(office, origin string, seq string) message {
	return message{'U'}.u32(9).raw('N').row(office, origin, "5", seq, "1000", "2", "3000000", "0", "0", "0")
}

func TestDecodeRows(t *testing.T) {
	d := newDecoder(schema.Branch)
	got := decodeAll(t, d, begin(), orders, full, private,
		insert(1, "1", "x", null),
		message{'U'}.u32(1).raw('N').row("1", "y", untouched),
		message{'U'}.u32(1).raw('K').row("1", null, null).raw('N').row("2", "y", untouched),
		message{'U'}.u32(2).raw('O').row("7", "old").raw('N').row("7", "new"),
		message{'D'}.u32(1).raw('K').row("2", null, null),
		message{'D'}.u32(2).raw('O').row("7", "new"),
		insert(3, "1"),
		message{'T'}.u32(3).raw(1).u32(2).u32(3).u32(1),
		message{'O'}.u64(1).text("some origin"), message{'Y'}.u32(1).text("").text("mood"),
		commit(500))
	want := []string{
		`"north" 0/0 part 0 last true source "500"`,
		`  insert orders [] → ["1" "x" NULL]`,
		`  update orders [] → ["1" "y" -]`,
		`  update orders ["1" - -] → ["2" "y" -]`,
		`  update shop.whole ["7" "old"] → ["7" "new"]`,
		`  delete orders ["2" - -] → []`,
		`  delete shop.whole ["7" "new"] → []`,
		`  truncate shop.whole [] → []`,
		`  truncate orders [] → []`,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestDecodeNothingToSend(t *testing.T) {
	d := newDecoder(schema.Head)
	got := decodeAll(t, d, begin(), commit(100), begin(), private, insert(3, "1"), commit(200))
	d.idle(300)
	if err := d.decode(begin()); err != nil {
		t.Fatal(err)
	}
	d.idle(400) // in the middle of a transaction: not a place to restart from
	got = append(got, decodeAll(t, d)...)
	want := []string{`"" 0/0 part 0 last true source "100"`, `"" 0/0 part 0 last true source "200"`, `"" 0/0 part 0 last true source "300"`}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestDecodeApplies(t *testing.T) {
	for _, test := range []struct {
		name     string
		role     schema.Role
		messages []message
		want     []string
	}{
		{
			"a branch sends nothing of an apply, but that it saw it", schema.Branch,
			[]message{applies("north", "head", "41"), insert(1, "1", "x", "y"), applies("north", "head", "42"), insert(1, "2", "x", "y")},
			[]string{`"" 0/0 part 0 last true source "500" seen 5/42`},
		},
		{
			"the head sends it on as its origin's", schema.Head,
			[]message{applies("north", "south", "41"), insert(1, "1", "x", "y")},
			[]string{`"south" 5/41 part 0 last true source "500"`, `  insert orders [] → ["1" "x" "y"]`},
		},
		{
			"a group goes on one by one; only the last is a place to restart from; one without changes is an acknowledgement", schema.Head,
			[]message{applies("north", "south", "41"), insert(1, "1", "x", "y"), applies("north", "south", "42"), applies("north", "south", "43"), insert(1, "3", "x", "y")},
			[]string{
				`"south" 5/41 part 0 last true source ""`, `  insert orders [] → ["1" "x" "y"]`,
				`"south" 5/42 part 0 last true source ""`,
				`"south" 5/43 part 0 last true source "500"`, `  insert orders [] → ["3" "x" "y"]`,
			},
		},
		{
			"an apply of another office is not ours to send", schema.Head,
			[]message{applies("east", "head", "41"), insert(1, "1", "x", "y"), applies("north", "south", "42")},
			[]string{`"" 0/0 part 0 last true source "500"`},
		},
		{
			"an application that touches the progress table in passing stays an application", schema.Branch,
			[]message{insert(1, "1", "x", "y"), applies("north", "head", "42")},
			[]string{`"north" 0/0 part 0 last true source "500"`, `  insert orders [] → ["1" "x" "y"]`},
		},
		{
			"a first progress row is administration", schema.Head,
			[]message{insert(9, "north", "south", "5", "0", "0", "0", "0", "0", "0", "0")},
			[]string{`"" 0/0 part 0 last true source "500"`},
		},
		{
			"so is a deleted one", schema.Head,
			[]message{message{'D'}.u32(9).raw('K').row("north", "south", null, null, null, null, null, null, null, null)},
			[]string{`"" 0/0 part 0 last true source "500"`},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			messages := append([]message{begin(), orders, progress}, test.messages...)
			got := decodeAll(t, newDecoder(test.role), append(messages, commit(500))...)
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestDecodeForwardedKeepsItsStamp(t *testing.T) {
	d := newDecoder(schema.Head)
	decodeAll(t, d)
	for _, m := range []message{begin(), progress, applies("north", "south", "41"), commit(500)} {
		if err := d.decode(m); err != nil {
			t.Fatal(err)
		}
	}
	tx := d.take()[0]
	if want := (schema.Stamp{Millis: 1000, Counter: 2}); tx.Stamp != want || tx.Commit.UnixMicro() != 3_000_000 {
		t.Errorf("stamp %v, commit %v", tx.Stamp, tx.Commit)
	}
}

func TestDecodeParts(t *testing.T) {
	const rows = 5000
	d := newDecoder(schema.Head)
	big := strings.Repeat("x", 1000)
	for _, m := range []message{begin(), orders} {
		if err := d.decode(m); err != nil {
			t.Fatal(err)
		}
	}
	for i := range rows {
		if err := d.decode(insert(1, fmt.Sprint(i), big, null)); err != nil {
			t.Fatal(err)
		}
	}
	if err := d.decode(insert(1, "huge", strings.Repeat("y", 3*partBytes), null)); err != nil {
		t.Fatal(err)
	}
	if err := d.decode(commit(500)); err != nil {
		t.Fatal(err)
	}
	parts, n := d.take(), 0
	for i, tx := range parts {
		last := i == len(parts)-1
		if tx.Part != i || tx.Last != last || (tx.Source != "") != last || tx.Origin != "north" {
			t.Fatalf("part %d of %d: part %d, last %v, source %q", i, len(parts), tx.Part, tx.Last, tx.Source)
		}
		if tx.Bytes() > partBytes+64 && len(tx.Changes) > 1 {
			t.Errorf("part %d has %d bytes in %d changes", i, tx.Bytes(), len(tx.Changes))
		}
		for _, c := range tx.Changes {
			if want := fmt.Sprint(n); n < rows && c.After[0].Text() != want {
				t.Fatalf("change %d is of row %s", n, c.After[0])
			}
			n++
		}
	}
	if n != rows+1 || len(parts) < rows*1000/partBytes {
		t.Errorf("%d changes in %d parts", n, len(parts))
	}
}

func TestDecodeBroken(t *testing.T) {
	for name, messages := range map[string][]message{
		"empty":                       {{}},
		"unknown kind":                {{'?'}},
		"cut short":                   {begin(), orders, insert(1, "1", "x", "y")[:12]},
		"row before begin":            {orders, insert(1, "1", "x", "y")},
		"commit before begin":         {commit(1)},
		"begin twice":                 {begin(), begin()},
		"table not announced":         {begin(), insert(77, "1")},
		"another number of columns":   {begin(), orders, insert(1, "1")},
		"binary value":                {begin(), orders, message{'I'}.u32(1).raw('N').u16(3).raw('b').u32(0).raw('n', 'n')},
		"delete without an old row":   {begin(), orders, message{'D'}.u32(1).raw('N').row("1", "2", "3")},
		"progress row with no seq":    {begin(), progress, applies("north", "south", null)},
		"progress table is another":   {begin(), relation(9, schema.OwnSchema, schema.ProgressTable, 'd', "*office"), insert(9, "north")},
		"length beyond the message":   {begin(), orders, message{'I'}.u32(1).raw('N').u16(3).raw('t').u32(1 << 30)},
		"captured table lost its key": {begin(), relation(4, "public", "keyless", 'd', "a"), insert(4, "1")},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDecoder(schema.Head)
			var err error
			for _, m := range messages {
				if err != nil {
					t.Fatalf("an earlier message failed: %v", err)
				}
				err = d.decode(m)
			}
			var broken *schema.BrokenError
			if !errors.As(err, &broken) {
				t.Errorf("got %v, want a BrokenError", err)
			}
		})
	}
}

// FuzzPostgresDecode: whatever comes, the decoder neither panics nor makes more of it than there is.
func FuzzPostgresDecode(f *testing.F) {
	seed := func(messages ...message) {
		var b []byte
		for _, m := range messages {
			b = append(binary.BigEndian.AppendUint16(b, uint16(len(m))), m...)
		}
		f.Add(b)
	}
	seed(begin(), orders, insert(1, "1", "x", null), commit(500))
	seed(begin(), orders, message{'U'}.u32(1).raw('K').row("1", null, null).raw('N').row("2", "y", untouched), commit(500))
	seed(begin(), full, message{'D'}.u32(2).raw('O').row("7", "new"), message{'T'}.u32(1).raw(0).u32(2), commit(500))
	seed(begin(), progress, applies("north", "south", "41"), orders, insert(1, "1", "x", null), applies("north", "south", "42"), commit(500))
	seed(message{'M', 1}.u64(5).text("prefix").u32(2).raw('h', 'i'), message{'O'}.u64(1).text("x"))
	f.Fuzz(func(t *testing.T, b []byte) {
		d := newDecoder(schema.Head)
		total := len(b)
		for len(b) >= 2 {
			n := min(int(binary.BigEndian.Uint16(b)), len(b)-2)
			m := b[2 : 2+n]
			b = b[2+n:]
			if err := d.decode(m); err != nil {
				return
			}
		}
		for _, tx := range d.take() {
			if tx.Bytes() > 64*total+1024 {
				t.Fatalf("%d bytes of transaction from %d of input", tx.Bytes(), total)
			}
			for i := range tx.Changes {
				if err := tx.Changes[i].Validate(); err != nil {
					t.Fatal(err)
				}
			}
		}
	})
}

func BenchmarkPostgresDecode(b *testing.B) {
	d := newDecoder(schema.Head)
	row := insert(1, "1234567", "some text of a usual length, a name or so", "12.50")
	for _, m := range []message{orders} {
		if err := d.decode(m); err != nil {
			b.Fatal(err)
		}
	}
	first, last := begin(), commit(500)
	b.SetBytes(int64(len(row)))
	b.ReportAllocs()
	for i := range b.N {
		if i%100 == 0 {
			if i > 0 {
				_ = d.decode(last)
				d.take()
			}
			_ = d.decode(first)
		}
		if err := d.decode(row); err != nil {
			b.Fatal(err)
		}
	}
}
