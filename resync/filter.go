package resync

import (
	"fmt"
	"strconv"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types/ref"

	"cdc-sidecar/schema"
)

// Filter says of rows whether they are meant: an expression in CEL over row (its columns by name) and office.name, the branch.
// Whole numbers are int, decimals and floats double, booleans bool, NULL null; everything else is its canonical text, which of
// dates and times is in the order of time.
type Filter struct {
	program cel.Program
	table   *schema.Table
	office  map[string]string
}

// NewFilter reads an expression; nil for none: every row is meant. The expression must give a bool.
func NewFilter(expression string, t *schema.Table, branch schema.Office) (*Filter, error) {
	if expression == "" {
		return nil, nil
	}
	env, err := cel.NewEnv(cel.Variable("row", cel.MapType(cel.StringType, cel.DynType)), cel.Variable("office", cel.MapType(cel.StringType, cel.StringType)))
	if err != nil {
		return nil, fmt.Errorf("read an expression: %w", err)
	}
	ast, issues := env.Compile(expression)
	if issues.Err() != nil {
		return nil, fmt.Errorf("read %q: %w", expression, issues.Err())
	}
	if out := ast.OutputType(); !out.IsExactType(cel.BoolType) && !out.IsExactType(cel.DynType) {
		return nil, fmt.Errorf("%q gives %s, not a bool; like: row.branch == office.name", expression, out)
	}
	program, err := env.Program(ast, cel.EvalOptions(cel.OptOptimize))
	if err != nil {
		return nil, fmt.Errorf("read %q: %w", expression, err)
	}
	return &Filter{program: program, table: t, office: map[string]string{"name": string(branch)}}, nil
}

// Matching are the rows that are meant, in the same slice.
func (f *Filter) Matching(rows []schema.Row) ([]schema.Row, error) {
	if f == nil {
		return rows, nil
	}
	matching := rows[:0]
	for _, r := range rows {
		is, err := f.Matches(r)
		if err != nil {
			return nil, err
		}
		if is {
			matching = append(matching, r)
		}
	}
	return matching, nil
}

// Matches reports whether a row is meant. An expression that does not fit the row (a column that is not there, a number compared
// with text) is an error: to guess would be to leave rows out.
func (f *Filter) Matches(r schema.Row) (bool, error) {
	if f == nil {
		return true, nil
	}
	row := make(map[string]any, len(r))
	for i := range f.table.Columns {
		if v, known := value(&f.table.Columns[i], r[i]); known {
			row[f.table.Columns[i].Name] = v
		}
	}
	out, _, err := f.program.Eval(map[string]any{"row": row, "office": f.office})
	if err != nil {
		return false, fmt.Errorf("table %s: the expression does not fit its rows: %w", f.table.TableName, err)
	}
	return truth(out, f.table)
}

func truth(out ref.Val, t *schema.Table) (bool, error) {
	is, ok := out.Value().(bool)
	if !ok {
		return false, fmt.Errorf("table %s: the expression gives %s, not a bool", t.TableName, out.Type().TypeName())
	}
	return is, nil
}

func value(c *schema.Column, v schema.Value) (any, bool) {
	switch {
	case v.IsUnchanged():
		return nil, false
	case v.IsNull():
		return nil, true
	}
	text := v.Text()
	switch c.Kind {
	case schema.KindInt, schema.KindYear:
		if n, err := strconv.ParseInt(text, 10, 64); err == nil {
			return n, true
		}
		if n, err := strconv.ParseUint(text, 10, 64); err == nil {
			return n, true
		}
	case schema.KindDecimal, schema.KindFloat:
		if n, err := strconv.ParseFloat(text, 64); err == nil {
			return n, true
		}
	case schema.KindBool:
		return text == "1", true
	}
	return text, true
}
