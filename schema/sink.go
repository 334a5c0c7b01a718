package schema

import (
	"context"
	"errors"
	"fmt"
)

// A Sink takes custody of txs, in order. It returns nil only when every one of them is durable on its side (of a
// transaction whose last part has not come yet: when everything before it is); the caller may then let go of them.
// The slice and what it points at belong to the caller again when the Sink returns.
type Sink func(ctx context.Context, txs []Transaction) error

// RejectedError says that this data can never be taken as it is: trying again changes nothing until somebody mends
// what it names. The stream of that origin halts there; everything else goes on.
type RejectedError struct {
	Table  TableName
	Key    string // of the row, for people
	Column string // when one column is to blame
	At     Position
	Cause  error  // what happened, with the offending value where there is one
	Remedy string // the statement or setting that mends it, when known
}

func (e *RejectedError) Error() string {
	s := "table " + e.Table.String()
	if e.Column != "" {
		s += " column " + e.Column
	}
	if e.Key != "" {
		s += " row " + e.Key
	}
	if !e.At.IsZero() {
		s += " at " + e.At.String()
	}
	s = fmt.Sprintf("%s: %v", s, e.Cause)
	if e.Remedy != "" {
		s += "; remedy: " + e.Remedy
	}
	return s
}

func (e *RejectedError) Unwrap() error { return e.Cause }

// RefusedError says that the environment refuses us for good: a wrong password, a missing privilege, wal_level.
// Before the sidecar was ever ready it ends with exit code 3; later it is retried like everything else.
type RefusedError struct {
	What   string // what was refused, naming the thing
	Cause  error  // the server's own words; may be nil
	Remedy string // the exact statement or setting
}

func (e *RefusedError) Error() string {
	s := e.What
	if e.Cause != nil {
		s += ": " + e.Cause.Error()
	}
	if e.Remedy != "" {
		s += "; remedy: " + e.Remedy
	}
	return s
}

func (e *RefusedError) Unwrap() error { return e.Cause }

// BrokenError says that the office's own log can no longer be read from where we stopped (slot lost, advanced or
// recreated by someone else, binlog purged, another server's history), or holds something that we do not understand.
// Going on would lose changes silently, so nothing goes on until somebody decides.
type BrokenError struct {
	What   string
	Cause  error
	Remedy string
}

func (e *BrokenError) Error() string {
	return (&RefusedError{What: e.What, Cause: e.Cause, Remedy: e.Remedy}).Error()
}

func (e *BrokenError) Unwrap() error { return e.Cause }

// ErrHeld says that somebody else holds what we need (another sidecar of the same office): we wait, visibly.
var ErrHeld = errors.New("held by another process")
