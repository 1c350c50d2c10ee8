package connect

import (
	"encoding/json"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/entrepot-hub/entrepot/connectors"
	"github.com/entrepot-hub/entrepot/connectors/strict"
)

// Hidden is what is shown of a secret. Sent back, it leaves the secret as it is.
const Hidden = "***"

// Flat makes a flat configuration of a connector's mapping in a jobs file.
// References stay as they are; secrets are in it. ok is false for a mapping
// that is no connector.
func Flat(reg connectors.Registry, n strict.Node) (flat map[string]string, ok bool) {
	for _, kind := range []string{"source", "sink"} {
		system, there := n.Get(kind)
		typ, named := system.Get("type")
		if !there || !named {
			continue
		}
		p, err := FindPlugin(reg, typ.Text()+"-"+kind)
		if err != nil {
			continue
		}
		flat = map[string]string{keyClass: p.Class}
		flatten(flat, p.Shape(), "", n)
		delete(flat, kind+".type")
		return flat, true
	}
	return nil, false
}

func flatten(into map[string]string, fields []connectors.Field, prefix string, n strict.Node) {
	for _, e := range n.Entries() {
		i := slices.IndexFunc(fields, func(f connectors.Field) bool { return f.Name == e.Key })
		kind := connectors.KindString
		if i >= 0 {
			kind = fields[i].Kind
		}
		key := prefix + e.Key
		switch {
		case kind == connectors.KindObject && e.Value.Kind() == strict.Map:
			flatten(into, fields[i].Fields, key+".", e.Value)
		case kind.Texts() && e.Value.Kind() == strict.Map:
			for _, item := range e.Value.Entries() {
				into[key+"."+item.Key] = item.Value.Text()
			}
		case e.Value.Kind() == strict.List && kind == connectors.KindStrings && plainItems(e.Value.Items()):
			var items []string
			for _, item := range e.Value.Items() {
				items = append(items, item.Text())
			}
			into[key] = strings.Join(items, ",")
		case e.Value.Kind() == strict.List || e.Value.Kind() == strict.Map:
			into[key] = toJSON(e.Value)
		default:
			into[key] = e.Value.Text()
		}
	}
}

// plainItems reports whether a list can be told from its items with commas
// between them.
func plainItems(items []strict.Node) bool {
	for i, n := range items {
		s := n.Text()
		if s == "" || strings.Contains(s, ",") || strings.TrimSpace(s) != s || i == 0 && strings.HasPrefix(s, "[") {
			return false
		}
	}
	return len(items) > 0
}

// toJSON keeps the order of keys, and numbers as they are written.
func toJSON(n strict.Node) string {
	var parts []string
	switch n.Kind() {
	case strict.Map:
		for _, e := range n.Entries() {
			parts = append(parts, quote(e.Key)+":"+toJSON(e.Value))
		}
		return "{" + strings.Join(parts, ",") + "}"
	case strict.List:
		for _, item := range n.Items() {
			parts = append(parts, toJSON(item))
		}
		return "[" + strings.Join(parts, ",") + "]"
	case strict.Null:
		return "null"
	case strict.Int, strict.Float, strict.Bool:
		if json.Valid([]byte(n.Text())) {
			return n.Text()
		}
	}
	return quote(n.Text())
}

// Mask hides the secrets of a configuration. A reference alone is no secret.
func Mask(reg connectors.Registry, flat map[string]string) map[string]string {
	return secrets(reg, flat, func(_ []any, value string) string { return masked(value) })
}

var reference = regexp.MustCompile(`^(\$\{(env|file):[^{}]+\})+$`)

func masked(value string) string {
	if value == "" || reference.MatchString(value) {
		return value
	}
	return Hidden
}

// Restore puts the secrets of an older configuration where a newer one has
// them hidden.
func Restore(reg connectors.Registry, newer, older map[string]string) map[string]string {
	was := map[string]string{}
	secrets(reg, older, func(path []any, value string) string {
		was[pathText(path)] = value
		return value
	})
	return secrets(reg, newer, func(path []any, value string) string {
		if old, ok := was[pathText(path)]; ok && value == Hidden {
			return old
		}
		return value
	})
}

// StillHidden lists the keys whose secret is only the sign that hides one.
func StillHidden(reg connectors.Registry, flat map[string]string) []Issue {
	var all []Issue
	secrets(reg, flat, func(path []any, value string) string {
		if key, _ := path[0].(string); value == Hidden {
			all = append(all, Issue{key, "*** is how a secret is shown, and there is none yet: want the secret itself, or a reference such as ${env:NAME}"})
		}
		return value
	})
	slices.SortFunc(all, func(a, b Issue) int { return strings.Compare(a.Key, b.Key) })
	return all
}

func pathText(path []any) string {
	b, err := json.Marshal(path)
	if err != nil {
		return ""
	}
	return string(b)
}

// secrets maps each secret text, with the key that it is in and the way within
// its JSON. Of a connector that is not known, everything but its name is one.
func secrets(reg connectors.Registry, flat map[string]string, fn func(path []any, value string) string) map[string]string {
	out := maps.Clone(flat)
	p, err := FindPlugin(reg, flat[keyClass])
	for key, value := range out {
		if err != nil {
			if !slices.Contains([]string{keyName, keyClass, keyTasks, "topic", keyTopic}, key) {
				out[key] = fn([]any{key}, value)
			}
			continue
		}
		f, known := lookup(p.Shape(), key)
		switch {
		case known && f.Kind == connectors.KindSecret:
			out[key] = fn([]any{key}, value)
		case known && hasSecret(f):
			out[key] = secretsIn(f, key, value, fn)
		}
	}
	return out
}

// lookup finds the field of a key.
func lookup(fields []connectors.Field, path string) (connectors.Field, bool) {
	first, rest, deeper := strings.Cut(path, ".")
	for _, f := range fields {
		switch {
		case f.Name != first:
		case deeper && f.Kind == connectors.KindObject:
			return lookup(f.Fields, rest)
		case deeper && f.Kind == connectors.KindSecretMap:
			return connectors.Field{Name: rest, Kind: connectors.KindSecret}, true
		default:
			return f, !deeper || f.Kind == connectors.KindStringMap
		}
	}
	return connectors.Field{}, false
}

func hasSecret(f connectors.Field) bool {
	return f.Kind.Secret() || slices.ContainsFunc(f.Fields, hasSecret)
}

func secretsIn(f connectors.Field, key, value string, fn func(path []any, value string) string) string {
	var v any
	if json.Unmarshal([]byte(value), &v) != nil {
		return fn([]any{key}, value)
	}
	b, err := json.Marshal(visit(f, []any{key}, v, fn))
	if err != nil {
		return Hidden
	}
	return string(b)
}

func visit(f connectors.Field, path []any, v any, fn func(path []any, value string) string) any {
	switch x := v.(type) {
	case string:
		if f.Kind.Secret() {
			return fn(path, x)
		}
	case []any:
		for i := range x {
			x[i] = visit(f, append(slices.Clone(path), i), x[i], fn)
		}
	case map[string]any:
		for name := range x {
			inner, _ := lookup(f.Fields, name)
			if f.Kind == connectors.KindSecretMap {
				inner.Kind = connectors.KindSecret
			}
			x[name] = visit(inner, append(slices.Clone(path), name), x[name], fn)
		}
	default:
		if f.Kind.Secret() {
			return Hidden
		}
	}
	return v
}
