package schema

import (
	"errors"
	"strings"
	"testing"
)

// direction says who reads whom.
type direction int

const (
	neither     direction = 0
	newReadsOld direction = 1
	oldReadsNew direction = 2
	both                  = newReadsOld | oldReadsNew
	// onlyNew set beside both: whether the old one reads the new is not said.
	onlyNew direction = 4
)

type readCase struct {
	name, before, after string
	want                direction
}

func parse(t *testing.T, typ Type, text string) *Schema {
	t.Helper()
	s, err := Parse(typ, text, nil)
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return s
}

func reads(t *testing.T, typ Type, cases []readCase) {
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			before, after := parse(t, typ, c.before), parse(t, typ, c.after)
			for _, s := range []*Schema{before, after} {
				if bad := s.Reads(s); len(bad) > 0 {
					t.Errorf("%s does not read itself: %q", s.Text, bad)
				}
			}
			forward, backward := after.Reads(before), before.Reads(after)
			if got := len(forward) == 0; got != (c.want&newReadsOld != 0) {
				t.Errorf("the new one reads the old one: %v %q", got, forward)
			}
			if got := len(backward) == 0; c.want&onlyNew == 0 && got != (c.want&oldReadsNew != 0) {
				t.Errorf("the old one reads the new one: %v %q", got, backward)
			}
		})
	}
}

func sameSchema(t *testing.T, typ Type, texts []string) {
	t.Helper()
	first := parse(t, typ, texts[0])
	for _, text := range texts[1:] {
		if s := parse(t, typ, text); s.Identity != first.Identity {
			t.Errorf("%s\nis not the same as\n%s", s.Text, first.Text)
		}
	}
}

func differentSchemas(t *testing.T, typ Type, texts []string) {
	t.Helper()
	seen := map[string]string{}
	for _, text := range texts {
		s := parse(t, typ, text)
		if other, ok := seen[s.Identity]; ok {
			t.Errorf("%s\nis the same as\n%s", text, other)
		}
		seen[s.Identity] = text
	}
}

// TestBadSchemas: what is wrong is said, quickly and without a panic.
func TestBadSchemas(t *testing.T) {
	deep := func(open, end string) string { return strings.Repeat(open, 100_000) + strings.Repeat(end, 100_000) }
	for _, c := range []struct {
		typ  Type
		text string
		want error
	}{
		{Avro, "", ErrInvalid}, {Avro, "{", ErrInvalid}, {Avro, `"nope"`, ErrInvalid}, {Avro, "\xff\xfe", ErrInvalid},
		{Avro, deep(`{"type":"array","items":`, "}"), ErrTooBig}, {Avro, deep("[", "]"), ErrInvalid},
		{Avro, `{"type":"record","name":"R","fields":[{"name":"r","type":"R"},{"name":"r","type":"R"}]}`, ErrInvalid},
		{Avro, `"int" "int"`, ErrInvalid}, {Avro, `["null","null"]`, ErrInvalid},
		{JSON, "nope", ErrInvalid}, {JSON, `{"type":"nope"}`, ErrInvalid}, {JSON, `{"$ref":"http://127.0.0.1:1/x"}`, ErrInvalid},
		{JSON, `{"$ref":"file:///etc/passwd"}`, ErrInvalid}, {JSON, `{"$ref":"#/nowhere"}`, ErrInvalid}, {JSON, deep(`{"not":`, "}"), ErrTooBig},
		{JSON, deep("[", "]"), ErrInvalid}, {JSON, `{"a":1}{"b":2}`, ErrInvalid}, {JSON, `{"minimum":"x"}`, ErrInvalid},
		{Protobuf, "message", ErrInvalid}, {Protobuf, `syntax="proto3"; message M { N n = 1; }`, ErrInvalid},
		{Protobuf, `syntax="proto3"; import "/etc/passwd"; message M {}`, ErrInvalid}, {Protobuf, `syntax="proto3"; import "default"; message M {}`, ErrInvalid},
		{Protobuf, `syntax="proto3"; message M { reserved 1; int32 a = 1; }`, ErrInvalid},
		{Protobuf, deep("message M {", "}"), ErrTooBig}, {Protobuf, deep("{", "}"), ErrInvalid}, {Protobuf, "AAAA", ErrInvalid},
		{"XML", "<a/>", ErrInvalid}, {Avro, strings.Repeat(" ", MaxBytes) + `"int"`, ErrTooBig},
	} {
		if _, err := Parse(c.typ, c.text, nil); !errors.Is(err, c.want) {
			t.Errorf("%s %.60q: %v, want %v", c.typ, c.text, err, c.want)
		}
	}
}

// TestEntangled: combinators within combinators do not take for ever.
func TestEntangled(t *testing.T) {
	text := `{"type":"string"}`
	for range 40 {
		text = `{"anyOf":[{"maxLength":1},{"minLength":2},` + text + `,{"oneOf":[{"type":"integer"},{"$ref":"#"}]}]}`
	}
	a := parse(t, JSON, text)
	b := parse(t, JSON, strings.ReplaceAll(text, `"string"`, `"null"`))
	if bad := b.Reads(a); len(bad) == 0 {
		t.Error("it is said to read what it does not")
	}
	circle := parse(t, JSON, `{"definitions":{"a":{"$ref":"#/definitions/b"},"b":{"$ref":"#/definitions/a"}},"properties":{"x":{"$ref":"#/definitions/a"}}}`)
	_ = circle.Reads(circle)
}

// FuzzParse: no text panics, what is taken reads itself, and what is kept is
// the same schema.
func FuzzParse(f *testing.F) {
	for _, text := range []string{`"int"`, rec(`{"name":"a","type":"int"}`), obj(`"a":{"type":"string"}`, closed), msg("string a = 1;"), everything, `{"oneOf":[{"$ref":"#"},true]}`} {
		f.Add(byte(0), text, text)
		f.Add(byte(1), text, text)
		f.Add(byte(2), text, text)
	}
	f.Fuzz(func(t *testing.T, kind byte, before, after string) {
		typ := []Type{Avro, JSON, Protobuf}[kind%3]
		a, err := Parse(typ, before, nil)
		if err != nil {
			return
		}
		again, err := Parse(typ, a.Text, nil)
		if err != nil || again.Identity != a.Identity {
			t.Fatalf("%q is kept as %q: %v", before, a.Text, err)
		}
		if _, err := a.Normalize(nil); err != nil {
			t.Fatalf("%q cannot be normalized: %v", before, err)
		}
		if b, err := Parse(typ, after, nil); err == nil {
			_, _ = a.Reads(b), b.Reads(a)
		}
	})
}
