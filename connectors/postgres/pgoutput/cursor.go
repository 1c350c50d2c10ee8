package pgoutput

import (
	"bytes"
	"encoding/binary"
	"fmt"
)

// cursor walks the bytes of one message. After the first fault it gives zeros
// and keeps the fault.
type cursor struct {
	b   []byte
	at  int
	err error
}

func (c *cursor) fail(format string, args ...any) {
	if c.err == nil {
		c.err = fmt.Errorf("at byte %d: "+format, append([]any{c.at}, args...)...)
	}
}

// take is the next n bytes.
func (c *cursor) take(n int, what string) []byte {
	if c.err != nil {
		return nil
	}
	if n < 0 || n > len(c.b)-c.at {
		c.fail("%s wants %d bytes, %d are left", what, n, len(c.b)-c.at)
		return nil
	}
	c.at += n
	return c.b[c.at-n : c.at]
}

func (c *cursor) byte(what string) byte {
	if b := c.take(1, what); b != nil {
		return b[0]
	}
	return 0
}

func (c *cursor) uint16(what string) int {
	if b := c.take(2, what); b != nil {
		return int(binary.BigEndian.Uint16(b))
	}
	return 0
}

func (c *cursor) uint32(what string) uint32 {
	if b := c.take(4, what); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

func (c *cursor) uint64(what string) uint64 {
	if b := c.take(8, what); b != nil {
		return binary.BigEndian.Uint64(b)
	}
	return 0
}

func (c *cursor) lsn(what string) LSN { return LSN(c.uint64(what)) }

func (c *cursor) time() Time { return Time(c.uint64("time")) }

// string ends with a zero byte.
func (c *cursor) string(what string) string {
	if c.err != nil {
		return ""
	}
	n := bytes.IndexByte(c.b[c.at:], 0)
	if n < 0 {
		c.fail("%s has no end", what)
		return ""
	}
	c.at += n + 1
	return string(c.b[c.at-n-1 : c.at-1])
}

// none wants a byte of flags that has no meaning yet.
func (c *cursor) none() {
	if f := c.byte("flags"); f != 0 {
		c.fail("flags %#x are unknown", f)
	}
}

// tuple reads a row. A column takes at least one byte, which bounds what a
// false number can make us take.
func (c *cursor) tuple() Tuple {
	n := c.uint16("number of columns")
	if n > len(c.b)-c.at {
		c.fail("%d columns do not fit into %d bytes", n, len(c.b)-c.at)
	}
	if c.err != nil {
		return nil
	}
	t := make(Tuple, n)
	for i := range t {
		t[i].Kind = Kind(c.byte("kind of a value"))
		switch t[i].Kind {
		case Null, Unchanged:
		case Text, Binary:
			t[i].Data = c.take(int(int32(c.uint32("length of a value"))), "value")
		default:
			c.fail("kind %q of a value is unknown", t[i].Kind)
		}
	}
	if c.err != nil {
		return nil
	}
	return t
}
