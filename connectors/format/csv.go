package format

import (
	"bytes"
	"fmt"

	"github.com/entrepot-hub/entrepot/connectors"
)

// csvParser reads one record of RFC 4180. An unquoted empty column and a
// quoted one are both the empty text.
type csvParser struct {
	fields []typedField
	comma  byte
	clock  *clock
	slab   slab
	text   []byte
}

func newCSVParser(cfg connectors.Config, when *clock) (Parser, error) {
	p := &csvParser{comma: cfg.String("delimiter")[0], clock: when}
	for _, name := range cfg.Strings("columns") {
		p.fields = append(p.fields, typedField{name, cfg.StringMap("types")[name]})
	}
	if len(p.fields) == 0 {
		return nil, fmt.Errorf("format csv needs columns: the names of the columns, in order")
	}
	return p, checkFields(p.fields, cfg, when)
}

// checkFields refuses names that repeat, and settings for fields not there.
func checkFields(fields []typedField, cfg connectors.Config, when *clock) error {
	seen := map[string]bool{}
	for _, f := range fields {
		if seen[f.name] {
			return fmt.Errorf("field %q is there twice", f.name)
		}
		seen[f.name] = true
	}
	for name := range cfg.StringMap("types") {
		if !seen[name] {
			return fmt.Errorf("types names the field %q, which is not there", name)
		}
	}
	if when != nil && !seen[when.field] {
		return fmt.Errorf("time.field is %q, which is not there", when.field)
	}
	return nil
}

func (p *csvParser) Parse(m *connectors.Message) error {
	out, err := p.append(p.slab.room(2*len(m.Value)+32*len(p.fields)), m.Value)
	if err != nil {
		return err
	}
	if err := p.clock.read(m, out); err != nil {
		return err
	}
	m.SetValue(p.slab.keep(out))
	return nil
}

func (p *csvParser) append(b, line []byte) ([]byte, error) {
	b = append(b, '{')
	rest, more := bytes.TrimSuffix(line, []byte("\r")), true
	for i := 0; more; i++ {
		var (
			text []byte
			err  error
		)
		if text, rest, more, err = p.column(rest, i); err != nil {
			return b, err
		}
		if i >= len(p.fields) {
			if !more {
				return b, connectors.Poisonf("%d columns, want %d", i+1, len(p.fields))
			}
			continue // count them for the message
		}
		if b, err = p.fields[i].appendTyped(p.fields[i].appendName(b, i == 0), text); err != nil {
			return b, err
		}
		if !more && i+1 < len(p.fields) {
			return b, connectors.Poisonf("%d columns, want %d", i+1, len(p.fields))
		}
	}
	return append(b, '}'), nil
}

// column takes the next column off a record. more reports that a delimiter
// came after it.
func (p *csvParser) column(s []byte, n int) (text, rest []byte, more bool, err error) {
	if len(s) == 0 || s[0] != '"' {
		text, rest, more = bytes.Cut(s, []byte{p.comma})
		if bytes.IndexByte(text, '"') >= 0 {
			return nil, nil, false, connectors.Poisonf("column %d has a quote in the middle, want all of it in quotes and \"\" for a quote", n+1)
		}
		return text, rest, more, nil
	}
	p.text = p.text[:0]
	for s = s[1:]; ; {
		i := bytes.IndexByte(s, '"')
		if i < 0 {
			return nil, nil, false, connectors.Poisonf("column %d has no closing quote", n+1)
		}
		p.text = append(p.text, s[:i]...)
		if s = s[i+1:]; len(s) == 0 {
			return p.text, nil, false, nil
		}
		switch s[0] {
		case '"':
			p.text, s = append(p.text, '"'), s[1:]
		case p.comma:
			return p.text, s[1:], true, nil
		default:
			return nil, nil, false, connectors.Poisonf("column %d goes on after its closing quote", n+1)
		}
	}
}
