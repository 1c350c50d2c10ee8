package storage

import (
	"bytes"
	"io"

	"github.com/entrepot-hub/entrepot/record"
)

// A batch can be left in the file when it is as large as this and its records are:
// whoever sends it on then reads, checks and sends it, through memory that is used
// again for the next and stays in the processor's cache. Consumers of small records
// gain nothing by it (docs/benchmarks.md, "What reading costs").
const (
	lateBytes  = 64 << 10
	lateRecord = 512 // bytes, on average
)

// late is the batches that a read leaves in their files, by their place in what it
// returns.
type late struct {
	log   *Log
	parts map[int]*lateBatch
}

// wants reports whether a batch is left in the file.
func (t *late) wants(f *frame, head record.Batch) bool {
	return t != nil && f.length >= lateBytes && int64(f.length) >= lateRecord*int64(head.Count()) && head.Size() == int(f.length)
}

// add leaves the batch of the walker's frame in the file and returns its header.
func (t *late) add(i int, v *view, w *walker, head []byte) record.Batch {
	v.file.retain() // v holds it at present
	if t.parts == nil {
		t.parts = map[int]*lateBatch{}
	}
	p := &lateBatch{log: t.log, v: v, frame: w.cur, pos: w.pos, head: bytes.Clone(head)}
	t.parts[i] = p
	return p.head[:record.BatchHeaderSize:record.BatchHeaderSize]
}

// open is that of record.Chunk.
func (t *late) open(i int) io.Reader {
	if p := t.parts[i]; p != nil {
		return p
	}
	return nil
}

// end lets go of the files.
func (t *late) end() {
	if t == nil {
		return
	}
	for _, p := range t.parts {
		p.v.close()
	}
	t.parts = nil
}

// lateBatch reads one of them. No byte of the file changes while this holds it.
type lateBatch struct {
	log   *Log
	v     *view
	frame frame
	pos   uint32 // of the frame
	head  []byte // of the payload; the frame's header has its checksum
	n     int    // bytes that were read
	sum   uint32 // of those behind the head
}

// Read implements io.Reader. The last bytes come once all have passed the
// checksum.
func (p *lateBatch) Read(b []byte) (int, error) {
	left := int(p.frame.length) - p.n
	if left == 0 {
		return 0, io.EOF
	}
	b = b[:min(len(b), left)]
	k, err := readFull(p.v.file.f, b, int64(p.pos)+frameHeader+int64(p.n))
	if err == nil && k < len(b) {
		err = errShort
	}
	if err == nil {
		headed := 0
		if p.n < len(p.head) {
			headed = copy(b, p.head[p.n:])
		}
		p.n += k
		p.sum = record.UpdateCRC(p.sum, b[headed:])
		if k == left && record.UpdateCRC(p.sum, zeros[:align8(p.n)-p.n]) != p.frame.body {
			err = errBodyCRC
		}
	}
	if err != nil {
		return 0, p.log.damaged(p.v.seg, &placeError{p.pos, err})
	}
	return k, nil
}
