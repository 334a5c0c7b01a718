package capture

import (
	"errors"
	"fmt"
)

// The library follows the offsets of a document wherever they lead. One that leads back would let it recurse until the process ends,
// and many that lead to one place would unfold to any size. So a document is walked first: what a container holds lies behind the
// container's own head, and all that is walked together is no more than the document.

// mostJSONDepth is above what MySQL lets a document nest, 100.
const mostJSONDepth = 128

// The types of MySQL's binary JSON that matter here. Those of containers are 0 to 3: the lowest bit is for large offsets, the next
// for arrays.
const (
	jsonLargest = 3
	jsonLiteral = 4
	jsonUint16  = 6
	jsonUint32  = 8
	jsonString  = 12
	jsonOpaque  = 15
)

var errJSONShape = errors.New("its parts do not lie where they can")

type jsonWalk struct{ left int }

func checkMySQLJSON(document []byte) error {
	w := jsonWalk{left: len(document)}
	return w.value(document[0], document[1:], 0)
}

// spend takes bytes of the document into account.
func (w *jsonWalk) spend(n uint64) error {
	if n > uint64(w.left) {
		return errJSONShape
	}
	w.left -= int(n)
	return nil
}

func (w *jsonWalk) value(kind byte, b []byte, depth int) error {
	r := mysqlBytes{b: b}
	switch {
	case kind <= jsonLargest:
		return w.container(kind, b, depth+1)
	case kind == jsonOpaque:
		r.take(1)
		return w.spend(r.variable())
	case kind == jsonString:
		return w.spend(r.variable())
	default:
		return nil // numbers, which the library finds short by itself
	}
}

// container walks an object's or array's head: how many, how many bytes in all, and the places of keys and values.
func (w *jsonWalk) container(kind byte, b []byte, depth int) error {
	if depth > mostJSONDepth {
		return fmt.Errorf("it nests deeper than %d", mostJSONDepth)
	}
	width, keyEntry := 2, uint64(0)
	if kind&1 != 0 {
		width = 4
	}
	if kind < 2 {
		keyEntry = uint64(width) + 2
	}
	r := mysqlBytes{b: b}
	count, size := r.little(width), r.little(width)
	head := 2*uint64(width) + count*(keyEntry+1+uint64(width))
	if r.short || size > uint64(len(b)) || head > size {
		return errJSONShape
	}
	if err := w.spend(head); err != nil {
		return err
	}
	for range count * min(keyEntry, 1) {
		r.little(width)
		if err := w.spend(r.little(2)); err != nil {
			return err
		}
	}
	for range count {
		inner, at := byte(r.little(1)), r.little(width)
		if inner >= jsonLiteral && (inner <= jsonUint16 || width == 4 && inner <= jsonUint32) {
			continue // it stands in the place of its offset
		}
		if at < head || at >= size {
			return errJSONShape
		}
		if err := w.value(inner, b[at:size], depth); err != nil {
			return err
		}
	}
	return nil
}

// variable reads a length of seven bits a byte.
func (r *mysqlBytes) variable() (n uint64) {
	for shift := 0; shift < 35; shift += 7 {
		part := r.little(1)
		if n |= part & 0x7f << shift; part < 0x80 {
			break
		}
	}
	return n
}
