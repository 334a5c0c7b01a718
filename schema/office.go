package schema

import (
	"fmt"
	"regexp"
)

// Office is the name of one database and its sidecar; it is the origin tag of every change made there.
// It matches [a-z][a-z0-9-]* and has at most 40 characters, so that it fits into slot, queue and user names.
type Office string

var officeName = regexp.MustCompile(`^[a-z][a-z0-9-]{0,39}$`)

// ParseOffice checks a name that came from a person or from the wire.
func ParseOffice(name string) (Office, error) {
	if !officeName.MatchString(name) {
		return "", fmt.Errorf("office name %q: want a lower-case letter, then letters, digits or hyphens, at most 40 characters", name)
	}
	return Office(name), nil
}

// Role says which side of the hub an office stands on.
type Role string

// The two roles. A branch talks to the head only; the head forwards.
const (
	Head   Role = "head"
	Branch Role = "branch"
)
