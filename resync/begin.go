package resync

import (
	"context"
	"strings"

	"cdc-sidecar/schema"
)

// Resume comes before the office's own log is read on, from behind seen (the head's position that the log had shown applied at
// that place; anew: from where it ends). It returns the tables whose own changes are blind from there on, until the log itself
// says otherwise. A new office is so from its first change on.
func (c *Client) Resume(ctx context.Context, seen schema.Position, anew, member bool) (pending []string, err error) {
	joins, err := c.db.Joins(ctx)
	if err != nil {
		return nil, err
	}
	c.foresee(joins)
	if orders(joins) == len(joins) && !member && c.cfg.Mode != None {
		star := state{Phase: preparing, Why: "this office is new"}
		joins = []Join{{Table: schema.JoinAll, Pending: true}}
		if err := c.turn(ctx, star, true); err != nil {
			return nil, err
		}
	}
	var touch []Join
	for _, j := range joins {
		behind := anew || j.At.Epoch == seen.Epoch && j.At.Seq < seen.Seq
		switch {
		case j.Pending:
			pending = append(pending, j.Table)
		case !behind && j.At.Epoch != 0: // the end of this join may stand further on in the log
			pending, touch = append(pending, j.Table), append(touch, j)
		}
	}
	if len(touch) > 0 {
		err = c.db.SaveJoins(ctx, touch)
	}
	return pending, err
}

// orders is how many rows are about no join.
func orders(joins []Join) (n int) {
	for _, j := range joins {
		if strings.HasPrefix(j.Table, schema.OrderPrefix) {
			n++
		}
	}
	return n
}

// Frozen reports whether nothing of the head's stream may be taken as it stands: of an office that lost its way, nobody knows which
// rows have changes that the head has not met, and the stream would go over them.
func (c *Client) Frozen(ctx context.Context) (frozen bool, why string, err error) {
	c.mu.Lock()
	star, known := c.star, c.known
	c.mu.Unlock()
	if !known {
		joins, err := c.db.Joins(ctx)
		if err != nil {
			return false, "", err
		}
		if star, _, err = recall(joins); err != nil {
			return false, "", err
		}
	}
	switch star.Phase {
	case claiming, preparing, beginning:
		return true, star.Why, nil
	default:
		return false, "", nil
	}
}

// foresee lets Progress say that this office is joining before the first welcome has the state read in earnest: else it would seem to
// have joined, for a moment after each start.
func (c *Client) foresee(joins []Join) {
	star, _, err := recall(joins)
	c.mu.Lock()
	defer c.mu.Unlock()
	if err == nil && !c.known && c.star.Phase == "" {
		c.star = star
	}
}

// Pending reports whether the table is being made equal: a change of a row that is not here yet is not missed.
func (c *Client) Pending(table schema.TableName) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	p := c.tables[table.String()]
	return (c.star.Phase == beginning || c.star.Phase == copying) && p != nil && !p.Done
}
