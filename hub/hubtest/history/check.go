package history

import (
	"fmt"
	"time"
)

// Result is what one check found.
type Result struct {
	Check      string   `json:"check"`
	Examined   int      `json:"examined"` // of what Unit says
	Unit       string   `json:"unit"`
	Violations []string `json:"violations,omitempty"` // the first ones
	Count      int      `json:"count"`                // of all
	Note       string   `json:"note,omitempty"`
}

// kept is how many violations of a check are told.
const kept = 20

func (r *Result) bad(format string, args ...any) {
	if r.Count++; r.Count <= kept {
		r.Violations = append(r.Violations, fmt.Sprintf(format, args...))
	}
}

// Limits are what liveness is measured by.
type Limits struct {
	Writable time.Duration // after healing
}

// check is one of the checks below: it looks through the history and adds what
// it finds.
type check struct {
	name, unit string
	run        func(*view, *Result)
}

// all is in the order in which a reader of a report wants them.
func all(limits Limits) []check {
	return []check{
		{"lost writes", "acknowledged records", lost},
		{"vanished reads", "records read", vanished},
		{"inconsistent offsets", "offsets", inconsistent},
		{"aborted reads", "records read", aborted},
		{"torn transactions", "transactions", torn},
		{"duplicates", "values", duplicates},
		{"order of producers", "records", order},
		{"order of consumers", "records read", monotonic},
		{"skipped records", "records read", skipped},
		{"high watermark", "polls", highWatermark},
		{"group offsets", "commits and questions", groupOffsets},
		{"skipped by groups", "records below group offsets", groupSkips},
		{"exactly once", "records copied", exactlyOnce},
		{"metadata linearizable", "operations", metadata},
		{"replicas alike", "entries and compacted records", replicas},
		{"replicas whole", "replicas", whole},
		{"writable after healing", "writes", func(v *view, r *Result) { writable(v, r, limits.Writable) }},
	}
}

// Check runs all checks.
func Check(h *History, limits Limits) []Result {
	v := look(h)
	checks := all(limits)
	results := make([]Result, len(checks))
	for i, c := range checks {
		results[i] = Result{Check: c.name, Unit: c.unit}
		c.run(v, &results[i])
	}
	return results
}
