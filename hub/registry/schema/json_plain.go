package schema

import (
	"encoding/json"
	"fmt"
	"math/big"
	"regexp"
	"slices"
)

// plain compares two schemas keyword by keyword: every keyword of the reader
// has to be implied by the writer's. It follows the rules by which Confluent's
// registry judges JSON Schema: what matters for an object is whether its
// content model is open (any other property), closed, or in between.
func (d *jsonDiff) plain(path string, w, r node, depth int) []string {
	var bad []string
	wt, rt := typesOf(w), typesOf(r)
	if len(wt) == 0 && !hasValues(w) && len(rt) > 0 {
		return one(path, "the type is narrowed from any type to %s", listed(rt))
	}
	for _, t := range wt {
		if !takesType(rt, t) {
			return one(path, "the type is changed from %s to %s", listed(wt), listed(rt))
		}
	}
	bad = append(bad, values(path, w, r)...)
	if hasValues(w) && len(bad) == 0 && hasValues(r) {
		return nil // the values are named one by one; nothing else narrows them
	}
	if takesType(wt, "string") {
		bad = append(bad, ranges(path, w, r, "maxLength", "minLength")...)
		bad = append(bad, same(path, w, r, "pattern")...)
	}
	if takesType(wt, "number") || takesType(wt, "integer") {
		bad = append(bad, ranges(path, w, r, "maximum", "minimum", "exclusiveMaximum", "exclusiveMinimum")...)
		bad = append(bad, multiple(path, w, r)...)
	}
	if takesType(wt, "object") {
		bad = append(bad, d.objects(path, w, r, depth)...)
	}
	if takesType(wt, "array") {
		bad = append(bad, d.arrays(path, w, r, depth)...)
	}
	if not, ok := r.get("not"); ok {
		bad = append(bad, d.not(path, w, not, depth)...)
	}
	return append(bad, same(path, w, r, "if", "then", "else", "dependentSchemas", "unevaluatedProperties", "unevaluatedItems", "contains", "minContains", "maxContains")...)
}

// not: what the reader forbids the writer must have forbidden.
func (d *jsonDiff) not(path string, w, not node, depth int) []string {
	had, ok := w.get("not")
	if !ok {
		return one(path+"/not", "it is added")
	}
	// The roles are exchanged: all that the reader's "not" takes is taken by
	// the writer's.
	turned := &jsonDiff{writer: d.reader, reader: d.writer, seen: map[[2]uintptr]bool{}, compared: d.compared}
	bad := turned.accepts(path+"/not", not, had, depth+1)
	d.compared = turned.compared
	if len(bad) > 0 {
		return one(path+"/not", "it is extended")
	}
	return nil
}

func hasValues(n node) bool {
	o := n.object()
	_, hasEnum := o["enum"]
	_, hasConst := o["const"]
	return hasEnum || hasConst
}

// valuesOf are the values of enum or const.
func valuesOf(n node) []string {
	var all []string
	for _, v := range asList(n.object()["enum"]) {
		all = append(all, jsonText(v))
	}
	if v, ok := n.object()["const"]; ok {
		all = append(all, jsonText(v))
	}
	return all
}

func values(path string, w, r node) []string {
	if !hasValues(r) {
		return nil
	}
	if !hasValues(w) {
		return one(path+"/enum", "it is added")
	}
	have := valuesOf(r)
	for _, v := range valuesOf(w) {
		if !slices.Contains(have, v) {
			return one(path+"/enum", "the value %.80s is removed", v)
		}
	}
	return nil
}

// same refuses a keyword that is added or changed.
func same(path string, w, r node, keys ...string) (bad []string) {
	for _, key := range keys {
		want, ok := r.object()[key]
		if !ok {
			continue
		}
		if had, ok := w.object()[key]; !ok {
			bad = append(bad, one(path+"/"+key, "it is added")...)
		} else if jsonText(had) != jsonText(want) {
			bad = append(bad, one(path+"/"+key, "it is changed")...)
		}
	}
	return bad
}

// ranges compares bounds: a max… may rise, a min… may fall, both may go.
func ranges(path string, w, r node, keys ...string) (bad []string) {
	for _, key := range keys {
		want, ok := r.object()[key]
		if !ok {
			continue
		}
		had, ok := w.object()[key]
		if !ok {
			if want != false { // draft 4's exclusiveMaximum
				bad = append(bad, one(path+"/"+key, "it is added")...)
			}
			continue
		}
		a, b := number(had), number(want)
		if a == nil || b == nil {
			if jsonText(had) != jsonText(want) && want != false {
				bad = append(bad, one(path+"/"+key, "it is changed")...)
			}
			continue
		}
		switch upper := key[:3] == "max" || key == "exclusiveMaximum"; {
		case upper && b.Cmp(a) < 0:
			bad = append(bad, one(path+"/"+key, "it is decreased from %v to %v", had, want)...)
		case !upper && b.Cmp(a) > 0:
			bad = append(bad, one(path+"/"+key, "it is increased from %v to %v", had, want)...)
		}
	}
	return bad
}

// multiple: multipleOf may become a divisor of itself.
func multiple(path string, w, r node) []string {
	want, ok := r.object()["multipleOf"]
	if !ok {
		return nil
	}
	had, ok := w.object()["multipleOf"]
	if !ok {
		return one(path+"/multipleOf", "it is added")
	}
	a, b := number(had), number(want)
	if a == nil || b == nil || b.Sign() <= 0 || !new(big.Rat).Quo(a, b).IsInt() {
		return one(path+"/multipleOf", "it is changed from %v to %v", had, want)
	}
	return nil
}

// number is a JSON number; nil for anything else and for exponents that would
// take memory without end.
func number(v any) *big.Rat {
	n, ok := v.(json.Number)
	if !ok || len(n) > 64 {
		return nil
	}
	if f, err := n.Float64(); err != nil || f > 1e100 || f < -1e100 || f != 0 && f < 1e-100 && f > -1e-100 {
		return nil
	}
	rat, ok := new(big.Rat).SetString(string(n))
	if !ok {
		return nil
	}
	return rat
}

// matching is the schema that patternProperties or additionalProperties give a
// property that is not listed; ok is false where neither has a schema.
func matching(n node, name string) (node, bool) {
	patterns := n.members("patternProperties")
	for _, p := range sortedKeys(patterns) {
		if re, err := regexp.Compile(p); err == nil && re.MatchString(name) {
			return patterns[p], true
		}
	}
	if more, ok := n.get("additionalProperties"); ok {
		if _, isBool := more.v.(bool); !isBool {
			return more, true
		}
	}
	return node{}, false
}

// open reports an object schema that takes any other property.
func open(n node) bool {
	if len(n.members("patternProperties")) > 0 {
		return false
	}
	more, ok := n.get("additionalProperties")
	return !ok || more.v == true
}

func required(n node) []string {
	var all []string
	for _, v := range asList(n.object()["required"]) {
		if s, ok := v.(string); ok {
			all = append(all, s)
		}
	}
	return all
}

func at(path, key, name string) string { return fmt.Sprintf("%s/%s/%s", path, key, name) }
