package hubtest

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestDemo runs the product's main job as the README tells it, twice over the
// same folder, and counts the lake with a program that is not ours.
func TestDemo(t *testing.T) {
	py, dir := Python(t, "duckdb"), t.TempDir()
	input := filepath.Join(dir, "access.log")
	if err := os.WriteFile(input, []byte(strings.Join(accessLog(t), "\n")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		p := Start(t, nil, "demo", "--input", input, "--exit", "--dir", filepath.Join(dir, "demo"))
		status, err := p.Wait(3 * time.Minute)
		if err != nil || status != 0 {
			t.Fatalf("exit status %d, %v:\n%s", status, err, p.Output())
		}
		if !strings.Contains(p.Output(), "All steps agree") {
			t.Errorf("the report does not say that all agrees:\n%s", p.Output())
		}
		out := run(t, py, "testdata/lake.py", filepath.Join(dir, "demo", "lake", "clicks"), input)
		t.Log(strings.TrimSpace(out))
	}
}
