package schema

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
)

// maxCompared bounds the work on one pair of schemas: combinators within
// combinators multiply.
const maxCompared = 50_000

// jsonDiff compares what two JSON Schemas take. accepts asks whether every
// value that the writer's schema takes is taken by the reader's; it errs on the
// side of no.
type jsonDiff struct {
	writer, reader refs
	seen           map[[2]uintptr]bool // pairs under comparison: recursive schemas
	compared       int
}

func (s *jsonSchema) reads(writer impl) []string {
	w := writer.(*jsonSchema)
	d := &jsonDiff{writer: refs{w}, reader: refs{s}, seen: map[[2]uintptr]bool{}}
	bad := d.accepts("#", node{w.doc, w.doc}, node{s.doc, s.doc}, 0)
	if d.compared > maxCompared {
		return []string{"the schemas are too entangled to be compared; simplify what stands in allOf, anyOf and oneOf"}
	}
	return bad
}

func (d *jsonDiff) accepts(path string, w, r node, depth int) []string {
	d.compared++
	if d.compared > maxCompared || depth > 2*maxDepth {
		d.compared = maxCompared + 1
		return one(path, "too entangled")
	}
	w, wok := d.writer.follow(w)
	r, rok := d.reader.follow(r)
	switch {
	case r.anything() || w.nothing():
		return nil
	case !wok || !rok:
		return one(path, "a reference leads nowhere")
	case r.nothing():
		return one(path, "nothing is accepted any more")
	}
	if pair, ok := pairOf(w, r); ok {
		if d.seen[pair] {
			return nil
		}
		d.seen[pair] = true
		defer delete(d.seen, pair)
	}
	if bad := d.combined(path, w, r, depth); bad != nil {
		return *bad
	}
	return d.plain(path, w, r, depth)
}

func one(path, format string, args ...any) []string {
	return []string{path + ": " + fmt.Sprintf(format, args...)}
}

// pairOf identifies two places, unless they were put together here.
func pairOf(w, r node) ([2]uintptr, bool) {
	a, b := w.object(), r.object()
	if a == nil || b == nil {
		return [2]uintptr{}, false
	}
	return [2]uintptr{reflect.ValueOf(a).Pointer(), reflect.ValueOf(b).Pointer()}, true
}

// combined answers for schemas with allOf, anyOf or oneOf; nil when neither
// has one.
func (d *jsonDiff) combined(path string, w, r node, depth int) *[]string {
	if all := r.list("allOf"); len(all) > 0 {
		bad := d.accepts(path, w, r.with(without(r.object(), "allOf")), depth+1)
		for i, part := range all {
			bad = append(bad, d.acceptsPart(fmt.Sprintf("%s/allOf/%d", path, i), w, part, depth)...)
		}
		return &bad
	}
	if all := w.list("allOf"); len(all) > 0 {
		bad := d.anyPart(path, w, r, all, depth)
		return &bad
	}
	for _, key := range []string{"anyOf", "oneOf"} {
		if branches := r.list(key); len(branches) > 0 {
			bad := d.acceptsSum(path, key, w, r, branches, depth)
			return &bad
		}
	}
	for _, key := range []string{"anyOf", "oneOf"} {
		if branches := w.list(key); len(branches) > 0 {
			var bad []string
			for i, b := range branches {
				bad = append(bad, d.accepts(fmt.Sprintf("%s/%s/%d", path, key, i), d.both(w.with(without(w.object(), key)), b), r, depth+1)...)
			}
			return &bad
		}
	}
	return nil
}

// acceptsPart asks for one schema of an allOf: some schema of the writer's own
// allOf may answer for it, or all of the writer.
func (d *jsonDiff) acceptsPart(path string, w, part node, depth int) []string {
	for _, have := range w.list("allOf") {
		if len(d.accepts(path, have, part, depth+1)) == 0 {
			return nil
		}
	}
	return d.accepts(path, w, part, depth+1)
}

// anyPart: a value of the writer passes all parts, so it is enough that one of
// them, or all of them put together, is accepted.
func (d *jsonDiff) anyPart(path string, w, r node, all []node, depth int) []string {
	merged := w.with(without(w.object(), "allOf"))
	for _, part := range all {
		if len(d.accepts(path, part, r, depth+1)) == 0 {
			return nil
		}
		merged = d.both(merged, part)
	}
	return d.accepts(path, merged, r, depth+1)
}

// acceptsSum: the reader takes what one of its branches takes. Each branch of a
// writer with the same combinator needs a branch of its own, since two that
// share one would make oneOf refuse; a writer without needs one.
func (d *jsonDiff) acceptsSum(path, key string, w, r node, branches []node, depth int) []string {
	bad := d.accepts(path, w, r.with(without(r.object(), key)), depth+1)
	have, from := w.list(key), key
	if len(have) == 0 && key == "anyOf" {
		have, from = w.list("oneOf"), "oneOf"
	}
	if len(have) == 0 {
		for _, b := range branches {
			if len(d.accepts(path, w, b, depth+1)) == 0 {
				return bad
			}
		}
		return append(bad, one(path, "no branch of %s accepts what was written", key)...)
	}
	rest := w.with(without(w.object(), from))
	fits := make([][]bool, len(have))
	for i, h := range have {
		fits[i] = make([]bool, len(branches))
		for j, b := range branches {
			fits[i][j] = len(d.accepts(path, h, b, depth+1)) == 0 || !rest.anything() && len(d.accepts(path, d.both(rest, h), b, depth+1)) == 0
		}
	}
	for _, i := range unmatched(fits, key == "oneOf") {
		bad = append(bad, one(fmt.Sprintf("%s/%s/%d", path, from, i), "no branch of %s accepts it", key)...)
	}
	return bad
}

// unmatched are the rows for which no column is left; without distinct one
// column may serve several rows.
func unmatched(fits [][]bool, distinct bool) (left []int) {
	taken := map[int]int{} // column → row
	var place func(row int, tried map[int]bool) bool
	place = func(row int, tried map[int]bool) bool {
		for col, ok := range fits[row] {
			if !ok || tried[col] {
				continue
			}
			tried[col] = true
			if other, is := taken[col]; !distinct || !is || place(other, tried) {
				taken[col] = row
				return true
			}
		}
		return false
	}
	for row := range fits {
		if !place(row, map[int]bool{}) {
			left = append(left, row)
		}
	}
	return left
}

// both is a schema for what passes a and b. Where both say something of the
// same keyword it keeps less, never more than is sure.
func (d *jsonDiff) both(a, b node) node {
	b, ok := d.writer.follow(b)
	switch {
	case !ok || b.anything():
		return a
	case a.anything() || b.nothing():
		return b
	}
	out := maps.Clone(a.object())
	for key, v := range b.object() {
		if wrapped := b.with(v); !sameDocument(a, b) {
			v = rewrap(wrapped)
		}
		have, taken := out[key]
		switch {
		case !taken:
			out[key] = v
		case key == "required", key == "allOf":
			out[key] = append(slices.Clone(asList(have)), asList(v)...)
		case key == "properties":
			out[key] = mergeProperties(have, v)
		}
	}
	return node{a.root, out}
}

func sameDocument(a, b node) bool {
	x, _ := a.root.(map[string]any)
	y, _ := b.root.(map[string]any)
	return reflect.ValueOf(x).Pointer() == reflect.ValueOf(y).Pointer()
}

// rewrap keeps schemas of another document tied to that document.
func rewrap(n node) any {
	switch v := n.v.(type) {
	case map[string]any:
		if _, isRef := v["$ref"]; isRef {
			return map[string]any{"allOf": []any{inDocument{n}}}
		}
		out := make(map[string]any, len(v))
		for key, one := range v {
			out[key] = rewrap(n.with(one))
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i, one := range v {
			out[i] = rewrap(n.with(one))
		}
		return out
	}
	return n.v
}

func mergeProperties(a, b any) any {
	x, _ := a.(map[string]any)
	y, _ := b.(map[string]any)
	out := maps.Clone(x)
	for name, v := range y {
		if have, ok := out[name]; ok {
			v = map[string]any{"allOf": []any{have, v}}
		}
		out[name] = v
	}
	return out
}

// without is an object less some members; the original stays.
func without(o map[string]any, keys ...string) map[string]any {
	out := maps.Clone(o)
	for _, key := range keys {
		delete(out, key)
	}
	return out
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// typesOf is the set of types that a schema takes; integer is also number.
func typesOf(n node) []string {
	switch t := n.object()["type"].(type) {
	case string:
		return []string{t}
	case []any:
		var all []string
		for _, v := range t {
			if s, ok := v.(string); ok {
				all = append(all, s)
			}
		}
		return all
	}
	return nil
}

func takesType(types []string, t string) bool {
	return len(types) == 0 || slices.Contains(types, t) || t == "integer" && slices.Contains(types, "number")
}

func listed(all []string) string {
	if len(all) == 0 {
		return "any type"
	}
	return strings.Join(all, ", ")
}
