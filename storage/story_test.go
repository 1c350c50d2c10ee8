package storage

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/entrepot-hub/entrepot/record"
	"github.com/entrepot-hub/entrepot/storage/vfs"
	"github.com/entrepot-hub/entrepot/storytest"
)

// Stories are files of commands with what came of them, prose in between:
//
//	# Why this is told.
//	append t n=2
//	----
//	write t-0/0000000001-00000000000000000001.log at 232: 144 bytes
//
// go test ./storage -run TestStories -rewrite records them anew; read the
// difference before you believe it. sync_order_*.txt record every operation on
// the disk (each command flushes unless it says flush=no); recover_*.txt what is
// found after a stop.

func TestStories(t *testing.T) {
	storytest.Run(t, func(t *testing.T) func(string, storytest.Args) string {
		return newStory(strings.Contains(t.Name(), "/sync_order")).run
	})
}

// story is a node that does what a file says.
type story struct {
	serial
	rng   *rand.Rand
	mem   *vfs.Mem
	store *Store
	now   time.Time
	trace bool
	lines []string
}

func newStory(trace bool) *story {
	return &story{rng: rand.New(rand.NewPCG(1, 1)), mem: vfs.NewMem(), now: time.UnixMilli(1_700_000_000_000), trace: trace}
}

// run does one command.
func (s *story) run(verb string, a storytest.Args) string {
	s.lines = nil
	if err := s.do(verb, a); err != nil {
		s.say("error: %s", strings.ReplaceAll(err.Error(), "\n", "; "))
	}
	return strings.Join(s.lines, "\n")
}

func (s *story) say(format string, args ...any) {
	s.lines = append(s.lines, fmt.Sprintf(format, args...))
}

func (s *story) do(verb string, a storytest.Args) error {
	switch verb {
	case "open":
		return s.open(a)
	case "close":
		return s.store.Close()
	case "power-cut":
		s.mem = s.mem.PowerCut()
	case "kill":
		s.mem = s.mem.KillClone()
	case "wait":
		s.now = s.now.Add(time.Duration(int(a.Int("ms", 1000))) * time.Millisecond)
		s.flush()
	case "flush":
		s.flush()
	case "flip", "truncate", "remove", "zeros":
		return s.tamper(verb, a)
	case "files":
		return s.files()
	case "verify":
		return s.verify()
	case "full":
		space, err := s.mem.Space("/")
		s.mem.SetCapacity(space.Total - space.Free + a.Int("free", 0))
		return err
	case "room":
		s.mem.SetCapacity(0)
	case "disk":
		s.store.watchDisk(s.now)
		d := s.store.Disk()
		s.say("reserve %v, low %v, high %v, offline %v", d.Reserve, d.Low, d.High, d.Offline != nil)
	default:
		return s.log(verb, a)
	}
	return nil
}

func (s *story) flush() {
	for s.store.Step(s.now) {
	}
}

func (s *story) open(a storytest.Args) (err error) {
	var fsys vfs.FS = s.mem
	if s.trace {
		fsys = vfs.WithTrace(s.mem, simDir, func(line string) {
			if !strings.Contains(line, " lock ") { // its length depends on the machine
				s.lines = append(s.lines, line)
			}
		})
	}
	cfg := Config{ReserveBytes: 8192, LowWater: 6000, HighWater: 3000, AheadBytes: a.Int("ahead", 0), Clock: func() time.Time { return s.now }, Rand: randReader{s.rng}}
	s.store, err = Open(fsys, simDir, cfg)
	return err
}

func storyID(a storytest.Args) LogID { return LogID{Topic: "t", Partition: int32(a.Int("p", 0))} }

// log does a command on one log.
func (s *story) log(verb string, a storytest.Args) error {
	if verb == "create" {
		_, err := s.store.Create(storyID(a), State{Hard: HardState{Term: 1}})
		s.flush()
		return err
	}
	if verb == "remove-log" {
		return s.store.Remove(storyID(a))
	}
	l, err := s.store.OpenLog(storyID(a))
	if err != nil {
		return err
	}
	switch verb {
	case "append", "supersede", "reset":
		return s.append(l, verb, a)
	case "trim":
		return l.Trim(uint64(a.Int("to", 0)))
	case "state":
		return s.state(l)
	case "read":
		batches, err := l.Read(a.Int("from", 0), a.Int("limit", 1<<40), int(a.Int("max", 1<<20)))
		for _, b := range batches {
			s.say("batch at %d to %d", b.BaseOffset(), b.LastOffset())
		}
		return err
	case "fetch":
		return s.fetch(l)
	case "scrub":
		return s.scrub(l)
	}
	return fmt.Errorf("no such command: %s", verb)
}

// append appends a round: entries of one record of size bytes each, a hard
// state as term/vote/commit.
func (s *story) append(l *Log, verb string, a storytest.Args) error {
	last, term := l.Last()
	_, next := l.Offsets()
	r := Round{NoSync: a.Get("sync") == "no", Done: func(err error) {
		if s.trace || err != nil {
			s.say("done: %v", doneText(err))
		}
	}}
	if h := a.Get("hard"); h != "" {
		r.Hard = &HardState{}
		if _, err := fmt.Sscanf(h, "%d/%d/%d", &r.Hard.Term, &r.Hard.Vote, &r.Hard.Commit); err != nil {
			return err
		}
	}
	switch {
	case verb == "supersede":
		last = uint64(a.Int("from", 0)) - 1
		at, err := l.placeAfter(last)
		if err != nil {
			return err
		}
		next, r.Before = at.state.NextOffset, &Aux{}
	case verb == "reset":
		last = uint64(a.Int("index", 0))
		next = a.Int("offset", 0)
		r.Reset = &State{Index: last, Term: uint64(a.Int("term", 1)), NextOffset: next, Hard: l.Hard()}
	case a.Get("roll") != "":
		r.Before = &Aux{}
	}
	r.Entries = s.plain(int(a.Int("n", 0)), last, uint64(a.Int("term", int64(max(term, 1)))), next, int(a.Int("size", 10)), a.Get("control") != "")
	if err := l.Append(r); err != nil {
		return err
	}
	if a.Get("flush") != "no" {
		s.flush()
	}
	return nil
}

// fetch brings the log to another node as files.
func (s *story) fetch(l *Log) error {
	to, err := Open(vfs.NewMem(), simDir, Config{ReserveBytes: 8192, Clock: func() time.Time { return s.now }, Rand: randReader{s.rng}})
	if err != nil {
		return err
	}
	m, err := l.Manifest(endState(l))
	if err != nil {
		return errors.Join(err, to.Close())
	}
	g, err := to.Stage(m)
	if err == nil {
		err = g.Fetch(context.Background(), func(_ context.Context, f ManifestFile, from int64) (io.ReadCloser, error) {
			return l.OpenSegment(f, from)
		})
	}
	for _, f := range m.Files {
		s.say("%s entries %d to %d, %d bytes", f.Name(), f.First, f.LastIndex, f.Bytes)
	}
	return errors.Join(err, to.Close())
}

// scrub checks all segments.
func (s *story) scrub(l *Log) error {
	for _, g := range l.Segments() {
		got, err := l.Scrub(context.Background(), g.Seq, nil)
		switch {
		case err != nil:
			return err
		case got.Unmended != nil:
			s.say("index of %s: %v; not written anew: %v", g.File, got.Index, got.Unmended)
		case got.Index != nil:
			s.say("index of %s: %v; written anew", g.File, got.Index)
		}
	}
	return nil
}

func doneText(err error) string {
	switch {
	case err == nil:
		return "durable"
	case errors.Is(err, record.ErrOffline):
		return "the volume is offline"
	}
	return err.Error()
}

// plain makes entries of a given size.
func (s *story) plain(n int, index, term uint64, next int64, size int, control bool) (out []Entry) {
	for range n {
		index++
		e := Entry{Index: index, Term: term, Kind: KindControl, BaseOffset: next, LeaderEpoch: int32(term), Payload: make([]byte, size)}
		if !control {
			b := record.NewBuilder(record.None)
			s.n++
			if err := b.Append(record.Record{Timestamp: s.n, Value: make([]byte, size)}); err != nil {
				panic(err)
			}
			batch, err := b.Build()
			if err != nil {
				panic(err)
			}
			batch.SetBaseOffset(next)
			batch.SetLeaderEpoch(int32(term))
			e.Kind, e.Payload = KindData, batch
			next++
		}
		out = append(out, e)
	}
	return out
}

// state says what a log holds.
func (s *story) state(l *Log) error {
	last, term := l.Last()
	start, next := l.Offsets()
	h := l.Hard()
	s.say("entries %d to %d, last term %d, offsets %d to %d, hard state %d/%d/%d, needs a new segment: %v",
		l.FirstIndex(), last, term, start, next, h.Term, h.Vote, h.Commit, l.ShouldRoll(s.now))
	for _, g := range l.Segments() {
		s.say("  %s entries %d to %d", g.File, g.FirstIndex, g.LastIndex)
	}
	for _, d := range l.mu.dead {
		s.say("  %s is dead", d.name)
	}
	if err := l.Damage(); err != nil {
		s.say("  quarantined: %v", err)
	}
	return nil
}

func (s *story) path(a storytest.Args) (string, error) {
	dir := simDir + "/" + dirName(storyID(a))
	names, err := s.mem.List(dir)
	for _, n := range names {
		if seq, _, ok := parseSegmentName(n); ok && int64(seq) == a.Int("seg", 1) {
			return dir + "/" + n, nil
		}
	}
	return "", fmt.Errorf("no segment %d: %w", a.Int("seg", 1), err)
}

// tamper changes a file behind the node's back: at is a byte, counted from the
// end when negative.
func (s *story) tamper(verb string, a storytest.Args) error {
	name, err := s.path(a)
	if err != nil {
		return err
	}
	if verb == "remove" {
		return s.mem.Remove(name)
	}
	info, err := s.mem.Stat(name)
	if err != nil {
		return err
	}
	at := a.Int("at", -1)
	if at < 0 {
		at += info.Size
	}
	if verb == "flip" {
		return s.mem.Flip(name, at, 1)
	}
	f, err := s.mem.OpenWrite(name)
	if err != nil {
		return err
	}
	if verb == "zeros" {
		return f.Truncate(info.Size + a.Int("n", 512))
	}
	return f.Truncate(at)
}

func (s *story) files() error {
	var walk func(dir string) error
	walk = func(dir string) error {
		names, err := s.mem.List(dir)
		if err != nil {
			return err
		}
		for _, n := range names {
			name := dir + "/" + n
			info, err := s.mem.Stat(name)
			if err != nil {
				return err
			}
			if info.Dir {
				if err := walk(name); err != nil {
					return err
				}
				continue
			}
			if n != lockName {
				s.say("%s %d bytes", strings.TrimPrefix(name, simDir+"/"), info.Size)
			}
		}
		return nil
	}
	return walk(simDir)
}

func (s *story) verify() error {
	rep, err := Verify(s.mem.KillClone(), simDir)
	for _, l := range rep.Logs {
		s.say("%s: %s %s", l.Log, l.State, l.Detail)
		for _, g := range l.Segments {
			s.say("  %s %s, entries %d to %d %s", g.File, g.State, g.FirstIndex, g.LastIndex, g.Detail)
		}
	}
	return err
}
