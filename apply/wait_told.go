package apply

import (
	"cmp"
	"errors"
	"slices"

	"cdc-sidecar/schema"
)

// WaitingTable is a table of which changes wait here.
type WaitingTable struct {
	Table   string // as the fleet calls it
	Changes int
	// Needs is what the table here lacks, and the statement that mends it; empty: another row has their unique key.
	Needs string
}

// WaitingTables says what is parked, by table.
func (a *Applier) WaitingTables() []WaitingTable {
	a.mu.Lock()
	defer a.mu.Unlock()
	var all []WaitingTable
	for _, d := range a.parked.all() {
		for i := range d.queue {
			table := d.queue[i].Changes[0].Table.TableName
			at := slices.IndexFunc(all, func(w WaitingTable) bool { return w.Table == table.String() })
			if at < 0 {
				at, all = len(all), append(all, WaitingTable{Table: table.String(), Needs: a.needs[table]})
			}
			all[at].Changes++
		}
	}
	slices.SortFunc(all, func(a, b WaitingTable) int { return cmp.Compare(a.Table, b.Table) })
	return all
}

// need says in words for people what a table lacks.
func need(err error) string {
	var r *schema.RejectedError
	if !errors.As(err, &r) {
		return err.Error()
	}
	text := r.Cause.Error()
	if r.Column != "" {
		text = "column " + r.Column + ": " + text
	}
	if r.Remedy != "" {
		text += "; remedy: " + r.Remedy
	}
	return text
}

// lacking notes what tables lack, as of a try of all that waits.
func (a *Applier) lacking(needs map[schema.TableName]string) {
	a.mu.Lock()
	a.needs = needs
	a.mu.Unlock()
}

// tableWaiting is the table of what waits.
func tableWaiting(d *dispute) schema.TableName {
	return d.queue[len(d.queue)-1].Changes[0].Table.TableName
}
