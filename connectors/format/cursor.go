package format

import (
	"bytes"

	"github.com/entrepot-hub/entrepot/connectors"
)

// cursor walks along a line. The first thing missing sets err, after which
// everything returns nil.
type cursor struct {
	rest, all []byte
	err       error
}

func (c *cursor) fail(format string, args ...any) []byte {
	if c.err == nil {
		c.err = connectors.Poisonf(format+" at byte %d", append(args, len(c.all)-len(c.rest)+1)...)
	}
	c.rest = nil
	return nil
}

// word takes what is before the next space, at least one byte.
func (c *cursor) word(what string) []byte {
	i := bytes.IndexByte(c.rest, ' ')
	if i <= 0 {
		return c.fail("%s and a space after it are missing", what)
	}
	w := c.rest[:i]
	c.rest = c.rest[i+1:]
	return w
}

// last takes a word that ends with the line, if end is set, or a space.
func (c *cursor) last(what string, end bool) []byte {
	if !end {
		return c.word(what)
	}
	if c.err != nil || len(c.rest) == 0 {
		return c.fail("%s is missing", what)
	}
	w := c.rest
	if i := bytes.IndexByte(w, ' '); i >= 0 {
		c.rest = w[i:]
		return c.fail("there is more text after %s", what)
	}
	c.rest = nil
	return w
}

// until takes what is before a separator and skips that.
func (c *cursor) until(sep, what string) []byte {
	i := bytes.Index(c.rest, []byte(sep))
	if i <= 0 {
		return c.fail("%s is missing", what)
	}
	w := c.rest[:i]
	c.rest = c.rest[i+len(sep):]
	return w
}

// quoted takes a text in quotes, which are not part of it. A quote counts as
// the closing one when it is not escaped and a space or the end of the line
// follows it. With more set a space must follow; without, the line must end.
func (c *cursor) quoted(what string, more bool) []byte {
	if c.err != nil || len(c.rest) == 0 || c.rest[0] != '"' {
		return c.fail("the quote before %s is missing", what)
	}
	s := c.rest[1:]
	for from := 0; ; {
		i := bytes.IndexByte(s[from:], '"')
		if i < 0 {
			break
		}
		i += from
		from = i + 1
		if escaped(s, i) {
			continue
		}
		if from == len(s) && !more {
			c.rest = nil
			return s[:i:i]
		}
		if from < len(s) && s[from] == ' ' {
			if c.rest = s[from+1:]; more {
				return s[:i:i]
			}
			return c.fail("there is more text after %s", what)
		}
	}
	if more {
		return c.fail("the quote after %s is missing", what)
	}
	c.rest = nil
	return s
}

// escaped reports whether an odd number of backslashes is before s[i].
func escaped(s []byte, i int) bool {
	n := 0
	for i > n && s[i-1-n] == '\\' {
		n++
	}
	return n%2 == 1
}
