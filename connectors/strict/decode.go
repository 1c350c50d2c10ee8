package strict

import (
	"fmt"
	"reflect"
	"strings"
	"time"

	"github.com/entrepot-hub/entrepot/connectors"
)

// Decoder is implemented by types that read a node themselves, such as a
// mapping of which one key decides what the others mean.
type Decoder interface {
	DecodeNode(n Node, opts Options) Errors
}

var (
	typeSecret   = reflect.TypeFor[connectors.Secret]()
	typeDuration = reflect.TypeFor[time.Duration]()
	typeSize     = reflect.TypeFor[Size]()
	typeNode     = reflect.TypeFor[Node]()
	typePos      = reflect.TypeFor[Pos]()
)

// Decode reads the node into a pointer. The types are structs (see the
// function Decode), slices, maps with string keys, pointers (nil when the key
// is not there), string, bool, integers, floats, time.Duration, Size, Secret,
// Node (kept for later), Pos (the place of the mapping), and everything that
// implements Decoder. Another type is a mistake in the program and panics.
func (n Node) Decode(into any, opts Options) Errors {
	v := reflect.ValueOf(into)
	if v.Kind() != reflect.Pointer || v.IsNil() {
		panic(fmt.Sprintf("strict: decode into a %T, want a pointer", into))
	}
	d := &decoder{opts: opts}
	d.value(n, v.Elem())
	return d.errs.sorted()
}

type decoder struct {
	opts Options
	errs Errors
}

// add keeps an error and reports whether there was none.
func (d *decoder) add(e *Error) bool {
	if e != nil {
		d.errs = append(d.errs, e)
	}
	return e == nil
}

func (d *decoder) value(n Node, v reflect.Value) {
	if c, ok := reflect.TypeAssert[Decoder](v.Addr()); ok {
		d.errs = append(d.errs, c.DecodeNode(n, d.opts)...)
		return
	}
	if d.special(n, v) {
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		d.structure(n, v)
	case reflect.Pointer:
		if n.kind == Null {
			return
		}
		if v.IsNil() {
			v.Set(reflect.New(v.Type().Elem()))
		}
		d.value(n, v.Elem())
	case reflect.Slice:
		d.list(n, v)
	case reflect.Map:
		d.mapping(n, v)
	default:
		d.scalar(n, v)
	}
}

// special decodes the types of this package's own vocabulary.
func (d *decoder) special(n Node, v reflect.Value) bool {
	switch v.Type() {
	case typeNode:
		v.Set(reflect.ValueOf(n))
	case typeSecret:
		if s, e := n.secret(d.opts); d.add(e) {
			v.Set(reflect.ValueOf(s))
		}
	case typeDuration:
		if x, e := n.asDuration(); d.add(e) {
			v.SetInt(int64(x))
		}
	case typeSize:
		if x, e := n.asSize(); d.add(e) {
			v.SetInt(x)
		}
	default:
		return false
	}
	return true
}

func (d *decoder) scalar(n Node, v reflect.Value) {
	switch v.Kind() {
	case reflect.String:
		if s, _, e := n.resolved(d.opts); d.add(e) {
			v.SetString(s)
		}
	case reflect.Bool:
		if x, e := n.asBool(); d.add(e) {
			v.SetBool(x)
		}
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		if x, e := n.asInt(); d.add(e) {
			if v.OverflowInt(x) {
				d.add(n.Errorf("%d is out of range, want a number of %d bits", x, v.Type().Bits()))
				return
			}
			v.SetInt(x)
		}
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		if x, e := n.asInt(); d.add(e) {
			if x < 0 || v.OverflowUint(uint64(x)) {
				d.add(n.Errorf("%d is out of range, want a number from 0 to %d", x, uint64(1)<<v.Type().Bits()-1))
				return
			}
			v.SetUint(uint64(x))
		}
	case reflect.Float32, reflect.Float64:
		if x, e := n.asFloat(); d.add(e) {
			v.SetFloat(x)
		}
	default:
		panic(fmt.Sprintf("strict: cannot decode into a %s", v.Type()))
	}
}

func (d *decoder) list(n Node, v reflect.Value) {
	if n.kind == Null {
		return
	}
	if n.kind != List {
		e := n.Errorf("want a list, got %s", n.describe())
		e.Hint = "write [a, b], or one item a line after a dash"
		d.add(e)
		return
	}
	out := reflect.MakeSlice(v.Type(), len(n.items), len(n.items))
	for i, item := range n.items {
		d.value(item, out.Index(i))
	}
	v.Set(out)
}

func (d *decoder) mapping(n Node, v reflect.Value) {
	if n.kind == Null {
		return
	}
	if n.kind != Map {
		d.add(n.Errorf("want a mapping, got %s", n.describe()))
		return
	}
	out := reflect.MakeMapWithSize(v.Type(), len(n.entries))
	for _, e := range n.entries {
		item := reflect.New(v.Type().Elem()).Elem()
		d.value(e.Value, item)
		out.SetMapIndex(reflect.ValueOf(e.Key).Convert(v.Type().Key()), item)
	}
	v.Set(out)
}

// structField is one key of a struct, inlined ones included.
type structField struct {
	name     string
	required bool
	value    reflect.Value
}

func (d *decoder) structure(n Node, v reflect.Value) {
	if n.kind != Map && n.kind != Null {
		d.add(n.Errorf("want a mapping, got %s", n.describe()))
		return
	}
	fields := fieldsOf(v, n.pos)
	known := make([]string, len(fields))
	byName := make(map[string]structField, len(fields))
	for i, f := range fields {
		known[i], byName[f.name] = f.name, f
	}
	for _, e := range n.entries {
		f, ok := byName[e.Key]
		if !ok {
			d.add(unknownKey(n, e, known))
			continue
		}
		if e.Value.kind == Null && !takesNull(f.value) {
			d.add(e.Value.Errorf("key %q has no value", e.Key))
			continue
		}
		d.value(e.Value, f.value)
	}
	for _, f := range fields {
		if _, there := n.Get(f.name); f.required && !there {
			d.add(n.Errorf("missing key %q", f.name))
		}
	}
}

func takesNull(v reflect.Value) bool {
	switch v.Kind() {
	case reflect.Struct, reflect.Slice, reflect.Map, reflect.Pointer:
		return v.Type() != typeSecret
	}
	return false
}

func unknownKey(n Node, e Entry, known []string) *Error {
	err := n.ErrorAt(e.KeyPos, "unknown key %q", e.Key)
	err.Hint = suggest(e.Key, known, "the keys here are")
	return err
}

// fieldsOf lists the keys of a struct and sets its Pos fields.
func fieldsOf(v reflect.Value, pos Pos) []structField {
	var all []structField
	for i := range v.NumField() {
		f := v.Type().Field(i)
		name, opts, _ := strings.Cut(f.Tag.Get("yaml"), ",")
		switch {
		case !f.IsExported():
		case f.Type == typePos:
			v.Field(i).Set(reflect.ValueOf(pos))
		case name == "-":
		case opts == "inline":
			all = append(all, fieldsOf(v.Field(i), pos)...)
		case name == "":
			panic(fmt.Sprintf("strict: field %s of %s has no yaml tag", f.Name, v.Type()))
		default:
			all = append(all, structField{name: name, required: opts == "required", value: v.Field(i)})
		}
	}
	return all
}
