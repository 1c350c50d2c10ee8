package file

import (
	"bytes"
	"fmt"

	"github.com/entrepot-hub/entrepot/connectors"
)

// lines cuts what was read into messages. Its buffer is never written again
// once a message may alias it.
type lines struct {
	settings
	pos  position // after the last line that was cut
	buf  []byte   // read but not cut; begins at pos.offset, or after long
	scan int      // no newline is before this in buf
	long *longLine
	slab []byte // for encoded positions
}

// longLine is a line over the limit, of which only the beginning is kept.
type longLine struct {
	kept []byte
	size int64 // bytes of the line so far, all before buf
}

// end is the offset up to which the file was read.
func (l *lines) end() int64 {
	at := l.pos.offset + int64(len(l.buf))
	if l.long != nil {
		at += l.long.size
	}
	return at
}

// restart begins to cut at a position.
func (l *lines) restart(at position) { l.pos, l.buf, l.scan, l.long = at, nil, 0, nil }

// grow makes room for n more bytes and returns the room. What is used of it
// is told by grown. The old buffer stays as it is.
func (l *lines) grow(n int) []byte {
	next := make([]byte, len(l.buf)+n)
	copy(next, l.buf)
	l.buf = next[:len(l.buf)]
	return next[len(l.buf):]
}

func (l *lines) grown(n int) { l.buf = l.buf[: len(l.buf)+n : len(l.buf)+n] }

// cut takes whole lines out of the buffer, as many as the limits allow.
func (l *lines) cut(name string, limits connectors.Limits) []connectors.Message {
	var out []connectors.Message
	for size := 0; limits.Records == 0 || len(out) < limits.Records; {
		i := bytes.IndexByte(l.buf[l.scan:], '\n')
		if i < 0 {
			l.scan = len(l.buf)
			l.shorten()
			return out
		}
		if limits.Bytes > 0 && len(out) > 0 && size+l.scan+i > limits.Bytes {
			return out
		}
		m, ok := l.take(l.scan+i, 1, name)
		if ok {
			size += len(m.Value)
			out = append(out, m)
		}
	}
	return out
}

// take cuts a line of n bytes, followed by a newline of nl bytes (0 at the end
// of the file). ok is false for a line to pass over.
func (l *lines) take(n, nl int, name string) (m connectors.Message, ok bool) {
	line := l.buf[:n:n]
	size := int64(n)
	if l.long != nil {
		size += l.long.size
	}
	first := l.pos.offset == 0
	l.pos.offset += size + int64(nl)
	l.pos.line++
	kept := l.long
	l.buf, l.scan, l.long = l.buf[n+nl:], 0, nil
	m = connectors.Message{Timestamp: connectors.NoTimestamp, Origin: connectors.Origin{Name: name, Line: l.pos.line}}
	if l.pos.line <= l.headerLines {
		return m, false
	}
	if kept == nil {
		line = bytes.TrimSuffix(line, []byte("\r"))
		if first {
			line = bytes.TrimPrefix(line, []byte("\xef\xbb\xbf"))
		}
		m.Value, m.Original = line, line
	}
	switch {
	case kept == nil && len(line) == 0 && !l.emitEmpty:
		return m, false
	case kept == nil && len(line) > l.maxLine:
		kept = &longLine{kept: line[:l.maxLine:l.maxLine]}
		fallthrough
	case kept != nil:
		m.Value, m.Original = nil, kept.kept
		m.Err = connectors.Poison(fmt.Errorf("the line has %d bytes and max_line allows %d: only so many are kept", size, l.maxLine))
	}
	m.Position = l.encode()
	m.Place = m.Position[:placeSize:placeSize]
	return m, true
}

// shorten gives up the bytes of a line that is too long already.
func (l *lines) shorten() {
	if l.long == nil && len(l.buf) <= l.maxLine+len("\xef\xbb\xbf\r") { // these do not count
		return
	}
	if l.long == nil {
		l.long = &longLine{kept: bytes.Clone(l.buf[:l.maxLine])}
	}
	l.long.size += int64(len(l.buf))
	l.buf, l.scan = nil, 0
}

// final takes what is left without a newline, at the end of a file.
func (l *lines) final(name string) (connectors.Message, bool) {
	if len(l.buf) == 0 && l.long == nil {
		return connectors.Message{}, false
	}
	return l.take(len(l.buf), 0, name)
}

// encode writes the position into memory shared by many.
func (l *lines) encode() connectors.Position {
	if cap(l.slab)-len(l.slab) < positionSize {
		l.slab = make([]byte, 0, 256*positionSize)
	}
	begin := len(l.slab)
	l.slab = l.pos.append(l.slab)
	return connectors.Position(l.slab[begin:len(l.slab):len(l.slab)])
}
