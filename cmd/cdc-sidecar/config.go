package main

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"strings"
	"time"

	"cdc-sidecar/journal"
	"cdc-sidecar/schema"
)

// The values of keys that the file leaves out.
const (
	defaultConfigPath = "cdc-sidecar.yaml"
	defaultData       = "/var/lib/cdc-sidecar"
	defaultAdmin      = "127.0.0.1:8350"
	// 10 GiB holds weeks of a branch's changes and fits beside the database on a small office machine.
	defaultJournalBudget = journal.DefaultBudget
	// A quarter of a year is the longest after which somebody asks why a row is as it is, in most offices.
	defaultConflictKeep = 90 * 24 * time.Hour
	maxConflictKeep     = 36500 * 24 * time.Hour // longer is a slip of the pen, and near what 64 bits of nanoseconds hold
	// Machines that ask any time server differ by milliseconds; a minute forgives those that ask rarely.
	defaultClockDrift = time.Minute
	minClockDrift     = time.Second
	maxClockDrift     = 24 * time.Hour
	// One message may have 1 MiB; a journal that cannot hold a few of them could not even ship a large transaction.
	minJournalBudget = 16 << 20
	// maxConfigBytes keeps a mistaken path (a dump, a device) from being read into memory.
	maxConfigBytes = 4 << 20
)

// Config is the configuration, checked: everything that can be known without asking database or broker is right.
type Config struct {
	Path          string // of the file, as it was given
	Office        schema.Office
	Role          schema.Role
	Database      schema.DSN
	Broker        string        // amqp:// or amqps:// URL, with the password: not for logs
	Data          string        // the journal's folder; it need not exist yet
	Admin         string        // host:port, or unix:/path
	AdminToken    string        // empty: none is asked for
	Sync          SyncMode      // when this office speaks with the others
	Join          JoinConfig    // at a branch
	Verify        VerifyConfig  // at a branch
	DDL           DDLConfig     // schema changes
	JournalBudget int64         // bytes that the journal may take on disk before absent offices are given up
	ConflictKeep  time.Duration // how long a decided entry of the conflict log is kept; 0: for ever
	ClockDrift    time.Duration // how far another office's stamp may be ahead of this office's clock
	LogLevel      slog.Level
	LogFormat     LogFormat
	Tables        []TableEntry // as written; ask Rule, Sends and Receives
	Notices       []string     // what was accepted and has no effect, for the log and for status
}

// LogFormat is the form of a log line.
type LogFormat string

// The log formats: text is coloured on a terminal.
const (
	LogText LogFormat = "text"
	LogJSON LogFormat = "json"
)

// configError is everything that is wrong with the configuration, one problem a line; exit code 2.
type configError struct{ problems []string }

func (e *configError) Error() string { return strings.Join(e.problems, "\n") }

// LoadConfig reads the file at path, expands variables, lets CDC_… variables override, and checks the outcome. Its errors
// are of type *configError, name file and line (or the variable), and never repeat a password.
func LoadConfig(path string) (Config, error) { return loadConfig(path, os.LookupEnv) }

func loadConfig(path string, env environment) (Config, error) {
	text, err := readConfig(path)
	if err != nil {
		return Config{}, &configError{[]string{err.Error()}}
	}
	d := parseDocument(path, text, env)
	d.override()
	c := d.config()
	if len(d.problems) > 0 {
		return Config{}, &configError{d.sorted()}
	}
	return c, nil
}

func readConfig(path string) ([]byte, error) {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("%s: there is no such configuration file; name yours with --config or CDC_CONFIG", path)
	case err != nil:
		return nil, fmt.Errorf("configuration file: %w", err)
	case info.IsDir() || info.Size() > maxConfigBytes:
		return nil, fmt.Errorf("%s: not a configuration file (a folder, or larger than %d bytes)", path, maxConfigBytes)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("configuration file: %w", err)
	}
	return text, nil
}

// Rule is what the tables entries say of a table: of those that match, the last wins, key by key. A table of another
// database of a MySQL server is left alone unless an entry names it: it may be another office's.
func (c *Config) Rule(n schema.TableName) Rule {
	own := n.Schema
	if own == "" {
		own = c.Database.DefaultSchema()
	}
	rule := Rule{Flow: FlowBoth}
	named := c.Database.Scheme != "mysql" || n.Schema == ""
	for i := range c.Tables {
		e := &c.Tables[i]
		if !e.matches(own, n.Name) {
			continue
		}
		named = true
		if e.Flow != "" {
			rule.Flow = e.Flow
		}
		if e.Conflict != nil {
			rule.Conflict = *e.Conflict
		}
	}
	if !named {
		rule.Flow = FlowNone
	}
	return rule
}

// Policy is how conflicts of the table are decided, by this office's file: the head's decides, a branch's is not asked.
func (c *Config) Policy(n schema.TableName) schema.Policy { return c.Rule(n).Conflict }

// Unmapped is what is written to a column that cannot hold a value: of the entries that match, the last that names the column says it.
func (c *Config) Unmapped(n schema.TableName, column string) schema.Value {
	own := n.Schema
	if own == "" {
		own = c.Database.DefaultSchema()
	}
	var what schema.Value
	for i := range c.Tables {
		e := &c.Tables[i]
		if said, ok := e.Unmapped[column]; ok && e.matches(own, n.Name) {
			what = said
		}
	}
	return what
}

// Sends reports whether this office's changes of the table go out.
func (c *Config) Sends(n schema.TableName) bool {
	f := c.Rule(n).Flow
	return f == FlowBoth || f == FlowSend
}

// Receives reports whether other offices' changes of the table come in.
func (c *Config) Receives(n schema.TableName) bool {
	f := c.Rule(n).Flow
	return f == FlowBoth || f == FlowReceive
}

// Forwards reports whether a head sends on what it has applied of the table, though its own applications' changes stay at
// home: branches reach each other through it.
func (c *Config) Forwards(n schema.TableName) bool {
	return c.Role == schema.Head && c.Receives(n) && !c.Sends(n)
}

// matches reports whether a glob, as an entry of tables has it, means the table; an empty one means all.
func (c *Config) matches(pattern string, n schema.TableName) bool {
	if pattern == "" {
		return true
	}
	own := n.Schema
	if own == "" {
		own = c.Database.DefaultSchema()
	}
	e := TableEntry{}
	var found bool
	if e.schema, e.table, found = strings.Cut(pattern, "."); !found {
		e.schema, e.table = "*", pattern
	}
	return e.matches(own, n.Name)
}
