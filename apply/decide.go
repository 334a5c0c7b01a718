package apply

import (
	"cmp"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strings"

	"cdc-sidecar/schema"
)

// contest is a change of another office that meets a row that somebody touched without its having seen that. All images
// are in the columns of the table here. Pure data: what is decided depends on nothing else.
type contest struct {
	policy schema.Policy
	table  *schema.Table
	op     schema.Op

	local   schema.Row // the row as it stands; nil: there is none
	localBy version
	before  schema.Row // what the other office's log has of its row before; nil: nothing
	remote  schema.Row // the row as the other office has it, columns that its log left out are Unchanged; nil: deleted
	by      version
	blind   bool // the other office may not have had the row as it was here
	older   bool // of what the other office has, it is not known that it was changed at all: see writer.older
}

// version says whose an image is.
type version struct {
	origin schema.Office
	stamp  schema.Stamp
}

// less orders versions as `latest` does: by stamp, then by the office's name.
func (v version) less(w version) bool {
	if v.stamp != w.stamp || schema.Planted(schema.TieUndecided) {
		return v.stamp.Less(w.stamp)
	}
	return v.origin < w.origin
}

func (v version) later(w version) version {
	if v.less(w) {
		return w
	}
	return v
}

// winner is the conflict log's word for who won.
type winner string

const (
	localWins  winner = "local"
	remoteWins winner = "remote"
	merged     winner = "merged"
	nobodyYet  winner = "none" // the row stays until a person decides
)

// decision is how a contest ends.
type decision struct {
	winner winner
	result schema.Row // the row as it shall be; nil: none
	by     version    // whose it is, for what comes later
}

// decide applies the policy. Its error says that the policy cannot be followed with what the change has.
func (c *contest) decide() (decision, error) {
	if c.older {
		return c.keep(localWins), nil
	}
	switch c.policy.Kind {
	case schema.HeadWins:
		return c.keep(localWins), nil
	case schema.Manual:
		return c.keep(nobodyYet), nil
	case schema.BranchWins:
		return c.take(), nil
	case schema.Ordered:
		if order := cmp.Compare(c.rank(c.localBy.origin), c.rank(c.by.origin)); order != 0 {
			return c.choose(order > 0), nil
		}
		return c.latest(), nil
	case schema.Merge, schema.Add:
		if c.local == nil || c.remote == nil || c.blind && c.before == nil { // whole rows, of which nobody knows what is new in them
			return c.latest(), nil
		}
		return c.blend()
	default:
		return c.latest(), nil
	}
}

// rank is an office's place in the policy's order; those that are not named come last.
func (c *contest) rank(o schema.Office) int {
	if i := slices.Index(c.policy.Order, o); i >= 0 {
		return i
	}
	return len(c.policy.Order)
}

func (c *contest) latest() decision { return c.choose(c.remoteLater()) }

// remoteLater reports whether the other office's version is the later one. An office's changes come in its own order, so of two
// of one office that which comes now is, also within one transaction, which has one stamp, and when a clock was set right in between.
func (c *contest) remoteLater() bool {
	return c.localBy.origin == c.by.origin || c.localBy.less(c.by)
}

func (c *contest) choose(remote bool) decision {
	if remote {
		return c.take()
	}
	return c.keep(localWins)
}

func (c *contest) keep(w winner) decision { return decision{winner: w, result: c.local, by: c.localBy} }

// take gives the row to the other office. A column that its log left out (a large value that was not changed) keeps the
// value here; where there is no row here, that of the image before. When neither has it, the row cannot be written.
func (c *contest) take() decision {
	if c.remote == nil {
		return decision{winner: remoteWins, by: c.by}
	}
	result := slices.Clone(c.remote)
	for i := range result {
		if !result[i].IsUnchanged() {
			continue
		}
		switch {
		case c.local != nil:
			result[i] = c.local[i]
		case c.before != nil && !c.before[i].IsUnchanged():
			result[i] = c.before[i]
		}
	}
	if c.local == nil && !result.Complete(c.table) {
		return c.keep(localWins)
	}
	return decision{winner: remoteWins, result: result, by: c.by}
}

// blend takes each column from the side that changed it: what both changed, from the later one; but a counter gets what
// both added. An insert has no image before: everything in it is its own doing.
func (c *contest) blend() (decision, error) {
	if c.before == nil && c.op != schema.Insert {
		return decision{}, errNoOldValues
	}
	remoteLater := c.remoteLater()
	result := slices.Clone(c.local)
	fromRemote, fromLocal := false, false
	for i := range result {
		column := &c.table.Columns[i]
		if column.Generated || c.remote[i].IsUnchanged() {
			continue
		}
		counter := c.policy.Kind == schema.Add && slices.Contains(c.policy.Add, column.Name)
		sum, isSum, err := c.sum(i, counter)
		switch {
		case err != nil:
			return decision{}, err
		case isSum:
			fromRemote, fromLocal = fromRemote || !equalValues(column, sum, c.local[i]), fromLocal || !equalValues(column, sum, c.remote[i])
			result[i] = sum
		case equalValues(column, c.remote[i], c.local[i]):
		case c.policy.Kind == schema.Merge && c.before != nil && equalValues(column, c.remote[i], c.before[i]):
			fromLocal = true // only this side changed it
		case c.policy.Kind == schema.Merge && c.before != nil && equalValues(column, c.local[i], c.before[i]), remoteLater:
			fromRemote = true // only the other side did, or it did so later
			result[i] = c.remote[i]
		default:
			fromLocal = true
		}
	}
	d := decision{winner: merged, result: result, by: c.localBy.later(c.by)}
	switch {
	case !fromRemote:
		d.winner = localWins
	case !fromLocal:
		d.winner = remoteWins
	}
	return d, nil
}

// errNoOldValues: the log of the change's origin does not have what merge and add need.
var errNoOldValues = errors.New("the change does not hold the row as it was before, which this table's policy needs")

// sum is the counter here and what the other office added to its own. A counter that one side set to NULL is no sum.
func (c *contest) sum(i int, counter bool) (schema.Value, bool, error) {
	if !counter || c.remote[i].IsNull() {
		return schema.Value{}, false, nil
	}
	old := schema.Of("0")
	if c.before != nil {
		if old = c.before[i]; old.IsUnchanged() {
			return schema.Value{}, false, errNoOldValues
		}
	}
	text, err := addDecimals(countOf(c.local[i]), countOf(c.remote[i]), countOf(old))
	if err == nil && schema.Planted(schema.DeltaTwice) {
		text, err = addDecimals(text, countOf(c.remote[i]), countOf(old))
	}
	if schema.Planted(schema.AbsoluteNotDelta) {
		return c.remote[i], true, nil
	}
	if err != nil {
		return schema.Value{}, false, fmt.Errorf("column %s is no counter: %w", c.table.Columns[i].Name, err)
	}
	return schema.Of(text), true, nil
}

// countOf takes NULL for nothing counted yet.
func countOf(v schema.Value) string {
	if v.State() != schema.Present {
		return "0"
	}
	return v.Text()
}

// addDecimals is local + remote - old, exactly, with the most digits after the point that one of them has.
func addDecimals(local, remote, old string) (string, error) {
	var scale int
	for _, s := range []string{local, remote, old} {
		_, fraction, _ := strings.Cut(s, ".")
		scale = max(scale, len(fraction))
	}
	total := new(big.Int)
	for i, s := range []string{local, remote, old} {
		whole, fraction, _ := strings.Cut(s, ".")
		n, ok := new(big.Int).SetString(whole+fraction+strings.Repeat("0", scale-len(fraction)), 10)
		if !ok {
			return "", fmt.Errorf("%q cannot be added exactly", shorten(s))
		}
		if i == 2 {
			n.Neg(n)
		}
		total.Add(total, n)
	}
	if scale == 0 {
		return total.String(), nil
	}
	sign := ""
	if total.Sign() < 0 {
		sign = "-"
		total.Neg(total)
	}
	digits := total.String()
	digits = strings.Repeat("0", max(scale+1-len(digits), 0)) + digits
	return sign + digits[:len(digits)-scale] + "." + digits[len(digits)-scale:], nil
}

// equalValues compares two values of a column. Canonical texts are equal for equal values, but for the zeros behind a fraction.
func equalValues(c *schema.Column, a, b schema.Value) bool {
	if a == b || a.State() != schema.Present || b.State() != schema.Present {
		return a == b
	}
	switch c.Kind {
	case schema.KindDecimal, schema.KindTime, schema.KindTimestamp, schema.KindTimestampTZ:
		return trimZeros(a.Text()) == trimZeros(b.Text())
	default:
		return false
	}
}

func trimZeros(s string) string {
	if !strings.Contains(s, ".") {
		return s
	}
	return strings.TrimRight(strings.TrimRight(s, "0"), ".")
}

// sameRow compares two images in all columns that both have.
func sameRow(t *schema.Table, a, b schema.Row) bool {
	if a == nil || b == nil {
		return a == nil && b == nil
	}
	for i := range t.Columns {
		if !a[i].IsUnchanged() && !b[i].IsUnchanged() && !equalValues(&t.Columns[i], a[i], b[i]) {
			return false
		}
	}
	return true
}
