package peer

import (
	"net"
	"time"
)

// pieceBytes is the most that is given to the system in one write, so that the
// deadline is one for progress and not for a whole frame.
const pieceBytes = 1 << 20

// gatherBytes is up to where what cannot be written with writev (TLS, pipes in
// tests) is copied together, so that a header is not a write of its own.
const gatherBytes = 16 << 10

// write writes what is queued until the connection ends, and keep-alives if
// this end dialed.
func (c *conn) write() {
	tick := time.NewTicker(c.keepAlive)
	defer tick.Stop()
	for {
		select {
		case <-c.closed:
			return
		case <-tick.C:
			if c.dialed {
				c.out.force(frame{kind: kindPing, id: uint64(time.Since(c.began))})
			}
		case <-c.out.ready:
			c.writing.Lock()
			err := c.w.flush()
			c.w.wrote = time.Now()
			c.writing.Unlock()
			if err != nil {
				c.fail(ioError("write", err))
				return
			}
		}
	}
}

// writer turns frames into writes. Its slices are used again and again.
type writer struct {
	c      *conn
	frames []frame
	heads  []byte      // headers of frames
	vec    net.Buffers // headers and payloads in order
	piece  net.Buffers // the part of vec that is written
	gather []byte
	rest   []byte    // of what a sender has begun to write (now.go)
	wrote  time.Time // when the last write ended
}

// flush writes until the queue is empty.
func (w *writer) flush() error {
	if err := w.writeRest(); err != nil {
		return err
	}
	for {
		w.frames = w.c.out.take(w.frames[:0], pieceBytes)
		if len(w.frames) == 0 {
			return nil
		}
		err := w.writeFrames()
		// The payloads are let go whether they were written or not.
		w.c.out.done(w.frames)
		clear(w.frames)
		if err != nil {
			return err
		}
	}
}

// writeFrames writes w.frames in as few writes as pieceBytes allows, without
// copying payloads.
func (w *writer) writeFrames() error {
	w.heads = w.heads[:0]
	if need := len(w.frames) * headerSize; cap(w.heads) < need {
		w.heads = make([]byte, 0, 2*need) // before it is pointed into
	}
	w.vec = w.vec[:0]
	bytes := 0
	for _, f := range w.frames {
		at := len(w.heads)
		w.heads = appendHeader(w.heads, f)
		w.vec = append(w.vec, w.heads[at:])
		for _, part := range f.payload {
			if len(part) > 0 {
				w.vec = append(w.vec, part)
			}
		}
		bytes += f.size()
	}
	err := w.writeVec()
	clear(w.vec[:cap(w.vec)]) // keep no payload alive
	if err == nil {
		w.c.traffic.sentFrames.Add(int64(len(w.frames)))
		w.c.traffic.sentBytes.Add(int64(bytes))
	}
	return err
}

// writeVec writes w.vec piece by piece.
func (w *writer) writeVec() error {
	for rest := w.vec; len(rest) > 0; {
		w.piece = w.piece[:0]
		for room := pieceBytes; len(rest) > 0 && room > 0; {
			n := min(room, len(rest[0]))
			w.piece = append(w.piece, rest[0][:n])
			room -= n
			if rest[0] = rest[0][n:]; len(rest[0]) == 0 {
				rest = rest[1:]
			}
		}
		if err := w.c.nc.SetWriteDeadline(time.Now().Add(w.c.timeout)); err != nil {
			return err
		}
		if err := w.writePiece(); err != nil {
			return err
		}
	}
	return nil
}

// writePiece writes w.piece: with writev where there is one, else with small
// parts copied together.
func (w *writer) writePiece() error {
	if tcp, ok := w.c.nc.(*net.TCPConn); ok {
		piece := w.piece // WriteTo moves its receiver
		_, err := piece.WriteTo(tcp)
		return err
	}
	w.gather = w.gather[:0]
	for _, part := range w.piece {
		if len(w.gather)+len(part) > gatherBytes {
			if err := w.writeGathered(); err != nil {
				return err
			}
		}
		if len(part) >= gatherBytes {
			if _, err := w.c.nc.Write(part); err != nil {
				return err
			}
			continue
		}
		w.gather = append(w.gather, part...)
	}
	return w.writeGathered()
}

func (w *writer) writeGathered() error {
	if len(w.gather) == 0 {
		return nil
	}
	_, err := w.c.nc.Write(w.gather)
	w.gather = w.gather[:0]
	return err
}
