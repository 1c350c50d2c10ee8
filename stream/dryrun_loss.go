package stream

import (
	"fmt"
	"slices"

	"github.com/entrepot-hub/entrepot/connectors"
)

// Severity says how bad a finding of a dry run is.
type Severity string

// The severities. The first two make a dry run fail.
const (
	Impossible Severity = "impossible" // the job would not run, or the record would be a dead letter
	Lossy      Severity = "lossy"      // the value would be there and be another
	Caution    Severity = "caution"    // other values than those of the sample may be dead letters
	Allowed    Severity = "allowed"    // lossy, and the config or the caller says so
)

// Loss is one finding of a dry run.
type Loss struct {
	Kind     string   `json:"kind"`
	Severity Severity `json:"severity"`
	Field    string   `json:"field,omitempty"`
	Message  string   `json:"message"`
	Hint     string   `json:"hint,omitempty"`
	Records  int      `json:"records,omitempty"` // of the sample
	shape    string
}

// Bad reports whether the dry run fails for it.
func (l Loss) Bad() bool { return l.Severity == Impossible || l.Severity == Lossy }

// LossKinds are the kinds of losses that can be allowed by name.
var LossKinds = []string{"numeric_to_double", "timestamptz_to_naive", "naive_to_timestamptz", "unknown_field"}

// compare tells what may be lost on the way from a field to a column. It
// knows types alone; the sample tells of values.
func compare(from connectors.FieldType, to connectors.ColumnUse) []Loss {
	var all []Loss
	add := func(kind string, s Severity, hint, format string, args ...any) {
		all = append(all, Loss{
			Kind: kind, Severity: s, Field: from.Field, Hint: hint,
			Message: fmt.Sprintf("%s to %s %s: ", from.Type, to.Column, to.Type) + fmt.Sprintf(format, args...),
		})
	}
	a, b := from.Is, to.Is
	const digits = connectors.LogicalDecimal
	switch {
	case a.Kind == digits && b.Kind == connectors.LogicalFloat:
		add("numeric_to_double", Lossy, "make the column a decimal, or a text", "a %d-bit float does not keep all digits", b.Bits)
	case a.Kind == digits && b.Kind == digits && narrower(a, b):
		add("numeric_narrowed", Caution, "give the column the precision and scale of the source", "a number with more digits is a dead letter")
	case a.Kind == digits && isInt(b):
		add("numeric_narrowed", Caution, "make the column a decimal", "a number with a fraction is a dead letter")
	case a.Kind == connectors.LogicalInstant && b.Kind == connectors.LogicalLocal:
		add("timestamptz_to_naive", Lossy, "make the column a timestamp with time zone", "the column does not say that the time is in UTC")
	case a.Kind == connectors.LogicalLocal && b.Kind == connectors.LogicalInstant:
		add("naive_to_timestamptz", Lossy, "make the column a timestamp without time zone", "which zone the time is of would be a guess")
	case isTime(a) && isTime(b) && b.Fraction < a.Fraction:
		add("time_narrowed", Caution, fmt.Sprintf("give the column %d digits of seconds", a.Fraction), "a time with more than %d digits of seconds is a dead letter", b.Fraction)
	case isTime(a) && b.Kind == connectors.LogicalDate:
		add("time_narrowed", Caution, "make the column a timestamp", "a time of the day is a dead letter")
	case isInt(a) && isInt(b) && intNarrower(a, b):
		add("int_narrowed", Caution, "widen the column", "a number that does not fit is a dead letter")
	case isInt(a) && b.Kind == connectors.LogicalFloat && a.Bits > exactBits(b):
		add("int_to_float", Caution, "make the column an integer", "a number with more than %d bits is a dead letter", exactBits(b))
	case a.Kind == connectors.LogicalText && b.Kind == connectors.LogicalText && b.Length > 0 && (a.Length == 0 || a.Length > b.Length):
		add("text_too_long", Caution, "widen the column", "a text of more than %d characters is a dead letter", b.Length)
	case a.Kind == connectors.LogicalFloat && b.Kind == connectors.LogicalFloat && a.Bits > b.Bits:
		add("float_narrowed", Caution, "widen the column", "a number that does not fit is a dead letter")
	}
	if from.Nullable && to.Required {
		add("null_to_required", Caution, "let the column be NULL, or give it a value in a map transform", "a NULL is a dead letter")
	}
	return all
}

// exactBits is how many bits of a whole number a float keeps.
func exactBits(l connectors.Logical) int {
	if l.Bits == 32 {
		return 24
	}
	return 53
}

func isInt(l connectors.Logical) bool {
	return l.Kind == connectors.LogicalInt || l.Kind == connectors.LogicalUint
}

func isTime(l connectors.Logical) bool {
	return l.Kind == connectors.LogicalInstant || l.Kind == connectors.LogicalLocal || l.Kind == connectors.LogicalTime
}

// narrower reports whether decimal b lacks digits of a on either side.
func narrower(a, b connectors.Logical) bool {
	if b.Precision == 0 {
		return false
	}
	return a.Precision == 0 || a.Scale > b.Scale || a.Precision-a.Scale > b.Precision-b.Scale
}

func intNarrower(a, b connectors.Logical) bool {
	switch {
	case a.Kind == b.Kind:
		return a.Bits > b.Bits
	case b.Kind == connectors.LogicalUint:
		return true // negative numbers
	}
	return a.Bits >= b.Bits
}

// judge lets pass what is allowed by name.
func (j *DryJob) judge(allowed []string) {
	for i := range j.Losses {
		if l := &j.Losses[i]; l.Severity == Lossy && slices.Contains(allowed, l.Kind) {
			l.Severity = Allowed
		}
	}
	slices.SortStableFunc(j.Losses, func(a, b Loss) int { return rank(a.Severity) - rank(b.Severity) })
}

func rank(s Severity) int {
	return slices.Index([]Severity{Impossible, Lossy, Caution, Allowed}, s)
}
