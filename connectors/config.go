package connectors

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// Pos is a place in a config file, both counted from 1; zero is unknown.
type Pos struct{ Line, Col int }

// Config holds a connector's fields after they were decoded, checked and
// given their defaults. Asking for a field that the Spec does not have, or as
// another kind than it has, is a mistake in the connector and panics.
type Config struct {
	fields []Field
	values map[string]any
	pos    map[string]Pos
	masked map[string]bool // plain fields whose text came from ${env:…} or ${file:…}
}

// NewConfig builds a Config from Go values: string, int or int64, float64,
// bool, time.Duration, Secret (or string), []string, map[string]string (also
// for a map of secrets), and
// map[string]any or []map[string]any for nested fields. Config files come
// through strict.Node.Config instead, which calls Decoded.
func NewConfig(fields []Field, values map[string]any) (Config, error) {
	converted := map[string]any{}
	for name, v := range values {
		f, ok := findField(fields, name)
		if !ok {
			return Config{}, fmt.Errorf("unknown field %q, want one of %s", name, list(names(fields)))
		}
		c, err := convert(f, v)
		if err != nil {
			return Config{}, err
		}
		if err := f.CheckValue(c); err != nil {
			return Config{}, err
		}
		converted[name] = c
	}
	cfg := Decoded(fields, converted, nil, nil)
	for _, f := range fields {
		if f.Required && !cfg.Has(f.Name) {
			return Config{}, fmt.Errorf("field %q is missing: %s", f.Name, f.Description)
		}
	}
	return cfg, nil
}

// Decoded makes a Config of values that were already checked against fields.
// It is for decoders of config files: pos says where each value stands, masked
// names plain fields that must not be shown.
func Decoded(fields []Field, values map[string]any, pos map[string]Pos, masked map[string]bool) Config {
	return Config{fields: fields, values: values, pos: pos, masked: masked}
}

// convert brings the convenient forms of NewConfig to the kind's Go type.
func convert(f Field, v any) (any, error) {
	switch x := v.(type) {
	case int:
		if f.Kind == KindInt || f.Kind == KindSize {
			return int64(x), nil
		}
	case string:
		if f.Kind == KindSecret {
			return NewSecret(x), nil
		}
	case map[string]string:
		if f.Kind == KindSecretMap {
			all := make(map[string]Secret, len(x))
			for name, text := range x {
				all[name] = NewSecret(text)
			}
			return all, nil
		}
	case map[string]any:
		if f.Kind == KindObject {
			return NewConfig(f.Fields, x)
		}
	case []map[string]any:
		if f.Kind == KindObjects {
			all := make([]Config, len(x))
			for i, one := range x {
				var err error
				if all[i], err = NewConfig(f.Fields, one); err != nil {
					return nil, fmt.Errorf("%s[%d]: %w", f.Name, i, err)
				}
			}
			return all, nil
		}
	}
	return v, nil
}

// Has reports whether the field was given, not only defaulted.
func (c Config) Has(name string) bool {
	_, ok := c.values[name]
	return ok
}

// Pos is where the field's value stands in its file; zero when unknown. The
// name may be dotted.
func (c Config) Pos(name string) Pos {
	first, rest, nested := strings.Cut(name, ".")
	if sub, ok := c.values[first].(Config); ok && nested {
		if p := sub.Pos(rest); p != (Pos{}) {
			return p
		}
	}
	return c.pos[first]
}

// String returns a KindString field.
func (c Config) String(name string) string { return get[string](c, name, KindString) }

// Int returns a KindInt field.
func (c Config) Int(name string) int64 { return get[int64](c, name, KindInt) }

// Float returns a KindFloat field.
func (c Config) Float(name string) float64 { return get[float64](c, name, KindFloat) }

// Bool returns a KindBool field.
func (c Config) Bool(name string) bool { return get[bool](c, name, KindBool) }

// Duration returns a KindDuration field.
func (c Config) Duration(name string) time.Duration { return get[time.Duration](c, name, KindDuration) }

// Size returns a KindSize field, in bytes.
func (c Config) Size(name string) int64 { return get[int64](c, name, KindSize) }

// Secret returns a KindSecret field.
func (c Config) Secret(name string) Secret { return get[Secret](c, name, KindSecret) }

// Strings returns a KindStrings field. The slice must not be changed.
func (c Config) Strings(name string) []string { return get[[]string](c, name, KindStrings) }

// StringMap returns a KindStringMap field. The map must not be changed.
func (c Config) StringMap(name string) map[string]string {
	return get[map[string]string](c, name, KindStringMap)
}

// SecretMap returns a KindSecretMap field. The map must not be changed.
func (c Config) SecretMap(name string) map[string]Secret {
	return get[map[string]Secret](c, name, KindSecretMap)
}

// Object returns a KindObject field; one that was not given has all defaults.
func (c Config) Object(name string) Config {
	if o := get[Config](c, name, KindObject); o.fields != nil {
		return o
	}
	f, _ := findField(c.fields, name)
	return Config{fields: f.Fields}
}

// Objects returns a KindObjects field. The slice must not be changed.
func (c Config) Objects(name string) []Config { return get[[]Config](c, name, KindObjects) }

func get[T any](c Config, name string, kind Kind) T {
	f, ok := findField(c.fields, name)
	if !ok || f.Kind != kind {
		panic(fmt.Sprintf("connectors: config has no field %q of kind %q, only %s", name, kind, list(names(c.fields))))
	}
	if v, ok := c.values[name].(T); ok {
		return v
	}
	if v, ok := f.Default.(T); ok {
		return v
	}
	var zero T
	return zero
}

// Shown is the config as an API or a log may show it: the values that were
// given, with secrets, and texts that came from ${env:…} or ${file:…}, as ***.
func (c Config) Shown() map[string]any {
	out := make(map[string]any, len(c.values))
	for name, v := range c.values {
		out[name] = shown(v)
		if c.masked[name] {
			out[name] = hidden
		}
	}
	return out
}

func shown(v any) any {
	switch x := v.(type) {
	case Secret:
		return x.String()
	case map[string]Secret:
		all := make(map[string]string, len(x))
		for name, s := range x {
			all[name] = s.String()
		}
		return all
	case time.Duration:
		return x.String()
	case Config:
		return x.Shown()
	case []Config:
		all := make([]any, len(x))
		for i := range x {
			all[i] = x[i].Shown()
		}
		return all
	}
	return v
}

// GoString and Format-by-reflection must not reach texts that are masked.
func (c Config) GoString() string { return fmt.Sprint(c.Shown()) }

// Format prints what Shown returns, for every verb.
func (c Config) Format(f fmt.State, _ rune) { _, _ = fmt.Fprint(f, c.Shown()) }

func names(fields []Field) []string {
	all := make([]string, len(fields))
	for i, f := range fields {
		all[i] = f.Name
	}
	return all
}

// list joins words for an error message.
func list(words []string) string { return strings.Join(words, ", ") }

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
