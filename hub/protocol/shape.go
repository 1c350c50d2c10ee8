package protocol

import (
	"encoding/binary"
	"fmt"
)

// A shape describes the bytes of a request just well enough to walk over them
// without building anything. Every request is walked before kmsg decodes it:
// kmsg allocates an array as soon as its length is read and follows any count
// of tags, so that a short request could cost gigabytes or minutes. Walked
// first, a request costs what its bytes are worth.
type shape struct {
	flexible int16 // first version with compact lengths and tags (KIP-482)
	fields   []field
	tags     tagShapes // of the request itself
}

// tagShapes are the tagged fields that kmsg decodes, by tag.
type tagShapes map[uint32][]field

type fieldKind uint8

const (
	fixedKind fieldKind = iota
	stringKind
	bytesKind
	arrayKind
	structKind
	maybeKind
)

// field is one field of a request, in the order of the wire.
type field struct {
	kind fieldKind
	size int // fixedKind: bytes
	min  int16
	max  int16
	elem []field // arrayKind, structKind
	tags tagShapes
	bare bool // arrayKind: of plain values, which have no tags of their own
}

const lastVersion = 1<<15 - 1

func fixed(n int) field { return field{kind: fixedKind, size: n, max: lastVersion} }
func str() field        { return field{kind: stringKind, max: lastVersion} }
func blob() field       { return field{kind: bytesKind, max: lastVersion} }

// array is an array of structures.
func array(elem ...field) field { return field{kind: arrayKind, elem: elem, max: lastVersion} }

// list is an array of plain values.
func list(elem field) field {
	return field{kind: arrayKind, elem: []field{elem}, bare: true, max: lastVersion}
}

// structure is a group of fields with tags of its own.
func structure(elem ...field) field { return field{kind: structKind, elem: elem, max: lastVersion} }

// maybe is a structure that can be null.
func maybe(elem ...field) field { return field{kind: maybeKind, elem: elem, max: lastVersion} }

func (f field) from(v int16) field          { f.min = v; return f }
func (f field) to(v int16) field            { f.max = v; return f }
func (f field) tagged(t tagShapes) field    { f.tags = t; return f }
func (f *field) in(v int16) bool            { return v >= f.min && v <= f.max }
func (s *shape) flexibleAt(v int16) bool    { return v >= s.flexible }
func (s shape) tagged(t tagShapes) shape    { s.tags = t; return s }
func body(flexible int16, f ...field) shape { return shape{flexible: flexible, fields: f} }

// maxElements is the most array elements and tags of one request. Decoded,
// each costs some 100 bytes.
const maxElements = 250_000

// check walks a body. Bytes after the end are left alone: Kafka does too.
func (s *shape) check(b []byte, version int16) error {
	w := walk{b: b, left: maxElements, version: version, flexible: s.flexibleAt(version)}
	w.fields(s.fields)
	if w.flexible {
		w.tags(s.tags, version)
	}
	if w.bad != "" {
		return fmt.Errorf("%s at byte %d of %d", w.bad, len(b)-len(w.b), len(b))
	}
	return nil
}

// walk goes over bytes. After a fault it stays where it is.
type walk struct {
	b        []byte
	left     int // elements and tags that may still come
	version  int16
	flexible bool
	bad      string
}

func (w *walk) fail(what string) {
	if w.bad == "" {
		w.bad = what
	}
}

func (w *walk) take(n int) []byte {
	if w.bad != "" {
		return nil
	}
	if n < 0 || n > len(w.b) {
		w.fail("it ends too early")
		return nil
	}
	p := w.b[:n]
	w.b = w.b[n:]
	return p
}

func (w *walk) uvarint() uint64 {
	if w.bad != "" {
		return 0
	}
	v, n := binary.Uvarint(w.b)
	if n <= 0 || n > 5 || v > 1<<32-1 {
		w.fail("a length is no 32-bit varint")
		return 0
	}
	w.b = w.b[n:]
	return v
}

// length reads a length that is null as -1; wide is the size of the old form.
func (w *walk) length(wide int) int {
	if w.flexible {
		return int(w.uvarint()) - 1
	}
	p := w.take(wide)
	switch {
	case p == nil:
		return 0
	case wide == 2:
		return int(int16(binary.BigEndian.Uint16(p)))
	}
	return int(int32(binary.BigEndian.Uint32(p)))
}

func (w *walk) fields(fs []field) {
	for i := range fs {
		if w.bad != "" {
			return
		}
		if f := &fs[i]; f.in(w.version) {
			w.field(f)
		}
	}
}

func (w *walk) field(f *field) {
	switch f.kind {
	case fixedKind:
		w.take(f.size)
	case stringKind:
		w.take(max(0, w.length(2)))
	case bytesKind:
		w.take(max(0, w.length(4)))
	case arrayKind:
		n := w.length(4)
		if n > w.left || n > len(w.b) {
			w.fail(fmt.Sprintf("an array claims %d elements", n))
			return
		}
		w.left -= max(0, n)
		for range n {
			if w.bad != "" {
				return
			}
			w.element(f)
		}
	case structKind:
		w.element(f)
	case maybeKind:
		if p := w.take(1); p != nil && int8(p[0]) >= 0 {
			w.element(f)
		}
	}
}

func (w *walk) element(f *field) {
	w.fields(f.elem)
	if w.flexible && !f.bare {
		w.tags(f.tags, w.version)
	}
}

// tags walks a tag section; those that kmsg decodes are walked inside.
func (w *walk) tags(known tagShapes, version int16) {
	n := w.uvarint()
	if n > uint64(w.left) || n > uint64(len(w.b)) {
		w.fail(fmt.Sprintf("%d tags are claimed", n))
		return
	}
	w.left -= int(n)
	for range n {
		tag, size := w.uvarint(), w.uvarint()
		p := w.take(int(min(size, 1<<31-1)))
		if w.bad != "" {
			return
		}
		if fs, ok := known[uint32(tag)]; ok {
			in := walk{b: p, left: w.left, version: version, flexible: true}
			in.fields(fs)
			if in.bad != "" {
				w.fail(fmt.Sprintf("tag %d: %s", tag, in.bad))
			}
			w.left = in.left
		}
	}
}

// nullableString reads a string in the old form; null is empty.
func (w *walk) nullableString() string {
	p := w.take(2)
	if p == nil {
		return ""
	}
	n := int(int16(binary.BigEndian.Uint16(p)))
	if n < 0 {
		return ""
	}
	return string(w.take(n))
}
