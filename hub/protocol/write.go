package protocol

import (
	"crypto/tls"
	"encoding/binary"
	"io"
	"net"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// maxScratch is the largest encoding buffer that a connection keeps.
const maxScratch = 64 << 10

// A piece is about what is written at once, under one deadline. A reader that gets
// less at a time is woken more often (docs/benchmarks.md, "What reading costs").
// Over TLS a write that has run into its deadline cannot go on: there it is what
// a slow reader has to take within one.
const (
	writePiece  = 1 << 20
	sealedPiece = 256 << 10
)

// pieces are memory for batches that are still in their files.
var pieces = sync.Pool{New: func() any { return new([writePiece]byte) }}

// buffer is bytes to write.
type buffer struct {
	b    []byte
	late io.Reader // of a batch of which b is the header; nil: b is all
}

// answers are what is written next: one answer, or several small ones that are
// due at the same time, as they are when a flush ends that many requests wait
// for.
type answers struct {
	of      []*pending
	bufs    []buffer
	scratch []byte
	held    *pending // taken, and not due yet
	last    bool     // the connection ends after them
}

// write sends answers in order until there are no more, one ends the
// connection, or the client does not take them.
func (c *conn) write() {
	var w answers
	defer func() {
		if w.held != nil {
			c.release(w.held)
		}
	}()
	for c.gather(&w) {
		err := c.send(w.bufs)
		for _, p := range w.of {
			c.release(p)
		}
		if err != nil {
			c.fault(err)
			return
		}
		if w.last {
			return
		}
	}
}

// gather waits for the next answer and takes those along that need no waiting.
// It reports false when there are no more.
func (c *conn) gather(w *answers) bool {
	p, ok := w.held, true
	if w.held = nil; p == nil {
		if p, ok = <-c.out; !ok {
			return false
		}
	}
	clear(w.of)
	w.of, w.bufs = w.of[:0], nil
	c.add(w, p)
	for !w.last && len(w.bufs) <= 1 && w.size() < maxScratch/2 {
		if p = c.another(); p == nil {
			break
		}
		if !p.a.due() {
			w.held = p
			break
		}
		c.add(w, p)
	}
	if len(w.bufs) > 0 && cap(w.bufs[0].b) <= maxScratch {
		w.scratch = w.bufs[0].b
	}
	return true
}

// add encodes one more answer behind those that are there.
func (c *conn) add(w *answers, p *pending) {
	dst := w.scratch[:0]
	if len(w.bufs) > 0 {
		dst = w.bufs[0].b
	}
	if bufs := c.encode(dst, p); len(bufs) > 0 {
		w.bufs = bufs
	}
	w.of = append(w.of, p)
	w.last = p.a.close || p.a.later != nil && p.a.later.mustClose()
}

func (w *answers) size() int {
	if len(w.bufs) == 0 {
		return 0
	}
	return len(w.bufs[0].b)
}

// another is the next answer if one is there already.
func (c *conn) another() *pending {
	select {
	case p := <-c.out: // nil once it is closed
		return p
	default:
		return nil
	}
}

// due says that the answer can be encoded without waiting, and has no pieces
// of its own.
func (a *answer) due() bool {
	return a.fetch == nil && (a.later == nil || a.later.isDone())
}

// encode makes the bytes of an answer in dst, and waits for it if it is due
// later; nil: none is sent.
func (c *conn) encode(dst []byte, p *pending) []buffer {
	switch {
	case p.a.msg != nil:
		return []buffer{{b: appendResponse(dst, p.r, p.a.msg)}}
	case p.a.fetch != nil:
		return p.a.fetch.buffers(dst, p.r)
	case p.a.later != nil:
		if msg := p.a.later.wait(c.cut); msg != nil {
			return []buffer{{b: appendResponse(dst, p.r, msg)}}
		}
	}
	return nil
}

// appendResponse encodes a whole response: length, header, body.
func appendResponse(dst []byte, r *request, msg kmsg.Response) []byte {
	at := len(dst)
	dst = appendHeader(dst, r)
	dst = msg.AppendTo(dst)
	binary.BigEndian.PutUint32(dst[at:], uint32(len(dst)-at-4))
	return dst
}

// appendHeader encodes an empty length and the response header. That of
// ApiVersions is always version 0: a client reads it before it knows what the
// server speaks (KIP-511).
func appendHeader(dst []byte, r *request) []byte {
	dst = append(dst, 0, 0, 0, 0)
	dst = binary.BigEndian.AppendUint32(dst, uint32(r.correlation))
	if r.api.flexible(r.version) && r.api.key != apiVersionsKey {
		dst = append(dst, 0)
	}
	return dst
}

// send writes bufs. It fails when the client takes nothing for Limits.Write, and
// when what is to be written cannot be read: then the answer is broken off.
func (c *conn) send(bufs []buffer) error {
	var room *[writePiece]byte
	defer func() {
		if room != nil {
			pieces.Put(room)
		}
	}()
	most := writePiece
	if _, sealed := c.nc.(*tls.Conn); sealed {
		most = sealedPiece
	}
	for len(bufs) > 0 {
		var piece net.Buffers
		for n, used := 0, 0; len(bufs) > 0 && n < most; {
			if bufs[0].late == nil {
				piece = append(piece, bufs[0].b)
				n += len(bufs[0].b)
				bufs = bufs[1:]
				continue
			}
			if room == nil {
				room = pieces.Get().(*[writePiece]byte)
			}
			k, err := bufs[0].late.Read(room[used:most])
			switch {
			case err == io.EOF: //nolint:errorlint // a reader returns it bare
				bufs = bufs[1:]
				continue
			case err != nil:
				return err
			}
			piece = append(piece, room[used:used+k])
			n, used = n+k, used+k
		}
		if err := c.nc.SetWriteDeadline(time.Now().Add(c.s.cfg.Limits.Write)); err != nil {
			return err
		}
		if err := c.sendPiece(piece); err != nil {
			return err
		}
	}
	return nil
}

// sendPiece writes one piece, and goes on after a deadline as long as the
// client takes something within each.
func (c *conn) sendPiece(piece net.Buffers) error {
	for {
		n, err := piece.WriteTo(c.nc)
		if err == nil || n == 0 || !isTimeout(err) || c.cut.Err() != nil {
			return err
		}
		if err := c.nc.SetWriteDeadline(time.Now().Add(c.s.cfg.Limits.Write)); err != nil {
			return err
		}
	}
}
