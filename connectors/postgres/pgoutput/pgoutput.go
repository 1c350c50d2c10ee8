// Package pgoutput reads what PostgreSQL's logical decoding plugin of that name
// sends: every message of protocol versions 1 to 4. It is pure: bytes go in,
// values come out, and there is no connection, clock or lock.
//
// There are two steps. A Decoder makes a Message of the bytes of one; it only
// remembers whether it is inside a stream block, where messages have one field
// more. An Assembler takes messages in their order and gives the changes of
// committed transactions, each with its place: transactions in the order of
// their commits, what was rolled back left out. It knows the relations as they
// were described last.
//
// The formats are those of "Logical Replication Message Formats" in
// PostgreSQL's manual. Bytes that do not follow them are an error that says
// which message and at which byte; nothing is guessed and nothing panics.
//
// Goroutines: none.
package pgoutput

import (
	"fmt"
	"strconv"
	"strings"
)

// LSN is a place in PostgreSQL's write-ahead log, in bytes from its beginning.
type LSN uint64

// String is the form in which PostgreSQL prints it: 16/B374D848.
func (l LSN) String() string { return fmt.Sprintf("%X/%X", uint32(l>>32), uint32(l)) }

// ParseLSN reads the form that String makes.
func ParseLSN(s string) (LSN, error) {
	high, low, ok := strings.Cut(s, "/")
	h, err := strconv.ParseUint(high, 16, 32)
	if err == nil && ok {
		var l uint64
		if l, err = strconv.ParseUint(low, 16, 32); err == nil {
			return LSN(h<<32 | l), nil
		}
	}
	return 0, fmt.Errorf("%q is not a place in the log, want such as 16/B374D848", s)
}

// epoch is when PostgreSQL's clock begins, in microseconds of Unix's.
const epoch = 946_684_800_000_000

// Time is an instant of the server: microseconds since 2000-01-01 UTC.
type Time int64

// Millis is the same in milliseconds since 1970.
func (t Time) Millis() int64 { return (int64(t) + epoch) / 1000 }
