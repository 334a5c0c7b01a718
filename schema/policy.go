package schema

import "strings"

// PolicyKind is the way in which a table's conflicts are decided.
type PolicyKind uint8

// The kinds. All but Manual decide at once.
const (
	Latest     PolicyKind = iota // the later stamp wins; of equal ones the greater office name
	HeadWins                     // the row at the head stays
	BranchWins                   // the branch's change is taken
	Ordered                      // the office that stands first in Order wins
	Merge                        // columns that only one side changed are taken from that side, the others by Latest
	Add                          // the columns of Add are sums of what both sides added, the others by Latest
	Manual                       // the row at the head stays until a person decides
)

// String is the kind in one word: as a label of metrics, one of seven.
func (k PolicyKind) String() string {
	switch k {
	case Latest:
		return "latest"
	case HeadWins:
		return "head"
	case BranchWins:
		return "branch"
	case Ordered:
		return "offices"
	case Merge:
		return "merge"
	case Add:
		return "add"
	case Manual:
		return "manual"
	default:
		return "unknown"
	}
}

// Policy says how the conflicts of one table are decided; it is the head's to say. The zero value is Latest.
type Policy struct {
	Kind  PolicyKind
	Order []Office // of Ordered: whose change wins, first to last; not empty, nobody twice
	Add   []string // of Add: the columns; not empty, none twice
}

// String is the policy as the configuration says it: latest, [north, south], {add: [stock]}.
func (p Policy) String() string {
	switch p.Kind {
	case Ordered:
		names := make([]string, len(p.Order))
		for i, o := range p.Order {
			names[i] = string(o)
		}
		return "[" + strings.Join(names, ", ") + "]"
	case Add:
		return "{add: [" + strings.Join(p.Add, ", ") + "]}"
	default:
		return p.Kind.String()
	}
}

// NeedsOld reports whether a decision needs the row as it was before a change, and so a log with full images.
func (p Policy) NeedsOld() bool { return p.Kind == Merge || p.Kind == Add }
