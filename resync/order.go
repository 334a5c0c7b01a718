package resync

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"cdc-sidecar/schema"
)

// An order wants one table compared, because a schema change changed rows of it that no log has (schema.RowsOrder). It stands among
// the joins until that is done; the order to do it is durable before the place of the change is.

// ordered is a comparison that orders ask for.
type ordered struct {
	table schema.TableName
	up    bool
	gone  bool
	why   string
	names []string // of the rows among the joins that it does
	later []string // those of which came anew since it began: they stay
	pause time.Duration
	// failed is why it could not be done, as it was last said.
	failed string
}

// Ordered takes an order whose row is among the joins.
func (c *Client) Ordered(name string, o schema.RowsOrder) {
	c.mu.Lock()
	j := c.ordersLocked(name, o)
	c.mu.Unlock()
	if j != nil && c.cfg.Ordered != nil {
		c.cfg.Ordered(j, o)
	}
	c.rouse()
}

// ordersLocked finds a job that does an order, or makes one, which it returns. What has not begun does any number of them.
func (c *Client) ordersLocked(name string, o schema.RowsOrder) *Job {
	for _, j := range c.jobs {
		n := j.order
		switch {
		case n == nil || n.table != o.Table || n.up != o.Up:
		case j.state == Waiting:
			if !slices.Contains(n.names, name) {
				n.names = append(n.names, name)
			}
			n.gone = n.gone || o.Gone
			return nil
		case slices.Contains(n.names, name):
			n.later = append(n.later, name)
			return nil
		}
	}
	j := c.newJob(Spec{Table: o.Table.String(), Repair: true, Ours: o.Up}, nil)
	j.order = &ordered{table: o.Table, up: o.Up, gone: o.Gone, why: o.Why, names: []string{name}, pause: retryTable}
	c.jobs = append(c.jobs, j)
	return j
}

// takeOrders takes up what a former life was ordered.
func (c *Client) takeOrders(joins []Join) error {
	for _, j := range joins {
		if !strings.HasPrefix(j.Table, schema.OrderPrefix) {
			continue
		}
		o, err := schema.ParseRowsOrder(j.State)
		if err != nil {
			return err
		}
		c.Ordered(j.Table, o)
	}
	return nil
}

// due picks the job that is next: the oldest, but what goes up of a table waits for what comes down, because what came or went with a
// change of the head's is not to be taken for a difference of ours.
func (c *Client) dueLocked() *Job {
	now := c.cfg.Now()
	for _, j := range c.jobs {
		if j.notBefore.After(now) || j.order != nil && j.order.up && c.comesLocked(j.order.table) {
			continue
		}
		return j
	}
	return nil
}

// comesLocked reports whether rows of the table are to come down.
func (c *Client) comesLocked(table schema.TableName) bool {
	return slices.ContainsFunc(c.jobs, func(j *Job) bool { return j.order != nil && !j.order.up && j.order.table == table })
}

// overtaken reports that, since a comparison which sends up began, the head said of the table that its rows changed, too.
func (p *pass) overtaken() error {
	if p.job == nil || p.job.order == nil || !p.job.order.up {
		return nil
	}
	p.c.mu.Lock()
	defer p.c.mu.Unlock()
	if p.c.comesLocked(p.table) {
		return fmt.Errorf("%w yet: a schema change of the head's changed rows of it, too", errOfTable)
	}
	return nil
}

// Ordering names a table that is still to be compared because of a schema change; empty: there is none, or it could not be done.
func (c *Client) Ordering() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, j := range c.jobs {
		if j.order != nil && j.err == nil {
			return j.order.table.String()
		}
	}
	return ""
}

// obey compares the table of an order. Before, the head has met what was written here before the change: what was on its way then may
// have lost by the change what it had, there or here, and an own change has been done there.
func (c *Client) obey(ctx context.Context, j *Job) error {
	o := j.order
	own, err := c.db.Definition(ctx, o.table)
	if err == nil && own == nil && c.cfg.Called != nil {
		own, err = c.follow(ctx, o)
	}
	if err != nil {
		return err
	}
	if own == nil || !c.cfg.Receives(o.table) && !c.cfg.Sends(o.table) {
		c.cfg.Log.Info("a table whose rows changed without the log is not compared: it is not here any more", "table", o.table.String())
		return nil
	}
	if err := c.db.Arrived(ctx); err != nil {
		return err
	}
	tables, err := c.list(ctx, func(t schema.TableName) bool { return t == o.table })
	if err != nil {
		return err
	}
	if len(tables) == 0 {
		return fmt.Errorf("%w: the head has no table %s with a key, or does not send it", errOfTable, o.table)
	}
	if err := c.compareTable(ctx, j, tables[0]); err != nil {
		return err
	}
	return c.db.Arrived(ctx)
}

// follow finds a table that was renamed since.
func (c *Client) follow(ctx context.Context, o *ordered) (*schema.Table, error) {
	now, err := c.cfg.Called(ctx, o.table)
	if err != nil || now == o.table {
		return nil, err
	}
	c.mu.Lock()
	o.table = now
	c.mu.Unlock()
	return c.db.Definition(ctx, now)
}

// obeyed ends an order that was done, or given up; after an error it is tried again.
func (c *Client) obeyed(ctx context.Context, j *Job, err error) error {
	o := j.order
	if err != nil && !j.cancelled() {
		if o.failed != err.Error() {
			o.failed = err.Error()
			c.cfg.Log.Warn("a table whose rows changed without the log cannot be compared yet; it is tried again and again", "table", o.table.String(), "cause", err)
		}
		c.mu.Lock()
		j.state, j.err, j.notBefore = Waiting, err, c.cfg.Now().Add(o.pause)
		time.AfterFunc(o.pause, c.rouse)
		o.pause = min(2*o.pause, retryOrderMost)
		c.mu.Unlock()
		return nil
	}
	c.mu.Lock()
	done := slices.DeleteFunc(slices.Clone(o.names), func(name string) bool { return slices.Contains(o.later, name) })
	again := len(o.later) > 0 && !j.cancelled()
	if again {
		o.names, o.later, j.state = o.later, nil, Waiting
	}
	var r schema.TableReport
	if len(j.tables) > 0 {
		r = j.tables[0].report
	}
	c.mu.Unlock()
	if err := c.db.DropJoins(ctx, done); err != nil {
		return err
	}
	if again {
		return nil
	}
	c.cfg.Log.Info("a table whose rows changed without the log was compared with the head's", "table", o.table.String(), "rows", r.Rows, "equal", r.Equal,
		"written", r.Repaired, "sent up", r.Sent, "deleted", r.Removed, "disputed", r.Disputed, "given up", j.cancelled(), "statement", o.why)
	c.end(j, err)
	return nil
}

// retryOrderMost is the longest time until an order is tried again.
const retryOrderMost = 10 * time.Minute
