package apply

import (
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"cdc-sidecar/schema"
)

// article is what the contests below are about.
var article = schema.NewTable(schema.Table{
	TableName: schema.TableName{Name: "article"}, Engine: schema.Postgres, Key: []int{0},
	Columns: []schema.Column{integer("id"), text("name"), text("price"), {Name: "qty", Kind: schema.KindDecimal, Nullable: true}},
})

var (
	latestPolicy = schema.Policy{Kind: schema.Latest}
	addPolicy    = schema.Policy{Kind: schema.Add, Add: []string{"qty"}}
	mergePolicy  = schema.Policy{Kind: schema.Merge}
)

func by(o schema.Office, millis int64) version {
	return version{origin: o, stamp: schema.Stamp{Millis: millis}}
}

func show(r schema.Row) string {
	if r == nil {
		return "none"
	}
	parts := make([]string, len(r))
	for i, v := range r {
		if parts[i] = v.Text(); v.State() != schema.Present {
			parts[i] = v.String()
		}
	}
	return strings.Join(parts, " ")
}

func (d decision) String() string {
	return fmt.Sprintf("%s: %s, of %s at %d", d.winner, show(d.result), d.by.origin, d.by.stamp.Millis)
}

// side is one of a contest's.
type side struct {
	schema.Row
	version
}

var (
	teaBefore = row("1", "tea", "3", "10")
	teaHere   = row("1", "tea", "4", "8")
	teaThere  = row("1", "chai", "3", "7")
)

func listed(o ...schema.Office) schema.Policy { return schema.Policy{Kind: schema.Ordered, Order: o} }

// Both sides start from "1 tea 3 10"; the head's touch is of hq at 20, or of whom a case says.
var contests = []struct {
	name   string
	policy schema.Policy
	op     schema.Op
	local  side
	before schema.Row
	remote side
	want   string
}{
	{"latest, the other office's is later", latestPolicy, schema.Update, side{teaHere, by("hq", 20)}, teaBefore, side{teaThere, by("north", 30)}, "remote: 1 chai 3 7, of north at 30"},
	{"latest, the row here is later", latestPolicy, schema.Update, side{teaHere, by("hq", 20)}, teaBefore, side{teaThere, by("north", 10)}, "local: 1 tea 4 8, of hq at 20"},
	{"latest, a tie goes to the later name", latestPolicy, schema.Update, side{teaHere, by("hq", 20)}, teaBefore, side{teaThere, by("north", 20)}, "remote: 1 chai 3 7, of north at 20"},
	{"latest, a tie whoever is here", latestPolicy, schema.Update, side{teaHere, by("north", 20)}, teaBefore, side{teaThere, by("hq", 20)}, "local: 1 tea 4 8, of north at 20"},
	{"latest, update/delete, later", latestPolicy, schema.Delete, side{teaHere, by("hq", 20)}, teaBefore, side{nil, by("north", 30)}, "remote: none, of north at 30"},
	{"latest, update/delete, earlier", latestPolicy, schema.Delete, side{teaHere, by("hq", 20)}, teaBefore, side{nil, by("north", 10)}, "local: 1 tea 4 8, of hq at 20"},
	{"latest, delete/update, later", latestPolicy, schema.Update, side{nil, by("hq", 20)}, teaBefore, side{teaThere, by("north", 30)}, "remote: 1 chai 3 7, of north at 30"},
	{"latest, delete/update, earlier", latestPolicy, schema.Update, side{nil, by("hq", 20)}, teaBefore, side{teaThere, by("north", 10)}, "local: none, of hq at 20"},
	{"latest, delete/delete", latestPolicy, schema.Delete, side{nil, by("hq", 20)}, teaBefore, side{nil, by("north", 30)}, "remote: none, of north at 30"},
	{"latest, insert/insert", latestPolicy, schema.Insert, side{teaHere, by("hq", 20)}, nil, side{teaThere, by("north", 30)}, "remote: 1 chai 3 7, of north at 30"},
	{"head keeps an older row", schema.Policy{Kind: schema.HeadWins}, schema.Update, side{teaHere, by("hq", 20)}, teaBefore, side{teaThere, by("north", 30)}, "local: 1 tea 4 8, of hq at 20"},
	{"head keeps what is gone gone", schema.Policy{Kind: schema.HeadWins}, schema.Update, side{nil, by("hq", 20)}, teaBefore, side{teaThere, by("north", 30)}, "local: none, of hq at 20"},
	{"head keeps another branch's row", schema.Policy{Kind: schema.HeadWins}, schema.Delete, side{teaHere, by("south", 20)}, teaBefore, side{nil, by("north", 30)}, "local: 1 tea 4 8, of south at 20"},
	{"branch takes an older row", schema.Policy{Kind: schema.BranchWins}, schema.Update, side{teaHere, by("hq", 20)}, teaBefore, side{teaThere, by("north", 10)}, "remote: 1 chai 3 7, of north at 10"},
	{"branch takes an older delete", schema.Policy{Kind: schema.BranchWins}, schema.Delete, side{teaHere, by("hq", 20)}, teaBefore, side{nil, by("north", 10)}, "remote: none, of north at 10"},
	{"branch takes an older insert", schema.Policy{Kind: schema.BranchWins}, schema.Insert, side{teaHere, by("hq", 20)}, nil, side{teaThere, by("north", 10)}, "remote: 1 chai 3 7, of north at 10"},
	{"manual waits", schema.Policy{Kind: schema.Manual}, schema.Update, side{teaHere, by("hq", 20)}, teaBefore, side{teaThere, by("north", 30)}, "none: 1 tea 4 8, of hq at 20"},
	{"manual waits, too, where nothing is left", schema.Policy{Kind: schema.Manual}, schema.Update, side{nil, by("hq", 20)}, teaBefore, side{teaThere, by("north", 30)}, "none: none, of hq at 20"},
	{"the office named first wins though older", listed("north", "hq"), schema.Update, side{teaHere, by("hq", 20)}, teaBefore, side{teaThere, by("north", 10)}, "remote: 1 chai 3 7, of north at 10"},
	{"the office named later loses though newer", listed("hq", "north"), schema.Update, side{teaHere, by("hq", 20)}, teaBefore, side{teaThere, by("north", 30)}, "local: 1 tea 4 8, of hq at 20"},
	{"one that is named wins over one that is not", listed("south", "north"), schema.Update, side{teaHere, by("hq", 20)}, teaBefore, side{teaThere, by("north", 10)}, "remote: 1 chai 3 7, of north at 10"},
	{"one that is not named loses", listed("hq"), schema.Delete, side{teaHere, by("hq", 20)}, teaBefore, side{nil, by("north", 30)}, "local: 1 tea 4 8, of hq at 20"},
	{"two that are not named: the later", listed("south"), schema.Update, side{teaHere, by("hq", 20)}, teaBefore, side{teaThere, by("north", 30)}, "remote: 1 chai 3 7, of north at 30"},
	{"an office against itself: what comes later, whatever its clock", listed("north"), schema.Update, side{teaHere, by("north", 20)}, teaBefore, side{teaThere, by("north", 19)}, "remote: 1 chai 3 7, of north at 19"},
	{"merge, each its column, both the last", mergePolicy, schema.Update, side{teaHere, by("hq", 20)}, teaBefore, side{teaThere, by("north", 30)}, "merged: 1 chai 4 7, of north at 30"},
	{"merge, the overlap to the row here", mergePolicy, schema.Update, side{teaHere, by("hq", 20)}, teaBefore, side{teaThere, by("north", 10)}, "merged: 1 chai 4 8, of hq at 20"},
	{"merge, only the other side changed", mergePolicy, schema.Update, side{teaBefore, by("hq", 20)}, teaBefore, side{teaThere, by("north", 10)}, "remote: 1 chai 3 7, of hq at 20"},
	{"merge, only this side changed", mergePolicy, schema.Update, side{teaHere, by("hq", 20)}, teaBefore, side{teaBefore, by("north", 30)}, "local: 1 tea 4 8, of north at 30"},
	{"merge, NULL is a value", mergePolicy, schema.Update, side{row("1", null, "3", "10"), by("hq", 20)}, teaBefore, side{row("1", "tea", null, "10"), by("north", 30)}, "merged: 1 NULL NULL 10, of north at 30"},
	{"merge, equal numbers of two scales did not change", mergePolicy, schema.Update, side{row("1", "tea", "3", "8.00"), by("hq", 20)}, row("1", "tea", "3", "10.0"), side{row("1", "tea", "3", "10.00"), by("north", 30)}, "local: 1 tea 3 8.00, of north at 30"},
	{"merge with a delete is latest", mergePolicy, schema.Delete, side{teaHere, by("hq", 20)}, teaBefore, side{nil, by("north", 30)}, "remote: none, of north at 30"},
	{"merge of what is gone is latest", mergePolicy, schema.Update, side{nil, by("hq", 40)}, teaBefore, side{teaThere, by("north", 30)}, "local: none, of hq at 40"},
	{"merge of two inserts is latest", mergePolicy, schema.Insert, side{teaHere, by("hq", 20)}, nil, side{teaThere, by("north", 30)}, "remote: 1 chai 3 7, of north at 30"},
	{"merge of two inserts is latest, here", mergePolicy, schema.Insert, side{teaHere, by("hq", 20)}, nil, side{teaThere, by("north", 10)}, "local: 1 tea 4 8, of hq at 20"},
	{"merge, an unchanged column stays", mergePolicy, schema.Update, side{teaHere, by("hq", 20)}, teaBefore, side{row("1", "chai", gone, "10"), by("north", 30)}, "merged: 1 chai 4 8, of north at 30"},
	{"add, the sum, and the rest from the later", addPolicy, schema.Update, side{teaHere, by("hq", 20)}, teaBefore, side{teaThere, by("north", 30)}, "merged: 1 chai 3 5, of north at 30"},
	{"add, the sum, and the rest stays", addPolicy, schema.Update, side{teaHere, by("hq", 20)}, teaBefore, side{teaThere, by("north", 10)}, "merged: 1 tea 4 5, of hq at 20"},
	{"add, nothing was added there", addPolicy, schema.Update, side{teaHere, by("hq", 20)}, teaBefore, side{teaBefore, by("north", 10)}, "local: 1 tea 4 8, of hq at 20"},
	{"add, no counter moved, the other is later", addPolicy, schema.Update, side{row("1", "te", "3", "10"), by("hq", 20)}, teaBefore, side{row("1", "chai", "3", "10"), by("north", 30)}, "remote: 1 chai 3 10, of north at 30"},
	{"add, two inserts", addPolicy, schema.Insert, side{teaHere, by("hq", 20)}, nil, side{teaThere, by("north", 30)}, "merged: 1 chai 3 15, of north at 30"},
	{"add, NULL here counts as nothing", addPolicy, schema.Update, side{row("1", "tea", "3", null), by("hq", 20)}, row("1", "tea", "3", null), side{row("1", "tea", "3", "4"), by("north", 30)}, "remote: 1 tea 3 4, of north at 30"},
	{"add, a NULL from there is no sum, later", addPolicy, schema.Update, side{teaHere, by("hq", 20)}, teaBefore, side{row("1", "tea", "4", null), by("north", 30)}, "remote: 1 tea 4 NULL, of north at 30"},
	{"add, a NULL from there is no sum, earlier", addPolicy, schema.Update, side{teaHere, by("hq", 20)}, teaBefore, side{row("1", "tea", "4", null), by("north", 10)}, "local: 1 tea 4 8, of hq at 20"},
	{"add, a counter that the log left out", addPolicy, schema.Update, side{teaHere, by("hq", 20)}, teaBefore, side{row("1", "chai", "3", gone), by("north", 30)}, "remote: 1 chai 3 8, of north at 30"},
	{"add with a delete is latest", addPolicy, schema.Delete, side{teaHere, by("hq", 20)}, teaBefore, side{nil, by("north", 30)}, "remote: none, of north at 30"},
	{"a large value stays as it is here", latestPolicy, schema.Update, side{teaHere, by("hq", 20)}, teaBefore, side{row("1", gone, "5", "7"), by("north", 30)}, "remote: 1 tea 5 7, of north at 30"},
	{"a large value comes from the image before", latestPolicy, schema.Update, side{nil, by("hq", 20)}, teaBefore, side{row("1", gone, "5", "7"), by("north", 30)}, "remote: 1 tea 5 7, of north at 30"},
	{"a large value that nobody has leaves the row gone", latestPolicy, schema.Update, side{nil, by("hq", 20)}, row("1", gone, gone, gone), side{row("1", gone, "5", "7"), by("north", 30)}, "local: none, of hq at 20"},
	{"branch cannot take what is not whole either", schema.Policy{Kind: schema.BranchWins}, schema.Update, side{nil, by("hq", 20)}, nil, side{row("1", gone, "5", "7"), by("north", 30)}, "local: none, of hq at 20"},
}

func TestDecide(t *testing.T) {
	for _, c := range contests {
		t.Run(c.name, func(t *testing.T) {
			contest := contest{policy: c.policy, table: article, op: c.op, local: c.local.Row, localBy: c.local.version, before: c.before, remote: c.remote.Row, by: c.remote.version}
			localWas, remoteWas := slices.Clone(c.local.Row), slices.Clone(c.remote.Row)
			d, err := contest.decide()
			if err != nil {
				t.Fatal(err)
			}
			if d.String() != c.want {
				t.Errorf("%s\nwant %s", d, c.want)
			}
			if !slices.Equal(c.local.Row, localWas) || !slices.Equal(c.remote.Row, remoteWas) {
				t.Error("deciding changed an image that the conflict log still has to tell")
			}
		})
	}
}

func TestUndecidable(t *testing.T) {
	local, remote := row("1", "tea", "4", "8"), row("1", "chai", "3", "7")
	decide := func(p schema.Policy, op schema.Op, local, before, remote schema.Row) error {
		c := contest{policy: p, table: article, op: op, local: local, localBy: by("hq", 20), before: before, remote: remote, by: by("north", 30)}
		_, err := c.decide()
		return err
	}
	for name, err := range map[string]error{
		"merge without old values":             decide(mergePolicy, schema.Update, local, nil, remote),
		"add without old values":               decide(addPolicy, schema.Update, local, nil, remote),
		"add without the old value of its own": decide(addPolicy, schema.Update, local, row("1", "tea", "3", gone), remote),
	} {
		if !errors.Is(err, errNoOldValues) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := decide(addPolicy, schema.Update, local, row("1", "tea", "3", "10"), row("1", "tea", "3", "NaN")); err == nil || !strings.Contains(err.Error(), "qty") {
		t.Errorf("a counter that is no number: %v", err)
	}
	if err := decide(latestPolicy, schema.Update, local, nil, remote); err != nil {
		t.Errorf("latest needs no old values: %v", err)
	}
}

// decimal draws a number as a log has it, of any sign, length and scale.
func decimal(t *rapid.T, label string) string {
	s := rapid.StringMatching(`-?(0|[1-9][0-9]{0,40})(\.[0-9]{1,30})?`).Draw(t, label)
	return s
}

func rational(t *rapid.T, s string) *big.Rat {
	r, ok := new(big.Rat).SetString(s)
	if !ok {
		t.Fatalf("%q is no number", s)
	}
	return r
}

// local + remote - before, whatever the digits.
func TestAddDecimals(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l, r, o := decimal(t, "local"), decimal(t, "remote"), decimal(t, "old")
		got, err := addDecimals(l, r, o)
		if err != nil {
			t.Fatal(err)
		}
		want := rational(t, l)
		want.Add(want, rational(t, r)).Sub(want, rational(t, o))
		if rational(t, got).Cmp(want) != 0 {
			t.Fatalf("%s + %s - %s = %s, want %s", l, r, o, got, want.FloatString(40))
		}
		scale := 0
		for _, s := range []string{l, r, o} {
			if _, fraction, has := strings.Cut(s, "."); has {
				scale = max(scale, len(fraction))
			}
		}
		if want := want.FloatString(scale); got != want {
			t.Fatalf("%s + %s - %s is written %s, want %s", l, r, o, got, want)
		}
	})
	for _, s := range []string{"", "-", "1e3", "NaN", "Infinity", "1.2.3", "0x10", "1_000", " 1"} {
		if got, err := addDecimals(s, "1", "0"); err == nil {
			t.Errorf("%q + 1 = %s", s, got)
		}
	}
}

// contestOf draws any contest over article, by offices with coarse clocks so that ties happen.
func contestOf(t *rapid.T, kinds ...schema.PolicyKind) *contest {
	value := func(label string) schema.Value {
		return rapid.SampledFrom([]schema.Value{schema.Of("1"), schema.Of("2"), schema.Of("30"), schema.NullValue()}).Draw(t, label)
	}
	image := func(label string) schema.Row {
		return schema.Row{schema.Of("1"), value(label + " name"), value(label + " price"), value(label + " qty")}
	}
	c := &contest{table: article, op: rapid.SampledFrom([]schema.Op{schema.Insert, schema.Update, schema.Delete}).Draw(t, "op")}
	c.policy.Kind = rapid.SampledFrom(kinds).Draw(t, "policy")
	c.policy.Add = []string{"qty"}
	office := rapid.SampledFrom([]schema.Office{"east", "hq", "north", "south"})
	c.policy.Order = rapid.SampledFrom([][]schema.Office{{"north"}, {"south", "hq"}, {"hq", "east", "south", "north"}}).Draw(t, "order")
	c.localBy = by(office.Draw(t, "local office"), rapid.Int64Range(1, 3).Draw(t, "local millis"))
	c.by = by(office.Filter(func(o schema.Office) bool { return o != c.localBy.origin }).Draw(t, "office"), rapid.Int64Range(1, 3).Draw(t, "millis"))
	if rapid.Bool().Draw(t, "here") {
		c.local = image("local")
	}
	if c.op != schema.Insert {
		c.before = image("before")
	}
	if c.op != schema.Delete {
		c.remote = image("remote")
	}
	return c
}

// Whatever meets whatever: an outcome, by words that say what came of it, and nothing in the row that neither side has.
func TestDecideAnything(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := contestOf(t, schema.Latest, schema.HeadWins, schema.BranchWins, schema.Ordered, schema.Merge, schema.Add, schema.Manual)
		d, err := c.decide()
		if err != nil {
			t.Fatal(err)
		}
		if again, err := c.decide(); err != nil || again.String() != d.String() {
			t.Fatalf("%s, and once more %s, %v", d, again, err)
		}
		isLocal, isRemote := sameRow(article, d.result, c.local), sameRow(article, d.result, c.remote)
		switch d.winner {
		case localWins, nobodyYet:
			if !isLocal {
				t.Fatalf("%s, here %s", d, show(c.local))
			}
		case remoteWins:
			if !isRemote {
				t.Fatalf("%s, there %s", d, show(c.remote))
			}
		case merged:
			if isLocal || isRemote {
				t.Fatalf("%s is one side's: here %s, there %s", d, show(c.local), show(c.remote))
			}
		default:
			t.Fatalf("winner %q", d.winner)
		}
		if d.by != c.localBy && d.by != c.by {
			t.Fatalf("%s is of nobody who took part", d)
		}
		for i := range d.result {
			if v := d.result[i]; d.result[i].IsUnchanged() || article.Columns[i].Name != "qty" && v != at(c.local, i) && v != at(c.remote, i) {
				t.Fatalf("%s: %s is neither side's", d, article.Columns[i].Name)
			}
		}
	})
}

func at(r schema.Row, i int) schema.Value {
	if r == nil {
		return schema.Value{}
	}
	return r[i]
}

// latest, a list and merge do not care which of the two arrived second: the row comes out the same.
func TestDecideFromEitherSide(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := contestOf(t, schema.Latest, schema.Ordered, schema.Merge)
		other := *c
		other.local, other.localBy, other.remote, other.by = c.remote, c.by, c.local, c.localBy
		if other.op = schema.Update; other.remote == nil {
			other.op = schema.Delete
		} else if c.op == schema.Insert {
			other.op = schema.Insert
		}
		d, err := c.decide()
		e, otherErr := other.decide()
		if err != nil || otherErr != nil {
			t.Fatal(err, otherErr)
		}
		if show(d.result) != show(e.result) || d.by != e.by {
			t.Fatalf("%s; the other way round %s", d, e)
		}
	})
}

// Whoever arrives in whatever order: a counter is the sum of what was added anywhere.
func TestAddIsTheSum(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		number := func(label string) int { return rapid.IntRange(-1000, 1000).Draw(t, label) }
		start := number("start")
		want, here := start, start
		localBy := by("hq", 2)
		for i := range rapid.IntRange(1, 5).Draw(t, "changes") {
			if i == 0 || rapid.Bool().Draw(t, "one is made here") {
				n := number("local")
				want, here = want+n, here+n
			}
			n, from := number("delta"), number("from") // the office's own sum may be any by now
			want += n
			c := &contest{
				policy: addPolicy, table: article, op: schema.Update, local: row("1", "a", "b", strconv.Itoa(here)), localBy: localBy,
				before: row("1", "a", "b", strconv.Itoa(from)), remote: row("1", "c", "b", strconv.Itoa(from+n)),
				by: by("north", rapid.Int64Range(1, 3).Draw(t, "millis")),
			}
			d, err := c.decide()
			if err != nil {
				t.Fatal(err)
			}
			if here, err = strconv.Atoi(d.result[3].Text()); err != nil {
				t.Fatal(err)
			}
			localBy = d.by
		}
		if here != want {
			t.Fatalf("the counter is %d, the sum %d", here, want)
		}
	})
}

// What the conflict log keeps of an image can be made a row again, byte for byte.
func TestImageThereAndBack(t *testing.T) {
	table := schema.NewTable(schema.Table{
		TableName: schema.TableName{Name: "t"}, Engine: schema.Postgres, Key: []int{0},
		Columns: []schema.Column{integer("id"), text(`na"me`), {Name: "raw", Kind: schema.KindBytes, Nullable: true}, text("ümlaut")},
	})
	rapid.Check(t, func(t *rapid.T) {
		value := func(label string, words *rapid.Generator[string]) schema.Value {
			switch rapid.IntRange(0, 3).Draw(t, label+" state") {
			case 0:
				return schema.NullValue()
			case 1:
				return schema.Value{}
			}
			return schema.Of(words.Draw(t, label))
		}
		words := rapid.OneOf(rapid.String(), rapid.SampledFrom([]string{"", `\x00`, `\xzz`, `\\`, "null", "<&>\u2028", "a\x00b", "\ufffd", "NULL"}))
		raw := rapid.Map(rapid.SliceOf(rapid.Byte()), func(b []byte) string { return string(b) })
		want := schema.Row{schema.Of("7"), value("name", words), value("raw", raw), value("ümlaut", words)}
		image := imageJSON(table, want)
		got, err := parseImage(table, image.Text())
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(got, want) {
			t.Fatalf("%s became %s", show(want), show(got))
		}
	})
	if v := imageJSON(table, nil); !v.IsNull() {
		t.Errorf("no row is %s", v)
	}
	for _, broken := range []string{`{"id":`, `{"other":"1"}`, `{"raw":"\\xzz"}`} {
		if _, err := parseImage(table, broken); err == nil || !strings.Contains(err.Error(), "table t") {
			t.Errorf("%s: %v", broken, err)
		}
	}
}
