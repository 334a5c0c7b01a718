package schema

import (
	"encoding/binary"
	"slices"
	"strings"

	"github.com/zeebo/xxh3"
)

// RowID stands for one row of one table: a hash of the table's name and the row's key. 128 bits, so that two rows of a
// fleet never share one: with a thousand million rows the chance is 1 in 10^20.
type RowID [16]byte

// TableID stands for all rows of a table; it is no row's RowID.
func (n TableName) TableID() RowID { return RowIDOf(n, nil) }

// RowIDOf hashes the values of a key, in the order of KeyByName.
func RowIDOf(table TableName, key []Value) RowID {
	var room [256]byte
	b := append(room[:0], table.Schema...)
	b = append(append(append(b, 0), table.Name...), 0)
	for i := range key {
		b = append(b, byte(key[i].state))
		b = binary.AppendUvarint(b, uint64(len(key[i].text)))
		b = append(b, key[i].text...)
	}
	return xxh3.Hash128(b).Bytes()
}

// KeyByName is Key with the columns ordered by their names: two offices may write one key in different orders.
func (t *Table) KeyByName() []int {
	if len(t.keyByName) != len(t.Key) { // a literal that NewTable has not seen
		return orderKey(t)
	}
	return t.keyByName
}

func orderKey(t *Table) []int {
	order := slices.Clone(t.Key)
	slices.SortFunc(order, func(a, b int) int { return strings.Compare(t.Columns[a].Name, t.Columns[b].Name) })
	return order
}

// RowID is the RowID of an image that has the key's columns.
func (t *Table) RowID(r Row) RowID {
	var room [8]Value
	key := room[:0]
	for _, k := range t.KeyByName() {
		key = append(key, r[k])
	}
	return RowIDOf(t.TableName, key)
}

// Rows are the rows that the change touches: one, or two when the key changed. A truncate touches its table (TableID).
func (c *Change) Rows() (first RowID, second RowID, two bool) {
	if c.Op == Truncate {
		return c.Table.TableID(), RowID{}, false
	}
	key := c.KeyRow()
	if key == nil { // a delete whose image lacks a part of the key: no row here, but a row's own number all the same
		key = c.Before
	}
	first = c.Table.RowID(key)
	if c.Op != Update || c.After == nil {
		return first, RowID{}, false
	}
	for _, k := range c.Table.Key {
		if v := c.After[k]; v.state != Unchanged && v != key[k] {
			after := slices.Clone(c.After)
			for _, k := range c.Table.Key {
				if after[k].state == Unchanged {
					after[k] = key[k]
				}
			}
			return first, c.Table.RowID(after), true
		}
	}
	return first, RowID{}, false
}
