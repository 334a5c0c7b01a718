package clock

import (
	"slices"

	"cdc-sidecar/schema"
)

// tableClock has the touches of any row of one table, or of the table itself, by the office that each touch names.
type tableClock map[schema.Office]tableTouches

type tableTouches struct {
	Plain Touch  // the last plain apply of the office
	Other Touch  // the last touch that was none
	Wrote uint64 // seq of the last transaction of the office; a decision may give the row to another
}

// TableAgainst is the last touch of any row of the table, or of the table itself, that was not a plain apply of origin; zero
// Seq: none. A table for which it lies before all that a change has seen needs no look at the rows.
func (x *Index) TableAgainst(table schema.TableName, origin schema.Office) Touch {
	x.mu.RLock()
	defer x.mu.RUnlock()
	var last Touch
	for office, t := range x.tables[table] {
		last = later(last, t.Other)
		if office != origin {
			last = later(last, t.Plain)
		}
	}
	return last
}

// Writers are the offices, by name, whose transactions touched the table in what is retained, or to whom a decision there
// gave a row.
func (x *Index) Writers(table schema.TableName) []schema.Office {
	x.mu.RLock()
	defer x.mu.RUnlock()
	var writers []schema.Office
	for office, t := range x.tables[table] {
		if max(t.Plain.Seq, t.Other.Seq, t.Wrote) > x.released.Load() {
			writers = append(writers, office)
		}
	}
	slices.Sort(writers)
	return writers
}

func (x *Index) touchTable(table schema.TableName, by schema.Office, t Touch, plain bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	clock := x.tables[table]
	if clock == nil {
		clock = tableClock{}
		x.tables[table] = clock
	}
	writer := clock[by]
	writer.Wrote = t.Seq
	clock[by] = writer
	touches := clock[t.Origin]
	if plain {
		touches.Plain = t
	} else {
		touches.Other = t
	}
	clock[t.Origin] = touches
}
