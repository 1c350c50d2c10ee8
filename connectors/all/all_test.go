package all_test

import (
	"strings"
	"testing"

	"github.com/entrepot-hub/entrepot/connectors/all"
	"github.com/entrepot-hub/entrepot/connectors/conntest"
)

// TestBuiltin: each connector is listed under the type it gives itself, and
// says of itself what the reference needs.
func TestBuiltin(t *testing.T) {
	r := all.Builtin()
	for _, typ := range r.SourceTypes() {
		s, err := r.Source(typ)
		if err != nil {
			t.Fatal(err)
		}
		if s.Spec().Type != typ {
			t.Errorf("source %q calls itself %q", typ, s.Spec().Type)
		}
		conntest.Spec(t, s.Spec())
	}
	for _, typ := range r.SinkTypes() {
		s, err := r.Sink(typ)
		if err != nil {
			t.Fatal(err)
		}
		if s.Spec().Type != typ {
			t.Errorf("sink %q calls itself %q", typ, s.Spec().Type)
		}
		conntest.Spec(t, s.Spec())
	}
	if _, err := r.Source("fiel"); err == nil || err.Error() != `unknown source type "fiel", want one of `+strings.Join(r.SourceTypes(), ", ") {
		t.Errorf("got %v", err)
	}
	if _, err := r.Sink("s3"); err == nil || err.Error() != `unknown sink type "s3", want one of `+strings.Join(r.SinkTypes(), ", ") {
		t.Errorf("got %v", err)
	}
}
