package peer

import "cdc-sidecar/schema"

// DefinitionsPiece is how much of an answer goes into one message.
const DefinitionsPiece = pieceBytes

// definitions passes on a branch's question at the head, and the head's answer at the branch that has asked.
func (p *Peers) definitions(from *member, d *schema.Definitions) {
	mine := d.To == p.cfg.Office
	if p.cfg.Role == schema.Head {
		mine = d.To == ""
	}
	if mine && p.cfg.Definitions != nil {
		p.cfg.Definitions(from.office, d)
	}
}

// sameDefinitions: a newer question replaces the one that was not sent yet; so does each piece of a newer answer. What is left of
// an older answer bears another ID.
func sameDefinitions(a, b *schema.Definitions) bool {
	return (a.To == "") == (b.To == "") && a.Part == b.Part
}
