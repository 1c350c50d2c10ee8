package storage

import (
	"container/list"
	"sync"
)

// tail is a log's newest entries in memory, without a gap up to the last one.
// It is guarded by the log's lock.
type tail struct {
	entries []Entry
	bytes   int64
}

// entryOverhead is what an entry costs beside its payload, in bytes.
const entryOverhead = 128

func entryCost(e *Entry) int64 { return int64(len(e.Payload)) + entryOverhead }

// add takes entries in, first throwing away those from their first index on.
func (t *tail) add(entries []Entry) (bytes int64) {
	if len(entries) == 0 {
		return 0
	}
	t.truncate(entries[0].Index)
	before := t.bytes
	for i := range entries {
		t.bytes += entryCost(&entries[i])
	}
	t.entries = append(t.entries, entries...)
	return t.bytes - before
}

// truncate throws away the entries from index on.
func (t *tail) truncate(index uint64) {
	n := len(t.entries)
	for n > 0 && t.entries[n-1].Index >= index {
		n--
		t.bytes -= entryCost(&t.entries[n])
	}
	if n < len(t.entries) {
		// Clipped: readers may hold the part that is thrown away.
		t.entries = t.entries[:n:n]
	}
}

// evict throws away the entries up to index and returns the bytes they held.
func (t *tail) evict(index uint64) {
	n := 0
	for n < len(t.entries) && t.entries[n].Index <= index {
		t.bytes -= entryCost(&t.entries[n])
		n++
	}
	clear(t.entries[:n]) // readers copied what they needed under the lock
	t.entries = t.entries[n:]
	if len(t.entries) == 0 {
		t.entries = nil
	}
}

func (t *tail) clear() { t.entries, t.bytes = nil, 0 }

// from returns the entries from index on, if all of them are here.
func (t *tail) from(index uint64) ([]Entry, bool) {
	if len(t.entries) == 0 || index < t.entries[0].Index {
		return nil, false
	}
	return t.entries[min(index-t.entries[0].Index, uint64(len(t.entries))):], true
}

// tailCache bounds the tails of all logs of a store: the oldest rounds go
// first, whichever log they belong to.
type tailCache struct {
	limit int64
	mu    struct {
		sync.Mutex
		bytes  int64
		rounds *list.List // of tailRound, oldest first
	}
}

type tailRound struct {
	log   *Log
	last  uint64
	bytes int64
}

func newTailCache(limit int64) *tailCache {
	c := &tailCache{limit: limit}
	c.mu.rounds = list.New()
	return c
}

// added counts a round that a log took into its tail and evicts what is too
// much. A round that was superseded since counts until its turn comes.
func (c *tailCache) added(l *Log, last uint64, bytes int64) {
	c.mu.Lock()
	c.mu.bytes += bytes
	c.mu.rounds.PushBack(tailRound{l, last, bytes})
	var evicted []tailRound
	for c.mu.bytes > c.limit && c.mu.rounds.Len() > 0 {
		r := c.mu.rounds.Remove(c.mu.rounds.Front()).(tailRound)
		c.mu.bytes -= r.bytes
		evicted = append(evicted, r)
	}
	c.mu.Unlock()
	for _, r := range evicted {
		r.log.mu.Lock()
		r.log.mu.tail.evict(r.last)
		r.log.mu.Unlock()
	}
}
