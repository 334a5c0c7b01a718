package schema

import "fmt"

// WireVersion is the version that this program writes. It reads no other: an unknown version holds its sender's stream
// until this side is upgraded, and nothing else.
const WireVersion = 1

// MessageKind says what a message's body is.
type MessageKind uint8

// The kinds of message. Resolution, chunk and definition have their numbers from the first day; an office that does not
// know a kind holds that sender's stream.
const (
	MessageTransaction MessageKind = iota + 1 // body: a Batch
	MessageResolution                         // body: a Batch (step 2)
	MessageChunk                              // body: a Chunk; unnumbered, Seq is its place
	MessageDefinition                         // body: a Batch with definitions only (step 5)
	MessageControl                            // body: a Control; unnumbered
)

func (k MessageKind) String() string {
	names := [...]string{"", "transaction", "resolution", "chunk", "definition", "control"}
	if int(k) < len(names) && k > 0 {
		return names[k]
	}
	return fmt.Sprintf("kind(%d)", uint8(k))
}

// Acknowledgement says: of this office, everything to Pos had been applied at the head at this place of its log.
type Acknowledgement struct {
	Office Office
	Pos    Position
}

// StreamAll is the stream that every branch gets. Other streams come with routing.
const StreamAll = "all"

// Message is the envelope: what the broker carries and what the journal keeps, the same bytes.
//
// Numbered kinds form a chain, Prev → Seq: a receiver whose progress is Prev takes the message; Seq ≤ progress is a
// duplicate; Prev > progress is a gap. A message has either whole transactions, or one piece of one transaction: Part
// counts those from 0, More says that the transaction goes on in the next message, and Continued that the body itself does
// (a single row larger than a message): bodies are joined before they are opened.
type Message struct {
	Version   uint32
	Kind      MessageKind
	Sender    Office
	Epoch     uint64
	Stream    string
	Prev, Seq uint64
	Part      uint32
	More      bool
	Continued bool
	// Acknowledged is cumulative and complete, so that an office that missed messages misses no acknowledgement.
	Acknowledged []Acknowledgement
	Codec        Codec
	Body         []byte
	KeyID        string // of the signature, later
	Signature    []byte
}

// Control is what offices say beside the stream: unnumbered, idempotent, repeated. Exactly one field is set.
type Control struct {
	Hello   *Hello
	Welcome *Welcome
	Marker  *Marker
	Tail    *Tail
	Resend  *Resend
	Fetch   *Fetch
	Compare *Compare
	Report  *Report
	Leave   *Leave

	Definitions *Definitions
}

// Leave is the last word of a branch that is torn down: the head forgets it. The envelope's epoch is later than that of the
// journal which the branch had; of a later life of the branch it says nothing.
type Leave struct{}

// Hello is said by a branch when it connects and every few seconds: it makes the branch a member.
type Hello struct {
	Progress Position // of the head's stream at the branch; zero: none yet
	First    uint64   // the first seq that the branch's journal still holds
	Last     uint64   // the last it has
	Program  string   // version of the program, for people
	Engine   Engine
}

// Welcome is the head's answer to a hello.
type Welcome struct {
	To       Office
	Progress Position // of the branch's stream at the head; zero: none yet
	First    uint64   // the first seq that the head's journal still holds
	Last     uint64
	Expired  bool // the branch cannot follow the head's stream from where it stands: it needs to join
	Program  string
	// Restored says that the head's database went back to an earlier state when its epoch began: what a branch of an earlier
	// epoch has besides is missing at the head.
	Restored bool
	// Acknowledged is how far the branch's stream had been applied at the head at Last, of the head's: for a branch that is
	// exactly there, because it began there and has not seen the messages that said so.
	Acknowledged Position
}

// Marker is an idle branch's report: it had applied the head's stream to Seen when its own log had nothing behind After.
type Marker struct {
	Seen  Position
	After uint64
}

// Tail says the last seq sent, so that a loss with no later traffic is noticed; First is the first still held. Answers is
// not zero behind a resend: the From that was asked for.
type Tail struct {
	First, Last uint64
	Answers     uint64
}

// Resend asks an office to send its stream again from piece Part of transaction From on, about Limit bytes (0: as much as
// the asked finds right); a Tail follows.
type Resend struct {
	To    Office
	Epoch uint64 // of the asked office, as the asking one knows it
	From  uint64
	Part  uint32
	Limit uint64
}

// Batch is the body of numbered messages: self-contained, the definitions of its tables stand before the first row.
type Batch struct {
	Transactions []Transaction
}
