package conntest

import (
	"fmt"
	"os"
	"testing"
)

// Full says whether failure tests run in their full form, as `make connectors`
// wants it by the variable ENTREPOT_KILLS; else in one that suits `go test`.
func Full() bool { return os.Getenv("ENTREPOT_KILLS") != "" }

// Size is the size of a load in the short or in the full form.
func Size(short, full int) int {
	if Full() {
		return full
	}
	return short
}

// Figures logs what a failure test has counted or measured, in one line that
// `make connectors` shows.
func Figures(t testing.TB, format string, args ...any) {
	t.Helper()
	t.Logf("figures: %s: %s", t.Name(), fmt.Sprintf(format, args...))
}
