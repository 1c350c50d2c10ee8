package connectors

import (
	"fmt"
	"log/slog"
)

// hidden is what anyone sees of a secret.
const hidden = "***"

// Secret is a text that is never shown. It is resolved when it is revealed,
// not when the config is read, so a rotated file or variable is seen at the
// next Open. The zero value is the empty secret.
type Secret struct {
	// A pointer, so that no printing verb reaches the text by reflection.
	resolve *func() (string, error)
}

// NewSecret wraps a plain text.
func NewSecret(text string) Secret {
	return LazySecret(func() (string, error) { return text, nil })
}

// LazySecret wraps a way to get the text. Its error must not contain the text.
func LazySecret(resolve func() (string, error)) Secret { return Secret{resolve: &resolve} }

// Reveal gets the text. Only Open of a connector and the like should ask.
func (s Secret) Reveal() (string, error) {
	if s.resolve == nil {
		return "", nil
	}
	return (*s.resolve)()
}

// IsSet reports whether a secret was given at all.
func (s Secret) IsSet() bool { return s.resolve != nil }

// String hides the text, as all the other ways to print do.
func (s Secret) String() string {
	if s.resolve == nil {
		return ""
	}
	return hidden
}

// Format hides the text from every verb of fmt.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = fmt.Fprint(f, s.String()) }

// MarshalText hides the text from JSON and YAML.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// LogValue hides the text from slog.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }
