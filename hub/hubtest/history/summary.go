package history

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"
)

// Summary counts what a run did, for its report.
type Summary struct {
	Operations map[string]map[Outcome]int `json:"operations"`
	Faults     map[string]int             `json:"faults"`
	Read       int                        `json:"records_read"`
	// Elections is how many leader epochs the records of all partitions have
	// above one each.
	Elections int `json:"elections"`
	// Unavailable are the times between two acknowledged records of a partition
	// that were longer than Pause, sorted.
	Unavailable []time.Duration `json:"unavailable"`
	Pause       time.Duration   `json:"pause"`
}

// Summarize counts. A partition under steady load that acknowledges nothing for
// longer than pause was not available.
func Summarize(h *History, pause time.Duration) Summary {
	s := Summary{Operations: map[string]map[Outcome]int{}, Faults: map[string]int{}, Pause: pause}
	acked := map[place][]time.Duration{}
	for i := range h.Sends {
		one := &h.Sends[i]
		s.count("send", one.Outcome)
		if one.Outcome == OK {
			acked[one.place()] = append(acked[one.place()], one.End)
		}
	}
	for _, times := range acked {
		slices.Sort(times)
		for i := 1; i < len(times); i++ {
			if gap := times[i] - times[i-1]; gap > pause {
				s.Unavailable = append(s.Unavailable, gap)
			}
		}
	}
	slices.Sort(s.Unavailable)
	s.rest(h)
	return s
}

func (s *Summary) rest(h *History) {
	for _, t := range h.Txns {
		name := "abort"
		if t.Commit {
			name = "commit"
		}
		s.count(name, t.Outcome)
	}
	for _, o := range h.Offsets {
		name := "commit of a group's offset"
		if o.Ask {
			name = "question for a group's offset"
		}
		s.count(name, o.Outcome)
	}
	for _, c := range h.Changes {
		s.count(string(c.Verb)+" topic", c.Outcome)
	}
	for _, f := range h.Faults {
		s.Faults[f.Kind]++
	}
	epochs := map[place]map[int32]bool{}
	for i := range h.Polls {
		p := &h.Polls[i]
		s.Read += len(p.Reads)
		for _, one := range p.Reads {
			if epochs[p.place()] == nil {
				epochs[p.place()] = map[int32]bool{}
			}
			if one.Epoch >= 0 {
				epochs[p.place()][one.Epoch] = true
			}
		}
	}
	for _, all := range epochs {
		s.Elections += max(0, len(all)-1)
	}
}

func (s *Summary) count(name string, o Outcome) {
	if s.Operations[name] == nil {
		s.Operations[name] = map[Outcome]int{}
	}
	s.Operations[name][o]++
}

// quantile is the q-th of sorted times, by nearest rank.
func quantile(sorted []time.Duration, q float64) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[min(len(sorted)-1, int(q*float64(len(sorted))))]
}

// Write writes the report for people.
func (s *Summary) Write(w io.Writer, results []Result) error {
	var b strings.Builder
	b.WriteString("operations                            ok     failed    unknown\n")
	for _, name := range slices.Sorted(maps.Keys(s.Operations)) {
		n := s.Operations[name]
		fmt.Fprintf(&b, "  %-30s %9d %10d %10d\n", name, n[OK], n[Failed], n[Unknown])
	}
	fmt.Fprintf(&b, "  records read: %d, by all consumers\nfaults\n", s.Read)
	for _, kind := range slices.Sorted(maps.Keys(s.Faults)) {
		fmt.Fprintf(&b, "  %-30s %9d\n", kind, s.Faults[kind])
	}
	fmt.Fprintf(&b, "elections seen in records: %d\n", s.Elections)
	if n := len(s.Unavailable); n > 0 {
		fmt.Fprintf(&b, "a partition took no write for longer than %s: %d times, p50 %s, p99 %s, max %s\n", s.Pause, n,
			quantile(s.Unavailable, 0.5).Round(time.Millisecond), quantile(s.Unavailable, 0.99).Round(time.Millisecond), s.Unavailable[n-1].Round(time.Millisecond))
	}
	b.WriteString("checks\n")
	for _, r := range results {
		fmt.Fprintf(&b, "  %-24s %4d violations in %8d %s", r.Check, r.Count, r.Examined, r.Unit)
		if r.Note != "" {
			fmt.Fprintf(&b, " (%s)", strings.TrimSuffix(r.Note, "; "))
		}
		b.WriteByte('\n')
		for _, v := range r.Violations {
			fmt.Fprintf(&b, "      %s\n", v)
		}
		if r.Count > len(r.Violations) {
			fmt.Fprintf(&b, "      … and %d more\n", r.Count-len(r.Violations))
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}
