package storage

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/entrepot-hub/entrepot/record"
	"github.com/entrepot-hub/entrepot/storage/vfs"
)

// repairCase is the log of a lone voter: committed whole, in several segments,
// after stops and power cuts.
type repairCase struct {
	rng  *rand.Rand
	now  time.Time
	mem  *vfs.Mem
	id   LogID
	want []Entry
	hard HardState
	next int64
	at   map[uint64]position // where each entry stands
	serial
}

func (c *repairCase) config() Config {
	return Config{ReserveBytes: -1, LowWater: 1, HighWater: 1, TailCacheBytes: -1, Clock: func() time.Time { return c.now }}
}

func (c *repairCase) dir() string { return path.Join(simDir, dirName(c.id)) }

// newDamagedCase writes a log and damages it; what says where.
func newDamagedCase(seed uint64) (c *repairCase, what string, err error) {
	if c, err = newRepairCase(seed); err == nil {
		what, err = c.damage()
	}
	return c, what, err
}

// newRepairCase writes a log of some segments. Now and then the machine stops,
// which leaves torn ends and dead segments.
func newRepairCase(seed uint64) (*repairCase, error) {
	c := &repairCase{rng: randOf(seed), now: time.UnixMilli(1_700_000_000_000), mem: vfs.NewMem(), id: LogID{Topic: "t", ID: record.TopicID{9}}}
	s, err := Open(c.mem, simDir, c.config())
	if err != nil {
		return nil, err
	}
	l, err := s.Create(c.id, State{Index: 1, Term: 1, Hard: HardState{Term: 1, Commit: 1}, Aux: simAux(1)})
	if err != nil {
		return nil, err
	}
	for range 20 + c.rng.IntN(40) {
		if c.rng.IntN(12) == 0 {
			if l, s, err = c.again(l, s); err != nil {
				return nil, err
			}
		}
		if err := c.append(s, l, c.rng.IntN(6) == 0 || l.ShouldRoll(c.now)); err != nil {
			return nil, err
		}
		if c.rng.IntN(5) == 0 {
			c.now = c.now.Add(time.Minute)
			for s.Step(c.now) {
			}
		}
	}
	if l, s, err = c.again(l, s); err != nil {
		return nil, err
	}
	// A replica that starts writes something, and a rest states it: what nothing
	// states passes for torn, damaged or not.
	if err := c.append(s, l, l.ShouldRoll(c.now)); err != nil {
		return nil, err
	}
	c.now = c.now.Add(time.Minute)
	for s.Step(c.now) {
	}
	if c.want, err = everything(l); err != nil {
		return nil, err
	}
	c.hard = l.Hard()
	_, c.next = l.Offsets()
	if l.Damage() != nil {
		return nil, l.Damage()
	}
	if err := s.Close(); err != nil {
		return nil, err
	}
	return c, c.findPlaces()
}

func (c *repairCase) findPlaces() error {
	r, err := inspect(c.mem, c.dir())
	if err != nil {
		return err
	}
	defer r.close()
	c.at = map[uint64]position{}
	for _, f := range r.chain {
		at := position{f.header.seq, f.header.length}
		if _, err := verify(f.f, begin(&f.header), f.p.end, func(fr *frame, _ []byte) error {
			if fr.isEntry() {
				c.at[fr.index] = at
			}
			at.pos += uint32(fr.size())
			return nil
		}); err != nil {
			return err
		}
	}
	return nil
}

// append appends a round, with some new term.
func (c *repairCase) append(s *Store, l *Log, roll bool) error {
	last, _ := l.Last()
	_, next := l.Offsets()
	hard := l.Hard()
	if c.rng.IntN(6) == 0 {
		hard.Term, hard.Vote = hard.Term+1, 1
	}
	hard.Commit = last
	r := Round{Hard: &hard, Entries: c.entries(c.rng, 1+c.rng.IntN(3), last, hard.Term, next)}
	if roll {
		aux := simAux(last)
		r.Before = &aux
	}
	err := l.Append(r)
	s.Step(c.now)
	return err
}

// again stops the store, by a power cut as a rule, and opens it once more.
func (c *repairCase) again(l *Log, s *Store) (*Log, *Store, error) {
	if c.rng.IntN(3) == 0 {
		if err := s.Close(); err != nil {
			return nil, nil, err
		}
	} else {
		last, term := l.Last()
		_, next := l.Offsets()
		r := Round{Entries: c.entries(c.rng, 2, last, term, next)}
		if l.ShouldRoll(c.now) {
			aux := simAux(last)
			r.Before = &aux
		}
		if err := l.Append(r); err != nil {
			return nil, nil, err
		}
		c.mem = c.mem.CrashClone(c.rng)
	}
	s, err := Open(c.mem, simDir, c.config())
	if err != nil {
		return nil, nil, err
	}
	l, err = s.OpenLog(c.id)
	return l, s, err
}

// damage changes some bytes of the log's files, or takes one of them away.
func (c *repairCase) damage() (what string, err error) {
	names, err := segmentFiles(c.mem, c.dir())
	if err != nil {
		return "", err
	}
	for range 1 + c.rng.IntN(3) {
		name := names[c.rng.IntN(len(names))]
		info, err := c.mem.Stat(name)
		if err != nil || info.Size == 0 {
			continue // taken away already
		}
		switch c.rng.IntN(12) {
		case 0:
			if name == names[0] || name == names[len(names)-1] {
				continue // what it began with is gone, or nobody knows of it
			}
			what += fmt.Sprintf("%s is gone; ", name)
			err = c.mem.Remove(name)
		case 1, 2: // a part of a disk
			from := c.rng.Int64N(info.Size) &^ 511
			if c.rng.IntN(2) == 0 {
				from = 0 // with the header
			}
			what += fmt.Sprintf("%s from byte %d; ", name, from)
			for at := from; at < min(from+512, info.Size) && err == nil; at++ {
				err = c.mem.Flip(name, at, byte(c.rng.IntN(256)))
			}
		default:
			at := c.rng.Int64N(info.Size)
			what += fmt.Sprintf("byte %d of %s; ", at, name)
			err = c.mem.Flip(name, at, 1<<c.rng.IntN(8))
		}
		if err != nil {
			return what, err
		}
	}
	return what, nil
}

// repairLog repairs the only log in a directory.
func repairLog(fsys vfs.FS, at string) (l *Salvage, kept string, err error) {
	all, err := OpenSalvages(fsys, at, true)
	if err != nil {
		return nil, "", err
	}
	defer func() { err = errors.Join(err, all.Close()) }()
	if len(all.Refused) > 0 {
		return nil, "", all.Refused[0]
	}
	if len(all.Logs) == 0 {
		return nil, "", nil
	}
	l = all.Logs[0]
	kept, err = all.Repair(l, Aux{Conf: []byte("repaired")}, nil)
	return l, kept, err
}

// told reports whether a gap says that an entry is lost.
func (s *Salvage) told(e Entry) bool {
	return slices.ContainsFunc(s.Gaps, func(g Gap) bool {
		return g.Index <= e.Index && e.Index < g.NextIndex && g.Offset <= e.BaseOffset && e.NextOffset() <= g.NextOffset
	})
}

// mayHold reports whether an entry may have been in a segment of which nothing
// is left.
func (s *Salvage) mayHold(e Entry) bool {
	return slices.ContainsFunc(s.Unknown, func(name string) bool {
		_, first, _ := parseSegmentName(name)
		return e.Index >= first
	})
}

// check compares a repaired log with what was written: everything is there but
// what was told to be lost.
func (c *repairCase) check(l *Log, s *Salvage) error {
	got, err := everything(l)
	if err != nil {
		return err
	}
	for _, w := range c.want {
		at := slices.IndexFunc(got, func(e Entry) bool { return e.Index == w.Index })
		switch told := s.told(w); {
		case at < 0 && !told && !s.mayHold(w) && c.at[w.Index].less(s.stated):
			return fmt.Errorf("entry %d at offset %d is missing, and was not told to be lost", w.Index, w.BaseOffset)
		case at >= 0 && told:
			return fmt.Errorf("entry %d was told to be lost", w.Index)
		case at >= 0:
			if e := got[at]; e.Term != w.Term || e.Kind != w.Kind || e.BaseOffset != w.BaseOffset || !bytes.Equal(e.Payload, w.Payload) {
				return fmt.Errorf("entry %d is another", w.Index)
			}
		}
	}
	for _, e := range got {
		if !slices.ContainsFunc(c.want, func(w Entry) bool { return w.Index == e.Index }) {
			return fmt.Errorf("entry %d was never there", e.Index)
		}
	}
	if _, next := l.Offsets(); next < c.next && s.End.Index == c.want[len(c.want)-1].Index {
		return fmt.Errorf("the next offset is %d, was %d", next, c.next)
	}
	if h := l.Hard(); h.Term < c.hard.Term {
		return fmt.Errorf("term %d, was %d", h.Term, c.hard.Term)
	}
	return nil
}

// A damaged log is repaired: nothing that can be read is missing, nothing is
// there that was not written, and it can be written to.
func TestRepair(t *testing.T) {
	var repaired, hopeless, lost, whole atomic.Int64
	runSeedsOf(t, 1500, func(seed uint64) error {
		c, what, err := newDamagedCase(seed)
		if err != nil {
			return err
		}
		err = func() error {
			s, kept, err := repairLog(c.mem, simDir)
			if errors.Is(err, errHopeless) {
				hopeless.Add(1)
				return nil
			}
			if err != nil {
				return err
			}
			if s == nil {
				whole.Add(1)
				return nil
			}
			repaired.Add(1)
			for _, g := range s.Gaps {
				if g.Lost() {
					lost.Add(1)
				}
			}
			if names, err := c.mem.List(kept); err != nil || len(names) == 0 || !strings.HasSuffix(kept, damagedSuffix) {
				return fmt.Errorf("kept in %s: %q, %w", kept, names, err)
			}
			return c.goesOn(s)
		}()
		if err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
		return nil
	})
	t.Logf("%d logs repaired, of %d places something was lost; %d cannot be repaired, %d had nothing wrong in them", repaired.Load(), lost.Load(), hopeless.Load(), whole.Load())
}

// goesOn opens the repaired log, writes to it and opens it again.
func (c *repairCase) goesOn(s *Salvage) error {
	store, err := Open(c.mem, simDir, c.config())
	if err != nil {
		return err
	}
	l, err := store.OpenLog(c.id)
	if err == nil {
		err = l.Damage()
	}
	if err == nil {
		err = c.check(l, s)
	}
	if err != nil {
		return err
	}
	last, _ := l.Last()
	_, next := l.Offsets()
	hard := l.Hard()
	if hard.Term <= c.hard.Term || hard.Vote != 0 {
		return fmt.Errorf("hard state %+v, and it can have voted in term %d", hard, c.hard.Term)
	}
	hard.Term++
	more := c.entries(c.rng, 2, last, hard.Term, next)
	if err := l.Append(Round{Hard: &hard, Entries: more}); err != nil {
		return err
	}
	store.Step(c.now)
	c.want = slices.DeleteFunc(c.want, func(e Entry) bool { return e.Index > last })
	c.want, c.hard = append(c.want, more...), hard
	if err := store.Close(); err != nil {
		return err
	}
	if store, err = Open(c.mem.PowerCut(), simDir, c.config()); err != nil {
		return err
	}
	if l, err = store.OpenLog(c.id); err == nil {
		err = l.Damage()
	}
	if err != nil {
		return err
	}
	return c.check(l, s)
}

// quarantined opens the log as a node does, reads all of it, and closes it again.
// It reports whether damage was found.
func (c *repairCase) quarantined() (bool, error) {
	s, err := Open(c.mem, simDir, c.config())
	if err != nil {
		return false, err
	}
	l, err := s.OpenLog(c.id)
	if errors.Is(err, record.ErrQuarantined) {
		return false, s.Close() // not one header: there is nothing to be repaired
	}
	if err != nil {
		return false, err
	}
	for _, seg := range l.Segments() {
		if _, err := l.Scrub(context.Background(), seg.Seq, nil); err != nil && !errors.Is(err, record.ErrQuarantined) {
			return false, err
		}
	}
	return l.Damage() != nil, s.Close()
}

// files are the contents of a folder.
func files(mem *vfs.Mem, dir string) (map[string]string, error) {
	names, err := mem.List(dir)
	if err != nil {
		return nil, err
	}
	all := map[string]string{}
	for _, name := range names {
		f, err := mem.Open(path.Join(dir, name))
		if err != nil {
			return nil, err
		}
		size, err := f.Size()
		if err != nil {
			return nil, err
		}
		b := make([]byte, size)
		if _, err := f.ReadAt(b, 0); err != nil && !errors.Is(err, io.EOF) {
			return nil, err
		}
		all[name] = string(b)
	}
	return all, nil
}

// The machine stops in each operation of a repair, by a kill or a power cut. There
// is the old log, quarantined and with all of its files, or the repaired one, with
// the old files beside it; and it can be repaired again.
func TestRepairStops(t *testing.T) {
	var stops, before, after atomic.Int64
	runSeedsOf(t, 60, func(seed uint64) error {
		c, what, err := newDamagedCase(seed)
		if err != nil {
			return err
		}
		if found, err := c.quarantined(); err != nil || !found {
			return err
		}
		if _, _, err := repairLog(c.mem.KillClone(), simDir); errors.Is(err, errHopeless) {
			return nil
		}
		want, err := files(c.mem, c.dir())
		if err != nil {
			return err
		}
		for n := 1; ; n++ {
			mem := c.mem.KillClone()
			mem.CutAfter(n, c.rng)
			l, _, err := repairLog(mem, simDir)
			if !mem.Dead() {
				if err != nil || l == nil {
					return fmt.Errorf("%s: repaired %v: %w", what, l != nil, err)
				}
				return nil
			}
			for _, left := range []*vfs.Mem{mem.KillClone(), mem.PowerCut(), mem.CrashClone(c.rng), mem.CrashClone(c.rng)} {
				stops.Add(1)
				repaired, err := c.afterStop(left, want)
				if err != nil {
					return fmt.Errorf("%s; stopped in operation %d: %w", what, n, err)
				}
				if repaired {
					after.Add(1)
				} else {
					before.Add(1)
				}
			}
		}
	})
	t.Logf("%d stops: %d times the old log was there, %d times the repaired one", stops.Load(), before.Load(), after.Load())
}

// afterStop looks at what a stop has left.
func (c *repairCase) afterStop(mem *vfs.Mem, want map[string]string) (repaired bool, err error) {
	for try := range 2 {
		s, err := Open(mem, simDir, c.config())
		if err != nil {
			return false, err
		}
		l, err := s.OpenLog(c.id)
		if err != nil {
			return false, err
		}
		damaged, at := l.Damage() != nil, c.dir()
		if !damaged {
			at += damagedSuffix
		}
		_, err = mem.Stat(c.dir() + repairSuffix)
		if err := errors.Join(s.Close()); err != nil {
			return false, err
		}
		if err == nil {
			return false, errors.New("a folder of a repair that was cut short is there after a start")
		}
		if kept, err := files(mem, at); err != nil || !maps.Equal(kept, want) {
			return false, fmt.Errorf("damaged %v, the old files in %s are %d of %d, or others: %w", damaged, at, len(kept), len(want), err)
		}
		if try == 0 {
			repaired = !damaged
		} else if damaged {
			return false, errors.New("it is damaged after it was repaired again")
		}
		if damaged {
			if l, _, err := repairLog(mem, simDir); err != nil || l == nil {
				return false, fmt.Errorf("repaired again %v: %w", l != nil, err)
			}
		}
	}
	return repaired, nil
}

// A log of which no header can be read is set aside by a node that has others to ask
// for it. If there is nobody to ask, it is repaired from there.
func TestRepairSetAside(t *testing.T) {
	mem := vfs.NewMem()
	s := openMem(t, mem, Config{})
	id := LogID{Topic: "t", ID: record.TopicID{9}}
	l, err := s.Create(id, State{Hard: HardState{Term: 1}, Aux: simAux(0)})
	if err != nil {
		t.Fatal(err)
	}
	fillSegments(t, s, l, 1, time.Now)
	want, err := everything(l)
	name := l.path(l.Segments()[0].File)
	if err := errors.Join(err, s.Close(), mem.Flip(name, 60, 1)); err != nil {
		t.Fatal(err)
	}
	s = openMem(t, mem, Config{})
	if _, err := s.OpenLog(id); !errors.Is(err, record.ErrQuarantined) {
		t.Fatalf("opened: %v", err)
	}
	if _, err = s.CreateLost(id); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if found, kept, err := repairLog(mem, simDir); err != nil || found == nil || kept != simDir+"/t-0.damaged.2" {
		t.Fatalf("repaired %+v, kept in %s: %v", found, kept, err)
	}
	s = openMem(t, mem, Config{})
	if l, err = s.OpenLog(id); err != nil || l.Damage() != nil {
		t.Fatalf("opened: %v, %v", err, l.Damage())
	}
	if got, err := everything(l); err != nil || len(got) != len(want) || len(want) == 0 {
		t.Errorf("%d entries, want %d: %v", len(got), len(want), err)
	}
}

// A batch that was broken before its frame was made is lost, and nothing else.
func TestRepairBrokenBatch(t *testing.T) {
	mem := vfs.NewMem()
	s := openMem(t, mem, Config{TailCacheBytes: -1})
	l, err := s.Create(LogID{Topic: "t", ID: record.TopicID{9}}, State{Hard: HardState{Term: 1}, Aux: simAux(0)})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		b := bytes.Clone(simBatches()[1])
		record.Batch(b).SetBaseOffset(int64(i))
		record.Batch(b).SetLeaderEpoch(1)
		if i == 1 {
			b[len(b)-1] ^= 1
		}
		if err := l.Append(Round{Entries: []Entry{{Index: uint64(i + 1), Term: 1, Kind: KindData, BaseOffset: int64(i), LeaderEpoch: 1, Payload: b}}}); err != nil {
			t.Fatal(err)
		}
		s.Step(time.Now())
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	found, _, err := repairLog(mem, simDir)
	if err != nil || found == nil || len(found.Gaps) != 1 || found.Gaps[0].Offset != 1 || found.Gaps[0].NextOffset != 2 {
		t.Fatalf("repaired %+v: %v", found, err)
	}
	s = openMem(t, mem, Config{})
	if l, err = s.OpenLog(l.ID()); err != nil || l.Damage() != nil {
		t.Fatal(err, l.Damage())
	}
	if got, err := everything(l); err != nil || len(got) != 2 {
		t.Errorf("%d entries: %v", len(got), err)
	}
}

// A bit that flips in the header of a log's only segment costs nothing.
func TestRepairHeader(t *testing.T) {
	c, err := newRepairCase(2)
	if err != nil {
		t.Fatal(err)
	}
	names, err := segmentFiles(c.mem, c.dir())
	if err != nil {
		t.Fatal(err)
	}
	f, err := c.mem.Open(names[0])
	if err != nil {
		t.Fatal(err)
	}
	h, err := readHeader(f)
	if err != nil {
		t.Fatal(err)
	}
	sound := c.mem
	for at := range int64(h.length) {
		for bit := range 8 {
			c.mem = sound.KillClone()
			if err := c.mem.Flip(names[0], at, 1<<bit); err != nil {
				t.Fatal(err)
			}
			s, _, err := repairLog(c.mem, simDir)
			if err == nil && (len(s.Gaps) != 1 || s.Gaps[0].Lost() || s.Gaps[0].From != at) {
				err = fmt.Errorf("%+v", s.Gaps)
			}
			store, opened := Open(c.mem, simDir, c.config())
			if err = errors.Join(err, opened); err == nil {
				var l *Log
				if l, err = store.OpenLog(c.id); err == nil {
					err = errors.Join(l.Damage(), c.check(l, s))
				}
				if err == nil && string(l.First().Conf) != "conf 1" {
					err = fmt.Errorf("begins with %+v", l.First())
				}
			}
			if err != nil {
				t.Fatalf("bit %d of byte %d: %v", bit, at, err)
			}
		}
	}
	for _, n := range []int{2, 3} { // nothing is made up
		rng := randOf(uint64(n))
		for range 3000 {
			c.mem = sound.KillClone()
			for range n {
				if err := c.mem.Flip(names[0], rng.Int64N(int64(h.length)), 1<<rng.IntN(8)); err != nil {
					t.Fatal(err)
				}
			}
			f, err := c.mem.Open(names[0])
			if err != nil {
				t.Fatal(err)
			}
			if got, _, err := mendHeader(f); err == nil && got.crc != h.crc {
				t.Fatalf("another header was made: %+v", got)
			}
		}
	}
}
