package hubtest

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// Missing ends a test whose tools are not there: it is skipped loudly, and
// fails under `make test`, whose set-up has to have them.
func Missing(t testing.TB, format string, args ...any) {
	t.Helper()
	if os.Getenv("CI") != "" || os.Getenv("ENTREPOT_TEST_TOOLS") == "all" {
		t.Fatalf(format, args...)
	}
	t.Skipf("SKIPPED: "+format, args...)
}

// Tool finds a program of the test set-up.
func Tool(t testing.TB, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		Missing(t, "%s is not installed; deploy/test/setup.sh installs it", name)
	}
	return path
}

// Python finds an interpreter that has the module: the one of the test
// set-up's environment first.
func Python(t testing.TB, module string) string {
	t.Helper()
	for _, path := range []string{os.Getenv("ENTREPOT_TEST_PYTHON"), filepath.Join(Root(t), ".cache/venv/bin/python"), "python3"} {
		if path != "" && exec.Command(path, "-c", "import "+module).Run() == nil {
			return path
		}
	}
	Missing(t, "no python3 with the module %s; deploy/test/setup.sh installs it", module)
	return ""
}

// Root is the folder of the module whose test runs.
func Root(t testing.TB) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		if dir == filepath.Dir(dir) {
			t.Fatal("no go.mod in any folder above the test's")
		}
		dir = filepath.Dir(dir)
	}
}
