package conntest

import (
	"regexp"
	"strings"
	"testing"

	"github.com/entrepot-hub/entrepot/connectors"
)

var (
	typeName  = regexp.MustCompile(`^[a-z][a-z0-9-]*$`)
	fieldName = regexp.MustCompile(`^[a-z][a-z0-9_]*$`)
)

// Spec checks what the reference pages, the JSON schema and the config check
// are made from: everything has a name and a description, every guarantee its
// mechanism, every default is allowed.
func Spec(t *testing.T, s connectors.Spec) {
	t.Helper()
	if !typeName.MatchString(s.Type) {
		t.Errorf("type %q is not lower case letters, digits and dashes", s.Type)
	}
	if !strings.HasSuffix(s.Summary, ".") {
		t.Errorf("summary %q is not a sentence", s.Summary)
	}
	if !strings.Contains(s.Guarantee, "(") {
		t.Errorf("guarantee %q does not say its mechanism in parentheses", s.Guarantee)
	}
	if s.Since == "" {
		t.Error("since is empty")
	}
	specFields(t, s.Type, s.Fields)
}

func specFields(t *testing.T, where string, fields []connectors.Field) {
	t.Helper()
	seen := map[string]bool{"type": where != "" && !strings.Contains(where, ".")} // a config's own key
	for _, f := range fields {
		path := where + "." + f.Name
		if seen[f.Name] {
			t.Errorf("%s is there twice, or is the config's own key", path)
		}
		seen[f.Name] = true
		if !fieldName.MatchString(f.Name) {
			t.Errorf("%s is not lower case letters, digits and underscores", path)
		}
		if f.Description == "" {
			t.Errorf("%s has no description", path)
		}
		nested := f.Kind == connectors.KindObject || f.Kind == connectors.KindObjects
		if f.Example == "" && !nested {
			t.Errorf("%s has no example", path)
		}
		if nested == (len(f.Fields) == 0) {
			t.Errorf("%s is a %s with %d fields", path, f.Kind, len(f.Fields))
		}
		if f.Required && f.Default != nil {
			t.Errorf("%s is required and has a default", path)
		}
		if f.Default != nil {
			if err := f.CheckValue(f.Default); err != nil {
				t.Errorf("the default of %s is not allowed: %v", path, err)
			}
		}
		specFields(t, path, f.Fields)
	}
}
