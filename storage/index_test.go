package storage

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path"
	"reflect"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/entrepot-hub/entrepot/record"
	"github.com/entrepot-hub/entrepot/storage/vfs"
)

// indexCase is a log of three segments, the last one active. The index of each
// sealed one fills several sectors: every entry has a term of its own.
type indexCase struct {
	t    *testing.T
	mem  *vfs.Mem
	s    *Store
	l    *Log
	want []Entry
	now  time.Time
}

const (
	indexEntries = 60 // of each segment
	indexFile    = simDir + "/t-0/0000000001-00000000000000000001.log"
)

func newIndexCase(t *testing.T, fault func(op *vfs.Op) error) *indexCase {
	t.Helper()
	c := &indexCase{t: t, mem: vfs.NewMem(), now: time.UnixMilli(1_700_000_000_000)}
	var fsys vfs.FS = c.mem
	if fault != nil {
		fsys = vfs.WithFaults(c.mem, fault)
	}
	c.s = c.open(fsys)
	var err error
	if c.l, err = c.s.Create(LogID{Topic: "t"}, State{Hard: HardState{Term: 1}, Aux: simAux(0)}); err != nil {
		t.Fatal(err)
	}
	var n serial
	rng := randOf(3)
	for i := range uint64(3 * indexEntries) {
		_, next := c.l.Offsets()
		r := Round{Hard: &HardState{Term: i + 1, Commit: i}, Entries: n.entries(rng, 1, i, i+1, next)}
		if i > 0 && i%indexEntries == 0 {
			aux := simAux(i)
			r.Before = &aux
		}
		if err := c.l.Append(r); err != nil {
			t.Fatal(err)
		}
		for c.s.Step(c.now) {
		}
	}
	if c.want, err = everything(c.l); err != nil {
		t.Fatal(err)
	}
	return c
}

func (c *indexCase) open(fsys vfs.FS) *Store {
	return openMem(c.t, fsys, Config{TailCacheBytes: -1, LowWater: 1, HighWater: 1, Clock: func() time.Time { return c.now }})
}

// restart kills the node and opens the log again.
func (c *indexCase) restart() {
	c.t.Helper()
	c.mem = c.mem.KillClone()
	c.s = c.open(c.mem)
	var err error
	if c.l, err = c.s.OpenLog(LogID{Topic: "t"}); err != nil || c.l.Damage() != nil {
		c.t.Fatalf("%v, damage %v", err, c.l.Damage())
	}
}

// footer is where the first segment's index begins and ends.
func (c *indexCase) footer() (from, to int64) {
	seg := c.l.mu.segs[0]
	info, err := c.mem.Stat(indexFile)
	if err != nil {
		c.t.Fatal(err)
	}
	return int64(seg.p.end), info.Size
}

// whole says what of a log is not as it was written.
func (c *indexCase) whole(l *Log) error {
	got, err := everything(l)
	if err != nil || !reflect.DeepEqual(got, c.want) {
		return fmt.Errorf("%d of %d entries: %w", len(got), len(c.want), err)
	}
	for _, e := range got {
		if term, err := l.Term(e.Index); err != nil || term != e.Term {
			return fmt.Errorf("term of entry %d: %d, want %d: %w", e.Index, term, e.Term, err)
		}
	}
	return l.Damage()
}

// sound is what Verify finds fault with on a disk.
func sound(mem *vfs.Mem) error {
	rep, err := Verify(mem.KillClone(), simDir+"/t-0")
	if err != nil || rep.Logs[0].State != "ok" || rep.Logs[0].Detail != "" {
		return fmt.Errorf("verify: %+v, %w", rep.Logs, err)
	}
	return nil
}

// overwriteAt writes bytes behind the node's back.
func (c *indexCase) overwriteAt(at int64, b []byte) {
	c.t.Helper()
	f, err := c.mem.OpenWrite(indexFile)
	if err == nil {
		_, err = f.WriteGather([][]byte{b}, at)
	}
	if err == nil {
		err = f.Sync()
	}
	if err != nil {
		c.t.Fatal(err)
	}
}

// lie writes an index that is whole and wrong: the terms are others.
func (c *indexCase) lie() {
	c.t.Helper()
	seg := c.l.mu.segs[0]
	f, err := c.mem.Open(indexFile)
	if err != nil {
		c.t.Fatal(err)
	}
	p, err := verify(f, begin(&seg.header), seg.p.end, nil)
	if err != nil {
		c.t.Fatal(err)
	}
	for i := range p.runs {
		p.runs[i].term++
	}
	b, err := p.footer()
	if err != nil {
		c.t.Fatal(err)
	}
	c.overwriteAt(int64(p.end), b)
}

// indexDecays are the ways in which the index of the first segment goes.
var indexDecays = map[string]func(c *indexCase, from, to int64) error{
	"a bit in its frame's header": func(c *indexCase, from, _ int64) error { return c.mem.Flip(indexFile, from+20, 2) },
	"a bit in its head":           func(c *indexCase, from, _ int64) error { return c.mem.Flip(indexFile, from+frameHeader+10, 2) },
	"a bit in its lists":          func(c *indexCase, from, _ int64) error { return c.mem.Flip(indexFile, from+700, 2) },
	"a bit in its trailer":        func(c *indexCase, _, to int64) error { return c.mem.Flip(indexFile, to-3, 2) },
	"cut off":                     func(c *indexCase, from, _ int64) error { return c.cut(from) },
	"cut in the middle":           func(c *indexCase, from, to int64) error { return c.cut((from + to) / 2) },
	"zeros": func(c *indexCase, from, to int64) error {
		c.overwriteAt(from, make([]byte, to-from))
		return nil
	},
	"zeros, and more of them": func(c *indexCase, from, to int64) error {
		c.overwriteAt(from, make([]byte, to-from+3000))
		return nil
	},
	"whole and wrong": func(c *indexCase, _, _ int64) error { c.lie(); return nil },
}

func (c *indexCase) cut(at int64) error {
	f, err := c.mem.OpenWrite(indexFile)
	if err == nil {
		err = errors.Join(f.Truncate(at), f.Sync())
	}
	return err
}

// However an index goes, also while the log is closed, nothing of the log goes with
// it, and a scrub writes it anew, durably and so that it is used.
func TestIndexIsWrittenAnew(t *testing.T) {
	for name, decay := range indexDecays {
		for _, closed := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, closed %v", name, closed), func(t *testing.T) {
				c := newIndexCase(t, nil)
				from, to := c.footer()
				if err := decay(c, from, to); err != nil {
					t.Fatal(err)
				}
				c.s.handles.drop(c.l.mu.segs[0]) // so that it is read anew
				if closed {
					c.restart()
				}
				if err := c.whole(c.l); (err != nil) != (name == "whole and wrong") {
					t.Error(err)
				}
				for i, g := range c.l.Segments() {
					got, err := c.l.Scrub(context.Background(), g.Seq, nil)
					if err != nil || got.Unmended != nil || (got.Index != nil) != (i == 0) {
						t.Errorf("segment %d: %+v, %v", g.Seq, got, err)
					}
				}
				if err := errors.Join(c.whole(c.l), sound(c.mem), sound(c.mem.PowerCut())); err != nil {
					t.Error(err)
				}
				if again, err := c.l.Scrub(context.Background(), 1, nil); again.Index != nil || err != nil {
					t.Errorf("scrubbed again: %+v, %v", again, err)
				}
				if g := c.l.mu.segs[0]; int64(g.footer) != from || g.liveBytes() != to {
					t.Errorf("the footer is at %d, %d bytes are live; want %d and %d", g.footer, g.liveBytes(), from, to)
				}
				c.restart()
				if g := c.l.mu.segs[0]; name != "zeros, and more of them" && int64(g.footer) != from {
					t.Errorf("after a restart the footer is at %d", g.footer)
				}
				if err := c.whole(c.l); err != nil {
					t.Errorf("after a restart: %v", err)
				}
			})
		}
	}
}

// The machine stops at any moment of the writing, by a kill or a power cut that
// leaves any part of it: the log is whole, and the next scrub writes the index.
func TestStopWhileAnIndexIsWritten(t *testing.T) {
	stops, torn := 0, 0
	base := newIndexCase(t, nil)
	for name, decay := range indexDecays {
		for seed := range uint64(12) {
			for cut := 1; ; cut++ {
				c := *base
				c.restart()
				from, to := c.footer()
				if err := decay(&c, from, to); err != nil {
					t.Fatal(err)
				}
				c.restart()
				rng := rand.New(rand.NewPCG(seed, uint64(cut)))
				c.mem.CutAfter(cut, rng)
				got, err := c.l.Scrub(context.Background(), 1, nil)
				if !c.mem.Dead() {
					if got.Unmended != nil || err != nil {
						t.Fatalf("%s: %+v, %v", name, got, err)
					}
					break // it took fewer operations
				}
				if got.Unmended == nil {
					t.Fatalf("%s: said to be written, and the machine had stopped", name)
				}
				stops++
				for _, mem := range []*vfs.Mem{c.mem.KillClone(), c.mem.PowerCut(), c.mem.CrashClone(rng), c.mem.CrashClone(rng)} {
					if c.after(mem, fmt.Sprintf("%s, stopped at operation %d, seed %d", name, cut, seed)) {
						torn++
					}
				}
			}
		}
	}
	t.Logf("stopped %d times; %d of %d disks still lacked an index", stops, torn, 4*stops)
	if torn == 0 || torn == 4*stops {
		t.Error("the stops prove nothing")
	}
}

// after starts on what a stop has left. It reports whether the index was not whole.
func (c *indexCase) after(mem *vfs.Mem, when string) bool {
	c.t.Helper()
	l, err := c.open(mem).OpenLog(LogID{Topic: "t"})
	if err != nil || l.Damage() != nil {
		c.t.Fatalf("%s: %v", when, err)
	}
	got, err := l.Scrub(context.Background(), 1, nil)
	if err != nil || got.Unmended != nil {
		c.t.Errorf("%s: the next scrub: %+v, %v", when, got, err)
	}
	if err := errors.Join(c.whole(l), sound(mem), sound(mem.PowerCut())); err != nil {
		c.t.Errorf("%s: %v", when, err)
	}
	return got.Index != nil
}

// What was going to be written into has gone meanwhile, or is another file: it is
// left alone.
func TestIndexOfASegmentThatGoes(t *testing.T) {
	for name, goes := range map[string]func(c *indexCase) error{
		"trimmed": func(c *indexCase) error { return c.l.Trim(indexEntries) },
		"compacted": func(c *indexCase) error {
			_, err := c.l.Rewrite(context.Background(), Rewrite{First: 1, Last: 2, Keep: keepEvery(2)})
			return err
		},
		"closed": func(c *indexCase) error { return c.l.Close() },
		"removed, and made anew": func(c *indexCase) error {
			err := c.s.Remove(c.l.ID())
			if err == nil {
				_, err = c.s.Create(c.l.ID(), State{Hard: HardState{Term: 1}})
			}
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := newIndexCase(t, nil)
			from, _ := c.footer()
			if err := c.mem.Flip(indexFile, from+100, 1); err != nil {
				t.Fatal(err)
			}
			seg := c.l.mu.segs[0]
			f, err := c.mem.Open(indexFile)
			if err != nil {
				t.Fatal(err)
			}
			p, err := verify(f, begin(&seg.header), seg.p.end, nil)
			if err != nil {
				t.Fatal(err)
			}
			if err := goes(c); err != nil {
				t.Fatal(err)
			}
			ops := c.mem.Ops()
			if err := c.l.mendIndex(seg, p); !errors.Is(err, ErrNotSealed) && !errors.Is(err, record.ErrStopped) {
				t.Errorf("written anew: %v", err)
			}
			if n := c.mem.Ops(); n != ops {
				t.Errorf("%d operations", n-ops)
			}
			if err := sound(c.mem); err != nil && name != "closed" {
				t.Error(err)
			}
		})
	}
}

// Readers, and one that takes the log away, beside a scrub that writes an index
// over and over.
func TestReadersBesideAnIndex(t *testing.T) {
	c := newIndexCase(t, nil)
	from, _ := c.footer()
	stop := make(chan struct{})
	var readers sync.WaitGroup
	for range 3 {
		readers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if err := c.whole(c.l); err != nil {
					if !errors.Is(err, record.ErrStopped) {
						t.Error(err)
					}
					return
				}
			}
		})
	}
	for i := range 200 {
		if err := c.mem.Flip(indexFile, from+20+int64(i*7)%900, 1); err != nil {
			t.Fatal(err)
		}
		c.l.store.handles.drop(c.l.mu.segs[0]) // so that it is read anew
		if got, err := c.l.Scrub(context.Background(), 1, nil); err != nil || got.Index == nil || got.Unmended != nil {
			t.Fatalf("%+v, %v", got, err)
		}
	}
	if err := c.s.Remove(c.l.ID()); err != nil {
		t.Error(err)
	}
	close(stop)
	readers.Wait()
}

// A disk that does not take it costs no more than the index, or takes the volume
// offline as any other write that fails.
func TestIndexThatCannotBeWritten(t *testing.T) {
	var fault func(op *vfs.Op) error
	armed := func(op *vfs.Op) error {
		if fault == nil || !strings.HasPrefix(op.Name, path.Dir(indexFile)) {
			return nil
		}
		return fault(op)
	}
	for _, one := range []struct {
		name    string
		fault   func(op *vfs.Op) error
		offline bool
	}{
		{"the disk is full", func(*vfs.Op) error { return syscall.ENOSPC }, false},
		{"the write fails", func(op *vfs.Op) error { op.Short = 100; return syscall.EIO }, true},
		{"the sync fails", func(op *vfs.Op) error {
			if op.Kind == vfs.OpSync {
				return syscall.EIO
			}
			return nil
		}, true},
	} {
		t.Run(one.name, func(t *testing.T) {
			fault = nil
			c := newIndexCase(t, armed)
			from, _ := c.footer()
			if err := c.mem.Flip(indexFile, from+100, 1); err != nil {
				t.Fatal(err)
			}
			fault = one.fault
			got, err := c.l.Scrub(context.Background(), 1, nil)
			if err != nil || got.Index == nil || got.Unmended == nil || errors.Is(got.Unmended, record.ErrDiskFull) == one.offline {
				t.Errorf("%+v, %v", got, err)
			}
			if off := c.s.Disk().Offline; (off != nil) != one.offline {
				t.Errorf("offline: %v", off)
			}
			fault = nil
			if err := c.whole(c.l); err != nil {
				t.Error(err)
			}
			if again, err := c.l.Scrub(context.Background(), 1, nil); err != nil || !one.offline && again.Unmended != nil {
				t.Errorf("again: %+v, %v", again, err)
			}
		})
	}
}

// Of the newest segment nothing is written but by who appends.
func TestIndexOfTheNewest(t *testing.T) {
	c := newIndexCase(t, nil)
	// A stop between the end of a segment and the next one's header.
	c.l.takeWriter()
	c.l.seal(c.l.last())
	c.l.giveWriter()
	c.restart()
	seg := c.l.last()
	if seg.footer == 0 {
		t.Fatal("it has no footer")
	}
	name := path.Join(simDir, "t-0", seg.name)
	if err := c.mem.Flip(name, int64(seg.footer)+100, 1); err != nil {
		t.Fatal(err)
	}
	ops := c.mem.Ops()
	if got, err := c.l.Scrub(context.Background(), seg.header.seq, nil); err != nil || got.Index == nil || !errors.Is(got.Unmended, ErrNotSealed) || c.mem.Ops() != ops {
		t.Errorf("%+v, %v", got, err)
	}
	r := control(c.l)
	r.Before = &Aux{}
	if err := c.l.Append(r); err != nil {
		t.Fatal(err)
	}
	if got, err := c.l.Scrub(context.Background(), seg.header.seq, nil); err != nil || got.Index == nil || got.Unmended != nil {
		t.Errorf("%+v, %v", got, err)
	}
	if err := sound(c.mem); err != nil {
		t.Error(err)
	}
}
