package storage

import (
	"errors"
	"fmt"
	"path"
	"sync"
	"syscall"
	"time"

	"github.com/entrepot-hub/entrepot/record"
)

// diskWatch is what the store knows of its volume (Invariant 13).
type diskWatch struct {
	next time.Time // of Run alone
	mu   struct {
		sync.Mutex
		status DiskStatus
		given  bool // the reserve was given up: only control entries are written
	}
}

const (
	diskEvery   = time.Second
	reserveName = "reserve"
)

func (d *diskWatch) due(now time.Time) bool { return !now.Before(d.next) }

// Disk is the state of the volume as of the last look, at most a second ago
// while Run runs.
func (s *Store) Disk() DiskStatus {
	s.disk.mu.Lock()
	st := s.disk.mu.status
	s.disk.mu.Unlock()
	st.Offline = s.offline()
	return st
}

// watchDisk looks at the volume and puts the reserve back when there is room.
func (s *Store) watchDisk(now time.Time) {
	s.disk.next = now.Add(diskEvery)
	space, err := s.fs.Space(s.dir)
	if err != nil {
		s.log.Warn("the free space of the volume cannot be read", "dir", s.dir, "error", err)
		return
	}
	low, high := s.waterMarks(space.Total)
	s.disk.mu.Lock()
	st := &s.disk.mu.status
	missing := !st.Reserve && s.cfg.ReserveBytes > 0
	s.disk.mu.Unlock()
	if missing && space.Free > low+s.cfg.ReserveBytes {
		missing = !s.makeReserve()
		space.Free -= s.cfg.ReserveBytes
	}
	s.disk.mu.Lock()
	defer s.disk.mu.Unlock()
	st.Free, st.Reserve = space.Free, !missing && s.cfg.ReserveBytes > 0
	s.disk.mu.given = s.disk.mu.given && missing
	st.Low, st.High = space.Free < low || s.disk.mu.given, space.Free < high || s.disk.mu.given
}

// waterMarks are the free bytes below which the volume is low and high.
func (s *Store) waterMarks(total int64) (low, high int64) {
	low, high = s.cfg.LowWater, s.cfg.HighWater
	if low == 0 {
		low = min(1<<30, total/20)
	}
	if high == 0 {
		high = min(256<<20, total/50, low)
	}
	return low, high
}

// Room is how many bytes may be taken of the volume as it is now: what is free
// above the high watermark.
func (s *Store) Room() (int64, error) {
	space, err := s.fs.Space(s.dir)
	if err != nil {
		return 0, fmt.Errorf("free space of %s: %w", s.dir, err)
	}
	_, high := s.waterMarks(space.Total)
	return max(0, space.Free-high), nil
}

// makeReserve takes the reserve's space. A file of the right size may be there
// from an earlier run.
func (s *Store) makeReserve() bool {
	name := path.Join(s.dir, reserveName)
	f, err := s.fs.OpenWrite(name)
	if err != nil {
		f, err = s.fs.Create(name)
	}
	if err != nil {
		return false
	}
	err = errors.Join(f.Allocate(s.cfg.ReserveBytes), f.Close())
	if err != nil {
		_ = s.fs.Remove(name)
		return false
	}
	return true
}

// giveUpReserve frees the reserve's space. It reports whether there was any.
func (s *Store) giveUpReserve() bool {
	s.disk.mu.Lock()
	had := s.disk.mu.status.Reserve
	s.disk.mu.status.Reserve = false
	s.disk.mu.status.Low, s.disk.mu.status.High = true, true
	s.disk.mu.given = s.cfg.ReserveBytes > 0
	s.disk.mu.Unlock()
	if !had {
		return false
	}
	s.log.Warn("the disk is full: the reserve is given up, only control entries are written until there is room again", "dir", s.dir)
	return s.fs.Remove(path.Join(s.dir, reserveName)) == nil
}

// writable returns why a round cannot be written, if so: the volume is
// offline, or the disk is so full that only control entries go on.
func (s *Store) writable(data bool) error {
	if err := s.offline(); err != nil {
		return err
	}
	s.disk.mu.Lock()
	defer s.disk.mu.Unlock()
	if data && s.disk.mu.given && !s.disk.mu.status.Reserve {
		return fmt.Errorf("%w: %s has %d bytes left and no reserve; only control entries are written until there is room again", record.ErrDiskFull, s.dir, s.disk.mu.status.Free)
	}
	return nil
}

// onDisk runs a call that may find the disk full. For anything but data the
// reserve is given up then and the call tried once more.
func (s *Store) onDisk(data bool, call func() error) error {
	err := call()
	if isFull(err) && !data && s.giveUpReserve() {
		err = call()
	}
	if isFull(err) {
		s.noteFull()
		return fmt.Errorf("%w: %w", record.ErrDiskFull, err)
	}
	return err
}

func isFull(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

// noteFull lets everybody know at once, before the next look at the volume.
func (s *Store) noteFull() {
	s.disk.mu.Lock()
	defer s.disk.mu.Unlock()
	s.disk.mu.status.Low, s.disk.mu.status.High = true, true
}
