package connectors

import (
	"fmt"
	"slices"
	"time"
)

// Spec is what a connector says about itself. The reference pages, the JSON
// schema and the config check are made from it.
type Spec struct {
	Type      string // the value of `type:` in a config, such as "file"
	Summary   string // one sentence
	Guarantee string // with its mechanism: "exactly-once (destination transaction)"
	Since     string // version of the product
	Fields    []Field
}

// Kind is the type of a field.
type Kind uint8

// The kinds, and the Go type that Config keeps for each.
const (
	KindString    Kind = iota + 1 // string
	KindInt                       // int64
	KindFloat                     // float64
	KindBool                      // bool
	KindDuration                  // time.Duration, written 30s, 1m, 7d
	KindSize                      // int64 bytes, written 4096, 64KiB, 128MiB
	KindSecret                    // Secret
	KindStrings                   // []string
	KindStringMap                 // map[string]string
	KindSecretMap                 // map[string]Secret: names are shown, texts are not
	KindObject                    // Config, by Field.Fields
	KindObjects                   // []Config, by Field.Fields
)

// Secret reports whether a value of the kind, or each of its texts, is one that
// nobody is shown.
func (k Kind) Secret() bool { return k == KindSecret || k == KindSecretMap }

// Texts reports whether the kind is a mapping of names to texts.
func (k Kind) Texts() bool { return k == KindStringMap || k == KindSecretMap }

func (k Kind) String() string {
	names := [...]string{
		"", "text", "whole number", "number", "true or false", "duration such as 30s or 1m",
		"size such as 64KiB or 128MiB", "secret text", "list of texts", "mapping of texts", "mapping of secret texts", "mapping", "list of mappings",
	}
	if k == 0 || int(k) >= len(names) {
		return fmt.Sprintf("kind %d", uint8(k))
	}
	return names[k]
}

// Field is one key of a connector's config.
type Field struct {
	Name        string
	Kind        Kind
	Description string // what it does, its unit and its consequence
	Example     string // as it would be written
	Since       string // version, when later than the Spec's
	Required    bool
	Default     any      // of the kind's Go type; nil leaves the zero value
	Options     []string // the only texts allowed, for KindString
	Min, Max    int64    // bounds for KindInt, KindSize, KindDuration (nanoseconds), when not both 0
	Fields      []Field  // of KindObject and KindObjects
	// Check looks at one value of the kind's Go type. Its error says what is
	// wrong and what would be right.
	Check func(v any) error
}

// Field finds a field by name.
func (s Spec) Field(name string) (Field, bool) { return findField(s.Fields, name) }

func findField(fields []Field, name string) (Field, bool) {
	for _, f := range fields {
		if f.Name == name {
			return f, true
		}
	}
	return Field{}, false
}

// CheckValue tells whether v, of the kind's Go type, is allowed in the field.
func (f Field) CheckValue(v any) error {
	if !f.fits(v) {
		return fmt.Errorf("%s: want a %s, got %T", f.Name, f.Kind, v)
	}
	if err := f.checkRange(v); err != nil {
		return err
	}
	if s, ok := v.(string); ok && len(f.Options) > 0 && !contains(f.Options, s) {
		return fmt.Errorf("%s: %q is not one of %s", f.Name, s, list(f.Options))
	}
	if f.Check != nil {
		if err := f.Check(v); err != nil {
			return fmt.Errorf("%s: %w", f.Name, err)
		}
	}
	return nil
}

func (f Field) fits(v any) bool {
	ok := false
	switch f.Kind {
	case KindString:
		_, ok = v.(string)
	case KindInt, KindSize:
		_, ok = v.(int64)
	case KindFloat:
		_, ok = v.(float64)
	case KindBool:
		_, ok = v.(bool)
	case KindDuration:
		_, ok = v.(time.Duration)
	case KindSecret:
		_, ok = v.(Secret)
	case KindStrings:
		_, ok = v.([]string)
	case KindStringMap:
		_, ok = v.(map[string]string)
	case KindSecretMap:
		_, ok = v.(map[string]Secret)
	case KindObject:
		_, ok = v.(Config)
	case KindObjects:
		_, ok = v.([]Config)
	}
	return ok
}

func (f Field) checkRange(v any) error {
	if f.Min == 0 && f.Max == 0 {
		return nil
	}
	n, show := int64(0), func(n int64) string { return fmt.Sprint(n) }
	switch x := v.(type) {
	case int64:
		n = x
	case time.Duration:
		n, show = int64(x), func(n int64) string { return time.Duration(n).String() }
	default:
		return nil
	}
	if n < f.Min || n > f.Max {
		return fmt.Errorf("%s: %s is out of range, want %s to %s", f.Name, show(n), show(f.Min), show(f.Max))
	}
	return nil
}

func contains(all []string, s string) bool {
	return slices.Contains(all, s)
}

// DedupField is the field dedup_window of a Queue, for Window.IDs; standard is
// its default.
func DedupField(standard int64) Field {
	return Field{
		Name: "dedup_window", Kind: KindInt, Default: standard, Example: "1000000", Max: maxDedupWindow,
		Description: "How many of the newest message IDs are remembered, so that a message that comes again is not written twice. " +
			"Each takes about 40 bytes of memory. 0 remembers none: what comes again is written again.",
	}
}

// maxDedupWindow keeps what a start has to read within a second or two.
const maxDedupWindow = 10_000_000
