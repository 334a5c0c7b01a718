package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"cdc-sidecar/broker"
	"cdc-sidecar/journal"
	"cdc-sidecar/schema"
)

// retiredPrefix begins the name of the folder, inside data, that an old journal is moved to.
const retiredPrefix = "torn-down-"

func (p *program) newTeardownCommand() *cobra.Command {
	var printSQL, yes bool
	cmd := &cobra.Command{
		Use:   "teardown",
		Short: "Take the office out: drop what is ours in database and broker, and put the journal aside",
		Long: "Take the office out: drop what is ours in database and broker, and put the journal aside.\n" +
			"The office's own tables and rows stay as they are. Stop the sidecar first.",
		Example: "  cdc-sidecar teardown --yes\n" +
			"  cdc-sidecar teardown --print-sql",
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := LoadConfig(p.configPath)
			if err != nil {
				return err
			}
			switch {
			case printSQL:
				return p.printStatements(cmd, toolsFor(c).TeardownSQL())
			case !yes:
				return &usageError{errors.New(teardownLoss(c) + "\nnothing was done; to do it: cdc-sidecar teardown --yes")}
			default:
				return p.tearDown(cmd, c)
			}
		},
	}
	cmd.Flags().BoolVar(&printSQL, "print-sql", false, "print the statements for the database and change nothing")
	cmd.Flags().BoolVar(&yes, "yes", false, "do it, knowing what is lost")
	return cmd
}

// teardownLoss says what a teardown takes away.
func teardownLoss(c Config) string {
	return fmt.Sprintf("teardown of office %s drops its replication slot and publication (if any), our rows and tables in %s, "+
		"the queue %s, and puts the journal in %s aside.\n"+
		"Lost is the place up to which changes were read and applied: changes that were not sent yet are never sent, and the office "+
		"needs to join before it takes part again. %s",
		c.Office, c.Database, broker.Queue(c.Office), c.Data, teardownNews(c.Role))
}

// teardownNews says what becomes of the office at the others.
func teardownNews(role schema.Role) string {
	if role == schema.Head {
		return "The branches go on by themselves until there is a head again"
	}
	return "The head is told to forget the office"
}

// tearDown puts the journal aside first. If the rest fails, the next run stops because the journal is lost; the other way
// round an old journal would meet a new slot, and what happened between them would be missing without a word.
func (p *program) tearDown(cmd *cobra.Command, c Config) error {
	ctx := cmd.Context()
	tools := toolsFor(c)
	release, _, err := tools.Hold(ctx)
	if errors.Is(err, schema.ErrHeld) {
		return &environmentError{fmt.Errorf("stop the sidecar of office %s first: %w", c.Office, err)}
	}
	if err != nil {
		return outside(fmt.Errorf("tear down %s: %w", c.Database, err))
	}
	aside, err := retire(c.Data, retiredPrefix, time.Now())
	if err == nil {
		err = tools.Teardown(ctx)
	}
	release()
	if err == nil && c.Role == schema.Branch {
		err = leave(ctx, c, time.Now())
	}
	if err == nil {
		err = broker.Teardown(ctx, brokerConfig(c))
	}
	if err != nil {
		return outside(fmt.Errorf("tear down office %s (not finished, do it again): %w", c.Office, err))
	}
	text := teardownDone(c, aside)
	return p.report(cmd, answer{Text: text, Result: map[string]string{"office": string(c.Office), "journal": aside}})
}

// leave tells the head that the branch is gone. The head's queue keeps the word while the head is down; without such a queue
// there is no head that knows of us.
func leave(ctx context.Context, c Config, now time.Time) error {
	cfg := brokerConfig(c)
	if err := broker.Declare(ctx, cfg); err != nil { // the exchange may be missing
		return err
	}
	publisher, err := broker.OpenPublisher(ctx, cfg)
	if err != nil {
		return err
	}
	word := schema.AppendMessage(nil, &schema.Message{
		Version: schema.WireVersion, Kind: schema.MessageControl, Sender: c.Office, Epoch: uint64(now.UnixMilli()), Stream: schema.StreamAll,
		Body: schema.AppendControl(nil, &schema.Control{Leave: &schema.Leave{}}),
	})
	_, err = publisher.Publish(ctx, []broker.Outgoing{{Key: broker.StreamKey(schema.StreamAll), Body: word, Mandatory: true}})
	if errors.Is(err, broker.ErrUnroutable) {
		err = nil
	}
	if err := errors.Join(err, publisher.Close()); err != nil {
		return fmt.Errorf("tell the head: %w", err)
	}
	return nil
}

func teardownDone(c Config, aside string) string {
	text := fmt.Sprintf("office %s is torn down; its own tables stay as they are\n", c.Office)
	if aside != "" {
		text += "the old journal is in " + aside + "; delete it when nobody asks for it any more\n"
	}
	return text
}

// movingSuffix is at the end of the folder's name until all is in it: a process that was killed meanwhile would leave half a
// journal, which nobody could open.
const movingSuffix = ".moving"

// retire moves what is in the journal's folder into a folder of its own there (data itself may be a volume's mount point,
// which cannot be renamed) and returns that folder; "" when there was nothing.
func retire(data, prefix string, now time.Time) (string, error) {
	if err := finishRetire(data); err != nil {
		return "", err
	}
	entries, err := retirees(data)
	if err != nil || len(entries) == 0 {
		return "", err
	}
	aside := filepath.Join(data, prefix+now.UTC().Format("20060102T150405.000Z"))
	if err := os.Mkdir(aside+movingSuffix, 0o700); err != nil {
		return "", fmt.Errorf("put the journal aside: %w", err)
	}
	return aside, finishRetire(data)
}

// finishRetire does what retire has begun, if it has.
func finishRetire(data string) error {
	moving, err := filepath.Glob(filepath.Join(globEscape.Replace(data), "*"+movingSuffix))
	if err != nil || len(moving) == 0 {
		return err
	}
	if err := syncFolder(data); err != nil { // its name is there before anything goes
		return fmt.Errorf("put the journal aside: %w", err)
	}
	entries, err := retirees(data)
	if err != nil {
		return err
	}
	for _, name := range entries {
		if err := os.Rename(filepath.Join(data, name), filepath.Join(moving[0], name)); err != nil {
			return fmt.Errorf("put the journal aside: %w", err)
		}
	}
	if err := os.Rename(moving[0], strings.TrimSuffix(moving[0], movingSuffix)); err != nil {
		return fmt.Errorf("put the journal aside: %w", err)
	}
	if err := syncFolder(data); err != nil {
		return fmt.Errorf("put the journal aside: %w", err)
	}
	return nil
}

// retireOn ends, at a start, what a killed process left of retire.
func retireOn(data string) error {
	moving, err := filepath.Glob(filepath.Join(globEscape.Replace(data), "*"+movingSuffix))
	if err != nil || len(moving) == 0 {
		return err
	}
	held, err := journal.Hold(data)
	if err != nil {
		return err
	}
	return errors.Join(finishRetire(data), held.Close())
}

// retirees are the names of what belongs to the journal in its folder. Its lock stays: whoever puts the rest aside holds it.
func retirees(data string) ([]string, error) {
	entries, err := os.ReadDir(data)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("put the journal aside: %w", err)
	}
	var names []string
	for _, e := range entries {
		name := e.Name()
		if name == journal.LockName || name == "lost+found" || strings.HasPrefix(name, retiredPrefix) || strings.HasPrefix(name, lostPrefix) {
			continue
		}
		names = append(names, name)
	}
	return names, nil
}

func syncFolder(name string) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// outside marks an error of database or broker: exit code 3, unless the verb was told to stop.
func outside(err error) error {
	if errors.Is(err, context.Canceled) {
		return err
	}
	return &environmentError{err}
}
