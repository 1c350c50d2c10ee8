package stream

import (
	"cmp"
	"crypto/sha256"
	"fmt"
	"slices"
	"time"

	"github.com/entrepot-hub/entrepot/connectors"
)

// dedupChunk is how many IDs one record of the checkpoint topic holds. The
// newest chunk is written anew with each commit, the others stay as they are.
const dedupChunk = 1024

// digest stands for a message ID: 128 bits, so that IDs of any length cost the
// same and two different ones are never taken for each other in practice.
type digest [16]byte

func digestOf(id []byte) digest {
	sum := sha256.Sum256(id)
	return digest(sum[:16])
}

// dedup remembers the newest message IDs of a split in chunks, which lie in a
// ring of keys in the checkpoint topic: the oldest is overwritten. It is a
// pure value.
type dedup struct {
	window connectors.Window
	slots  int64 // of the ring

	chunks []*chunk         // by number; the last one is open
	all    map[digest]int64 // number of the chunk that holds it
	dirty  map[int64]bool   // chunks that are not durable as they are, by number
}

type chunk struct {
	number int64
	newest int64 // when its last ID came, milliseconds since the Unix epoch
	ids    []digest
}

// dedupCheckpoint is a chunk as the checkpoint topic holds it.
type dedupCheckpoint struct {
	V      int    `json:"v"`
	Number int64  `json:"number"`
	Newest int64  `json:"newest"`
	IDs    []byte `json:"ids"` // 16 bytes each, in base64
}

func dedupKey(job, split string, slot int64) string {
	return fmt.Sprintf("%s%d", dedupPrefix(job, split), slot)
}

// dedupPrefix ends in a slash, and a slot has none: the keys of a split whose
// name begins with another's are not its own.
func dedupPrefix(job, split string) string { return "dedup/" + job + "/" + split + "/" }

func newDedup(w connectors.Window) *dedup {
	full := (w.IDs + dedupChunk - 1) / dedupChunk
	return &dedup{window: w, slots: int64(full) + 1, all: map[digest]int64{}, dirty: map[int64]bool{}}
}

// load takes over all chunks there are. Where the ring had another size once,
// a chunk can lie in two places; the fuller one is the newer.
func (d *dedup) load(all []dedupCheckpoint) error {
	slices.SortFunc(all, func(a, b dedupCheckpoint) int {
		return cmp.Or(cmp.Compare(a.Number, b.Number), cmp.Compare(len(b.IDs), len(a.IDs)))
	})
	for i, ck := range all {
		if len(ck.IDs)%len(digest{}) != 0 || ck.Number < 0 {
			return connectors.Fatalf("chunk %d of the message IDs in %s is not readable: %d bytes", ck.Number, CheckpointTopic, len(ck.IDs))
		}
		if i == 0 || ck.Number != all[i-1].Number {
			d.take(ck)
		}
	}
	return nil
}

func (d *dedup) take(ck dedupCheckpoint) {
	c := &chunk{number: ck.Number, newest: ck.Newest}
	for b := ck.IDs; len(b) > 0; b = b[len(digest{}):] {
		id := digest(b[:len(digest{})])
		c.ids = append(c.ids, id)
		d.all[id] = c.number
	}
	d.chunks = append(d.chunks, c)
}

// has reports whether the ID is in the window.
func (d *dedup) has(id []byte, now time.Time) bool {
	d.expire(now)
	_, in := d.all[digestOf(id)]
	return in
}

// add remembers an ID.
func (d *dedup) add(id []byte, now time.Time) {
	if d.window.IDs == 0 {
		return
	}
	c := d.open()
	key := digestOf(id)
	c.ids = append(c.ids, key)
	c.newest = now.UnixMilli()
	d.all[key] = c.number
	d.dirty[c.number] = true
	d.expire(now)
}

// open is the chunk that takes the next ID.
func (d *dedup) open() *chunk {
	next := int64(0)
	if n := len(d.chunks); n > 0 {
		last := d.chunks[n-1]
		if len(last.ids) < dedupChunk {
			return last
		}
		next = last.number + 1
	}
	c := &chunk{number: next}
	d.chunks = append(d.chunks, c)
	return c
}

// expire forgets the chunks whose IDs are all out of the window. At most one
// chunk more than the window is kept.
func (d *dedup) expire(now time.Time) {
	for len(d.chunks) > 0 {
		first := d.chunks[0]
		tooMany := len(d.all)-len(first.ids) >= d.window.IDs
		tooOld := d.window.Age > 0 && now.UnixMilli()-first.newest > d.window.Age.Milliseconds()
		if len(first.ids) == 0 || !tooOld && (len(d.chunks) == 1 || !tooMany) {
			return
		}
		for _, id := range first.ids {
			if d.all[id] == first.number {
				delete(d.all, id)
			}
		}
		delete(d.dirty, first.number)
		if d.chunks = d.chunks[1:]; len(d.chunks) == 0 { // its number is used up
			d.chunks = []*chunk{{number: first.number + 1}}
		}
	}
}

// changed are the chunks to make durable, by slot.
func (d *dedup) changed() map[int64]dedupCheckpoint {
	out := map[int64]dedupCheckpoint{}
	for _, c := range d.chunks {
		if !d.dirty[c.number] {
			continue
		}
		ck := dedupCheckpoint{V: checkpointVersion, Number: c.number, Newest: c.newest, IDs: make([]byte, 0, len(c.ids)*len(digest{}))}
		for _, id := range c.ids {
			ck.IDs = append(ck.IDs, id[:]...)
		}
		out[c.number%d.slots] = ck
	}
	return out
}

// saved says that what changed returned is durable.
func (d *dedup) saved() { clear(d.dirty) }
