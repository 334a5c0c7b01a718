package apply

import (
	"errors"
	"fmt"

	"cdc-sidecar/schema"
)

// ErrFenced says that the progress row is no longer where this sidecar left it: a second sidecar writes to this database,
// or the database was restored. Nothing was written; the next call reads the row again.
var ErrFenced = errors.New("the progress row was moved by somebody else")

// errVanished: an application deleted the row between our insert, which met it, and our update. The next try will see.
var errVanished = fmt.Errorf("%w: the row came or went while it was written", errBusy)

// GapError says that a sender's stream arrived with a hole: what is missing must be sent again first.
type GapError struct {
	Sender schema.Office
	Have   schema.Position // the last transaction that is applied
	Got    schema.Position // what came instead of the one after it
	Part   int             // the part that came, of a transaction whose earlier parts did not
}

func (e *GapError) Error() string {
	if e.Part > 0 {
		return fmt.Sprintf("stream of %s: part %d of %s arrived without the parts before it (applied: %s)", e.Sender, e.Part, e.Got, e.Have)
	}
	return fmt.Sprintf("stream of %s: %s arrived after %s", e.Sender, e.Got, e.Have)
}

// EpochError says that a sender's history is not the one that was applied so far; a zero Have: nothing was recorded of it.
type EpochError struct {
	Sender schema.Office
	Have   schema.Position
	Got    schema.Position
}

func (e *EpochError) Error() string {
	if e.Have.IsZero() {
		return fmt.Sprintf("stream of %s: no progress is recorded for it here, %s arrived", e.Sender, e.Got)
	}
	return fmt.Sprintf("stream of %s: epoch %d arrived, applied so far is %s", e.Sender, e.Got.Epoch, e.Have)
}

// fault grades what a server said.
type fault uint8

const (
	transient   fault = iota // everything that may be otherwise next time: tried again for ever
	data                     // this data, in these tables: never by itself
	privilege                // a grant is missing
	duplicate                // data: a unique key is taken, perhaps the one that identifies the row (MySQL)
	collision                // data: a unique key other than the one that identifies the row is taken
	busy                     // somebody else holds a lock, or we do in the wrong order: at once again, with less in hand
	unsupported              // data: Postgres' TRUNCATE of a table that another one refers to
	unreferred               // data: a foreign key forbids it, where those of the session act
)

// verdict is a server's error, graded.
type verdict struct {
	fault   fault
	column  string
	remedy  string
	primary bool   // duplicate: it is the primary key
	key     string // unreferred: the foreign key, if the server names it
}

// errBusy: what was written is rolled back because of somebody else's lock, or of a row that came or went meanwhile.
var errBusy = errors.New("other transactions are in the way")

// errCollides: another row has the unique key.
var errCollides = errors.New("another row here has its unique key")

// explain turns a server's error about a step into one that names what it was about.
func explain(err error, v verdict, st *step, user string) error {
	if st.change == nil {
		if v.fault == privilege {
			return &schema.RefusedError{What: "the database refuses to write our progress", Cause: err, Remedy: v.remedy}
		}
		if v.fault == busy {
			err = errors.Join(errBusy, err)
		}
		return fmt.Errorf("record progress %s: %w", st.at, err)
	}
	table := st.change.Table.TableName
	switch v.fault {
	case busy:
		return fmt.Errorf("apply %s to table %s at %s: %w: %w", st.change.Op, table, st.at, errBusy, err)
	case duplicate, collision:
		return &schema.RejectedError{Table: table, Key: st.change.KeyString(), At: st.at, Cause: fmt.Errorf("%w: %w", errCollides, err), Remedy: v.remedy}
	case transient:
		return fmt.Errorf("apply %s to table %s at %s: %w", st.change.Op, table, st.at, err)
	case privilege:
		more := ""
		if st.plan.engine == schema.Postgres {
			more, user = ", TRUNCATE", quote(schema.Postgres, user)
		}
		return &schema.RefusedError{
			What: fmt.Sprintf("the database refuses to %s in table %s", st.change.Op, table), Cause: err,
			Remedy: fmt.Sprintf("GRANT SELECT, INSERT, UPDATE, DELETE%s ON %s TO %s", more, st.plan.name(), user),
		}
	default:
		return &schema.RejectedError{Table: table, Key: st.change.KeyString(), Column: v.column, At: st.at, Cause: plainCause(err), Remedy: v.remedy}
	}
}

// locate completes a rejection that was found before the database was asked.
func locate(err error, c *schema.Change, at schema.Position) error {
	var r *schema.RejectedError
	if errors.As(err, &r) && r.At.IsZero() {
		located := *r
		located.Key, located.At = c.KeyString(), at
		if errors.As(err, new(*unfitError)) {
			return &unfitError{&located}
		}
		return &located
	}
	return err
}
