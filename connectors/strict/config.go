package strict

import (
	"slices"

	"github.com/entrepot-hub/entrepot/connectors"
)

// Config decodes a connector's mapping by its fields. The keys named in also
// are the caller's (such as "type") and are left alone.
func (n Node) Config(fields []connectors.Field, opts Options, also ...string) (connectors.Config, Errors) {
	d := &decoder{opts: opts}
	cfg := d.config(n, fields, also)
	return cfg, d.errs.sorted()
}

func (d *decoder) config(n Node, fields []connectors.Field, also []string) connectors.Config {
	values, pos, masked := map[string]any{}, map[string]Pos{}, map[string]bool{}
	if n.kind != Map && n.kind != Null {
		d.add(n.Errorf("want a mapping, got %s", n.sort()))
		return connectors.Decoded(fields, values, pos, masked)
	}
	known := slices.Clone(also)
	for _, f := range fields {
		known = append(known, f.Name)
	}
	for _, e := range n.entries {
		if slices.Contains(also, e.Key) {
			continue
		}
		i := slices.IndexFunc(fields, func(f connectors.Field) bool { return f.Name == e.Key })
		if i < 0 {
			d.add(unknownKey(n, e, known))
			continue
		}
		before := len(d.errs)
		v, hide := d.field(e.Value, fields[i])
		pos[e.Key] = e.Value.pos
		if len(d.errs) > before {
			continue
		}
		if err := fields[i].CheckValue(v); err != nil {
			d.add(e.Value.Errorf("%v", err))
			continue
		}
		values[e.Key], masked[e.Key] = v, hide
	}
	d.required(n, fields)
	return connectors.Decoded(fields, values, pos, masked)
}

func (d *decoder) required(n Node, fields []connectors.Field) {
	for _, f := range fields {
		if _, there := n.Get(f.Name); f.Required && !there {
			e := n.Errorf("missing key %q", f.Name)
			e.Hint = f.Description
			d.add(e)
		}
	}
}

// field decodes one value to the Go type of its kind; masked reports that a
// plain text came from a reference.
func (d *decoder) field(n Node, f connectors.Field) (v any, masked bool) {
	var e *Error
	if n.kind == Null {
		d.add(n.Errorf("key %q has no value, want a %s", f.Name, f.Kind))
		return nil, false
	}
	switch f.Kind {
	case connectors.KindString:
		v, masked, e = n.resolved(d.opts)
	case connectors.KindInt:
		v, e = n.asInt()
	case connectors.KindFloat:
		v, e = n.asFloat()
	case connectors.KindBool:
		v, e = n.asBool()
	case connectors.KindDuration:
		v, e = n.asDuration()
	case connectors.KindSize:
		v, e = n.asSize()
	case connectors.KindSecret:
		v, e = n.secret(d.opts)
	case connectors.KindStrings:
		v = d.strings(n)
	case connectors.KindStringMap:
		v = d.stringMap(n)
	case connectors.KindSecretMap:
		v = d.secretMap(n)
	case connectors.KindObject:
		v = d.config(n, f.Fields, nil)
	case connectors.KindObjects:
		v = d.configs(n, f.Fields)
	}
	d.add(e)
	return v, masked
}

func (d *decoder) strings(n Node) []string {
	var out []string
	return into(d, n, &out)
}

func (d *decoder) stringMap(n Node) map[string]string {
	out := map[string]string{}
	return into(d, n, &out)
}

func (d *decoder) secretMap(n Node) map[string]connectors.Secret {
	if n.kind != Map {
		d.add(n.Errorf("want a mapping of names to texts")) // never repeat a secret
		return nil
	}
	out := map[string]connectors.Secret{}
	for _, e := range n.entries {
		s, err := e.Value.secret(d.opts)
		d.add(err)
		out[e.Key] = s
	}
	return out
}

func into[T any](d *decoder, n Node, out *T) T {
	d.errs = append(d.errs, n.Decode(out, d.opts)...)
	return *out
}

func (d *decoder) configs(n Node, fields []connectors.Field) []connectors.Config {
	if n.kind != List {
		d.add(n.Errorf("want a list of mappings, got %s", n.sort()))
		return nil
	}
	all := make([]connectors.Config, len(n.items))
	for i, item := range n.items {
		all[i] = d.config(item, fields, nil)
	}
	return all
}
