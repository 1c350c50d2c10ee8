package schema

import (
	"maps"
	"slices"
	"strings"
)

// avroText writes a valid Avro schema in one form: no white space, attributes
// in a fixed order, a namespace only where it differs from the one around it,
// and {"type":"string"} as "string". Documentation, aliases, defaults and
// properties of one's own stay, because they belong to what was registered.
func avroText(doc any) string {
	w := &avroWriter{}
	w.schema(doc, "")
	return w.String()
}

// avroWriter builds the text. Primitive names are never qualified.
type avroWriter struct{ strings.Builder }

func (w *avroWriter) schema(v any, ns string) {
	switch v := v.(type) {
	case string:
		w.value(w.relative(v, ns))
	case []any:
		w.list(v, func(branch any) { w.schema(branch, ns) })
	case map[string]any:
		w.object(v, ns)
	default:
		w.value(v)
	}
}

// relative shortens a full name of the namespace around it.
func (w *avroWriter) relative(name, ns string) string {
	if space, short := splitAvroName(name); ns != "" && space == ns {
		return short
	}
	return name
}

func splitAvroName(full string) (ns, short string) {
	if i := strings.LastIndexByte(full, '.'); i >= 0 {
		return full[:i], full[i+1:]
	}
	return "", full
}

func (w *avroWriter) object(o map[string]any, ns string) {
	kind, isName := o["type"].(string)
	switch {
	case len(o) == 1: // {"type": X} is X
		w.schema(o["type"], ns)
	case isName && slices.Contains([]string{"record", "error", "enum", "fixed"}, kind):
		w.named(o, kind, ns)
	default:
		w.members(o, ns, "type", "items", "values")
	}
}

// named writes a record, an enum or a fixed, whose name opens a namespace.
func (w *avroWriter) named(o map[string]any, kind, around string) {
	name, _ := o["name"].(string)
	ns, short := splitAvroName(name)
	if ns == "" {
		ns = around
		if given, ok := o["namespace"].(string); ok {
			ns = given
		}
	}
	w.WriteString(`{"type":`)
	w.value(kind)
	w.WriteString(`,"name":`)
	w.value(short)
	if ns != around {
		w.WriteString(`,"namespace":`)
		w.value(ns)
	}
	order := []string{"doc", "fields", "symbols", "size", "default", "aliases"}
	w.rest(o, order, []string{"type", "name", "namespace"}, func(key string, v any) {
		if fields, ok := v.([]any); ok && key == "fields" {
			w.list(fields, func(f any) { w.field(f, ns) })
			return
		}
		w.value(v)
	})
	w.WriteByte('}')
}

func (w *avroWriter) field(v any, ns string) {
	f, ok := v.(map[string]any)
	if !ok {
		w.value(v)
		return
	}
	w.WriteString(`{"name":`)
	w.value(f["name"])
	skip := []string{"name"}
	if f["order"] == "ascending" { // the default
		skip = append(skip, "order")
	}
	w.rest(f, []string{"type", "doc", "default", "order", "aliases"}, skip, func(key string, v any) {
		if key == "type" {
			w.schema(v, ns)
			return
		}
		w.value(v)
	})
	w.WriteByte('}')
}

// members writes an object whose keys in first hold schemas.
func (w *avroWriter) members(o map[string]any, ns string, first ...string) {
	w.WriteByte('{')
	w.rest(o, first, nil, func(key string, v any) {
		if slices.Contains(first, key) {
			w.schema(v, ns)
			return
		}
		w.value(v)
	})
	w.WriteByte('}')
}

// rest writes the members in the given order, then all others by name.
func (w *avroWriter) rest(o map[string]any, order, skip []string, member func(key string, v any)) {
	keys := order
	for _, key := range slices.Sorted(maps.Keys(o)) {
		if !slices.Contains(order, key) {
			keys = append(slices.Clip(keys), key)
		}
	}
	for _, key := range keys {
		v, ok := o[key]
		if !ok || slices.Contains(skip, key) {
			continue
		}
		if !strings.HasSuffix(w.String(), "{") {
			w.WriteByte(',')
		}
		w.value(key)
		w.WriteByte(':')
		member(key, v)
	}
}

func (w *avroWriter) list(all []any, one func(any)) {
	w.WriteByte('[')
	for i, v := range all {
		if i > 0 {
			w.WriteByte(',')
		}
		one(v)
	}
	w.WriteByte(']')
}

// value writes any JSON value, its members sorted by name.
func (w *avroWriter) value(v any) { w.WriteString(jsonText(v)) }
