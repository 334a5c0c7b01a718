package conformance

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"cdc-sidecar/apply"
	"cdc-sidecar/capture"
	"cdc-sidecar/catalog"
	"cdc-sidecar/schema"
	"cdc-sidecar/servers"
)

var update = flag.Bool("update", false, "write testdata/types anew, as the servers at hand give it; what another engine gave stays")

const (
	// source is the office that the values come from.
	source = schema.Office("source")
	epoch  = 1
	// marker is the table whose row ends what is read from a log.
	marker = "marker"
	// stuck is when a test gives up on something that should long have happened.
	stuck = 2 * time.Minute
)

// Every value of testdata/types, written on each engine that has its type: captured from the log it is what a query reads; in an
// equal engine the server's own output of it is the same, byte for byte; elsewhere it is the same value in a type that can hold it, or
// refused with a reason, as the files say.
func TestValues(t *testing.T) {
	files, all := readTypeFiles(t), engines(t)
	for _, from := range allEngines {
		if all[from] == nil {
			continue
		}
		t.Run(string(from), func(t *testing.T) {
			origin := newOrigin(t, all[from], from, files)
			for _, to := range allEngines {
				if all[to] != nil {
					t.Run(string(to), func(t *testing.T) { origin.send(t, all[to], to) })
				}
			}
			origin.logged(t)
		})
	}
	if !*update {
		return
	}
	for _, f := range files {
		if err := f.write(); err != nil {
			t.Error(err)
		}
	}
}

// origin is the office whose values are sent: a table for each file, a row for each value.
type origin struct {
	*office
	server  servers.Database
	files   []*typeFile
	changes map[string][]schema.Change // by table, as they came over the wire
	own     map[string]map[string][][]byte
}

func newOrigin(t *testing.T, server servers.Database, engine schema.Engine, files []*typeFile) *origin {
	o := &origin{office: newOffice(t, server, engine), server: server, changes: map[string][]schema.Change{}, own: map[string]map[string][][]byte{}}
	for _, f := range files {
		if o.has(f) && o.create(f) {
			o.files = append(o.files, f)
		}
	}
	o.exec("CREATE TABLE " + marker + " (id int PRIMARY KEY)")
	src := o.capture()
	o.exec("BEGIN")
	for _, f := range o.files {
		o.insert(f)
	}
	o.exec("INSERT INTO "+marker+" VALUES (1)", "COMMIT")
	for _, tx := range o.read(src) {
		for _, c := range tx.Changes {
			o.changes[c.Table.Name] = append(o.changes[c.Table.Name], c)
		}
	}
	for _, f := range o.files {
		if len(o.changes[f.name]) != len(f.values) {
			t.Fatalf("%s: %d values, %d captured", f.path, len(f.values), len(o.changes[f.name]))
		}
		o.own[f.name] = o.output(f)
	}
	return o
}

// create makes a file's table as its own engine has it; false: the server lacks an extension.
func (o *office) create(f *typeFile) bool {
	o.Helper()
	for _, s := range f.setup {
		if err := o.conn.exec(o.Context(), s); err != nil {
			if strings.Contains(s, "EXTENSION") {
				o.Logf("%s is left out: %v", f.path, err)
				return false
			}
			o.Fatalf("%s: %s: %v", f.path, s, err)
		}
	}
	more := ""
	if f.more != "" {
		more = ", " + f.more
	}
	o.exec(fmt.Sprintf("CREATE TABLE %s (id int PRIMARY KEY, v %s%s)", f.name, f.ddl, more))
	return true
}

func (o *office) insert(f *typeFile) {
	o.Helper()
	if f.lenient {
		o.exec(lenientMode)
		defer o.exec(strictMode)
	}
	for i, v := range f.values {
		o.exec(fmt.Sprintf("INSERT INTO %s (id, v) %s VALUES (%d, %s)", f.name, f.insert, i, v.literal))
	}
}

// read is what the log has up to the marker, as another office gets it.
func (o *origin) read(src capture.Source) []schema.Transaction {
	o.Helper()
	ctx, cancel := context.WithTimeout(o.Context(), stuck)
	defer cancel()
	var all []schema.Transaction
	for done := false; !done; {
		txs, err := src.Read(ctx)
		if err != nil {
			o.Fatal(err)
		}
		for _, tx := range txs {
			if !tx.Silent() {
				all = append(all, tx)
				last := tx.Changes[len(tx.Changes)-1]
				done = last.Table.Name == marker
			}
		}
	}
	batch, err := schema.DecodeBatch(schema.AppendBatch(nil, all), epoch)
	if err != nil {
		o.Fatal(err)
	}
	return batch.Transactions
}

// output is what the server itself writes of a table's rows, as text and as bytes, by id.
func (o *office) output(f *typeFile) map[string][][]byte {
	o.Helper()
	c, ok := o.conn.(postgresConnection)
	if !ok {
		return rowsByID(o.query("SELECT id, t.*, v, HEX(v) FROM " + f.name + " t"))
	}
	query := "SELECT id::text, t.* FROM " + f.name + " t"
	text := rowsByID(o.query(query))
	if len(f.setup) > 0 {
		return text // the bytes of an array or a row have the numbers of its types, which each database gives by itself
	}
	raw, err := c.binary(o.Context(), query)
	if err != nil {
		o.Logf("%s: no bytes to compare: %v", f.path, err)
		return text
	}
	for id, values := range rowsByID(raw) {
		text[id] = append(text[id], values...)
	}
	return text
}

// logged checks what capture gave: that it is what a query reads, and what the file says.
func (o *origin) logged(t *testing.T) {
	tables := o.tables()
	for _, f := range o.files {
		read := o.values(tables[f.name])
		for i, c := range o.changes[f.name] {
			v := c.Table.Column("v")
			got := c.After[v]
			if read := read[strconv.Itoa(i)]; got != read {
				t.Errorf("%s %s: captured %.200s, read %.200s", f.path, f.values[i].literal, got, read)
			}
			if *update {
				f.values[i].logged = shown(got)
			} else if f.values[i].logged != shown(got) {
				t.Errorf("%s %s: captured %s, want %s", f.path, f.values[i].literal, shown(got), f.values[i].logged)
			}
		}
	}
}

// values are those of a table's column v as a sidecar reads them, by id.
func (o *office) values(table *catalog.Table) map[string]schema.Value {
	o.Helper()
	all := map[string]schema.Value{}
	for id, row := range o.rows(table) {
		all[id] = row[table.Column("v")]
	}
	return all
}

// rows are those of a table as a sidecar reads them, by id.
func (o *office) rows(table *catalog.Table) map[string]schema.Row {
	o.Helper()
	reader := catalog.NewReader(table)
	all := map[string]schema.Row{}
	for _, values := range o.query("SELECT " + reader.Select() + " FROM " + quoteName(o.engine, table.Name)) {
		row, err := reader.Row(values)
		if err != nil {
			o.Fatal(err)
		}
		all[row[table.Column("id")].Text()] = row
	}
	return all
}

// send applies all values to a database of another server, or another database of this one, and looks at what stands there.
func (o *origin) send(t *testing.T, server servers.Database, engine schema.Engine) {
	d := &destination{office: newOffice(t, server, engine), from: o, same: engine == o.engine}
	d.applier = d.office.applier()
	var files []*typeFile
	for _, f := range o.files {
		if d.create(f) {
			files = append(files, f)
		}
	}
	tables := d.tables()
	outcomes := make([][]string, len(files))
	for i, f := range files {
		d.intoType(f, tables[f.name].Columns[1].Native)
		outcomes[i] = d.apply(f)
	}
	for i, f := range files {
		d.judge(f, tables[f.name], outcomes[i])
	}
	if !d.same {
		d.matrix(files, tables, outcomes)
		o.back(t, d, tables, files)
	}
}

// matrix checks what docs/types.md says of the types that the sidecar chooses: the kind of column, that no value is refused of which it
// does not say so, and that some value of each kind is of which it does.
func (d *destination) matrix(files []*typeFile, tables map[string]*catalog.Table, refusals [][]string) {
	d.Helper()
	limited := map[string]bool{} // what is said to be refused, and whether a value was
	for i, f := range files {
		if f.givenType(d.engine) != "" {
			continue
		}
		sent := d.from.changes[f.name][0].Table
		from, to := sent.Columns[sent.Column("v")], tables[f.name].Columns[1]
		fit := catalog.FitOf(d.engine, d.from.engine, from)
		refused := slices.ContainsFunc(refusals[i], func(why string) bool { return why != "" })
		if fit.Fate == catalog.Refused || (fit.Fate == catalog.Exact) != (from.Kind == to.Kind) {
			d.Errorf("%s: a %s is a %s at %s, and the catalog says %+v", f.path, from.Native, to.Native, d.engine, fit)
		}
		if refused && fit.Not == "" {
			d.Errorf("%s: values are refused at %s, and the catalog says none is", f.path, d.engine)
		}
		if what := from.Kind.String() + ": " + fit.Not; fit.Not != "" {
			limited[what] = limited[what] || refused
		}
	}
	for what, refused := range limited {
		if !refused {
			d.Errorf("nothing is refused at %s, and the catalog says of %s", d.engine, what)
		}
	}
}

// back sends what stands at another engine's office to one that is like the origin: it is what was sent, or is refused.
func (o *origin) back(t *testing.T, from *destination, tables map[string]*catalog.Table, files []*typeFile) {
	home := &destination{office: newOffice(t, o.server, o.engine), from: o, same: true}
	home.applier = home.office.applier()
	place := sentBack(from.engine)
	for _, f := range files {
		home.office.create(f)
		changes := make([]*schema.Change, len(f.values))
		for id, row := range from.rows(tables[f.name]) {
			i, err := strconv.Atoi(id)
			if err != nil {
				t.Fatal(err)
			}
			changes[i] = &schema.Change{Table: tables[f.name].Table, Op: schema.Insert, After: row}
		}
		refusals := home.applyAll(f, place, changes)
		here, read := home.output(f), home.values(home.tables()[f.name])
		for i, v := range f.values {
			id := strconv.Itoa(i)
			if changes[i] == nil {
				if *update {
					delete(v.at, place)
				}
				continue
			}
			outcome := refusals[i]
			if outcome == "" {
				outcome = "= " + shown(read[id])
				if there := o.own[f.name][id]; outcome == "= "+v.logged && !slices.EqualFunc(there, here[id], bytes.Equal) {
					t.Errorf("%s %s: came back from %s, and the server writes %s, at the origin %s", f.path, v.literal, from.engine, describeRow(here[id]), describeRow(there))
				}
			}
			if *update {
				v.expect(place, outcome)
			} else if want := v.expected(place); want != outcome {
				t.Errorf("%s %s back from %s: %s, want %s", f.path, v.literal, from.engine, outcome, want)
			}
		}
	}
}

// destination is the office that values are sent to.
type destination struct {
	*office
	from    *origin
	same    bool // of the origin's own engine
	applier *apply.Applier
	seq     uint64
}

// create makes the table that a file's values enter: of the same type in an equal engine, else the type that a person or the sidecar
// chooses. false: none.
func (d *destination) create(f *typeFile) bool {
	d.Helper()
	given := f.givenType(d.engine)
	switch {
	case d.same:
		return d.office.create(f)
	case given != "":
		d.exec("CREATE TABLE " + f.name + " (id int PRIMARY KEY, v " + given + ")")
		return true
	}
	space := d.dsn.DefaultSchema()
	statement, err := catalog.CreateTable(d.engine, space, d.from.changes[f.name][0].Table)
	if err != nil {
		var rejected *schema.RejectedError
		if !errors.As(err, &rejected) {
			d.Fatalf("%s: %v", f.path, err)
		}
		d.intoType(f, "refused: "+rejected.Cause.Error())
		return false
	}
	d.exec(statement)
	return true
}

// intoType compares the type that stands here with the one of the file.
func (d *destination) intoType(f *typeFile, native string) {
	d.Helper()
	switch {
	case d.same || f.givenType(d.engine) != "":
	case *update:
		f.setTarget(d.engine, native)
	case f.target(d.engine) != native:
		d.Errorf("%s: into %s: %s, want %s", f.path, d.engine, native, f.target(d.engine))
	}
}

// apply sends a file's values and returns why each was refused; empty: it was not.
func (d *destination) apply(f *typeFile) []string {
	d.Helper()
	changes := make([]*schema.Change, len(f.values))
	for i := range changes {
		changes[i] = &d.from.changes[f.name][i]
	}
	return d.applyAll(f, d.engine, changes)
}

// applyAll sends changes, those of which the file says that they are refused each in a transaction of its own, the others in one.
func (d *destination) applyAll(f *typeFile, place schema.Engine, changes []*schema.Change) []string {
	d.Helper()
	refusals := make([]string, len(changes))
	var together []schema.Change
	var single []int
	for i, c := range changes {
		switch {
		case c == nil:
		case *update || strings.HasPrefix(f.values[i].expected(place), "refused"):
			single = append(single, i)
		default:
			together = append(together, *c)
		}
	}
	if len(together) > 0 {
		if why := d.send(f, together); why != "" {
			for i, c := range changes {
				if c != nil && !slices.Contains(single, i) {
					single = append(single, i)
				}
			}
		}
	}
	for _, i := range single {
		refusals[i] = d.send(f, []schema.Change{*changes[i]})
	}
	return refusals
}

// send applies one transaction and returns why it was refused; empty: it was not.
func (d *destination) send(f *typeFile, changes []schema.Change) string {
	d.Helper()
	at := schema.Position{Epoch: epoch, Seq: d.seq + 1}
	tx := schema.Transaction{Origin: source, OriginPos: at, Pos: at, Stamp: schema.Stamp{Millis: int64(at.Seq)}, Changes: changes, Last: true}
	err := d.applier.Apply(d.Context(), source, []schema.Transaction{tx})
	var rejected *schema.RejectedError
	switch {
	case err == nil:
		d.seq++
		return ""
	case errors.As(err, &rejected):
		return "refused: " + reason(rejected)
	}
	d.Fatalf("%s into %s: %v", f.path, d.engine, err)
	return ""
}

// reason is why a value was refused, without the value.
func reason(rejected *schema.RejectedError) string {
	cause := rejected.Cause
	if inner := errors.Unwrap(cause); inner != nil && strings.HasPrefix(cause.Error(), "value ") {
		cause = inner
	}
	if text := cause.Error(); !fromServer.MatchString(text) {
		return strings.ReplaceAll(text, "\n", " ")
	}
	return "by the server"
}

// fromServer is how errors of the servers begin or end; their words differ from version to version.
var fromServer = regexp.MustCompile(`^Error [0-9]+ \(|\(SQLSTATE [0-9A-Z]{5}\)$`)

func (d *destination) judge(f *typeFile, table *catalog.Table, refusals []string) {
	d.Helper()
	read := d.values(table)
	var here map[string][][]byte
	if d.same {
		here = d.output(f)
	}
	for i, c := range d.from.changes[f.name] {
		id, v := strconv.Itoa(i), f.values[i]
		column := c.Table.Column("v")
		got, arrived := read[id]
		outcome := refusals[i]
		if outcome == "" {
			outcome = "= " + shown(got)
			if !arrived {
				outcome = "is missing"
			} else if !schema.SameValue(&c.Table.Columns[column], c.After[column], &table.Columns[table.Column("v")], got) {
				d.Errorf("%s %s: sent %.200s, and %s has %.200s", f.path, v.literal, c.After[column], d.engine, got)
			}
		}
		if there := d.from.own[f.name][id]; d.same && refusals[i] == "" && !slices.EqualFunc(there, here[id], bytes.Equal) {
			d.Errorf("%s %s: the server writes %s, at the origin %s; %s", f.path, v.literal, describeRow(here[id]), describeRow(there), outcome)
		}
		switch {
		case *update:
			v.logged = shown(c.After[column])
			v.expect(d.engine, outcome)
		case v.expected(d.engine) != outcome:
			d.Errorf("%s %s at %s: %s, want %s", f.path, v.literal, d.engine, outcome, v.expected(d.engine))
		}
	}
}
