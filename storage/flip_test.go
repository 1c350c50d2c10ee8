package storage

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/entrepot-hub/entrepot/record"
	"github.com/entrepot-hub/entrepot/storage/vfs"
)

// flipCase is a small log and everything else in a data directory.
type flipCase struct {
	t     *testing.T
	mem   *vfs.Mem
	id    LogID
	clock func() time.Time
	want  []Entry
	hard  HardState
	// of each segment's bytes, what they are
	classes map[string][]string
	seen    map[string]map[string]int // class → when it was found → times
}

// newFlipCase writes a log of four segments: a plain roll, a conflict, a
// compacted one, votes, an idle end.
func newFlipCase(t *testing.T) *flipCase {
	now := time.UnixMilli(1_700_000_000_000)
	c := &flipCase{t: t, mem: vfs.NewMem(), id: LogID{Topic: "t", ID: record.TopicID{9}}, clock: func() time.Time { return now }, classes: map[string][]string{}, seen: map[string]map[string]int{}}
	s := c.open(c.mem)
	l, err := s.Create(c.id, State{Hard: HardState{Term: 1}, Aux: simAux(0)})
	if err != nil {
		t.Fatal(err)
	}
	fillSegments(t, s, l, 2, c.clock)
	if _, err := l.Rewrite(context.Background(), Rewrite{First: 1, Last: 1, Keep: keepEvery(2)}); err != nil {
		t.Fatal(err)
	}
	var n serial
	rng := randOf(1)
	last, _ := l.Last()
	_, next := l.Offsets()
	entries := n.entries(rng, 4, last, 2, next)
	round := func(r Round) {
		t.Helper()
		if err := l.Append(r); err != nil {
			t.Fatal(err)
		}
		s.Step(c.clock())
	}
	round(Round{Hard: &HardState{Term: 2, Vote: 3, Commit: last}, Entries: entries, Before: &Aux{Conf: []byte("third")}})
	round(Round{Hard: &HardState{Term: 3, Vote: 1, Commit: last + 1}, Entries: n.entries(rng, 3, last+2, 3, entries[1].NextOffset()), Before: &Aux{Conf: []byte("conflict")}})
	last, _ = l.Last()
	_, next = l.Offsets()
	round(Round{Entries: n.entries(rng, 2, last, 3, next), Before: &Aux{Conf: []byte("fifth")}})
	now = now.Add(time.Minute)
	for s.Step(now) {
	}
	if err := s.SetScrubMark(ScrubMark{Topic: "t", Began: 1}); err != nil {
		t.Fatal(err)
	}
	if c.want, err = everything(l); err != nil {
		t.Fatal(err)
	}
	c.hard = l.Hard()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	r, err := inspect(c.mem, c.dir())
	if err != nil {
		t.Fatal(err)
	}
	defer r.close()
	if r.damage != nil || len(r.chain) != 5 || len(r.files) != 5 {
		t.Fatalf("%v, %d segments of %d", r.damage, len(r.chain), len(r.files))
	}
	for i, f := range r.chain {
		c.classes[f.path] = c.classify(f, i == len(r.chain)-1)
	}
	return c
}

func (c *flipCase) dir() string { return path.Join(simDir, dirName(c.id)) }

func (c *flipCase) open(mem *vfs.Mem) *Store {
	s, err := Open(mem, simDir, Config{ReserveBytes: -1, LowWater: 1, HighWater: 1, TailCacheBytes: -1, Clock: c.clock})
	if err != nil {
		c.t.Fatal(err)
	}
	return s
}

// classify says of every byte of a segment what it is.
func (c *flipCase) classify(f *found, newest bool) []string {
	out := slices.Repeat([]string{"dead"}, int(f.size))
	fill := func(from, n int, what string) {
		for i := from; i < from+n && i < len(out); i++ {
			out[i] = what
		}
	}
	fill(0, int(f.header.length), "segment header")
	at, before := int(f.header.length), 0
	if _, err := verify(f.f, begin(&f.header), uint32(f.size), func(fr *frame, _ []byte) error {
		what := fr.kind.String()
		switch fr.kind {
		case kindState:
			what = "state"
		case kindFooter:
			what = "footer"
		}
		if int64(at) >= int64(f.p.end) && fr.kind != kindFooter {
			what = "superseded"
		}
		fill(at, frameHeader, what+" frame header")
		fill(at+frameHeader, fr.size()-frameHeader, what+" payload")
		if what == "footer" {
			fill(at, fr.size(), "footer (index)")
		}
		if what == "superseded" {
			fill(at, fr.size(), "superseded")
		}
		before, at = at, at+fr.size()
		return nil
	}); err != nil {
		c.t.Fatal(err)
	}
	if newest {
		fill(before, at-before, "last frame, which repeats the state")
	}
	return out
}

// flip inverts one bit on a copy of the disk and looks when it is found: when
// the log is opened, read, scrubbed, or never. Whatever happens, nothing but what
// was written may be handed out.
func (c *flipCase) flip(file string, at int64, mask byte) (when string) {
	mem := c.mem.KillClone()
	if err := mem.Flip(file, at, mask); err != nil {
		c.t.Fatal(err)
	}
	fail := func(format string, args ...any) {
		c.t.Helper()
		c.t.Errorf("bit %#x of byte %d of %s: %s", mask, at, file, fmt.Sprintf(format, args...))
	}
	s, err := Open(mem, simDir, Config{ReserveBytes: -1, LowWater: 1, HighWater: 1, TailCacheBytes: -1, Clock: c.clock})
	if err != nil {
		return "refused"
	}
	defer func() { _ = s.Close() }()
	l, err := s.OpenLog(c.id)
	switch {
	case errors.Is(err, record.ErrQuarantined):
		return "at open"
	case err != nil:
		if !errors.Is(err, ErrFormat) {
			fail("open: %v", err)
		}
		return "refused"
	}
	when = "never"
	if l.Damage() != nil {
		when = "at open"
	}
	got, err := everything(l)
	for _, e := range got {
		i := slices.IndexFunc(c.want, func(w Entry) bool { return w.Index == e.Index })
		if i < 0 || e.Term != c.want[i].Term || e.BaseOffset != c.want[i].BaseOffset || !bytes.Equal(e.Payload, c.want[i].Payload) {
			fail("entry %d of term %d was handed out and never written", e.Index, e.Term)
		}
	}
	if err != nil && l.Damage() == nil {
		fail("read: %v", err)
	}
	if l.Damage() == nil && (len(got) != len(c.want) || l.Hard() != c.hard) {
		fail("%d of %d entries, hard state %+v, and no damage", len(got), len(c.want), l.Hard())
	}
	if when == "never" && l.Damage() != nil {
		when = "by reading"
	}
	for _, info := range l.Segments() {
		sc, err := l.Scrub(context.Background(), info.Seq, nil)
		if err != nil && !errors.Is(err, record.ErrQuarantined) {
			fail("scrub: %v", err)
		}
		if sc.Index != nil && l.Damage() == nil {
			if when != "never" || sc.Unmended != nil {
				fail("index: %v, not written anew: %v, found %s", sc.Index, sc.Unmended, when)
			}
			when = "by scrubbing, written anew"
		}
	}
	if strings.HasSuffix(when, "anew") {
		c.checkMended(mem.PowerCut(), fail)
	}
	if when == "never" && l.Damage() != nil {
		when = "by scrubbing"
	}
	if l.Damage() == nil {
		return when
	}
	again := c.open(mem.PowerCut())
	if l, err := again.OpenLog(c.id); err == nil && l.Damage() == nil {
		fail("the quarantine is forgotten after a power cut")
	}
	return when
}

// checkMended: what was written anew is there after a power cut, and the log is
// what it was.
func (c *flipCase) checkMended(mem *vfs.Mem, fail func(string, ...any)) {
	if rep, err := Verify(mem, c.dir()); err != nil || rep.Logs[0].State != "ok" || rep.Logs[0].Detail != "" {
		fail("written anew, and after a power cut %+v, %v", rep, err)
	}
	l, err := c.open(mem).OpenLog(c.id)
	if err != nil {
		fail("written anew, and after a power cut: %v", err)
		return
	}
	got, err := everything(l)
	if err != nil || !slices.EqualFunc(got, c.want, func(a, b Entry) bool { return a.Index == b.Index && bytes.Equal(a.Payload, b.Payload) }) || l.Hard() != c.hard {
		fail("written anew, and after a power cut %d of %d entries: %v", len(got), len(c.want), err)
	}
}

// harmless are the bytes that only repeat what others say, or say nothing any
// more: without them nothing is missing, and flip checks that.
func harmless(class string) bool {
	return class == "superseded" || class == "dead" || strings.HasPrefix(class, "last frame")
}

// TestEveryBit flips a bit of each byte in a data directory with a small log, one
// at a time.
func TestEveryBit(t *testing.T) {
	c := newFlipCase(t)
	// All eight only when a long run is asked for.
	masks := []byte{1, 2, 4, 8, 16, 32, 64, 128}
	if os.Getenv("ENTREPOT_SIM_SEEDS") == "" {
		masks = nil
	}
	note := func(class, when string) {
		if c.seen[class] == nil {
			c.seen[class] = map[string]int{}
		}
		c.seen[class][when]++
	}
	for file, classes := range c.classes {
		for at, class := range classes {
			some := masks
			if some == nil {
				some = []byte{1 << (at % 8)}
			}
			for _, m := range some {
				when := c.flip(file, int64(at), m)
				note(class, when)
				if found := strings.HasPrefix(when, "at ") || strings.HasPrefix(when, "by "); !found && !harmless(class) {
					t.Errorf("%s, byte %d of %s: %s", class, at, file, when)
				}
			}
		}
	}
	for _, name := range []string{pointName, formatName, scrubName, lockName} {
		info, err := c.mem.Stat(path.Join(simDir, name))
		if err != nil {
			continue
		}
		for at := range info.Size {
			note("file "+name, c.flip(path.Join(simDir, name), at, 1<<(at%8)))
		}
	}
	var lines []string
	for class, when := range c.seen {
		lines = append(lines, fmt.Sprintf("%-36s %v", class, when))
	}
	slices.Sort(lines)
	t.Logf("bits flipped, by what was hit and when it was found:\n%s", strings.Join(lines, "\n"))
}
