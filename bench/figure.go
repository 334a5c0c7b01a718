package main

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// figure is one measured value: a cell of a table of its section. Tables, rows and columns appear in the order in which
// their first figures come.
type figure struct {
	table  string // its heading
	row    string // what was measured: "pg-pg insert100"
	column string // which figure, with its unit: "ours, rows/s"
	value  float64
	low    float64 // of all rounds
	high   float64
	rounds int // 0 or 1: low and high say nothing
	must   *must
}

// must is a promise about a figure.
type must struct {
	least bool // the value must be at least limit; otherwise at most
	limit float64
	aim   float64 // what we would like; 0: nothing is said
}

func atLeast(limit, aim float64) *must { return &must{true, limit, aim} }

func atMost(limit, aim float64) *must { return &must{false, limit, aim} }

// median is the figure of what several rounds gave.
func median(table, row, column string, s samples, m *must) figure {
	return figure{table, row, column, s.median(), s.percentile(0), s.percentile(100), len(s), m}
}

// ratio is the figure of a comparison: the medians divided, and the spread of the rounds' own ratios.
func ratio(table, row, column string, ours, theirs samples, m *must) figure {
	f := median(table, row, column, ours.over(theirs), m)
	f.value = ours.median() / theirs.median()
	return f
}

// single is the figure of one measurement.
func single(table, row, column string, value float64, m *must) figure {
	return figure{table: table, row: row, column: column, value: value, rounds: 1, must: m}
}

func (f figure) met() bool {
	switch {
	case f.must == nil:
		return true
	case f.must.least:
		return f.value >= f.must.limit
	default:
		return f.value <= f.must.limit
	}
}

// String is the cell: value, spread, promise.
func (f figure) String() string {
	s := number(f.value)
	if f.rounds > 1 {
		s += " (" + number(f.low) + "–" + number(f.high) + ")"
	}
	if f.must == nil {
		return s
	}
	if f.met() {
		return s + ", " + f.must.String() + " met"
	}
	return s + ", " + f.must.String() + " NOT met"
}

func (m must) String() string {
	sign := "≤"
	if m.least {
		sign = "≥"
	}
	s := sign + " " + number(m.limit)
	if m.aim != 0 {
		s += " [" + number(m.aim) + "]"
	}
	return s
}

// number has three significant digits, or all before the point, in groups of three.
func number(v float64) string {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return "none"
	}
	decimals := 0
	for limit := 100.0; decimals < 3 && math.Abs(v) < limit; limit /= 10 {
		decimals++
	}
	s := strconv.FormatFloat(v, 'f', decimals, 64)
	if strings.Contains(s, ".") {
		return strings.TrimSuffix(strings.TrimRight(s, "0"), ".")
	}
	var groups []string
	sign := ""
	if strings.HasPrefix(s, "-") {
		sign, s = "-", s[1:]
	}
	for len(s) > 3 {
		groups = append([]string{s[len(s)-3:]}, groups...)
		s = s[:len(s)-3]
	}
	return sign + strings.Join(append([]string{s}, groups...), ",")
}

// failure is a line about a must that is not met.
func (f figure) failure() string {
	return fmt.Sprintf("%s, %s, %s: %s", f.table, f.row, f.column, f)
}
