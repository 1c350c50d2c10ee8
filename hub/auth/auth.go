// Package auth says who a client is and what it may do: principals, the SASL
// mechanisms, TLS that follows its files, and the decisions of ACLs. Decisions
// (acl.go, names.go) are pure functions of what they are given; only the files
// of TLS and the keys of an OpenID provider are read from outside.
//
// Goroutines: none.
package auth

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// Principal is who a client was found to be. Its form in ACLs is TYPE:NAME.
type Principal struct {
	Type string
	Name string
}

// UserType is the type of every principal that this package makes.
const UserType = "User"

// User is a principal of the usual type.
func User(name string) Principal { return Principal{UserType, name} }

// Anonymous is the client of a listener that asks nobody who he is.
func Anonymous() Principal { return User("ANONYMOUS") }

// Internal is the hub itself, on the pipes of its own jobs. No client can
// become it: its type is not one that a mechanism gives.
func Internal() Principal { return Principal{"Internal", "entrepot"} }

func (p Principal) String() string { return p.Type + ":" + p.Name }

// ParsePrincipal reads TYPE:NAME.
func ParsePrincipal(s string) (Principal, error) {
	kind, name, ok := strings.Cut(s, ":")
	if !ok || kind == "" || name == "" {
		return Principal{}, fmt.Errorf("principal %q: want TYPE:NAME, such as User:alice", s)
	}
	return Principal{kind, name}, nil
}

// Session is a client that has proved who it is.
type Session struct {
	Principal Principal
	Mechanism string
	Expires   time.Time // when it has to prove it again; zero: never
}

// ErrFailed is all that a client may learn of a login that failed. What was
// wrong is in the text of the wrapping error, for the log alone.
var ErrFailed = errors.New("authentication failed")
