package conntest

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// needed reports whether a missing program has to fail a test, not skip it.
func needed() bool { return os.Getenv("CI") != "" || os.Getenv("ENTREPOT_TEST_TOOLS") == "all" }

// Missing skips the test loudly for want of a program, or fails it where all
// programs have to be there.
func Missing(t testing.TB, what string) {
	t.Helper()
	if needed() {
		t.Fatalf("%s is not installed, and this run needs it", what)
	}
	t.Skipf("SKIPPED: %s IS NOT INSTALLED", strings.ToUpper(what))
}

// DuckDB runs a query in a program that is not ours, with the time zone UTC,
// and returns a line for each row, with bars between the columns.
func DuckDB(t testing.TB, query string) string {
	t.Helper()
	const script = `import duckdb, sys
duckdb.sql("SET TimeZone='UTC'")
print("\n".join("|".join(str(c) for c in row) for row in duckdb.sql(sys.argv[1]).fetchall()))`
	out, err := exec.Command(Python(t, "duckdb"), "-c", script, query).CombinedOutput()
	if err != nil {
		t.Fatalf("duckdb: %v\n%s", err, out)
	}
	return strings.TrimSuffix(string(out), "\n")
}

// FastAvro reads an object container file in a program that is not ours, and
// returns a line for each record: its JSON, with logical types as the texts that
// Python has for them.
func FastAvro(t testing.TB, path string) []string {
	t.Helper()
	const script = `import fastavro, sys, json, base64
def text(v):
    return base64.b64encode(v).decode() if isinstance(v, bytes) else type(v).__name__ + " " + str(v)
with open(sys.argv[1], "rb") as f:
    for r in fastavro.reader(f):
        print(json.dumps(r, default=text, ensure_ascii=False))`
	out, err := exec.Command(Python(t, "fastavro, cramjam, backports.zstd"), "-c", script, path).CombinedOutput()
	if err != nil {
		t.Fatalf("fastavro: %v\n%s", err, out)
	}
	return strings.Split(strings.TrimSuffix(string(out), "\n"), "\n")
}

// Python finds an interpreter that has the module: the one of the test set-up's
// environment first. Without any the test is skipped, or fails, as Missing says.
func Python(t testing.TB, module string) string {
	t.Helper()
	for _, python := range []string{os.Getenv("ENTREPOT_TEST_PYTHON"), filepath.Join(moduleRoot(t), ".cache/venv/bin/python"), "python3"} {
		if python != "" && exec.Command(python, "-c", "import "+module).Run() == nil {
			return python
		}
	}
	Missing(t, "python3 with the module "+module+" (deploy/test/setup.sh)")
	return ""
}

// moduleRoot is the folder of go.mod, above the test's.
func moduleRoot(t testing.TB) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for !exists(filepath.Join(dir, "go.mod")) {
		if dir == filepath.Dir(dir) {
			t.Fatal("no go.mod above the test's folder")
		}
		dir = filepath.Dir(dir)
	}
	return dir
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
