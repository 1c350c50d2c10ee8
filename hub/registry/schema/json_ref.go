package schema

import (
	"net/url"
	"strconv"
	"strings"
)

// node is a place in a JSON Schema: a value, and the document whose local
// references it uses.
type node struct {
	root any
	v    any
}

// with is another value of the same document.
func (n node) with(v any) node { return node{n.root, v} }

// object is the schema's members; nil for true, false and what is no schema.
func (n node) object() map[string]any {
	o, _ := n.v.(map[string]any)
	return o
}

// get is a member, if the schema has it.
func (n node) get(key string) (node, bool) {
	v, ok := n.object()[key]
	return n.with(v), ok
}

// list are the members of an array.
func (n node) list(key string) []node {
	all := asList(n.object()[key])
	out := make([]node, len(all))
	for i, v := range all {
		if other, ok := v.(inDocument); ok {
			out[i] = other.node
			continue
		}
		out[i] = n.with(v)
	}
	return out
}

func asList(v any) []any {
	all, _ := v.([]any)
	return all
}

// members are the schemas under a key such as properties.
func (n node) members(key string) map[string]node {
	o, _ := n.object()[key].(map[string]any)
	out := make(map[string]node, len(o))
	for name, v := range o {
		out[name] = n.with(v)
	}
	return out
}

// anything reports a schema that takes every value: true, or one that says
// nothing of what it takes.
func (n node) anything() bool {
	switch v := n.v.(type) {
	case bool:
		return v
	case map[string]any:
		for key := range v {
			if !annotation(key) {
				return false
			}
		}
		return true
	}
	return false
}

// nothing reports the schema false.
func (n node) nothing() bool { return n.v == false }

// annotation reports a keyword that does not change what a schema takes.
func annotation(key string) bool {
	switch key {
	case "$id", "id", "$schema", "$comment", "$anchor", "title", "description", "default", "examples", "example",
		"definitions", "$defs", "readOnly", "writeOnly", "deprecated", "format",
		"contentEncoding", "contentMediaType", "contentSchema":
		return true
	}
	return strings.HasPrefix(key, "x-") || strings.HasPrefix(key, "connect.") || strings.HasPrefix(key, "confluent:") || key == "javaType"
}

// refs resolves references of one schema and its dependencies.
type refs struct{ s *jsonSchema }

// follow replaces references until a schema stands there. A reference beside
// other keywords means both, in the drafts that allow it.
func (r refs) follow(n node) (node, bool) {
	for range 64 {
		ref, ok := n.object()["$ref"].(string)
		if !ok {
			return n, true
		}
		target, ok := r.resolve(n, ref)
		if !ok {
			return n, false
		}
		if beside := without(n.object(), "$ref"); !n.with(beside).anything() {
			beside["allOf"] = append([]any{inDocument{target}}, asList(beside["allOf"])...)
			return n.with(beside), true
		}
		n = target
	}
	return n, false // a circle of references that has no schema in it
}

// inDocument is a schema of another document within a list of this one.
type inDocument struct{ node }

func (r refs) resolve(n node, ref string) (node, bool) {
	base, fragment, _ := strings.Cut(ref, "#")
	if base != "" {
		if id := idOf(n.root); id == base || id != "" && resolvedURL(id, base) == id {
			return inside(node{n.root, n.root}, fragment)
		}
		if id := idOf(r.s.doc); id == base {
			return inside(node{r.s.doc, r.s.doc}, fragment)
		}
		if d, ok := findDoc(r.s.deps, base); ok {
			return inside(node{d.doc, d.doc}, fragment)
		}
		if d, ok := findDoc(r.s.deps, resolvedURL(idOf(n.root), base)); ok {
			return inside(node{d.doc, d.doc}, fragment)
		}
		return search(node{n.root, n.root}, func(o map[string]any) bool { return idOf(o) == base }, 0)
	}
	return inside(node{n.root, n.root}, fragment)
}

func idOf(v any) string {
	o, _ := v.(map[string]any)
	for _, key := range []string{"$id", "id"} {
		if id, ok := o[key].(string); ok {
			return strings.TrimSuffix(id, "#")
		}
	}
	return ""
}

func resolvedURL(base, ref string) string {
	b, err := url.Parse(base)
	if err != nil {
		return ref
	}
	u, err := b.Parse(ref)
	if err != nil {
		return ref
	}
	return u.String()
}

// inside finds what a fragment names: a JSON Pointer or an anchor.
func inside(n node, fragment string) (node, bool) {
	if fragment == "" {
		return n, true
	}
	if plain, err := url.PathUnescape(fragment); err == nil {
		fragment = plain
	}
	if !strings.HasPrefix(fragment, "/") {
		return search(n, func(o map[string]any) bool { return o["$anchor"] == fragment || idOf(o) == "#"+fragment }, 0)
	}
	for step := range strings.SplitSeq(fragment[1:], "/") {
		step = strings.NewReplacer("~1", "/", "~0", "~").Replace(step)
		switch v := n.v.(type) {
		case map[string]any:
			next, ok := v[step]
			if !ok {
				return n, false
			}
			n = n.with(next)
		case []any:
			i, err := strconv.Atoi(step)
			if err != nil || i < 0 || i >= len(v) {
				return n, false
			}
			n = n.with(v[i])
		default:
			return n, false
		}
	}
	return n, true
}

// search looks through a document for a schema.
func search(n node, is func(map[string]any) bool, depth int) (node, bool) {
	if depth > maxDepth {
		return n, false
	}
	switch v := n.v.(type) {
	case map[string]any:
		if is(v) {
			return n, true
		}
		for _, key := range sortedKeys(v) {
			if found, ok := search(n.with(v[key]), is, depth+1); ok {
				return found, true
			}
		}
	case []any:
		for _, one := range v {
			if found, ok := search(n.with(one), is, depth+1); ok {
				return found, true
			}
		}
	}
	return n, false
}

// MarshalJSON writes the schema itself, for comparing texts.
func (d inDocument) MarshalJSON() ([]byte, error) { return []byte(jsonText(d.v)), nil }
