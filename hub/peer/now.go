package peer

import (
	"net"
	"syscall"
	"time"
)

// A small message that comes by itself is written by who sends it: to wake the
// writer costs more than to write, at each step of a record between nodes. The
// writer has the rest: what is large, what the system does not take at once, what
// TLS is to encrypt, and what comes while another one writes or right after, for
// many messages go together in one write.

const (
	nowBytes = 16 << 10               // the most that a sender writes itself
	nowAfter = 100 * time.Microsecond // since the last write
)

// send queues a message, and writes what is queued if that is small and nobody
// else does. It never waits.
func (c *conn) send(f frame) bool {
	if c.system == nil || f.size() > nowBytes {
		return c.out.put(f)
	}
	if !c.out.add(f) {
		return false
	}
	if !c.writing.TryLock() {
		c.out.signal()
		return true
	}
	var err error
	if len(c.w.rest) > 0 || time.Since(c.w.wrote) < nowAfter {
		c.out.signal()
	} else {
		err = c.w.writeNow()
	}
	c.writing.Unlock()
	if err != nil {
		c.fail(ioError("write", err))
	}
	return true
}

// writeNow writes as many of the frames that are queued as are small, as far as
// the system takes them. What is left is the writer's, who is told, or was when a
// larger frame was queued.
func (w *writer) writeNow() error {
	w.frames = w.c.out.takeSmall(w.frames[:0], nowBytes)
	w.gather = w.gather[:0]
	for _, f := range w.frames {
		w.gather = appendHeader(w.gather, f)
		for _, part := range f.payload {
			w.gather = append(w.gather, part...)
		}
	}
	w.c.traffic.sentFrames.Add(int64(len(w.frames)))
	w.c.traffic.sentBytes.Add(int64(len(w.gather)))
	w.c.out.done(w.frames)
	clear(w.frames)
	if len(w.gather) == 0 {
		return nil
	}
	n, err := tryWrite(w.c.system, w.gather)
	w.wrote = time.Now()
	if n < len(w.gather) {
		w.rest = append(w.rest, w.gather[n:]...)
		w.c.out.signal()
	}
	return err
}

// writeRest writes what a sender could not.
func (w *writer) writeRest() error {
	if len(w.rest) == 0 {
		return nil
	}
	w.vec = append(w.vec[:0], w.rest)
	w.rest = w.rest[:0]
	return w.writeVec()
}

// systemConn is the system's end of a connection over TCP, or nil.
func systemConn(nc net.Conn) syscall.RawConn {
	tcp, ok := nc.(*net.TCPConn)
	if !ok {
		return nil
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return nil // closed; the next read says so
	}
	return raw
}

// tryWrite writes what the system takes at once, which may be nothing. The writer's
// deadlines are not for it: the last one may have passed since.
func tryWrite(raw syscall.RawConn, b []byte) (n int, err error) {
	var failed error
	err = raw.Control(func(fd uintptr) {
		for {
			if n, failed = syscall.Write(int(fd), b); failed != syscall.EINTR {
				return
			}
		}
	})
	if err == nil && failed != syscall.EAGAIN {
		err = failed
	}
	return max(n, 0), err
}
