package schema

import (
	"slices"
	"strings"
)

// StepKind is one thing that a schema change does to a table. The set is closed; every dialect renders each of them.
type StepKind string

// The kinds of steps, about in the order in which Diff has them: what stands in the way goes first, what needs others comes last.
const (
	CreateTable      StepKind = "create table"
	DropTable        StepKind = "drop table"
	RenameTable      StepKind = "rename table"
	DropForeignKey   StepKind = "drop foreign key"
	DropCheck        StepKind = "drop check"
	DropIndex        StepKind = "drop index"
	RenameColumn     StepKind = "rename column"
	DropColumn       StepKind = "drop column"
	AddColumn        StepKind = "add column"
	AddLabels        StepKind = "add labels"
	ChangeType       StepKind = "change type"
	ChangeComputed   StepKind = "change computed"
	ChangeDefault    StepKind = "change default"
	ChangeNullable   StepKind = "change nullable"
	ChangeSerial     StepKind = "change serial"
	ChangeKey        StepKind = "change key"
	AddIndex         StepKind = "add index"
	AddCheck         StepKind = "add check"
	AddForeignKey    StepKind = "add foreign key"
	ChangeComment    StepKind = "change comment"
	ChangeColComment StepKind = "change column comment"
)

// Step is one step from one definition to another. Was and Is are the whole definitions, but that Was has those new names of
// columns which earlier steps gave, and that the first step of a circle of names leads to a definition between. Column says
// which of Is' columns it is about (DropColumn: which of Was'), WasColumn which of Was'; -1 where it is about none.
type Step struct {
	Kind       StepKind
	Was, Is    *Definition
	Column     int
	WasColumn  int
	Index      *Index
	ForeignKey *ForeignKey
	Check      *Check
}

// Diff is what leads from one definition of a table to another, in an order in which it can be done. Either may be nil. Columns
// are the same when their IDs are, else when their names are; indexes and constraints go by name. Equal definitions, of which
// Fingerprint is equal, need no steps but for comments.
func Diff(was, is *Definition) []Step {
	switch {
	case was == nil && is == nil:
		return nil
	case was == nil:
		return creation(is)
	case is == nil:
		return []Step{{Kind: DropTable, Was: was, Column: -1, WasColumn: -1}}
	}
	d := diffing{was: was, is: is, first: was, from: columnsFrom(was, is)}
	d.names = d.renames()
	if was.TableName != is.TableName {
		d.add(RenameTable, -1)
	}
	d.drops()
	d.columns()
	d.adds()
	return d.steps
}

// creation makes a table. Its indexes and foreign keys are steps of their own, for one of them that cannot be made here is no
// reason to do without the table. Their Was is nil: no row was ever written without them.
func creation(is *Definition) []Step {
	d := diffing{is: is}
	d.add(CreateTable, -1)
	for i := range is.Indexes {
		d.add(AddIndex, -1).Index = &is.Indexes[i]
	}
	for i := range is.ForeignKeys {
		d.add(AddForeignKey, -1).ForeignKey = &is.ForeignKeys[i]
	}
	return d.steps
}

// columnsFrom says for each column of is which of was' it was; -1: it is new.
func columnsFrom(was, is *Definition) []int {
	from := make([]int, len(is.Columns))
	for i := range is.Columns {
		from[i] = -1
		id := is.Details[i].ID
		if id != 0 {
			from[i] = slices.IndexFunc(was.Details, func(d ColumnDetail) bool { return d.ID == id })
		}
	}
	for i := range is.Columns {
		if from[i] >= 0 {
			continue
		}
		at := was.Column(is.Columns[i].Name)
		// The name of a column whose ID is known to be another's is a new column's: it was dropped and added again.
		if at >= 0 && !slices.Contains(from, at) && (was.Details[at].ID == 0 || is.Details[i].ID == 0) {
			from[i] = at
		}
	}
	return from
}

type diffing struct {
	was, is *Definition // was changes as columns are renamed
	first   *Definition // was, as Diff was given it
	from    []int
	names   map[string]string // the columns' names in is, by those in the was that Diff was given
	steps   []Step
}

func (d *diffing) add(kind StepKind, column int) *Step {
	s := Step{Kind: kind, Was: d.was, Is: d.is, Column: column, WasColumn: -1}
	if column >= 0 {
		s.WasColumn = d.from[column]
	}
	d.steps = append(d.steps, s)
	return &d.steps[len(d.steps)-1]
}

// drops are the steps that take something away which columns may hang on.
func (d *diffing) drops() {
	names := d.names
	for i, k := range d.was.ForeignKeys {
		if !slices.ContainsFunc(d.is.ForeignKeys, func(o ForeignKey) bool { return sameForeignKey(k, o, names) }) {
			d.add(DropForeignKey, -1).ForeignKey = &d.was.ForeignKeys[i]
		}
	}
	for i, c := range d.was.Checks {
		if !slices.ContainsFunc(d.is.Checks, func(o Check) bool { return sameCheck(c, o, names) }) {
			d.add(DropCheck, -1).Check = &d.was.Checks[i]
		}
	}
	for i, x := range d.was.Indexes {
		if !slices.ContainsFunc(d.is.Indexes, func(o Index) bool { return sameIndex(x, o, names) }) {
			d.add(DropIndex, -1).Index = &d.was.Indexes[i]
		}
	}
}

// gone stands for the name of a column that is dropped: what hangs on it is not the same when another column gets its name.
const gone = "\x00"

// renames are the columns' names in is, by those in was.
func (d *diffing) renames() map[string]string {
	names := map[string]string{}
	for i := range d.was.Columns {
		names[d.was.Columns[i].Name] = gone
	}
	for i, at := range d.from {
		if at >= 0 {
			names[d.was.Columns[at].Name] = d.is.Columns[i].Name
		}
	}
	return names
}

// columns: a column whose name another one takes goes before that one comes; the others go last, when no key has them any more
// (and the table is never without columns, which MySQL does not have).
func (d *diffing) columns() {
	var late []int
	for i := range d.was.Columns {
		switch {
		case slices.Contains(d.from, i):
		case d.is.Column(d.was.Columns[i].Name) >= 0, d.hangs(i): // the name is needed, or it stands in another column's way
			d.drop(i)
		default:
			late = append(late, i)
		}
	}
	d.renameColumns()
	for i, at := range d.from {
		if at < 0 {
			d.add(AddColumn, i)
			continue
		}
		d.column(i, &d.was.Columns[at], &d.is.Columns[i], &d.was.Details[at], &d.is.Details[i])
	}
	d.nullable(false)
	if !slices.Equal(d.key(d.first, d.names), d.key(d.is, nil)) {
		d.add(ChangeKey, -1)
	}
	d.nullable(true)
	for i, at := range d.from {
		if at >= 0 && d.serial(i) && d.is.Details[i].Serial {
			d.add(ChangeSerial, i)
		}
	}
	for _, i := range late {
		d.drop(i)
	}
}

// hangs reports whether a column of was is computed from others, whose types cannot change in Postgres as long as it is there. A
// key's goes with the others.
func (d *diffing) hangs(i int) bool {
	return d.was.Details[i].Computed.Kind != NoExpression && !slices.Contains(d.was.Key, i)
}

func (d *diffing) drop(column int) {
	d.steps = append(d.steps, Step{Kind: DropColumn, Was: d.was, Is: d.is, Column: column, WasColumn: column})
}

// renameColumns: a name is free when the column that had it has its new one. Where columns change names in a circle, the first
// step of the circle takes a name that is in nobody's way.
func (d *diffing) renameColumns() {
	var todo []int
	for i, at := range d.from {
		if at >= 0 && d.was.Columns[at].Name != d.is.Columns[i].Name {
			todo = append(todo, i)
		}
	}
	for len(todo) > 0 {
		free := slices.IndexFunc(todo, func(i int) bool { // of the columns that go, those with such names are gone
			return !slices.ContainsFunc(todo, func(o int) bool { return d.was.Columns[d.from[o]].Name == d.is.Columns[i].Name })
		})
		if free < 0 {
			d.aside(todo[0])
			continue
		}
		i := todo[free]
		d.add(RenameColumn, i)
		d.was = d.was.renamedColumn(d.from[i], d.is.Columns[i].Name)
		todo = slices.Delete(todo, free, free+1)
	}
}

// aside renames a column to a name that neither definition has, and goes on from there.
func (d *diffing) aside(i int) {
	at := d.from[i]
	name := "cdc_" + d.was.Columns[at].Name
	for d.was.Column(name) >= 0 || d.is.Column(name) >= 0 {
		name += "_"
	}
	between := d.was.renamedColumn(at, name)
	d.steps = append(d.steps, Step{Kind: RenameColumn, Was: d.was, Is: between, Column: at, WasColumn: at})
	d.was = between
}

// renamedColumn is d with another name for one of its columns, in its key, indexes and foreign keys, too. Expressions stay as
// they are written.
func (d *Definition) renamedColumn(column int, name string) *Definition {
	n := *d
	table := *d.Table
	table.Columns = slices.Clone(d.Columns)
	from := map[string]string{d.Columns[column].Name: name}
	table.Columns[column].Name = name
	n.Table = NewTable(table)
	n.Indexes, n.ForeignKeys = slices.Clone(d.Indexes), slices.Clone(d.ForeignKeys)
	for i := range n.Indexes {
		n.Indexes[i].Parts = slices.Clone(n.Indexes[i].Parts)
		for j := range n.Indexes[i].Parts {
			if n.Indexes[i].Parts[j].Column == d.Columns[column].Name {
				n.Indexes[i].Parts[j].Column = name
			}
		}
	}
	for i := range n.ForeignKeys {
		n.ForeignKeys[i].Columns = renamed(n.ForeignKeys[i].Columns, from)
	}
	return &n
}

// nullable are the columns that become nullable, or those that no longer are: a key's columns must not be NULL, so the one comes
// behind the key's change, the other before it.
func (d *diffing) nullable(becomes bool) {
	for i, at := range d.from {
		if at >= 0 && d.was.Columns[at].Nullable != d.is.Columns[i].Nullable && d.is.Columns[i].Nullable == becomes {
			d.add(ChangeNullable, i)
		}
	}
}

// serial reports whether who gives the column's numbers changes.
func (d *diffing) serial(i int) bool {
	at := d.from[i]
	return d.was.Details[at].Serial != d.is.Details[i].Serial || d.was.Columns[at].Identity != d.is.Columns[i].Identity
}

// column are the steps that make one column what it shall be.
func (d *diffing) column(i int, a, b *Column, x, y *ColumnDetail) {
	switch {
	case AddsLabels(a, b):
		d.add(AddLabels, i)
	case !sameType(a, b), x.Collation != y.Collation && x.Collation != "" && y.Collation != "":
		d.add(ChangeType, i)
	}
	if !sameExpression(x.Computed, y.Computed, d.names) || x.Stored != y.Stored {
		d.add(ChangeComputed, i)
	}
	if d.serial(i) && !y.Serial { // before a default takes its place; what becomes serial needs its key first
		d.add(ChangeSerial, i)
	}
	if x.Default != y.Default {
		d.add(ChangeDefault, i)
	}
	if x.Comment != y.Comment {
		d.add(ChangeColComment, i)
	}
}

// key are the key's columns by name.
func (d *diffing) key(t *Definition, renames map[string]string) []string {
	var names []string
	for _, k := range t.Key {
		name := t.Columns[k].Name
		if to, ok := renames[name]; ok {
			name = to
		}
		names = append(names, name)
	}
	return names
}

func (d *diffing) adds() {
	names := d.names
	for i, x := range d.is.Indexes {
		if !slices.ContainsFunc(d.first.Indexes, func(o Index) bool { return sameIndex(o, x, names) }) {
			d.add(AddIndex, -1).Index = &d.is.Indexes[i]
		}
	}
	for i, c := range d.is.Checks {
		if !slices.ContainsFunc(d.first.Checks, func(o Check) bool { return sameCheck(o, c, names) }) {
			d.add(AddCheck, -1).Check = &d.is.Checks[i]
		}
	}
	for i, k := range d.is.ForeignKeys {
		if !slices.ContainsFunc(d.first.ForeignKeys, func(o ForeignKey) bool { return sameForeignKey(o, k, names) }) {
			d.add(AddForeignKey, -1).ForeignKey = &d.is.ForeignKeys[i]
		}
	}
	if d.was.Comment != d.is.Comment {
		d.add(ChangeComment, -1)
	}
}

// sameType: Native tells types apart that are of one kind.
func sameType(a, b *Column) bool {
	return a.Kind == b.Kind && a.Size == b.Size && a.Scale == b.Scale && a.Unsigned == b.Unsigned && a.Fixed == b.Fixed &&
		a.Native == b.Native && slices.Equal(a.Labels, b.Labels)
}

// AddsLabels reports whether b is a with more labels, and otherwise the same.
func AddsLabels(a, b *Column) bool {
	if a.Kind != b.Kind || a.Kind != KindEnum && a.Kind != KindSet || len(b.Labels) <= len(a.Labels) {
		return false
	}
	if before(a.Native, "(") != before(b.Native, "(") { // Postgres: another type
		return false
	}
	return !slices.ContainsFunc(a.Labels, func(l string) bool { return !slices.Contains(b.Labels, l) })
}

func before(s, mark string) string {
	s, _, _ = strings.Cut(s, mark)
	return s
}

func renamed(columns []string, names map[string]string) []string {
	out := slices.Clone(columns)
	for i, c := range out {
		if to, ok := names[c]; ok {
			out[i] = to
		}
	}
	return out
}

// sameIndex compares an index of was with one of is.
func sameIndex(was, is Index, names map[string]string) bool {
	if !SameName(was.Name, is.Name) || was.Unique != is.Unique || was.Method != is.Method || !sameExpression(was.Where, is.Where, names) ||
		renamedText(was.Native, names) != is.Native || len(was.Parts) != len(is.Parts) {
		return false
	}
	for i, p := range was.Parts {
		if to, ok := names[p.Column]; ok {
			p.Column = to
		}
		p.Expression.Text = renamedText(p.Expression.Text, names)
		if p != is.Parts[i] {
			return false
		}
	}
	return true
}

func sameForeignKey(was, is ForeignKey, names map[string]string) bool {
	return SameName(was.Name, is.Name) && was.Parent == is.Parent && was.OnDelete == is.OnDelete && was.OnUpdate == is.OnUpdate &&
		slices.Equal(renamed(was.Columns, names), is.Columns) && slices.Equal(was.ParentColumns, is.ParentColumns)
}

func sameCheck(was, is Check, names map[string]string) bool {
	return SameName(was.Name, is.Name) && sameExpression(was.Expression, is.Expression, names)
}

func sameExpression(was, is Expression, names map[string]string) bool {
	return was.Kind == is.Kind && renamedText(was.Text, names) == is.Text
}

// renamedText is an expression with the columns' new names. It goes by words, quoted or not, outside of strings, whatever else
// they may mean; it serves to see that nothing but names changed, and is never run.
func renamedText(text string, names map[string]string) string {
	var b strings.Builder
	for len(text) > 0 {
		word, quote := wordLen(text), ""
		name := text[:word]
		if c := text[0]; c == '"' || c == '`' {
			quote = text[:1]
			name = strings.ReplaceAll(strings.Trim(name, quote), quote+quote, quote)
		}
		if to, ok := names[name]; ok && to != name && text[0] != '\'' {
			if quote != "" {
				to = quote + strings.ReplaceAll(to, quote, quote+quote) + quote
			}
			b.WriteString(to)
		} else {
			b.WriteString(text[:word])
		}
		text = text[word:]
	}
	return b.String()
}

// wordLen is how long the word, the quoted text or the single sign at the beginning is.
func wordLen(text string) int {
	if c := text[0]; c == '"' || c == '`' || c == '\'' {
		for i := 1; i < len(text); i++ {
			switch {
			case text[i] != c:
			case i+1 < len(text) && text[i+1] == c:
				i++
			default:
				return i + 1
			}
		}
		return len(text)
	}
	part := func(c byte) bool {
		return c == '_' || c == '$' || c >= 0x80 || c|0x20 >= 'a' && c|0x20 <= 'z' || c >= '0' && c <= '9'
	}
	n := 0
	for n < len(text) && part(text[n]) {
		n++
	}
	return max(n, 1)
}

// Widens reports whether every value of a fits into b as it is.
func Widens(a, b *Column) bool {
	if a.Kind != b.Kind {
		return a.Kind == KindInt && b.Kind == KindDecimal && (b.Size == 0 || b.Size-max(b.Scale, 0) >= 20)
	}
	atLeast := func(x, y int) bool { return y == 0 || x != 0 && y >= x }
	switch a.Kind {
	case KindInt:
		return a.Unsigned == b.Unsigned && atLeast(a.Size, b.Size) || a.Unsigned && !b.Unsigned && a.Size != 0 && (b.Size == 0 && a.Size < 64 || b.Size > a.Size)
	case KindDecimal:
		return b.Size == 0 || a.Size != 0 && b.Scale >= a.Scale && b.Size-b.Scale >= a.Size-a.Scale
	case KindText, KindBytes:
		return atLeast(a.Size, b.Size) && a.Fixed == b.Fixed
	case KindFloat:
		return atLeast(a.Size, b.Size)
	case KindTime, KindTimeTZ, KindTimestamp, KindTimestampTZ:
		return b.Scale < 0 || a.Scale >= 0 && b.Scale >= a.Scale
	case KindEnum, KindSet:
		return !slices.ContainsFunc(a.Labels, func(l string) bool { return !slices.Contains(b.Labels, l) })
	case KindBit:
		return a.Fixed == b.Fixed && (a.Size == b.Size || !a.Fixed && atLeast(a.Size, b.Size))
	}
	return a.Native == b.Native
}

// Destroys says why a step is not to be done without being asked for: it takes data away, or makes rows impossible that other
// offices may still write. Empty: it is harmless.
func (s *Step) Destroys() string {
	if s.Was == nil { // a new table has no rows
		return ""
	}
	switch s.Kind {
	case DropTable:
		return "it drops the table with its rows"
	case DropColumn:
		return "it drops the column with its values"
	case ChangeType:
		if !Widens(&s.Was.Columns[s.WasColumn], &s.Is.Columns[s.Column]) {
			return "the new type does not hold every value of the old one"
		}
	case ChangeNullable:
		if !s.Is.Columns[s.Column].Nullable {
			return "rows with NULL would be impossible"
		}
	case ChangeComputed:
		return "it computes the column anew"
	case ChangeKey:
		return "rows go by another key"
	case AddIndex:
		if s.Index.Unique {
			return "rows with equal values would be impossible"
		}
	case AddCheck, AddForeignKey:
		return "rows that do not meet it would be impossible"
	case CreateTable, RenameTable, DropForeignKey, DropCheck, DropIndex, RenameColumn, AddColumn, AddLabels, ChangeDefault, ChangeSerial, ChangeComment, ChangeColComment:
	}
	return ""
}
