package compat

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/entrepot-hub/entrepot/hub/hubtest"
)

// serve starts a hub on the product's own ports, set by a file. For tests that
// have a network of their own.
func serve(t *testing.T, config string) {
	t.Helper()
	dir := t.TempDir()
	file := filepath.Join(dir, "node.yaml")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	hubtest.Start(t, nil, "serve", "--dev", "-c", file, "--data-dir", filepath.Join(dir, "data"))
	hubtest.Until(t, time.Minute, "serve --dev", func() error { return hubtest.Ready("127.0.0.1:8080") })
}

// alone reports whether the test runs in a network of its own, where every
// port is free. If not, it runs it there: again, as another process. What the
// test builds there is built here first, by prepare, where the registries can
// be reached; there, the caches have it.
func alone(t *testing.T, prepare func()) bool {
	t.Helper()
	const mark = "ENTREPOT_COMPAT_ALONE"
	if os.Getenv(mark) == t.Name() {
		if out, err := exec.Command("ip", "link", "set", "lo", "up").CombinedOutput(); err != nil {
			t.Fatalf("ip link set lo up: %v\n%s", err, out)
		}
		return true
	}
	if out, err := exec.Command("unshare", "--net", "true").CombinedOutput(); err != nil {
		hubtest.Missing(t, "no network namespace can be made: %v\n%s", err, out)
	}
	prepare()
	cmd := exec.CommandContext(t.Context(), "unshare", "--net", os.Args[0], "-test.run", "^"+t.Name()+"$", "-test.v", "-test.timeout", "60m")
	cmd.Env = append(os.Environ(), mark+"="+t.Name(), "ENTREPOT_BIN="+hubtest.Build(t))
	out, err := cmd.CombinedOutput()
	t.Logf("in a network of its own:\n%s", out)
	if err != nil {
		t.Errorf("in a network of its own: %v", err)
	}
	return false
}

// goBuild builds a package that deploy/compat requires, or its tests.
func goBuild(t *testing.T, args ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", args...)
	cmd.Dir = clients
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}
