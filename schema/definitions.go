package schema

import "google.golang.org/protobuf/encoding/protowire"

// Definitions is said by a branch that wants to know what the head's tables are, and what came of its last look; and by the head,
// which answers. An answer may have several pieces, which are joined before they are unpacked. A newer question takes the place
// of an older one, and what is lost is asked for again.
type Definitions struct {
	To    Office // whose question is answered; empty: it is a question
	ID    uint64 // given by who asks; all pieces of the answer bear it
	Part  uint32 // 0, 1, 2 … of one answer
	More  bool   // another piece follows
	Codec Codec  // of the pieces together
	Body  []byte // JSON of who compares, packed; a piece of it
}

func appendDefinitions(d *Definitions) []byte {
	b := appendText(nil, 1, string(d.To))
	b = appendUint(b, 2, d.ID)
	b = appendUint(b, 3, uint64(d.Part))
	b = appendBool(b, 4, d.More)
	b = appendUint(b, 5, uint64(d.Codec))
	return appendBytes(b, 6, d.Body)
}

func (d *Definitions) decode(b []byte) error {
	return fields(b, func(n protowire.Number, v uint64, body []byte) error {
		switch n {
		case 1:
			d.To = Office(body)
		case 2:
			d.ID = v
		case 3:
			d.Part = narrow[uint32](v)
		case 4:
			d.More = v != 0
		case 5:
			d.Codec = narrow[Codec](v)
		case 6:
			d.Body = append([]byte(nil), body...)
		}
		return nil
	})
}
