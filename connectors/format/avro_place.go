package format

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/twmb/avro"
)

// avroPlace is a node of an Avro schema, with what is needed to make JSON of
// its binary form.
type avroPlace struct {
	path   string
	read   func(d *avroDecoder, dst []byte) []byte // of a value without others inside
	kind   string                                  // else: record, array, map or union
	names  [][]byte                                // of a record's fields: quoted, with a colon
	inside []*avroPlace                            // fields, branches, or the one of elements
}

// avroDecoder reads one record. It goes on after poison, to find where the next
// record begins; after damage that is not known.
type avroDecoder struct {
	rest   []byte
	most   int // bytes of JSON, with what stands before it
	poison error
	damage error
}

var (
	errShort    = errors.New("it ends in the midst of a value")
	errVarint   = errors.New("a number has more bits than it can have")
	errBranch   = errors.New("a union has no such branch")
	errTooLarge = fmt.Errorf("its JSON has more than %d bytes", maxAvroRow)
	errTooDeep  = fmt.Errorf("values are more than %d levels deep", maxDepth)
)

func (d *avroDecoder) fail(err error) {
	if d.damage == nil {
		d.damage = err
	}
	d.rest = nil
}

func (d *avroDecoder) refuse(err error) {
	if d.poison == nil {
		d.poison = err
	}
}

func (d *avroDecoder) long() int64 {
	n, size := binary.Varint(d.rest)
	if size <= 0 {
		d.fail(errVarint)
		return 0
	}
	d.rest = d.rest[size:]
	return n
}

func (d *avroDecoder) int() int64 {
	n := d.long()
	if n != int64(int32(n)) {
		d.fail(errVarint)
		return 0
	}
	return n
}

func (d *avroDecoder) take(n int64) []byte {
	if n < 0 || n > int64(len(d.rest)) {
		d.fail(errShort)
		return nil
	}
	b := d.rest[:n]
	d.rest = d.rest[n:]
	return b
}

// fixed is take of a number of bytes that the caller indexes.
func (d *avroDecoder) fixed(n int) []byte {
	if b := d.take(int64(n)); b != nil {
		return b
	}
	return make([]byte, n)
}

// append writes the JSON of the next value.
func (p *avroPlace) append(d *avroDecoder, dst []byte, depth int) []byte {
	switch {
	case d.damage != nil:
		return dst
	case depth > maxDepth:
		d.fail(errTooDeep)
		return dst
	case len(dst) > d.most:
		d.fail(errTooLarge)
		return dst
	case p.read != nil:
		return p.read(d, dst)
	}
	switch p.kind {
	case "record":
		dst = append(dst, '{')
		for i, f := range p.inside {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = f.append(d, append(dst, p.names[i]...), depth+1)
		}
		return append(dst, '}')
	case "union":
		n := d.long()
		if n < 0 || n >= int64(len(p.inside)) {
			d.fail(errBranch)
			return dst
		}
		return p.inside[n].append(d, dst, depth+1)
	case "map":
		return p.entries(d, append(dst, '{'), depth)
	}
	dst = append(dst, '[')
	first := true
	p.blocks(d, func() {
		if !first {
			dst = append(dst, ',')
		}
		first = false
		dst = p.inside[0].append(d, dst, depth+1)
	})
	return append(dst, ']')
}

// entries writes a map. A key that is there twice is poison.
func (p *avroPlace) entries(d *avroDecoder, dst []byte, depth int) []byte {
	seen := map[string]bool{}
	p.blocks(d, func() {
		if len(seen) > 0 {
			dst = append(dst, ',')
		}
		key := d.take(d.long())
		if seen[string(key)] {
			d.refuse(poisonf(p.path, "the key %q is there twice", clip(key)))
		}
		seen[string(key)] = true
		dst = append(d.text(dst, key, p.path), ':')
		dst = p.inside[0].append(d, dst, depth+1)
	})
	return append(dst, '}')
}

// blocks calls fn for each element of an array or a map.
func (p *avroPlace) blocks(d *avroDecoder, fn func()) {
	for d.damage == nil {
		n := d.long()
		if n == 0 {
			return
		}
		if n < 0 {
			n = -n
			d.long() // size in bytes
		}
		if n < 0 || n > int64(len(d.rest))+maxEmpty {
			d.fail(errShort)
		}
		for ; n > 0 && d.damage == nil; n-- {
			fn()
		}
	}
}

func (d *avroDecoder) text(dst, text []byte, path string) []byte {
	out, err := appendUTF8(dst, text, path, false)
	if err != nil {
		d.refuse(err)
	}
	return out
}

// avroBuilder makes places of a schema. Names refer to what was built before.
type avroBuilder struct {
	names map[string]*avroPlace
	depth int
}

func (b *avroBuilder) place(n *avro.SchemaNode, path string) (*avroPlace, error) {
	if b.depth++; b.depth > maxDepth {
		return nil, fmt.Errorf("the Avro schema is more than %d levels deep", maxDepth)
	}
	defer func() { b.depth-- }()
	p := &avroPlace{path: path, kind: n.Type}
	full := n.Name
	if n.Namespace != "" {
		full = n.Namespace + "." + n.Name
	}
	switch n.Type {
	case "record", "error":
		p.kind = "record"
		b.names[full] = p
		return p, b.fields(p, n)
	case "array":
		return p, b.inside(p, n.Items)
	case "map":
		return p, b.inside(p, n.Values)
	case "union":
		for i := range n.Branches {
			if err := b.inside(p, &n.Branches[i]); err != nil {
				return nil, err
			}
		}
		return p, nil
	}
	if p.read = avroValue(n, path); p.read == nil {
		named, ok := b.names[n.Type]
		if !ok {
			return nil, fmt.Errorf("field %q: the Avro type %q is not known", path, n.Type)
		}
		return named, nil
	}
	if n.Type == "enum" || n.Type == "fixed" {
		b.names[full] = p
	}
	return p, nil
}

func (b *avroBuilder) fields(p *avroPlace, n *avro.SchemaNode) error {
	for i := range n.Fields {
		f := &n.Fields[i]
		name, err := jsontext.AppendQuote(nil, f.Name)
		if err != nil {
			return fmt.Errorf("field %q: the name is not UTF-8", f.Name)
		}
		path := f.Name
		if p.path != "" {
			path = p.path + "." + f.Name
		}
		one, err := b.place(&f.Type, path)
		if err != nil {
			return err
		}
		p.names, p.inside = append(p.names, append(name, ':')), append(p.inside, one)
	}
	return nil
}

func (b *avroBuilder) inside(p *avroPlace, n *avro.SchemaNode) error {
	one, err := b.place(n, p.path)
	p.inside = append(p.inside, one)
	return err
}

// avroValue is how a value of a type that holds no others is read; nil for any
// other type.
func avroValue(n *avro.SchemaNode, path string) func(d *avroDecoder, dst []byte) []byte {
	switch n.Type {
	case "null":
		return func(_ *avroDecoder, dst []byte) []byte { return append(dst, "null"...) }
	case "boolean":
		return func(d *avroDecoder, dst []byte) []byte {
			b := d.fixed(1)[0]
			if b > 1 {
				d.fail(fmt.Errorf("%d is no boolean", b))
			}
			return strconv.AppendBool(dst, b == 1)
		}
	case "float":
		return func(d *avroDecoder, dst []byte) []byte {
			return appendFloat(dst, float64(math.Float32frombits(binary.LittleEndian.Uint32(d.fixed(4)))), 32)
		}
	case "double":
		return func(d *avroDecoder, dst []byte) []byte {
			return appendFloat(dst, math.Float64frombits(binary.LittleEndian.Uint64(d.fixed(8))), 64)
		}
	case "int", "long":
		return avroWhole(n, path)
	case "string":
		if n.Props["sqlType"] == "JSON" {
			return func(d *avroDecoder, dst []byte) []byte {
				out, err := appendEmbedded(dst, d.take(d.long()), path, false)
				if err != nil {
					d.refuse(err)
				}
				return out
			}
		}
		return func(d *avroDecoder, dst []byte) []byte { return d.text(dst, d.take(d.long()), path) }
	case "enum":
		return func(d *avroDecoder, dst []byte) []byte {
			i := d.int()
			if i < 0 || i >= int64(len(n.Symbols)) {
				d.fail(errBranch)
				return dst
			}
			return d.text(dst, []byte(n.Symbols[i]), path)
		}
	case "bytes":
		return avroRaw(n, func(d *avroDecoder) []byte { return d.take(d.long()) })
	case "fixed":
		return avroRaw(n, func(d *avroDecoder) []byte { return d.take(int64(n.Size)) })
	}
	return nil
}

// avroRaw is of bytes and fixed.
func avroRaw(n *avro.SchemaNode, take func(*avroDecoder) []byte) func(*avroDecoder, []byte) []byte {
	switch {
	case n.LogicalType == "decimal" && n.Scale >= 0 && n.Scale <= maxScale:
		return func(d *avroDecoder, dst []byte) []byte {
			return appendScaled(dst, fromTwosComplement(take(d)), n.Scale)
		}
	case n.LogicalType == "uuid" && n.Type == "fixed" && n.Size == 16:
		return func(d *avroDecoder, dst []byte) []byte {
			return append(appendUUID(append(dst, '"'), d.fixed(16)), '"')
		}
	}
	return func(d *avroDecoder, dst []byte) []byte { return appendBase64(dst, take(d)) }
}

// avroWhole is of int and long, and of the times in them.
func avroWhole(n *avro.SchemaNode, path string) func(*avroDecoder, []byte) []byte {
	read := (*avroDecoder).int
	if n.Type == "long" {
		read = (*avroDecoder).long
	}
	units := map[string]int64{"millis": 1e6, "micros": 1e3, "nanos": 1}
	logical, zone := n.LogicalType, "Z"
	if after, ok := strings.CutPrefix(logical, "local-"); ok {
		logical, zone = after, ""
	}
	if unit, ok := strings.CutPrefix(logical, "timestamp-"); ok && units[unit] > 0 && n.Type == "long" {
		perSecond := int64(time.Second) / units[unit]
		return func(d *avroDecoder, dst []byte) []byte {
			v := read(d)
			s := floorDiv(v, perSecond)
			return append(appendTime(append(dst, '"'), s, (v-s*perSecond)*units[unit], zone), '"')
		}
	}
	if unit, ok := strings.CutPrefix(logical, "time-"); ok && units[unit] > 0 {
		return func(d *avroDecoder, dst []byte) []byte {
			v := read(d)
			if v < 0 || v >= dayLength*(int64(time.Second)/units[unit]) {
				d.refuse(poisonf(path, "%d is no time of the day", v))
				return dst
			}
			return append(appendClock(append(dst, '"'), v*units[unit]), '"')
		}
	}
	if logical == "date" && n.Type == "int" {
		return func(d *avroDecoder, dst []byte) []byte { return append(appendDate(append(dst, '"'), read(d)), '"') }
	}
	return func(d *avroDecoder, dst []byte) []byte { return strconv.AppendInt(dst, read(d), 10) }
}
