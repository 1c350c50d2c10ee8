package docs

import (
	"io/fs"
	"path/filepath"
	"strings"
	"testing"

	"github.com/entrepot-hub/entrepot/connectors/all"
	"github.com/entrepot-hub/entrepot/connectors/strict"
	"github.com/entrepot-hub/entrepot/hub"
	"github.com/entrepot-hub/entrepot/hub/ctl"
)

// TestConfigs: every file in configs/ passes `entrepot config check`, and the
// tests in it pass. References find an example, whatever their name.
func TestConfigs(t *testing.T) {
	deps := ctl.Deps{
		Registry: all.Builtin(), Plugins: samplePlugins(t),
		Getenv: func(string) (string, bool) { return "/example", true },
		CheckNode: func(file string, text []byte) ([]string, strict.Errors) {
			_, errs := hub.Parse(file, text, hub.Default(), strict.Options{Env: func(string) (string, bool) { return "", true }})
			return nil, errs // its jobs files are in configs/ too
		},
	}
	for _, file := range configs(t) {
		for _, verb := range []string{"check", "test"} {
			var stdout, stderr strings.Builder
			args := []string{"config", verb, file}
			if node := filepath.Join(filepath.Dir(file), "node.yaml"); node == pluginNode && file != node {
				args = append(args, node) // whose plugin the jobs are of
			}
			if status := ctl.Main(t.Context(), args, strings.NewReader(""), &stdout, &stderr, deps); status != ctl.Done {
				t.Errorf("entrepot config %s %s: status %d\n%s%s", verb, file, status, stdout.String(), stderr.String())
			}
		}
	}
}

func configs(t *testing.T) (files []string) {
	t.Helper()
	err := filepath.WalkDir(filepath.Join(root, "configs"), func(path string, _ fs.DirEntry, err error) error {
		if ext := filepath.Ext(path); ext == ".yaml" || ext == ".yml" {
			files = append(files, path)
		}
		return err
	})
	if err != nil || len(files) == 0 {
		t.Fatalf("%d files in configs: %v", len(files), err)
	}
	return files
}
