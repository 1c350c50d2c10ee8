package ctl

import (
	"fmt"
	"io"
	"strings"
	"testing"
)

// TestReadSuite: what the tests print becomes a list, and a panic is left over.
func TestReadSuite(t *testing.T) {
	text := strings.ReplaceAll(`@=== RUN   process
@=== RUN   process/starts
@=== RUN   process/ends_when_asked
    process.go:7: it did not
@--- FAIL: process (0.50s)
@    --- PASS: process/starts (0.25s)
@    --- FAIL: process/ends_when_asked (0.25s)
@=== RUN   sink
panic: a mistake
`, "@", "\x16")
	var seen []string
	all, rest := readSuite(strings.NewReader(text), func(r testResult) { seen = append(seen, r.Result+" "+r.Name) })
	if got := fmt.Sprintf("%q", seen); got != `["ok process/starts" "FAILED process/ends when asked"]` || len(all) != 2 {
		t.Errorf("%s, %d in all", got, len(all))
	}
	if all[1].Output != "process.go:7: it did not\n" || rest != "panic: a mistake\n" {
		t.Errorf("%+v, rest %q", all, rest)
	}
}

// TestReadSuiteToTheEnd: what cannot be understood is read all the same, as the
// tests wait for somebody who reads.
func TestReadSuiteToTheEnd(t *testing.T) {
	in, out := io.Pipe()
	written := make(chan error, 1)
	go func() {
		_, err := fmt.Fprintf(out, "%s\nand more\n", strings.Repeat("x", 2<<20))
		_ = out.Close()
		written <- err
	}()
	_, rest := readSuite(in, func(testResult) {})
	_ = in.Close() // a writer that still waits gets an error
	if err := <-written; err != nil {
		t.Error(err)
	}
	if !strings.Contains(rest, "too long") {
		t.Errorf("rest %q", rest)
	}
}
