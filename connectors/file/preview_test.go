package file

import (
	"path/filepath"
	"testing"

	"github.com/entrepot-hub/entrepot/connectors"
)

// TestSample reads the first lines of each log and waits for no more.
func TestSample(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "a.log"), "1\n2\n3\n4\n")
	write(t, filepath.Join(dir, "b.log"), "5\n")
	cfg := config(t, map[string]any{"path": filepath.Join(dir, "*.log")})
	got, err := Source{}.Sample(t.Context(), task(t, cfg), 4)
	if err != nil || values(got.Messages) != "1|2|5" {
		t.Errorf("got %s, %v", values(got.Messages), err)
	}
	var _ connectors.Sampler = Source{}
}
