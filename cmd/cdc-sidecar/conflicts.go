package main

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"cdc-sidecar/admin"
	"cdc-sidecar/schema"
)

func (p *program) newConflictsCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "conflicts",
		Short: "At the head: what was decided when two offices changed the same row, and what waits for a person",
		Example: "  cdc-sidecar conflicts list --state open\n" +
			"  cdc-sidecar conflicts show 42\n" +
			"  cdc-sidecar conflicts resolve 42 --take remote",
		Args: verbOnly,
		RunE: p.helpOrError,
	}
	cmd.AddCommand(p.newConflictsListCommand(), p.newConflictsShowCommand(), p.newConflictsResolveCommand())
	return cmd
}

// headClient is a client of the head's sidecar. A branch is told so even when its sidecar does not run.
func (p *program) headClient() (*client, error) {
	c, err := LoadConfig(p.configPath)
	switch {
	case err != nil:
		return nil, err
	case c.Role != schema.Head:
		return nil, admin.ErrNoConflictLog
	}
	return newClient(c), nil
}

// conflictQuery is what conflicts list is asked for.
type conflictQuery struct {
	table, state string
	limit        int
	all          bool
}

func (p *program) newConflictsListCommand() *cobra.Command {
	var q conflictQuery
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the entries of the conflict log, the newest first",
		Example: "  cdc-sidecar conflicts list --table public.orders\n" +
			"  cdc-sidecar conflicts list --state open --all --json | jq '.result.conflicts[].id'",
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := q.check(cmd.Flags().Changed("limit")); err != nil {
				return &usageError{err}
			}
			c, err := p.headClient()
			if err != nil {
				return err
			}
			list, err := c.conflicts(cmd, q)
			if err != nil {
				return err
			}
			return p.report(cmd, answer{
				Text:    conflictsText(list),
				Summary: map[string]any{"conflicts": len(list.Conflicts), "more": list.More},
				Result:  list,
			})
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&q.table, "table", "", "only of this table, like public.orders")
	flags.StringVar(&q.state, "state", "", "only in this state: "+strings.Join(admin.ConflictStates, ", "))
	flags.IntVar(&q.limit, "limit", admin.DefaultConflicts, "at most so many")
	flags.BoolVar(&q.all, "all", false, "as many as there are")
	return cmd
}

func (q *conflictQuery) check(limited bool) error {
	switch {
	case q.state != "" && !slices.Contains(admin.ConflictStates, q.state):
		return fmt.Errorf("--state %s: want one of %s", q.state, strings.Join(admin.ConflictStates, ", "))
	case q.all && limited:
		return errors.New("--all and --limit contradict each other: want one of them")
	case q.limit < 1:
		return fmt.Errorf("--limit %d: want at least 1", q.limit)
	}
	return nil
}

// conflicts asks page by page, so that no answer is larger than what either side holds in memory gladly.
func (c *client) conflicts(cmd *cobra.Command, q conflictQuery) (admin.ConflictList, error) {
	all := admin.ConflictList{Conflicts: []admin.Conflict{}, More: true}
	values := url.Values{}
	if q.table != "" {
		values.Set("table", q.table)
	}
	if q.state != "" {
		values.Set("state", q.state)
	}
	for all.More && (q.all || len(all.Conflicts) < q.limit) {
		wanted := admin.MaxConflicts
		if !q.all {
			wanted = min(wanted, q.limit-len(all.Conflicts))
		}
		values.Set("limit", strconv.Itoa(wanted))
		if n := len(all.Conflicts); n > 0 {
			values.Set("before", strconv.FormatInt(all.Conflicts[n-1].ID, 10))
		}
		var page admin.ConflictList
		if err := c.call(cmd.Context(), http.MethodGet, "/api/v1/conflicts?"+values.Encode(), &page); err != nil {
			return admin.ConflictList{}, err
		}
		all.Conflicts, all.More = append(all.Conflicts, page.Conflicts...), page.More && len(page.Conflicts) > 0
	}
	return all, nil
}

func (p *program) newConflictsShowCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "show ID",
		Short:   "Show both rows of a conflict side by side, and what was taken",
		Example: "  cdc-sidecar conflicts show 42",
		Args:    oneConflict,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := p.headClient()
			if err != nil {
				return err
			}
			var entry admin.Conflict
			if err := c.call(cmd.Context(), http.MethodGet, "/api/v1/conflicts/"+args[0], &entry); err != nil {
				return err
			}
			text, err := conflictText(entry, p.again(cmd))
			if err != nil {
				return err
			}
			return p.report(cmd, answer{Text: text, Summary: conflictSummary(entry), Result: entry})
		},
	}
}

func (p *program) newConflictsResolveCommand() *cobra.Command {
	var take string
	cmd := &cobra.Command{
		Use:   "resolve ID --take local|remote",
		Short: "Make one side's row the row of all offices",
		Long: "Make one side's row the row of all offices: local is the head's as it was when the two met, remote the other office's.\n" +
			"A decision of the policy can be turned over this way; one of a person is final, and later changes are made in the application.",
		Example: "  cdc-sidecar conflicts resolve 42 --take local",
		Args:    oneConflict,
		RunE: func(cmd *cobra.Command, args []string) error {
			if take != admin.TakeLocal && take != admin.TakeRemote {
				return &usageError{errors.New("which row is to be taken? want --take local (the head's) or --take remote (the other office's)")}
			}
			c, err := p.headClient()
			if err != nil {
				return err
			}
			var entry admin.Conflict
			if err := c.post(cmd.Context(), "/api/v1/conflicts/"+args[0]+"/resolve", admin.Resolve{Take: take}, &entry); err != nil {
				return err
			}
			text := fmt.Sprintf("conflict %d is resolved: %s is the row of %s %s now, and goes out to all offices\n",
				entry.ID, sideText(entry, take), printable(entry.Table), printable(entry.Key))
			return p.report(cmd, answer{Text: text, Summary: conflictSummary(entry), Result: entry})
		},
	}
	cmd.Flags().StringVar(&take, "take", "", "local (the head's row) or remote (the other office's)")
	return cmd
}

func conflictSummary(c admin.Conflict) map[string]any {
	return map[string]any{"id": c.ID, "state": c.State, "winner": c.Winner, "taken": c.Taken}
}

// oneConflict wants the number of an entry.
func oneConflict(cmd *cobra.Command, args []string) error {
	if len(args) != 1 {
		return fmt.Errorf("%s: want the ID of one conflict, as conflicts list shows it", verbOf(cmd))
	}
	if id, err := strconv.ParseInt(args[0], 10, 64); err != nil || id < 1 {
		return fmt.Errorf("%s: %q is no ID of a conflict; want a number, as conflicts list shows it", verbOf(cmd), args[0])
	}
	return nil
}

// again is how a command that is shown begins, so that it can be copied: with --config where this one was called with it.
func (p *program) again(cmd *cobra.Command) string {
	name := cmd.Root().Name()
	if f := cmd.Flags().Lookup("config"); f != nil && f.Changed {
		name += " --config " + shellWord(p.configPath)
	}
	return name
}

// shellWord is s as a shell takes it for one word.
func shellWord(s string) string {
	plain := func(c rune) bool {
		return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.ContainsRune("_-./:@%+=,", c)
	}
	if s != "" && strings.IndexFunc(s, func(c rune) bool { return !plain(c) }) < 0 {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
