package history

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

var limits = Limits{Writable: 5 * time.Second}

// violated are the checks that found something, and all that they found.
func violated(h *History) (names []string, text string) {
	for _, r := range Check(h, limits) {
		if r.Count > 0 {
			names = append(names, r.Check)
			text += r.Check + ": " + strings.Join(r.Violations, "\n") + "\n"
		}
	}
	return names, text
}

var seeds = flag.Int("history.seeds", 300, "how many correct histories to make")

// TestCorrectHistories: histories of a site that keeps its promises pass, and
// every check has something to look at.
func TestCorrectHistories(t *testing.T) {
	examined := map[string]int{}
	for seed := range *seeds {
		h := generate(uint64(seed), 60)
		if names, text := violated(h); len(names) > 0 {
			t.Fatalf("seed %d: %s", seed, text)
		}
		for _, r := range Check(h, limits) {
			examined[r.Check] += r.Examined
		}
	}
	for _, c := range all(limits) {
		if examined[c.name] == 0 {
			t.Errorf("%s had nothing to look at", c.name)
		}
	}
}

// TestBrokenHistories breaks correct histories in one place, at random: the
// check that is for it finds it.
func TestBrokenHistories(t *testing.T) {
	for name, break1 := range map[string]func(*History, *rand.Rand) bool{
		"lost writes": func(h *History, rng *rand.Rand) bool {
			s := &h.Sends[rng.IntN(len(h.Sends))]
			if look(h).fate(s) != committed {
				return false
			}
			for i := range h.Polls {
				h.Polls[i].Reads = slices.DeleteFunc(h.Polls[i].Reads, func(r Read) bool { return r.Value == s.Value })
			}
			return true
		},
		"inconsistent offsets": func(h *History, rng *rand.Rand) bool {
			p := &h.Polls[rng.IntN(len(h.Polls))]
			if len(p.Reads) == 0 || p.Final {
				return false
			}
			p.Reads[rng.IntN(len(p.Reads))].Value = "another"
			return true
		},
		"duplicates": func(h *History, rng *rand.Rand) bool {
			for i := range h.Polls {
				if p := &h.Polls[i]; p.Final && len(p.Reads) > 0 && !p.Reads[0].Control && rng.IntN(3) == 0 {
					last := p.Reads[len(p.Reads)-1]
					last.Control, last.Value, last.Offset = false, p.Reads[0].Value, last.Offset+1000
					p.Reads = append(p.Reads, last)
					return true
				}
			}
			return false
		},
		"group offsets": func(h *History, rng *rand.Rand) bool {
			o := &h.Offsets[len(h.Offsets)-1-rng.IntN(6)]
			sure := slices.ContainsFunc(h.Offsets, func(c Offset) bool {
				return c.Group == o.Group && c.Partition == o.Partition && c.At == o.At && !c.Ask && c.Outcome == OK
			})
			o.At--
			return sure
		},
		"replicas alike": func(h *History, rng *rand.Rand) bool {
			r := &h.Replicas[rng.IntN(len(h.Replicas))]
			if len(r.Entries) < 2 {
				return false
			}
			r.Entries[0].Sum[7]++
			return true
		},
	} {
		t.Run(name, func(t *testing.T) {
			done := 0
			for seed := uint64(0); done < 30; seed++ {
				h := generate(seed, 60)
				if !break1(h, rand.New(rand.NewPCG(seed, 1))) {
					continue
				}
				done++
				if names, text := violated(h); !slices.Contains(names, name) {
					t.Errorf("seed %d: not found, only %s", seed, text)
				}
			}
		})
	}
}

// TestReportReads: a report names what was done, what went wrong, and no more
// of it than a person reads; the history comes back from its file.
func TestReportReads(t *testing.T) {
	h := generate(1, 60)
	for i := range 40 {
		h.Sends = append(h.Sends, Send{Producer: "p", Topic: "in", Value: fmt.Sprint("lost", i), Outcome: OK, Offset: int64(5000 + i)})
	}
	h.Faults = []Fault{{Kind: "kill -9"}}
	s := Summarize(h, 10*time.Nanosecond)
	var out strings.Builder
	if err := s.Write(&out, Check(h, limits)); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"kill -9", "lost writes", `"lost3" of p`, "and ", "p99"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, out.String())
		}
	}
	text, err := json.Marshal(h)
	if err != nil {
		t.Fatal(err)
	}
	var back History
	if err := json.NewDecoder(bytes.NewReader(text)).Decode(&back); err != nil {
		t.Fatal(err)
	}
	_, before := violated(h)
	if _, after := violated(&back); after != before {
		t.Errorf("from its file: %s\nbefore: %s", after, before)
	}
}
