package apply

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"cdc-sidecar/schema"
)

// entry is one entry of the conflict log.
type entry struct {
	contest
	decision

	at       time.Time
	office   schema.Office
	kind     string
	state    string
	position schema.Position // of the other office's transaction
	known    uint64          // the last seq of our stream that the decision knew
	change   *schema.Change  // the other office's; for the key
	key      schema.Row      // of the row, where it is not the change's; in the table's columns
	rows     []standing      // to be told to every office
}

// standing is a row as it stands behind a decision.
type standing struct {
	table *schema.Table
	key   schema.Row // its key at least
	row   schema.Row // nil: there is none
	by    version
}

// The states of an entry.
const (
	stateDecided  = "decided"
	stateOpen     = "open"   // the row stays as it is until a person decides
	stateParked   = "parked" // the change waits: another row has its unique key
	stateResolved = "resolved"
	stateAgain    = "again" // no conflict: a row is told once more, because the decision before did not know its last touch
)

// entryColumns are those of the conflict log in the order of entry.args, with the kinds by which they are written.
var entryColumns = []schema.Column{
	{Name: schema.ConflictOffice, Kind: schema.KindText},
	{Name: schema.ConflictDecidedAt, Kind: schema.KindInt},
	{Name: schema.ConflictTable, Kind: schema.KindText},
	{Name: schema.ConflictKey, Kind: schema.KindText},
	{Name: schema.ConflictKind, Kind: schema.KindText},
	{Name: schema.ConflictPolicy, Kind: schema.KindText},
	{Name: schema.ConflictWinner, Kind: schema.KindText},
	{Name: schema.ConflictState, Kind: schema.KindText},
	{Name: schema.ConflictLocal, Kind: schema.KindText},
	{Name: schema.ConflictBefore, Kind: schema.KindText},
	{Name: schema.ConflictRemote, Kind: schema.KindText},
	{Name: schema.ConflictResult, Kind: schema.KindText},
	{Name: schema.ConflictLocalBy, Kind: schema.KindText},
	{Name: schema.ConflictLocalMs, Kind: schema.KindInt},
	{Name: schema.ConflictLocalCount, Kind: schema.KindInt},
	{Name: schema.ConflictBy, Kind: schema.KindText},
	{Name: schema.ConflictMs, Kind: schema.KindInt},
	{Name: schema.ConflictCount, Kind: schema.KindInt},
	{Name: schema.ConflictEpoch, Kind: schema.KindInt},
	{Name: schema.ConflictSeq, Kind: schema.KindInt},
	{Name: schema.ConflictResolution, Kind: schema.KindBytes},
}

// maxPolicy is what the column holds.
const maxPolicy = 200

func (e *entry) args() []schema.Value {
	text, number := schema.Of, func(n int64) schema.Value { return schema.Of(strconv.FormatInt(n, 10)) }
	policy := e.policy.String()
	if len(policy) > maxPolicy {
		policy = strings.ToValidUTF8(policy[:maxPolicy], "")
	}
	return []schema.Value{
		text(string(e.office)), number(e.at.UnixMicro()), text(e.table.String()), text(e.keyString()), text(e.kind), text(policy),
		text(string(e.winner)), text(e.state),
		imageJSON(e.table, e.local), imageJSON(e.table, e.before), imageJSON(e.table, e.remote), imageJSON(e.table, e.result),
		text(string(e.localBy.origin)), number(e.localBy.stamp.Millis), number(int64(e.localBy.stamp.Counter)),
		text(string(e.contest.by.origin)), number(e.contest.by.stamp.Millis), number(int64(e.contest.by.stamp.Counter)),
		number(int64(e.position.Epoch)), number(int64(e.position.Seq)), e.resolution(),
	}
}

func (e *entry) keyString() string {
	if e.key == nil {
		return e.change.KeyString()
	}
	return (&schema.Change{Table: e.table, Op: schema.Delete, Before: e.key}).KeyString()
}

// resolution is what capture reads: the rows as they stand.
func (e *entry) resolution() schema.Value {
	if len(e.rows) == 0 {
		return schema.NullValue()
	}
	tx := schema.Transaction{Origin: e.office, Last: true}
	for _, r := range e.rows {
		c := schema.Change{Table: r.table, Op: schema.Insert, After: r.row, Decided: &schema.Decision{Origin: r.by.origin, Stamp: r.by.stamp, Known: e.known}}
		if r.row == nil {
			c.Op, c.Before = schema.Delete, r.key
		}
		tx.Changes = append(tx.Changes, c)
	}
	return schema.Of(string(schema.AppendBatch(nil, []schema.Transaction{tx})))
}

// imageJSON is an image for people and for resolve: an object of texts, null for NULL, without the columns that the image
// does not have. Bytes stand in hexadecimal behind \x.
func imageJSON(t *schema.Table, r schema.Row) schema.Value {
	if r == nil {
		return schema.NullValue()
	}
	var b strings.Builder
	b.WriteByte('{')
	for i, v := range r {
		if v.IsUnchanged() {
			continue
		}
		if b.Len() > 1 {
			b.WriteByte(',')
		}
		name, _ := json.Marshal(t.Columns[i].Name)
		b.Write(name)
		b.WriteByte(':')
		if v.IsNull() {
			b.WriteString("null")
			continue
		}
		text := v.Text()
		if t.Columns[i].Kind == schema.KindBytes || !utf8.ValidString(text) {
			text = `\x` + hex.EncodeToString([]byte(text))
		}
		value, _ := json.Marshal(text)
		b.Write(value)
	}
	b.WriteByte('}')
	return schema.Of(b.String())
}

// parseImage is imageJSON's way back.
func parseImage(t *schema.Table, text string) (schema.Row, error) {
	var image map[string]*string
	if err := json.Unmarshal([]byte(text), &image); err != nil {
		return nil, fmt.Errorf("read an image of table %s: %w", t.TableName, err)
	}
	row := make(schema.Row, len(t.Columns))
	for name, value := range image {
		i := t.Column(name)
		switch {
		case i < 0:
			return nil, fmt.Errorf("table %s has no column %s any more, the image has", t.TableName, name)
		case value == nil:
			row[i] = schema.NullValue()
		case t.Columns[i].Kind == schema.KindBytes:
			b, err := hex.DecodeString(strings.TrimPrefix(*value, `\x`))
			if err != nil {
				return nil, fmt.Errorf("read column %s of an image of table %s: %w", name, t.TableName, err)
			}
			row[i] = schema.Of(string(b))
		default:
			row[i] = schema.Of(*value)
		}
	}
	return row, nil
}

// ownInsert is the statement that inserts a row into a table of ours.
func ownInsert(engine schema.Engine, table string, columns []schema.Column) *form {
	f := &form{op: opOwn}
	names := make([]string, len(columns))
	for i, c := range columns {
		names[i] = quote(engine, c.Name)
		f.text(map[bool]string{true: "(", false: ", "}[i == 0])
		f.value(c)
	}
	f.text(")")
	f.prefix = "INSERT INTO " + tableName(engine, schema.OwnSchema, table) + " (" + strings.Join(names, ", ") + ") VALUES "
	f.finish()
	return f
}
