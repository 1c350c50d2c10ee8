package storage

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"path"
	"strings"
	"testing"
	"time"

	"github.com/entrepot-hub/entrepot/record"
	"github.com/entrepot-hub/entrepot/storage/vfs"
)

// A replica fetches the log of another one and puts it in the place of its own,
// which is behind, damaged, lost or has not begun. The machine stops at any
// moment, in the middle of an operation too, by a power cut or a kill, and goes
// on. Checked after each stop, on copies by both kinds:
//   - there is the old log or the new one, whole, and nothing else;
//   - what was quarantined stays so until the new log is there, and what was
//     lost is never taken for a log that begins;
//   - term and vote are this replica's own, and never fall;
//   - once Install has returned, it is the new log;
//   - a file that is there whole is not asked for again.

func TestSimulateInstall(t *testing.T) {
	runSeedsOf(t, 2000, func(seed uint64) error { return runInstall(seed, installPlant{}) }) // slower than the others
}

// installPlant is a mistake in the way a log is installed.
type installPlant struct {
	faults     func() func(op *vfs.Op) error
	trustSize  bool // a file of the right size is taken for whole
	forgets    bool // the quarantine is lifted before the new log is there
	otherVotes bool // term and vote are taken from where the log comes from
}

type installSim struct {
	rng   *rand.Rand
	plant installPlant
	now   time.Time
	mem   *vfs.Mem
	id    LogID
	kind  string // of the old log: behind, damaged, lost, none
	old   installState
	made  bool // the replica knows its log, or what became of it
	own   HardState
	src   *Log
	want  installState
	asked int64 // bytes read at the source
	serial
}

// installState is what a log is seen to be.
type installState struct {
	entries []Entry
	first   State
	whole   uint64
	hard    HardState
	damaged bool
	missing bool
}

func (a installState) differs(b installState) string {
	switch {
	case a.missing != b.missing || a.damaged != b.damaged:
		return fmt.Sprintf("missing %v damaged %v, want %v %v", a.missing, a.damaged, b.missing, b.damaged)
	case a.damaged || a.missing:
		return ""
	case a.first.Index != b.first.Index || !bytes.Equal(a.first.Conf, b.first.Conf) || a.whole != b.whole:
		return fmt.Sprintf("begins after %d with %q, whole from %d, want %d with %q, %d", a.first.Index, a.first.Conf, a.whole, b.first.Index, b.first.Conf, b.whole)
	case a.hard != b.hard:
		return fmt.Sprintf("hard state %v, want %v", a.hard, b.hard)
	case len(a.entries) != len(b.entries):
		return fmt.Sprintf("%d entries, want %d", len(a.entries), len(b.entries))
	}
	for i, e := range a.entries {
		if w := b.entries[i]; e.Index != w.Index || e.Term != w.Term || e.Kind != w.Kind || e.BaseOffset != w.BaseOffset || !bytes.Equal(e.Payload, w.Payload) {
			return fmt.Sprintf("entry %d of term %d, want %d of term %d", e.Index, e.Term, w.Index, w.Term)
		}
	}
	return ""
}

func stateOfLog(l *Log) (installState, error) {
	s := installState{first: l.First(), whole: l.Whole(), hard: l.Hard(), damaged: l.Damage() != nil}
	if s.damaged {
		return s, nil
	}
	var err error
	s.entries, err = everything(l)
	return s, err
}

func runInstall(seed uint64, p installPlant) error {
	s := &installSim{
		rng: rand.New(rand.NewPCG(seed, 7)), plant: p, now: time.UnixMilli(1_700_000_000_000), mem: vfs.NewMem(),
		id: LogID{Topic: "t", ID: record.TopicID{1, 2}},
	}
	if err := s.source(); err != nil {
		return fmt.Errorf("source: %w", err)
	}
	if err := s.begin(); err != nil {
		return fmt.Errorf("old log: %w", err)
	}
	for try := range 40 {
		done, err := s.try()
		if err != nil {
			return fmt.Errorf("attempt %d with a log that is %s: %w", try, s.kind, err)
		}
		if done {
			return nil
		}
	}
	return errors.New("not installed in 40 attempts")
}

func (s *installSim) open(mem *vfs.Mem) (*Store, error) {
	var fsys vfs.FS = mem
	if s.plant.faults != nil {
		fsys = vfs.WithFaults(mem, s.plant.faults())
	}
	st, err := Open(fsys, simDir, simConfig(s.rng, func() time.Time { return s.now }))
	if err == nil {
		st.planted.trustSize = s.plant.trustSize
	}
	return st, err
}

// grow appends rounds at random: rolls, votes, conflicts, commits.
func (s *installSim) grow(st *Store, l *Log, rounds int) error {
	for range rounds {
		last, lastTerm := l.Last()
		_, next := l.Offsets()
		hard := l.Hard()
		r := Round{}
		if low := max(hard.Commit+1, l.Whole()+1); s.rng.IntN(4) == 0 && last >= low {
			k := low + uint64(s.rng.IntN(int(last-low+1)))
			before, err := l.Entries(k-1, k, 1)
			if err != nil {
				return err
			}
			hard.Term++
			r.Entries = s.entries(s.rng, 1+s.rng.IntN(3), k-1, max(before[0].Term, hard.Term), before[0].NextOffset())
			r.Hard, r.Before = &hard, &Aux{Conf: fmt.Appendf(nil, "conf %d", k-1)}
		} else {
			r.Entries = s.entries(s.rng, s.rng.IntN(4), last, max(lastTerm, hard.Term), next)
			if s.rng.IntN(3) == 0 {
				hard.Commit = min(last, hard.Commit+uint64(s.rng.IntN(6)))
				r.Hard = &hard
			}
			if s.rng.IntN(4) == 0 || l.ShouldRoll(s.now) {
				r.Before = &Aux{Conf: fmt.Appendf(nil, "conf %d", last)}
			}
		}
		if err := l.Append(r); err != nil {
			return err
		}
		if s.rng.IntN(3) == 0 {
			s.now = s.now.Add(time.Second)
			st.Step(s.now)
			st.Step(s.now)
		}
	}
	st.Step(s.now)
	return nil
}

// source makes the log that is to be fetched: trimmed, compacted, with
// superseded ends, as it comes.
func (s *installSim) source() error {
	st, err := Open(vfs.NewMem(), simDir, simConfig(s.rng, func() time.Time { return s.now }))
	if err != nil {
		return err
	}
	first := State{Hard: HardState{Term: 1 + uint64(s.rng.IntN(3)), Vote: 9}, Aux: simAux(0)}
	if s.src, err = st.Create(s.id, first); err != nil {
		return err
	}
	for range 1 + s.rng.IntN(3) {
		if err := s.grow(st, s.src, 4+s.rng.IntN(12)); err != nil {
			return err
		}
		infos := s.src.Segments()
		n := 0
		for n+1 < len(infos) && infos[n].LastIndex <= s.src.Hard().Commit {
			n++
		}
		switch {
		case n > 0 && s.rng.IntN(2) == 0:
			from := s.rng.IntN(n)
			_, err = s.src.Rewrite(context.Background(), Rewrite{First: infos[from].Seq, Last: infos[from+s.rng.IntN(n-from)].Seq, Keep: func(e Entry) ([]byte, error) {
				if s.rng.IntN(3) == 0 {
					return nil, nil
				}
				return e.Payload, nil
			}})
			if errors.Is(err, ErrNotSealed) {
				err = nil
			}
		case n > 0 && s.rng.IntN(2) == 0:
			err = s.src.Trim(infos[s.rng.IntN(n)].LastIndex)
		}
		if err != nil {
			return err
		}
	}
	if s.want, err = stateOfLog(s.src); err != nil {
		return err
	}
	return nil
}

// begin makes the old log, durable, and what is wrong with it.
func (s *installSim) begin() error {
	s.kind = []string{"behind", "damaged", "lost", "none"}[s.rng.IntN(4)]
	if s.kind == "none" {
		s.old.missing = true
		return nil
	}
	st, err := s.open(s.mem)
	if err != nil {
		return err
	}
	l, err := st.Create(s.id, State{Hard: HardState{Term: 1, Vote: uint64(s.rng.IntN(3))}, Aux: simAux(0)})
	if err != nil {
		return err
	}
	if err := s.grow(st, l, 6+s.rng.IntN(8)); err != nil {
		return err
	}
	s.own = l.Hard()
	if s.old, err = stateOfLog(l); err != nil {
		return err
	}
	dir, name := l.dir, l.path(l.Segments()[0].File)
	if err := st.Close(); err != nil {
		return err
	}
	switch s.kind {
	case "damaged":
		// What Install does must not depend on what is wrong.
		st, err := s.open(s.mem)
		if err != nil {
			return err
		}
		if l, err = st.OpenLog(s.id); err != nil {
			return err
		}
		_ = l.quarantine(&record.CorruptionError{File: name, Err: errBodyCRC})
		s.old.damaged = true
		return st.Close()
	case "lost":
		names, err := s.mem.List(dir)
		if err != nil {
			return err
		}
		for _, n := range names {
			if err := s.mem.Remove(path.Join(dir, n)); err != nil {
				return err
			}
		}
		s.old.damaged, s.own = true, HardState{Term: s.own.Term}
		if err := errors.Join(s.mem.Remove(dir), s.mem.SyncDir(simDir)); err != nil {
			return err
		}
		s.mem = s.mem.PowerCut()
	}
	return nil
}

// look opens the store on a copy and tells what its log is.
func (s *installSim) look(mem *vfs.Mem) (installState, error) {
	st, err := s.open(mem)
	if err != nil {
		return installState{}, err
	}
	l, err := st.OpenLog(s.id)
	switch {
	case errors.Is(err, ErrLost):
		return installState{damaged: true, hard: s.own}, nil
	case errors.Is(err, ErrNotFound):
		return installState{missing: true}, nil
	case err != nil:
		return installState{}, err
	}
	return stateOfLog(l)
}

// check compares what is found after a stop with what may be.
func (s *installSim) check(mem *vfs.Mem, installed bool, hard HardState) error {
	got, err := s.look(mem)
	if err != nil {
		return err
	}
	if got.hard.Term < s.own.Term || got.hard.Term == s.own.Term && s.own.Vote != 0 && got.hard.Vote != s.own.Vote {
		return fmt.Errorf("hard state %v, it was %v", got.hard, s.own)
	}
	want := s.want
	want.hard = hard
	why := got.differs(want)
	if why == "" {
		return nil
	}
	if installed {
		return fmt.Errorf("installed, and now: %s", why)
	}
	if old := got.differs(s.old); old != "" && !(s.kind == "none" && len(got.entries) == 0 && !got.damaged) {
		return fmt.Errorf("it is neither the old log (%s) nor the new one (%s)", old, why)
	}
	return nil
}

// try fetches and installs until the machine stops, or to the end.
func (s *installSim) try() (done bool, err error) {
	st, err := s.open(s.mem)
	if err != nil {
		return false, err
	}
	if s.rng.IntN(3) > 0 {
		s.mem.CutAfter(1+s.rng.IntN(60), s.rng)
	}
	hard, installed, err := s.attempt(st)
	dead := s.mem.Dead()
	s.mem.Uncut()
	if err != nil && !dead && !errors.Is(err, io.ErrUnexpectedEOF) {
		return false, err
	}
	if err := s.check(s.mem.CrashClone(s.rng), installed, hard); err != nil {
		return false, fmt.Errorf("power cut: %w", err)
	}
	if err := s.check(s.mem.KillClone(), installed, hard); err != nil {
		return false, fmt.Errorf("kill: %w", err)
	}
	if installed {
		return true, s.goesOn(st)
	}
	if s.rng.IntN(2) == 0 {
		s.mem = s.mem.CrashClone(s.rng)
	} else {
		s.mem = s.mem.KillClone()
	}
	return false, nil
}

// attempt does what a replica does, up to the first error.
func (s *installSim) attempt(st *Store) (hard HardState, installed bool, err error) {
	l, err := st.OpenLog(s.id)
	switch {
	case errors.Is(err, ErrLost):
		l, err = st.CreateLost(s.id)
	case errors.Is(err, ErrNotFound):
		l, err = st.Create(s.id, State{})
	}
	if err != nil {
		return hard, false, err
	}
	if l.Damage() == nil && l.Hard().Commit == s.want.hard.Commit && s.want.differs(mustState(l)) == "" {
		return l.Hard(), true, nil // it was complete when the machine stopped
	}
	hard = l.Promised()
	if from := s.src.Hard(); s.plant.otherVotes || from.Term > hard.Term {
		hard = HardState{Term: from.Term}
		if s.plant.otherVotes {
			hard.Vote = from.Vote
		}
	}
	hard.Commit = s.src.Hard().Commit
	m, err := s.src.Manifest(endState(s.src))
	if err != nil {
		return hard, false, err
	}
	if m, err = DecodeManifest(m.Append(nil)); err != nil {
		return hard, false, err
	}
	g, err := st.Stage(m)
	if err != nil {
		return hard, false, err
	}
	g.chunk = 1 << s.rng.IntN(16)
	whole := s.wholeFiles(g)
	if err := g.Fetch(context.Background(), func(_ context.Context, f ManifestFile, from int64) (io.ReadCloser, error) {
		if whole[f.Seq] {
			return nil, fmt.Errorf("file %s is whole and was asked for again from byte %d", f.Name(), from)
		}
		r, err := s.src.OpenSegment(f, from)
		if err != nil || s.rng.IntN(6) > 0 {
			return r, err
		}
		return io.NopCloser(io.LimitReader(r, s.rng.Int64N(f.Bytes-from+1))), r.Close()
	}); err != nil {
		return hard, false, err
	}
	if s.plant.forgets {
		_ = st.fs.Remove(path.Join(l.dir, markerName))
	}
	if err := l.Install(g, hard); err != nil {
		return hard, false, err
	}
	if why := withHard(s.want, hard).differs(mustState(l)); why != "" {
		return hard, true, fmt.Errorf("right after it was installed: %s", why)
	}
	return hard, true, nil
}

func withHard(s installState, h HardState) installState {
	s.hard = h
	return s
}

func mustState(l *Log) installState {
	s, err := stateOfLog(l)
	if err != nil {
		return installState{missing: true}
	}
	return s
}

// endState is the state at the end of a log as the layer above would know it.
func endState(l *Log) State {
	index, term := l.Last()
	_, next := l.Offsets()
	return State{Index: index, Term: term, NextOffset: next, Aux: simAux(index)}
}

// wholeFiles are those that need not be fetched.
func (s *installSim) wholeFiles(g *Staging) map[uint32]bool {
	whole := map[uint32]bool{}
	for _, f := range g.files {
		if f.have != f.Bytes {
			continue
		}
		if file, err := g.open(f); err == nil {
			whole[f.Seq] = g.check(f, file) == nil
			f.whole = false
			_ = file.Close()
		}
	}
	return whole
}

// goesOn appends to the installed log, and reads it after a restart.
func (s *installSim) goesOn(st *Store) error {
	l, err := st.OpenLog(s.id)
	if err != nil {
		return err
	}
	if err := s.grow(st, l, 5); err != nil {
		return fmt.Errorf("append to the installed log: %w", err)
	}
	want, err := stateOfLog(l)
	if err != nil {
		return err
	}
	if err := st.Close(); err != nil {
		return err
	}
	got, err := s.look(s.mem.CrashClone(s.rng))
	if err != nil {
		return err
	}
	if why := got.differs(want); why != "" {
		return fmt.Errorf("after more was appended and a restart: %s", why)
	}
	rep, err := Verify(s.mem, simDir+"/"+dirName(s.id))
	if err != nil || rep.Damaged() {
		return fmt.Errorf("verify: %+v, %w", rep, err)
	}
	names, err := s.mem.List(simDir)
	if err == nil && strings.Contains(strings.Join(names, " "), stagingSuffix) {
		err = fmt.Errorf("left behind: %q", names)
	}
	return err
}

// TestInstallSimulationNotices plants mistakes, one after the other.
func TestInstallSimulationNotices(t *testing.T) {
	staged := func(op *vfs.Op) bool { return strings.Contains(op.Name, stagingSuffix) }
	plants := []struct {
		name string
		installPlant
	}{
		{"no sync of the directory after the swap", installPlant{faults: func() func(op *vfs.Op) error {
			swapped := false
			return func(op *vfs.Op) error {
				swapped = swapped || op.Kind == vfs.OpRename && staged(op) && !strings.HasSuffix(op.Name, ".tmp")
				if swapped && op.Kind == vfs.OpSyncDir && op.Name == simDir {
					return vfs.ErrSkip
				}
				return nil
			}
		}}},
		{"received files not synced", installPlant{faults: skipping(func(op *vfs.Op) bool { return op.Kind == vfs.OpSync && staged(op) })}},
		{"the received folder not synced", installPlant{faults: skipping(func(op *vfs.Op) bool { return op.Kind == vfs.OpSyncDir && staged(op) })}},
		{"a part of a file taken for all of it", installPlant{trustSize: true}},
		{"quarantine lifted too early", installPlant{forgets: true}},
		{"vote lost with the old log", installPlant{otherVotes: true}},
		{"notes of what was there not synced", installPlant{faults: skipping(func(op *vfs.Op) bool { return op.Kind == vfs.OpSyncDir && strings.HasSuffix(op.Name, knownDir) })}},
	}
	for _, p := range plants {
		t.Run(p.name, func(t *testing.T) {
			mustNotice(t, 3000, func(seed uint64) error { return runInstall(seed, p.installPlant) })
		})
	}
}
