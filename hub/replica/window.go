package replica

import "github.com/entrepot-hub/entrepot/storage"

// window holds the entries that are in the log and not applied yet, so that
// applying them does not read the disk. Those found at open have only the
// header of their batch.
type window struct {
	buf     []storage.Entry
	head    int
	partial uint64 // entries up to this index may lack their records
}

func (w *window) len() int { return len(w.buf) - w.head }

// first is the index of the first entry; only with len > 0.
func (w *window) first() uint64 { return w.buf[w.head].Index }

func (w *window) push(e storage.Entry) {
	if w.head > 64 && w.head > len(w.buf)/2 {
		n := copy(w.buf, w.buf[w.head:])
		clear(w.buf[n:])
		w.buf, w.head = w.buf[:n], 0
	}
	w.buf = append(w.buf, e)
}

// pop forgets the first entry.
func (w *window) pop() {
	w.buf[w.head] = storage.Entry{}
	if w.head++; w.head == len(w.buf) {
		w.buf, w.head = w.buf[:0], 0
	}
}

// get finds an entry by its index.
func (w *window) get(index uint64) (*storage.Entry, bool) {
	if w.len() == 0 || index < w.first() || index >= w.first()+uint64(w.len()) {
		return nil, false
	}
	return &w.buf[w.head+int(index-w.first())], true
}

// truncate forgets the entries above index.
func (w *window) truncate(index uint64) {
	for n := len(w.buf); n > w.head && w.buf[n-1].Index > index; n-- {
		w.buf[n-1] = storage.Entry{}
		w.buf = w.buf[:n-1]
	}
	if w.head == len(w.buf) {
		w.buf, w.head = w.buf[:0], 0
	}
	w.partial = min(w.partial, index)
}
