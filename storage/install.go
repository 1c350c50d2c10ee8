package storage

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"path"
	"strings"

	"github.com/entrepot-hub/entrepot/record"
)

// Installing: a log is replaced by what was received from another replica.
//
//  1. The files are there, checked and synced (Staging.Fetch).
//  2. A segment of this replica's own is put behind them: its header holds the
//     state at their end, and the term and vote of this replica. What the files
//     say of terms and votes is the sender's; the newest header decides
//     (Invariant 10). It states that everything before it is synced.
//  3. The folder is synced, and a file "complete" is made durable in it. This is
//     the moment: before it the old log counts, with its quarantine if it has
//     one, after it the new one, also if the power goes.
//  4. The old folder is renamed away and the new one takes its name, both in
//     one directory that is then synced. A start that finds a complete folder
//     does this first, before any log is opened.
//
// So after a stop there is the old log or the new one, never none and never a
// mixture, and a vote is in either.

// Install puts what was received in the place of the log, which begins anew
// from there: l holds the new log when it returns, without damage. hard is this
// replica's own hard state; its term must not be below the log's. Nothing may be
// on its way to the log: no Append runs and no round waits to be durable. After
// an error that wraps record.ErrOffline which of the two logs is there is found
// out at the next start; after any other error the old one is there unchanged.
func (l *Log) Install(g *Staging, hard HardState) error {
	l.trimming.Lock()
	defer l.trimming.Unlock()
	l.takeWriter()
	defer l.giveWriter()
	if err := l.install(g, hard); err != nil {
		return fmt.Errorf("install log %s: %w", l.id, err)
	}
	return nil
}

func (l *Log) install(g *Staging, hard HardState) error {
	if err := l.mayInstall(g, hard); err != nil {
		return err
	}
	if err := l.promise(hard.Term); err != nil {
		return err
	}
	if err := g.seal(hard); err != nil {
		return err
	}
	if err := l.store.swapIn(path.Base(g.dir)); err != nil {
		return err
	}
	return l.reload()
}

func (l *Log) mayInstall(g *Staging, hard HardState) error {
	if err := l.store.writable(true); err != nil {
		return err
	}
	l.mu.RLock()
	defer l.mu.RUnlock()
	switch {
	case l.mu.closed:
		return record.ErrStopped
	case g.id != l.id:
		return fmt.Errorf("%w: log %s was received", ErrRound, g.id)
	case hard.Term < l.mu.hard.Term:
		return fmt.Errorf("%w: hard state of term %d < %d", ErrRound, hard.Term, l.mu.hard.Term)
	case hard.Term == l.mu.hard.Term && l.mu.hard.Vote != 0 && hard.Vote != l.mu.hard.Vote:
		return fmt.Errorf("%w: in term %d the vote is %d, not %d", ErrRound, hard.Term, l.mu.hard.Vote, hard.Vote)
	case hard.Commit > g.m.State.Index:
		return fmt.Errorf("%w: commit %d > %d, the last entry", ErrRound, hard.Commit, g.m.State.Index)
	}
	for _, f := range g.files {
		if !f.whole {
			return fmt.Errorf("%w: segment %s is not whole", ErrRound, f.Name())
		}
	}
	return nil
}

// seal writes this replica's own segment behind the received ones, and makes
// the whole complete.
func (g *Staging) seal(hard HardState) error {
	s := g.store
	h, err := g.topHeader(hard)
	if err != nil {
		return err
	}
	if err := s.writeWhole(path.Join(g.dir, segmentName(h.seq, h.state.Index+1)), h.encode()); err != nil {
		return err
	}
	if err := s.fs.SyncDir(g.dir); err != nil {
		return s.goOffline(err)
	}
	return s.complete(g.dir, fmt.Appendf(nil, "log %s of %d segments to entry %d, term %d vote %d commit %d\n", g.id, len(g.files), h.state.Index, hard.Term, hard.Vote, hard.Commit))
}

// complete says, durably, that everything in a folder is whole and durable: from
// then on it is the log. text is for people.
func (s *Store) complete(dir string, text []byte) error {
	tmp := path.Join(dir, completeName+".tmp")
	if err := s.writeWhole(tmp, text); err != nil {
		return err // a full disk, too: nothing says yet that it is complete
	}
	err := s.fs.Rename(tmp, path.Join(dir, completeName))
	if err == nil {
		err = s.fs.SyncDir(dir)
	}
	if err != nil {
		// It may or may not be there after a stop, and both are right: but this
		// process must not write to the old log any more.
		return s.goOffline(err)
	}
	return nil
}

// writeWhole makes a file anew, durably.
func (s *Store) writeWhole(name string, b []byte) error {
	return s.onDisk(false, func() error {
		if err := s.fs.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		f, err := s.fs.Create(name)
		if err != nil {
			return err
		}
		_, err = f.WriteGather([][]byte{b}, 0)
		if err == nil {
			if err = f.Sync(); err != nil {
				err = s.goOffline(err)
			}
		}
		return errors.Join(err, f.Close())
	})
}

// topHeader is the header behind the received segments.
func (g *Staging) topHeader(hard HardState) (segHeader, error) {
	s := g.store
	h := segHeader{flags: flagSynced, id: g.id, created: s.cfg.Clock().UnixMilli(), state: g.m.State, prevMaxTime: -1, seq: 1}
	h.state.Hard = hard
	for _, f := range g.files {
		h.seq = max(h.seq, f.Seq+1, f.tail.seq+1)
		h.prevSeq, h.prevEnd, h.prevMaxTime = f.tail.seq, f.tail.pos, f.max
		h.synced = position{f.Seq, f.end}
	}
	var salt [4]byte
	if _, err := io.ReadFull(s.cfg.Rand, salt[:]); err != nil {
		return h, fmt.Errorf("draw a salt: %w", err)
	}
	h.salt = binary.BigEndian.Uint32(salt[:])
	return h, nil
}

// swapIn lets a complete folder take its log's name. What it replaces is deleted,
// but for a log that was damaged and is repaired, which is kept.
func (s *Store) swapIn(staged string) error {
	name, repaired := strings.CutSuffix(staged, repairSuffix)
	from, to := path.Join(s.dir, staged), path.Join(s.dir, strings.TrimSuffix(name, stagingSuffix))
	gone, err := s.removedName()
	if repaired && err == nil {
		gone, err = s.asideName(to)
	}
	if err != nil {
		return s.goOffline(err)
	}
	if err := s.fs.Rename(to, gone); errors.Is(err, fs.ErrNotExist) {
		gone = ""
	} else if err != nil {
		return s.goOffline(err)
	}
	if repaired {
		// First this alone: if the power kept only the second renaming, the old
		// files would be gone.
		if err := s.fs.SyncDir(s.dir); err != nil {
			return s.goOffline(err)
		}
	}
	if err := s.fs.Rename(from, to); err != nil {
		return s.goOffline(err)
	}
	if err := s.fs.SyncDir(s.dir); err != nil {
		return s.goOffline(err)
	}
	// From here on nothing can go wrong that the next start does not put right.
	err = s.fs.Remove(path.Join(to, completeName))
	if gone != "" && !repaired {
		err = errors.Join(err, s.removeTree(gone))
	}
	if err != nil {
		s.log.Warn("what a received log replaced is deleted at the next start", "dir", to, "error", err)
	}
	return nil
}

// finishInstalls does what a stop has cut short: complete folders take their
// places. Those that are being received stay, to be gone on with; one in which a
// log was being repaired is begun anew when somebody asks for it again.
func (s *Store) finishInstalls() error {
	for _, suffix := range []string{stagingSuffix, repairSuffix} {
		names, err := s.staged(suffix)
		if err != nil {
			return err
		}
		for _, name := range names {
			if err := s.finishInstall(name, suffix); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *Store) finishInstall(name, suffix string) error {
	_, err := s.fs.Stat(path.Join(s.dir, name, completeName))
	switch {
	case errors.Is(err, fs.ErrNotExist) && suffix == repairSuffix:
		return s.removeTree(path.Join(s.dir, name))
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err == nil:
		err = s.swapIn(name)
	}
	if err == nil {
		s.log.Info("a log that was put together has taken its place", "dir", path.Join(s.dir, name))
	}
	return err
}

// reload makes l the log that is in its folder now.
func (l *Log) reload() error {
	r := &recovery{fs: l.store.fs, dir: l.dir}
	defer r.close()
	err := r.run()
	if err == nil && r.damage != nil {
		err = r.damage
	}
	if err == nil && len(r.chain) == 0 {
		err = ErrNotFound
	}
	fresh := l.store.newLog(l.id, l.dir)
	if err == nil {
		err = fresh.load(r)
	}
	if err != nil {
		// It was whole a moment ago: the disk does not keep what it is given.
		return l.store.goOffline(fmt.Errorf("read again what was installed: %w", err))
	}
	for _, s := range l.become(fresh) {
		if s.file != nil {
			s.file.release()
		} else {
			l.store.handles.drop(s)
		}
	}
	if l.owes() {
		l.store.idle.flushed(l, l.store.cfg.Clock())
		l.store.flush.signal()
	}
	return nil
}

// become takes over another log's state and returns the segments that are no
// part of it any more. Who reads one of them meanwhile is told that it is gone.
func (l *Log) become(fresh *Log) []*segment {
	l.mu.Lock()
	defer l.mu.Unlock()
	old := l.mu.segs
	for _, s := range old {
		s.gone = true
	}
	for _, f := range l.mu.unsynced {
		f.release()
	}
	l.mu.segs, l.mu.dead, l.mu.writable, l.mu.maxSeq = fresh.mu.segs, fresh.mu.dead, fresh.mu.writable, fresh.mu.maxSeq
	l.mu.first, l.mu.tip, l.mu.hard, l.mu.certain = fresh.mu.first, fresh.mu.tip, fresh.mu.hard, fresh.mu.certain
	l.mu.synced, l.mu.stated, l.mu.proven = fresh.mu.synced, fresh.mu.stated, fresh.mu.proven
	l.mu.unsynced, l.mu.newNames = nil, false
	l.mu.damage, l.mu.readable = nil, math.MaxUint64
	l.mu.lives++
	l.mu.tail.clear()
	l.restate = fresh.restate
	return old
}
