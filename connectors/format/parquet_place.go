package format

import (
	"errors"
	"fmt"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/format"
)

// parquetPlace is a node of a Parquet schema, with what is needed to make JSON of the
// values of one row below it.
type parquetPlace struct {
	path               string
	name               []byte // quoted, with a colon
	def, rep           int    // levels of a value that is there
	optional, repeated bool
	first, end         int // leaves below, in the order of columns
	fields             []*parquetPlace
	leaf               func(dst []byte, v parquet.Value) ([]byte, error) // of a leaf
	unwrap             bool                                              // a group that is only there to hold its one field
	entries            bool                                              // repeated key and value: an object
	seen               map[string]bool
}

// maxDepth bounds how deep a schema may be.
const maxDepth = 100

var errLevels = errors.New("the file is damaged: the levels of a row do not fit its schema")

// place looks at a column and those below. The root is at depth 0.
func (r *ParquetReader) place(c *parquet.Column, def, rep int, leaves *int, depth int) (*parquetPlace, error) {
	if depth > maxDepth {
		return nil, fmt.Errorf("its schema is more than %d levels deep", maxDepth)
	}
	p := &parquetPlace{def: def, rep: rep, first: *leaves}
	if depth > 0 {
		p.optional, p.repeated = c.Optional(), c.Repeated()
		for i, name := range c.Path() {
			if i > 0 {
				p.path += "."
			}
			p.path += name
		}
	}
	if p.optional || p.repeated {
		p.def++
	}
	if p.repeated {
		p.rep++
	}
	var err error
	if p.name, err = jsontext.AppendQuote(nil, c.Name()); err != nil {
		return nil, fmt.Errorf("a column's name is not UTF-8: %q", c.Name())
	}
	p.name = append(p.name, ':')
	if c.Leaf() {
		p.leaf, err = r.leaf(c, p.path)
		*leaves++
		p.end = *leaves
		return p, err
	}
	names := map[string]bool{}
	for _, child := range c.Columns() {
		f, err := r.place(child, p.def, p.rep, leaves, depth+1)
		if err != nil {
			return nil, err
		}
		if names[child.Name()] {
			return nil, fmt.Errorf("column %q is there twice", f.path)
		}
		names[child.Name()] = true
		p.fields = append(p.fields, f)
	}
	p.end = *leaves
	if len(p.fields) == 0 && depth > 0 {
		return nil, fmt.Errorf("column %q is a group without columns", p.path)
	}
	p.shape(c)
	return p, nil
}

// shape recognizes the groups that stand for lists and maps.
func (p *parquetPlace) shape(c *parquet.Column) {
	if len(p.fields) != 1 || !p.fields[0].repeated {
		return
	}
	inner := p.fields[0]
	switch kindOfGroup(c) {
	case "LIST":
		p.unwrap = true
		name := c.Columns()[0].Name()
		// Older writers have the element itself in this place.
		inner.unwrap = len(inner.fields) == 1 && name != "array" && name != c.Name()+"_tuple"
	case "MAP":
		key := inner.fields
		if len(key) == 2 && key[0].leaf != nil && isText(c.Columns()[0].Columns()[0]) {
			p.unwrap, inner.entries = true, true
			inner.seen = map[string]bool{}
		} else if len(key) == 2 {
			p.unwrap = true
		}
	}
}

func kindOfGroup(c *parquet.Column) string {
	t := c.Type()
	if t == nil {
		return ""
	}
	if l := t.LogicalType(); l != nil && l.Value != nil {
		return l.String()
	}
	if ct := t.ConvertedType(); ct != nil && (*ct == 3 || *ct == 1 || *ct == 2) {
		return map[int]string{3: "LIST", 1: "MAP", 2: "MAP"}[int(*ct)]
	}
	return ""
}

func isText(c *parquet.Column) bool {
	if c.Type().Kind() != parquet.ByteArray {
		return false
	}
	if l := c.Type().LogicalType(); l != nil {
		switch l.Value.(type) {
		case *format.StringType, *format.EnumType:
			return true
		}
	}
	ct := c.Type().ConvertedType()
	return ct != nil && (*ct == 0 || *ct == 4)
}

// append writes the value at this place for one instance of its parent.
func (p *parquetPlace) append(dst []byte, cols [][]parquet.Value) ([]byte, error) {
	for i := p.first; i < p.end; i++ {
		if len(cols[i]) == 0 {
			return dst, errLevels
		}
	}
	there := cols[p.first][0].DefinitionLevel() >= p.def
	switch {
	case p.repeated && p.entries:
		return p.each(append(dst, '{'), cols, there, '}')
	case p.repeated:
		return p.each(append(dst, '['), cols, there, ']')
	case !there:
		if !p.optional {
			return dst, errLevels
		}
		return append(dst, "null"...), nil
	}
	return p.body(dst, cols)
}

// body writes the value itself.
func (p *parquetPlace) body(dst []byte, cols [][]parquet.Value) ([]byte, error) {
	if p.leaf != nil {
		if len(cols[p.first]) != 1 {
			return dst, errLevels
		}
		return p.leaf(dst, cols[p.first][0])
	}
	if p.unwrap {
		return p.fields[0].append(dst, cols)
	}
	dst = append(dst, '{')
	for i, f := range p.fields {
		if i > 0 {
			dst = append(dst, ',')
		}
		var err error
		if dst, err = f.append(append(dst, f.name...), cols); err != nil {
			return dst, err
		}
	}
	return append(dst, '}'), nil
}

// each writes the instances of a repeated place.
func (p *parquetPlace) each(dst []byte, cols [][]parquet.Value, there bool, closing byte) ([]byte, error) {
	if !there {
		return append(dst, closing), nil
	}
	clear(p.seen)
	rest, one := make([][]parquet.Value, len(cols)), make([][]parquet.Value, len(cols))
	copy(rest, cols)
	for n := 0; len(rest[p.first]) > 0; n++ {
		for i := p.first; i < p.end; i++ {
			one[i], rest[i] = p.instance(rest[i])
			if len(one[i]) == 0 || one[i][0].DefinitionLevel() < p.def {
				return dst, errLevels
			}
		}
		if n > 0 {
			dst = append(dst, ',')
		}
		var err error
		if p.entries {
			dst, err = p.entry(dst, one)
		} else {
			dst, err = p.body(dst, one)
		}
		if err != nil {
			return dst, err
		}
	}
	for i := p.first; i < p.end; i++ {
		if len(rest[i]) > 0 {
			return dst, errLevels
		}
	}
	return append(dst, closing), nil
}

// instance cuts off the values up to the next that begins another.
func (p *parquetPlace) instance(values []parquet.Value) (one, rest []parquet.Value) {
	for i := 1; i < len(values); i++ {
		if values[i].RepetitionLevel() <= p.rep {
			return values[:i], values[i:]
		}
	}
	return values, nil
}

// entry writes one key and value of a map.
func (p *parquetPlace) entry(dst []byte, cols [][]parquet.Value) ([]byte, error) {
	begin := len(dst)
	dst, err := p.fields[0].append(dst, cols)
	if err != nil {
		return dst, err
	}
	key := string(dst[begin:])
	if key == "null" || p.seen[key] {
		return dst, poisonf(p.path, "the key %s is there twice, or is none", clip([]byte(key)))
	}
	p.seen[key] = true
	return p.fields[1].append(append(dst, ':'), cols)
}
