package storage

import (
	"sync"
	"time"
)

// idleLogs are the logs whose last synced position no frame states yet. After
// a rest one state frame does (Invariant 8): otherwise a flipped bit in their
// last round would pass as a torn end for ever.
type idleLogs struct {
	mu struct {
		sync.Mutex
		since map[*Log]time.Time // of the last flush
	}
}

func newIdleLogs() *idleLogs {
	i := &idleLogs{}
	i.mu.since = map[*Log]time.Time{}
	return i
}

// flushed notes that a log was flushed.
func (i *idleLogs) flushed(l *Log, now time.Time) {
	owes := l.owes()
	i.mu.Lock()
	defer i.mu.Unlock()
	if owes {
		i.mu.since[l] = now
	} else {
		delete(i.mu.since, l)
	}
}

// owes reports whether the log ends with something that no frame states. Its
// last frame never is stated, but a state frame that states everything before
// it repeats what was said, so that nothing is lost with it.
func (l *Log) owes() bool {
	l.mu.RLock()
	defer l.mu.RUnlock()
	p := &l.last().p
	return l.mu.writable && p.rested != p.end
}

// take returns the logs that have rested long enough.
func (i *idleLogs) take(now time.Time, rest time.Duration) (logs []*Log) {
	i.mu.Lock()
	defer i.mu.Unlock()
	for l, since := range i.mu.since {
		if now.Sub(since) >= rest {
			logs = append(logs, l)
			delete(i.mu.since, l)
		}
	}
	sortLogs(logs) // a map has no order, a simulation needs one
	return logs
}

// due is when the first log has rested long enough.
func (i *idleLogs) due(rest time.Duration) (at time.Time, ok bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	for _, since := range i.mu.since {
		if d := since.Add(rest); !ok || d.Before(at) {
			at, ok = d, true
		}
	}
	return at, ok
}

func (i *idleLogs) forget(l *Log) {
	i.mu.Lock()
	defer i.mu.Unlock()
	delete(i.mu.since, l)
}

// stateIdle writes a state frame that states the synced position, unless a
// round did so meanwhile or nothing can be written.
func (l *Log) stateIdle() {
	if !l.tryWriter() {
		return // not idle at all
	}
	defer l.giveWriter()
	if l.ready() != nil || l.store.writable(false) != nil {
		return
	}
	l.mu.RLock()
	s, next, stated := l.last(), l.last().p, l.mu.synced
	l.mu.RUnlock()
	// Unless everything is synced the statement would be out of date at once.
	if !l.owes() || stated != (position{s.header.seq, next.end}) {
		return
	}
	l.enc.reset(stated)
	err := l.enc.state(next.hard, &next)
	if err == nil {
		err = l.flushEncoder(s, s.p.end, true)
	}
	if err != nil {
		l.store.log.Warn("the synced position of an idle log was not stated", "log", l.id.String(), "error", err)
		return
	}
	l.mu.Lock()
	s.p, s.size = next, int64(next.end)
	l.mu.stated = maxPosition(l.mu.stated, next.stated)
	l.markUnsynced(s.file)
	l.mu.Unlock()
	l.restate = false
	l.store.flush.addIdle(l)
}
