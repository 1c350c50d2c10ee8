package conntest

import (
	"os"
	"os/exec"
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
	python := pythonWith("duckdb")
	if python == "" {
		Missing(t, "python3 with duckdb")
	}
	out, err := exec.Command(python, "-c", script, query).CombinedOutput()
	if err != nil {
		t.Fatalf("duckdb: %v\n%s", err, out)
	}
	return strings.TrimSuffix(string(out), "\n")
}

// pythonWith finds an interpreter that has the module; "" when there is none.
func pythonWith(module string) string {
	for _, python := range []string{os.Getenv("ENTREPOT_TEST_PYTHON"), "../../.cache/venv/bin/python", "python3"} {
		if python != "" && exec.Command(python, "-c", "import "+module).Run() == nil {
			return python
		}
	}
	return ""
}
