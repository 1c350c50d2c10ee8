package schema

import (
	"fmt"

	"google.golang.org/protobuf/reflect/protoreflect"
)

// protoDiff compares two files by what their messages look like on the wire:
// a field is its number. Names of fields, constants of enums, services and
// options do not matter there.
type protoDiff struct {
	seen map[[2]protoreflect.FullName]bool
	bad  []string
}

func (s *protoSchema) reads(writer impl) []string {
	w := writer.(*protoSchema)
	d := &protoDiff{seen: map[[2]protoreflect.FullName]bool{}}
	if a, b := w.file.Package(), s.file.Package(); a != b {
		d.complain("package", "it is changed from %q to %q", a, b)
	}
	d.messages("", w.file.Messages(), s.file.Messages())
	return d.bad
}

func (d *protoDiff) complain(path, format string, args ...any) {
	d.bad = append(d.bad, path+": "+fmt.Sprintf(format, args...))
}

func (d *protoDiff) messages(path string, w, r protoreflect.MessageDescriptors) {
	for i := range w.Len() {
		m := w.Get(i)
		if m.IsMapEntry() {
			continue
		}
		here := path + string(m.Name())
		next := r.ByName(m.Name())
		if next == nil {
			d.complain(here, "the message is removed")
			continue
		}
		d.message(here, m, next)
	}
}

func (d *protoDiff) message(path string, w, r protoreflect.MessageDescriptor) {
	pair := [2]protoreflect.FullName{w.FullName(), r.FullName()}
	if d.seen[pair] {
		return
	}
	d.seen[pair] = true
	for i := range w.Fields().Len() {
		f := w.Fields().Get(i)
		here := path + "." + string(f.Name())
		next := r.Fields().ByNumber(f.Number())
		if next == nil {
			d.removed(here, f)
			continue
		}
		d.field(here, f, next)
	}
	for i := range r.Fields().Len() {
		if f := r.Fields().Get(i); w.Fields().ByNumber(f.Number()) == nil {
			d.added(path+"."+string(f.Name()), f, w)
		}
	}
	d.oneofs(path, w, r)
	d.messages(path+".", w.Messages(), r.Messages())
}

func (d *protoDiff) removed(path string, f protoreflect.FieldDescriptor) {
	switch {
	case f.Cardinality() == protoreflect.Required:
		d.complain(path, "the required field %d is removed", f.Number())
	case realOneof(f) != nil:
		d.complain(path, "field %d is removed from oneof %s", f.Number(), realOneof(f).Name())
	}
}

func (d *protoDiff) added(path string, f protoreflect.FieldDescriptor, w protoreflect.MessageDescriptor) {
	switch {
	case f.Cardinality() == protoreflect.Required:
		d.complain(path, "field %d is added as required", f.Number())
	case w.ReservedRanges().Has(f.Number()):
		d.complain(path, "field %d is added under a number that was reserved", f.Number())
	}
}

func (d *protoDiff) field(path string, w, r protoreflect.FieldDescriptor) {
	if w.IsMap() && r.IsMap() {
		d.kinds(path+"[key]", w.MapKey(), r.MapKey())
		d.kinds(path+"[value]", w.MapValue(), r.MapValue())
		return
	}
	if w.IsMap() != r.IsMap() {
		d.complain(path, "field %d is a map in only one of the schemas", w.Number())
		return
	}
	d.kinds(path, w, r)
	if (w.Cardinality() == protoreflect.Required) != (r.Cardinality() == protoreflect.Required) && r.Cardinality() == protoreflect.Required {
		d.complain(path, "field %d has become required", w.Number())
	}
	if w.IsList() != r.IsList() && numeric(w.Kind()) {
		d.complain(path, "field %d is repeated in only one of the schemas", w.Number())
	}
}

func (d *protoDiff) kinds(path string, w, r protoreflect.FieldDescriptor) {
	if wireGroup(w.Kind()) != wireGroup(r.Kind()) {
		d.complain(path, "the type of field %d is changed from %s to %s", w.Number(), w.Kind(), r.Kind())
		return
	}
	switch {
	case w.Message() != nil && r.Message() != nil:
		if w.Message().FullName() != r.Message().FullName() {
			d.complain(path, "the type of field %d is changed from %s to %s", w.Number(), w.Message().FullName(), r.Message().FullName())
			return
		}
		d.message(string(w.Message().Name()), w.Message(), r.Message())
	case w.Enum() != nil && r.Enum() != nil && w.Enum().FullName() != r.Enum().FullName():
		d.complain(path, "the type of field %d is changed from %s to %s", w.Number(), w.Enum().FullName(), r.Enum().FullName())
	}
}

// wireGroup is equal for types of which each reads what the other wrote. Source:
// the Protobuf language guide, "Updating A Message Type".
func wireGroup(k protoreflect.Kind) int {
	switch k {
	case protoreflect.Int32Kind, protoreflect.Int64Kind, protoreflect.Uint32Kind, protoreflect.Uint64Kind, protoreflect.BoolKind, protoreflect.EnumKind:
		return -1
	case protoreflect.Sint32Kind, protoreflect.Sint64Kind:
		return -2
	case protoreflect.Fixed32Kind, protoreflect.Sfixed32Kind:
		return -3
	case protoreflect.Fixed64Kind, protoreflect.Sfixed64Kind:
		return -4
	case protoreflect.StringKind, protoreflect.BytesKind:
		return -5
	}
	return int(k)
}

// numeric reports a type whose repeated form is packed, so that a single value
// and a list read each other wrongly.
func numeric(k protoreflect.Kind) bool {
	switch k {
	case protoreflect.StringKind, protoreflect.BytesKind, protoreflect.MessageKind, protoreflect.GroupKind:
		return false
	}
	return true
}

// realOneof is the oneof of a field, unless it is only how proto3 marks the
// field optional.
func realOneof(f protoreflect.FieldDescriptor) protoreflect.OneofDescriptor {
	if o := f.ContainingOneof(); o != nil && !o.IsSynthetic() {
		return o
	}
	return nil
}

// oneofs: a writer could set several fields that are now in one oneof, of
// which a reader keeps the last. One field may move in, or come new.
func (d *protoDiff) oneofs(path string, w, r protoreflect.MessageDescriptor) {
	for i := range r.Oneofs().Len() {
		o := r.Oneofs().Get(i)
		if o.IsSynthetic() {
			continue
		}
		moved, from := 0, map[protoreflect.Name]bool{}
		for j := range o.Fields().Len() {
			before := w.Fields().ByNumber(o.Fields().Get(j).Number())
			if before == nil {
				continue
			}
			if was := realOneof(before); was != nil {
				from[was.Name()] = true
			} else {
				moved++
			}
		}
		if moved > 1 || moved+len(from) > 1 {
			d.complain(path+"."+string(o.Name()), "several fields have moved into the oneof")
		}
	}
}
