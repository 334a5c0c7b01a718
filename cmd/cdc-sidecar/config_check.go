package main

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"cdc-sidecar/admin"
	"cdc-sidecar/schema"
)

// maxSocketPath is what a unix socket's address can hold on Linux, without the closing zero.
const maxSocketPath = 107

// config checks the settings, one method each; what is wrong is noted in d.problems.
func (d *document) config() Config {
	c := Config{
		Path: d.path, Tables: d.tables, Data: defaultData, Admin: defaultAdmin, JournalBudget: defaultJournalBudget,
		ConflictKeep: defaultConflictKeep, ClockDrift: defaultClockDrift, LogFormat: LogText,
		Sync: SyncMode{Kind: SyncRealtime}, Join: JoinConfig{Mode: admin.ModeDiff, Extra: admin.ExtraSend},
	}
	check := func(key string, required bool, use func(text string) error) {
		s, there := d.settings[key]
		switch {
		case there:
			d.use(key, s, use)
		case required && !d.garbled && !d.blamed[key]:
			d.fail(0, "%s is missing%s", key, orVariable(key))
		}
	}
	check("office", true, func(s string) (err error) { c.Office, err = parseOffice(s); return err })
	check("role", true, func(s string) (err error) { c.Role, err = parseRole(s); return err })
	check("database", true, func(s string) (err error) { c.Database, err = schema.ParseDSN(s); return err })
	check("broker", true, func(s string) error { c.Broker = s; return checkBroker(s) })
	check("data", false, func(s string) error { c.Data = filepath.Clean(s); return nil })
	check("admin_token", false, func(s string) error { c.AdminToken = s; return checkToken(s) })
	check("admin", false, func(s string) error { c.Admin = s; return checkAdmin(s, c.AdminToken != "") })
	c.syncConfig(check)
	d.ddlConfig(&c, check)
	check("journal.budget", false, func(s string) (err error) { c.JournalBudget, err = parseBudget(s); return err })
	check("conflicts.keep", false, func(s string) (err error) { c.ConflictKeep, err = parseKeep(s); return err })
	check("clock.drift", false, func(s string) (err error) { c.ClockDrift, err = parseDrift(s); return err })
	check("log.level", false, func(s string) (err error) { c.LogLevel, err = parseLevel(s); return err })
	check("log.format", false, func(s string) (err error) { c.LogFormat, err = parseFormat(s); return err })
	c.Notices = append(c.Notices, append(conflictNotices(&c), d.syncNotices(&c)...)...)
	return c
}

func (d *document) use(key string, s setting, use func(string) error) {
	err := use(s.text)
	switch {
	case err == nil:
	case s.line > 0:
		d.fail(s.line, "%s: %v", key, err)
	default:
		d.fail(0, "%s: %v", s.from, err)
	}
}

func orVariable(key string) string {
	for _, o := range overrides {
		if o.key == key {
			return " (the key here, or the variable " + o.variable + ")"
		}
	}
	return ""
}

func parseOffice(s string) (schema.Office, error) {
	office, err := schema.ParseOffice(s)
	if err != nil && shown(s) == hidden {
		return "", errors.New("want an office's name, got " + hidden)
	}
	return office, err
}

func parseRole(s string) (schema.Role, error) {
	switch role := schema.Role(s); role {
	case schema.Head, schema.Branch:
		return role, nil
	default:
		return "", fmt.Errorf("%s: want head or branch", shown(s))
	}
}

// checkBroker keeps the URL out of its errors: it has the password.
func checkBroker(s string) error {
	u, err := url.Parse(s)
	if err != nil {
		return fmt.Errorf("not a URL (is a special character of the password not percent-encoded?)")
	}
	if u.Scheme != "amqp" && u.Scheme != "amqps" {
		return fmt.Errorf("scheme %q, want amqp:// or amqps://", u.Scheme)
	}
	if u.Hostname() == "" {
		return fmt.Errorf("want %s://user:password@host:port/vhost", u.Scheme)
	}
	return nil
}

func checkToken(s string) error {
	for _, c := range []byte(s) {
		if c <= ' ' || c >= 0x7f {
			return fmt.Errorf("want printable ASCII without spaces: it travels in a header")
		}
	}
	return nil
}

// checkAdmin lets only loopback and unix sockets go without a token.
func checkAdmin(s string, token bool) error {
	if path, unix := strings.CutPrefix(s, "unix:"); unix {
		if !filepath.IsAbs(path) || len(path) > maxSocketPath {
			return fmt.Errorf("%s: want unix:/absolute/path of at most %d characters", shown(s), maxSocketPath)
		}
		return nil
	}
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		return fmt.Errorf("%s: want host:port or unix:/path", shown(s))
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return fmt.Errorf("%s: want a port from 1 to 65535, so that the other verbs find it", shown(s))
	}
	ip := net.ParseIP(host)
	if host == "localhost" || (ip != nil && ip.IsLoopback()) || token {
		return nil
	}
	return fmt.Errorf("%s is reachable from other machines: set admin_token (or CDC_ADMIN_TOKEN_FILE), or use 127.0.0.1:port or unix:/path", shown(s))
}

func parseLevel(s string) (level slog.Level, err error) {
	switch strings.ToLower(s) {
	case "debug", "info", "warn", "error":
		return level, level.UnmarshalText([]byte(s))
	default:
		return 0, fmt.Errorf("%s: want debug, info, warn or error", shown(s))
	}
}

func parseFormat(s string) (LogFormat, error) {
	switch f := LogFormat(s); f {
	case LogText, LogJSON:
		return f, nil
	default:
		return "", fmt.Errorf("%s: want text or json", shown(s))
	}
}

var budgetPattern = regexp.MustCompile(`^([0-9]{1,12}) ?(MiB|GiB|TiB|MB|GB|TB)$`)

var budgetUnits = map[string]int64{"MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40, "MB": 1e6, "GB": 1e9, "TB": 1e12}

func parseBudget(s string) (int64, error) {
	part := budgetPattern.FindStringSubmatch(s)
	if part == nil {
		return 0, fmt.Errorf("%s: want a number and a unit (MiB, GiB, TiB), like 10GiB", shown(s))
	}
	n, err := strconv.ParseInt(part[1], 10, 64)
	unit := budgetUnits[part[2]]
	if err != nil || n > (1<<62)/unit {
		return 0, fmt.Errorf("%s is more than any disk has", shown(s))
	}
	if n*unit < minJournalBudget {
		return 0, fmt.Errorf("%s: want at least %d MiB", shown(s), minJournalBudget>>20)
	}
	return n * unit, nil
}

var spanPattern = regexp.MustCompile(`^([0-9]{1,9}) ?(s|m|h|d)$`)

var spanUnits = map[string]time.Duration{"s": time.Second, "m": time.Minute, "h": time.Hour, "d": 24 * time.Hour}

// parseSpan reads a duration in one unit, like 90d. Longer than most is an error, and so cannot overflow.
func parseSpan(s string, most time.Duration) (time.Duration, error) {
	part := spanPattern.FindStringSubmatch(s)
	if part == nil {
		return 0, fmt.Errorf("%s: want a number and a unit (s, m, h, d), like 90d", shown(s))
	}
	n, err := strconv.ParseInt(part[1], 10, 64)
	unit := spanUnits[part[2]]
	if err != nil || n > int64(most/unit) {
		return 0, fmt.Errorf("%s: want at most %d h", shown(s), int64(most.Hours()))
	}
	return time.Duration(n) * unit, nil
}

func parseKeep(s string) (time.Duration, error) {
	if s == "0" {
		return 0, nil
	}
	keep, err := parseSpan(s, maxConflictKeep)
	if err == nil && keep == 0 {
		err = fmt.Errorf("%s: want a time, or 0 (without a unit) to keep them for ever", shown(s))
	}
	return keep, err
}

func parseDrift(s string) (time.Duration, error) {
	drift, err := parseSpan(s, maxClockDrift)
	if err == nil && drift < minClockDrift {
		err = fmt.Errorf("%s: want at least %s", shown(s), minClockDrift)
	}
	return drift, err
}
