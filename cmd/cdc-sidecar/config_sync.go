package main

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"
	"github.com/robfig/cron/v3"

	"cdc-sidecar/admin"
	"cdc-sidecar/schema"
)

// SyncKind says when an office speaks with the others.
type SyncKind string

// The kinds. Capture goes on in all of them.
const (
	SyncRealtime  SyncKind = admin.SyncRealtime  // always
	SyncManual    SyncKind = admin.SyncManual    // while a sync is under way that somebody asked for
	SyncScheduled SyncKind = admin.SyncScheduled // as manual, and the sidecar asks for one by itself
)

// Schedule gives the next time after one; the zero time when there is none.
type Schedule interface {
	Next(after time.Time) time.Time
}

// SyncMode is the configuration's sync.
type SyncMode struct {
	Kind     SyncKind
	Schedule Schedule // nil unless scheduled
	Text     string   // of the schedule, as written
}

// JoinConfig is what a branch does with its tables when it joins.
type JoinConfig struct {
	Mode  string // admin.ModeDiff, admin.ModeReplace or joinNone
	Extra string // admin.ExtraSend, ExtraDelete or ExtraKeep: of rows that only the branch has
	Rows  int64  // a second, at most; 0: as fast as it goes
	Bytes int64  // likewise
}

// joinNone: the tables are taken as equal, because somebody saw to that.
const joinNone = "none"

// VerifyConfig is the comparison in the background.
type VerifyConfig struct {
	Schedule Schedule // when one begins; nil: none does
	Text     string   // of the schedule, as written
	Rows     int64    // a second, at most; 0: as fast as it goes
}

const (
	// A sync or a comparison a minute is as often as cron's five fields can say.
	minSchedule = time.Minute
	maxSchedule = 366 * 24 * time.Hour
	// maxRate is more than any machine does, and far from overflowing in sums.
	maxRate = 1 << 40
)

// schedulePattern keeps from the parser what it does not bear (a time zone without fields).
var schedulePattern = regexp.MustCompile(`^((CRON_)?TZ=\S+ +)?(@[a-z]+( \S+)?|\S+( +\S+){4})$`)

// fiveFields is the form of a schedule, for error messages.
const fiveFields = `a cron schedule of five fields (minute, hour, day, month, weekday), like "30 2 * * *"`

// parseSchedule reads five fields of cron, in the machine's time zone unless TZ= stands before them, or @daily and the like.
func parseSchedule(s string) (Schedule, error) {
	schedule, err := cron.ParseStandard(s)
	if err != nil {
		if shown(s) == hidden {
			return nil, errors.New("want " + fiveFields)
		}
		return nil, fmt.Errorf("%s: %w; want %s", shown(s), err, fiveFields)
	}
	if every, ok := schedule.(cron.ConstantDelaySchedule); ok && every.Delay < minSchedule {
		return nil, fmt.Errorf("%s: want at least a minute in between", shown(s))
	}
	if schedule.Next(time.Now()).IsZero() {
		return nil, fmt.Errorf("%s: such a day never comes", shown(s))
	}
	return schedule, nil
}

func parseSync(s string) (SyncMode, error) {
	switch {
	case s == string(SyncRealtime), s == string(SyncManual):
		return SyncMode{Kind: SyncKind(s)}, nil
	case !schedulePattern.MatchString(s):
		return SyncMode{}, fmt.Errorf("%s: want realtime, manual, or %s", shown(s), fiveFields)
	}
	schedule, err := parseSchedule(s)
	return SyncMode{Kind: SyncScheduled, Schedule: schedule, Text: s}, err
}

// parseEvery takes a duration, too.
func parseEvery(s string) (Schedule, error) {
	if spanPattern.MatchString(s) {
		every, err := parseSpan(s, maxSchedule)
		if err == nil && every < minSchedule {
			err = fmt.Errorf("%s: want at least a minute", shown(s))
		}
		return cron.Every(every), err
	}
	if !schedulePattern.MatchString(s) {
		return nil, fmt.Errorf("%s: want a time in between, like 24h, or %s", shown(s), fiveFields)
	}
	return parseSchedule(s)
}

func oneOf(s string, words ...string) (string, error) {
	for _, w := range words {
		if s == w {
			return s, nil
		}
	}
	last := len(words) - 1
	return "", fmt.Errorf("%s: want %s or %s", shown(s), strings.Join(words[:last], ", "), words[last])
}

func parseJoinMode(s string) (string, error) {
	return oneOf(s, admin.ModeDiff, admin.ModeReplace, joinNone)
}

func parseExtra(s string) (string, error) {
	return oneOf(s, admin.ExtraSend, admin.ExtraDelete, admin.ExtraKeep)
}

func parseRows(s string) (int64, error) {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < 0 || n > maxRate {
		return 0, fmt.Errorf("%s: want a number of rows a second, like 5000, or 0 for no limit", shown(s))
	}
	return n, nil
}

var ratePattern = regexp.MustCompile(`^([0-9]{1,9}) ?(KiB|MiB|GiB|kB|MB|GB)$`)

var rateUnits = map[string]int64{"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "kB": 1e3, "MB": 1e6, "GB": 1e9}

func parseRate(s string) (int64, error) {
	if s == "0" {
		return 0, nil
	}
	part := ratePattern.FindStringSubmatch(s)
	if part == nil {
		return 0, fmt.Errorf("%s: want a number and a unit (KiB, MiB, GiB) for each second, like 2MiB, or 0 for no limit", shown(s))
	}
	n, err := strconv.ParseInt(part[1], 10, 64)
	unit := rateUnits[part[2]]
	if err != nil || n > maxRate/unit {
		return 0, fmt.Errorf("%s is more than any line takes", shown(s))
	}
	return n * unit, nil
}

// readJoin reads one word, or a mapping.
func (d *document) readJoin(n ast.Node) {
	if _, isMap := n.(ast.MapNode); !isMap {
		d.scalar("join", n)
		return
	}
	readers := map[string]func(ast.Node){}
	for _, key := range []string{"mode", "extra", "rows", "bytes"} {
		readers[key] = func(n ast.Node) { d.scalar("join."+key, n) }
	}
	d.mapping(n, "join", readers)
}

// syncConfig checks the keys about sync, join and verify.
func (c *Config) syncConfig(check func(key string, required bool, use func(text string) error)) {
	check("sync", false, func(s string) (err error) { c.Sync, err = parseSync(s); return err })
	check("join", false, func(s string) (err error) { c.Join.Mode, err = parseJoinMode(s); return err })
	check("join.mode", false, func(s string) (err error) { c.Join.Mode, err = parseJoinMode(s); return err })
	check("join.extra", false, func(s string) (err error) { c.Join.Extra, err = parseExtra(s); return err })
	check("join.rows", false, func(s string) (err error) { c.Join.Rows, err = parseRows(s); return err })
	check("join.bytes", false, func(s string) (err error) { c.Join.Bytes, err = parseRate(s); return err })
	check("verify.every", false, func(s string) (err error) {
		c.Verify.Text = s
		c.Verify.Schedule, err = parseEvery(s)
		return err
	})
	check("verify.rows", false, func(s string) (err error) { c.Verify.Rows, err = parseRows(s); return err })
}

// syncNotices says which of the keys join and verify have no effect.
func (d *document) syncNotices(c *Config) []string {
	var notices []string
	note := func(key, why string) {
		if s, there := d.settings[key]; there {
			notices = append(notices, fmt.Sprintf("%s:%d: %s has no effect %s", c.Path, s.line, key, why))
		}
	}
	if c.Role == schema.Head {
		for _, key := range []string{"join", "join.mode", "join.extra", "join.rows", "join.bytes", "verify.every", "verify.rows"} {
			note(key, "at the head: a branch joins, and compares, by its own file")
		}
		return notices
	}
	if c.Verify.Schedule == nil {
		note("verify.rows", "without verify.every")
	}
	if c.Join.Mode == joinNone {
		for _, key := range []string{"join.extra", "join.rows", "join.bytes"} {
			note(key, "with join: none")
		}
	}
	return notices
}
