package schema

import (
	"fmt"
	"slices"
)

// objects compares what two schemas say of objects.
func (d *jsonDiff) objects(path string, w, r node, depth int) []string {
	bad := d.requires(path, w, r)
	wp, rp := w.members("properties"), r.members("properties")
	for _, name := range sortedKeys(wp) {
		here := at(path, "properties", name)
		if next, ok := rp[name]; ok {
			bad = append(bad, d.accepts(here, wp[name], next, depth+1)...)
			continue
		}
		bad = append(bad, d.removed(here, name, wp[name], r, depth)...)
	}
	for _, name := range sortedKeys(rp) {
		if _, had := wp[name]; !had {
			bad = append(bad, d.added(at(path, "properties", name), name, w, r, rp[name], depth)...)
		}
	}
	bad = append(bad, d.additional(path, w, r, depth)...)
	bad = append(bad, ranges(path, w, r, "maxProperties", "minProperties")...)
	return append(bad, same(path, w, r, "propertyNames", "dependencies", "dependentRequired")...)
}

// requires: a property may become required only if it has a default.
func (d *jsonDiff) requires(path string, w, r node) (bad []string) {
	had, props, before := required(w), r.members("properties"), w.members("properties")
	for _, name := range required(r) {
		_, known := before[name]
		if slices.Contains(had, name) || !known && !open(w) { // added ones are judged with the property
			continue
		}
		if next, ok := d.reader.follow(props[name]); ok {
			if _, hasDefault := next.get("default"); hasDefault {
				continue
			}
		}
		bad = append(bad, one(at(path, "required", name), "it has become required and has no default")...)
	}
	return bad
}

// removed: the reader no longer names the property, so its content model has
// to take it.
func (d *jsonDiff) removed(path, name string, had, r node, depth int) []string {
	if open(r) || had.nothing() {
		return nil
	}
	if covers, ok := matching(r, name); ok {
		return d.accepts(path, had, covers, depth+1)
	}
	return one(path, "the property is removed, and the schema takes no other ones (additionalProperties)")
}

// added: what a writer could have written under that name before has to fit.
func (d *jsonDiff) added(path, name string, w, r, now node, depth int) []string {
	follow, ok := d.reader.follow(now)
	if !ok {
		return one(path, "a reference leads nowhere")
	}
	if open(w) {
		if follow.anything() {
			return nil
		}
		return one(path, "the property is added, and the earlier schema took any value under that name (additionalProperties)")
	}
	var bad []string
	if covered, ok := matching(w, name); ok {
		bad = d.accepts(path, covered, now, depth+1)
	}
	if _, hasDefault := follow.get("default"); slices.Contains(required(r), name) && !hasDefault {
		bad = append(bad, one(path, "the property is added as required and has no default")...)
	}
	return bad
}

// additional compares what is said of properties that are not listed.
func (d *jsonDiff) additional(path string, w, r node, depth int) []string {
	had, hadAny := w.get("additionalProperties")
	if !hadAny {
		had = w.with(true)
	}
	bad := d.patterns(path, w, r, depth)
	if now, ok := r.get("additionalProperties"); ok {
		bad = append(bad, d.accepts(path+"/additionalProperties", had, now, depth+1)...)
	}
	return bad
}

// patterns: a pattern of the reader's has to take what the writer's took.
func (d *jsonDiff) patterns(path string, w, r node, depth int) (bad []string) {
	had, now := w.members("patternProperties"), r.members("patternProperties")
	for _, p := range sortedKeys(now) {
		here := at(path, "patternProperties", p)
		if before, ok := had[p]; ok {
			bad = append(bad, d.accepts(here, before, now[p], depth+1)...)
		} else if more, ok := w.get("additionalProperties"); !ok || !more.nothing() {
			if !ok {
				more = w.with(true)
			}
			bad = append(bad, d.accepts(here, more, now[p], depth+1)...)
		}
	}
	for _, p := range sortedKeys(had) {
		if _, ok := now[p]; ok {
			continue
		}
		if more, ok := r.get("additionalProperties"); ok {
			bad = append(bad, d.accepts(at(path, "patternProperties", p), had[p], more, depth+1)...)
		}
	}
	return bad
}

// arrays compares what two schemas say of arrays. items with a list of schemas
// (prefixItems since draft 2020-12) gives each place its own; what follows is
// additionalItems, or items beside prefixItems.
func (d *jsonDiff) arrays(path string, w, r node, depth int) []string {
	bad := ranges(path, w, r, "maxItems", "minItems")
	if v, ok := r.get("uniqueItems"); ok && v.v == true {
		if had, _ := w.get("uniqueItems"); had.v != true {
			bad = append(bad, one(path+"/uniqueItems", "it is added")...)
		}
	}
	wHead, wRest := places(w)
	rHead, rRest := places(r)
	for i := range max(len(wHead), len(rHead)) {
		was, is := wRest, rRest
		if i < len(wHead) {
			was = wHead[i]
		}
		if i < len(rHead) {
			is = rHead[i]
		}
		bad = append(bad, d.accepts(fmt.Sprintf("%s/items/%d", path, i), was, is, depth+1)...)
	}
	return append(bad, d.accepts(path+"/items", wRest, rRest, depth+1)...)
}

func places(n node) (head []node, rest node) {
	rest = n.with(true)
	if head = n.list("prefixItems"); len(head) == 0 {
		head = n.list("items")
	}
	if len(head) > 0 {
		if _, isList := n.object()["items"].([]any); isList {
			if more, ok := n.get("additionalItems"); ok {
				rest = more
			}
			return head, rest
		}
	}
	if items, ok := n.get("items"); ok {
		rest = items
	}
	return head, rest
}
