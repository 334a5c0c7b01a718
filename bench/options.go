package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// options are what the command line says.
type options struct {
	args     []string // the command line, for the report
	quick    bool
	rounds   int // of each comparison; 0: as many as suit the section
	rows     int // of insert100; every other size is in proportion
	sections []string
	pairs    []string
	phases   []string
	profile  string // a folder for the sidecars' CPU profiles; empty: none are taken
	binary   string // of the sidecar
	dir      string // in which servers and sidecars make their folders
	out      string // the report's file; empty: none
	log      bool   // keep the sidecars' logs after an error
}

// The sizes of a whole run, and of a quick one: rows of insert100.
const (
	fullRows  = 500_000
	quickRows = 30_000
)

func parse(args []string, errors io.Writer) (options, error) {
	o := options{args: args}
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.SetOutput(errors)
	var sections, pairs, phases string
	flags.BoolVar(&o.quick, "quick", false, "small sizes and few rounds: three minutes; figures then carry start-up time")
	flags.IntVar(&o.rounds, "rounds", 0, "rounds of each comparison (default: 3 or more where something is promised; quick: 1)")
	flags.IntVar(&o.rows, "rows", 0, fmt.Sprintf("rows of insert100, the other sizes in proportion (default %d, quick %d)", fullRows, quickRows))
	flags.StringVar(&sections, "sections", "", "only these, comma separated, of: "+strings.Join(sectionNames(), ", "))
	flags.StringVar(&pairs, "pairs", "", "only these, comma separated, of: "+strings.Join(pairNames, ", "))
	flags.StringVar(&phases, "phases", "", "only these, comma separated, of: "+strings.Join(phaseNames, ", "))
	flags.StringVar(&o.profile, "profile", "", "folder for the CPU profiles that the sidecars write (CDC_CPUPROFILE) in the timed parts")
	flags.StringVar(&o.binary, "binary", "bin/cdc-sidecar", "the sidecar")
	flags.StringVar(&o.dir, "dir", os.TempDir(), "where servers and sidecars make their temporary folders")
	flags.StringVar(&o.out, "out", "", "the report's file (default: in docs/benchmarks, by date, when no section, pair, phase, size or number of rounds was chosen)")
	flags.BoolVar(&o.log, "log", false, "copy the sidecars' logs to standard error when the run fails")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	if flags.NArg() > 0 {
		return o, fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}
	return o.complete(sections, pairs, phases)
}

// complete checks the choices and fills in what was not chosen.
func (o options) complete(sections, pairs, phases string) (options, error) {
	partial := sections+pairs+phases != "" || o.rows != 0 || o.rounds != 0
	var errs [3]error
	o.sections, errs[0] = choose("section", sections, sectionNames())
	o.pairs, errs[1] = choose("pair", pairs, pairNames)
	o.phases, errs[2] = choose("phase", phases, phaseNames)
	if err := errors.Join(errs[:]...); err != nil {
		return o, err
	}
	// The phases change what insert100 made.
	if slices.Contains(o.sections, "catchup") && !slices.Contains(o.phases, "insert100") && !slices.Equal(o.phases, []string{"mixed"}) {
		o.phases = append([]string{"insert100"}, o.phases...)
	}
	if o.rows == 0 {
		o.rows = fullRows
		if o.quick {
			o.rows = quickRows
		}
	}
	if o.rows < leastRows || o.rounds < 0 {
		return o, fmt.Errorf("-rows must be at least %d and -rounds not negative", leastRows)
	}
	var err error
	if o.binary, err = filepath.Abs(o.binary); err != nil {
		return o, err
	}
	if _, err := os.Stat(o.binary); err != nil {
		return o, fmt.Errorf("the sidecar: %w; run make build, or name it with -binary", err)
	}
	if o.out == "" && !partial {
		o.out = filepath.Join("docs/benchmarks", time.Now().Format(time.DateOnly)+"-"+o.size()+".md")
	}
	return o, nil
}

// leastRows is what the phases need for their shares of a table not to be empty.
const leastRows = 1000

func choose(what, text string, known []string) ([]string, error) {
	if text == "" {
		return known, nil
	}
	chosen := strings.Split(text, ",")
	for _, name := range chosen {
		if !slices.Contains(known, name) {
			return nil, fmt.Errorf("no %s %q; there are: %s", what, name, strings.Join(known, ", "))
		}
	}
	// In our order: the phases build on one another.
	return slices.DeleteFunc(slices.Clone(known), func(name string) bool { return !slices.Contains(chosen, name) }), nil
}

func (o options) size() string {
	if o.quick {
		return "quick"
	}
	return "full"
}

// scaled is a size that is full in a whole run and in proportion to -rows in another.
func (o options) scaled(full int) int { return max(1, full*o.rows/fullRows) }

// times is how many rounds a comparison has: full in a whole run, one in a quick one.
func (o options) times(full int) int {
	switch {
	case o.rounds > 0:
		return o.rounds
	case o.quick:
		return 1
	default:
		return full
	}
}
