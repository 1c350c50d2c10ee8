package ctl

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/entrepot-hub/entrepot/plugins/host"
)

// SuiteOptions is how `entrepot plugin test` was called.
type SuiteOptions struct {
	Program host.Config
	File    string // the test file; may be empty
	Run     string // a part of test names; empty: all
	Timeout time.Duration
}

// tested is `plugin test --json`.
type tested struct {
	Program string       `json:"program"`
	SHA256  string       `json:"sha256"`
	Tests   []testResult `json:"tests"`
	Passed  int          `json:"passed"`
	Failed  int          `json:"failed"`
	Skipped int          `json:"skipped"`
}

type testResult struct {
	Name    string  `json:"name"`
	Result  string  `json:"result"` // ok, FAILED or skipped
	Seconds float64 `json:"seconds"`
	Output  string  `json:"output,omitempty"`
}

func (c *cli) pluginTest() *cobra.Command {
	var o SuiteOptions
	var raw bool
	cmd := &cobra.Command{
		Use:   "test PROGRAM [ARG...]",
		Short: "Run the acceptance suite of connectors against a plugin",
		Long: `Run the acceptance suite against a plugin: the tests that every built-in
connector passes, and what only programs can do wrong.

Without --config only the program is tested: that it starts, describes itself,
ends when it is asked to and when its hub is gone. The test file brings what the
others need: a config that reads everything once; an empty destination and a way
to look into it. docs/plugins.md describes it.

The exit status is 1 when a test failed.`,
		Example: `  entrepot plugin test ./ledger --config ledger.test.yaml
  entrepot plugin test ./ledger --config ledger.test.yaml --run twice --json`,
		Args: atLeast("PROGRAM"),
		RunE: func(cmd *cobra.Command, args []string) error {
			var err error
			if o.Program, err = c.pluginProgram(args[0], args[1:]); err != nil {
				return err
			}
			if o.File != "" {
				if err := c.deps.PluginFile(o.File); err != nil {
					return UsageError{err}
				}
			}
			if raw {
				c.deps.PluginSuite(o) // ends the process
				return errShown
			}
			return c.runSuite(cmd.Context(), o, args)
		},
	}
	cmd.Flags().StringVarP(&o.File, "config", "c", "", "test `FILE`: what the suite needs of this plugin")
	cmd.Flags().StringVar(&o.Run, "run", "", "only tests with this `TEXT` in their names")
	cmd.Flags().DurationVar(&o.Timeout, "timeout", 10*time.Minute, "give up after this `TIME`")
	cmd.Flags().BoolVar(&raw, "raw", false, "print what go test prints")
	_ = cmd.Flags().MarkHidden("raw")
	return c.reading(cmd)
}

// runSuite runs the tests in a process of their own, as one that hangs or
// panics must not take the report with it.
func (c *cli) runSuite(ctx context.Context, o SuiteOptions, args []string) error {
	path, err := os.Executable()
	if err != nil {
		return fmt.Errorf("the tests need to start this program again: %w", err)
	}
	call := []string{"plugin", "test", "--raw", "--timeout", o.Timeout.String()}
	if o.File != "" {
		call = append(call, "--config", o.File)
	}
	if o.Run != "" {
		call = append(call, "--run", o.Run)
	}
	child := exec.CommandContext(ctx, path, append(append(call, "--"), args...)...)
	var stderr strings.Builder
	child.Stderr = &stderr
	out, err := child.StdoutPipe()
	if err != nil {
		return err
	}
	if err := child.Start(); err != nil {
		return fmt.Errorf("the tests need to start this program again: %w", err)
	}
	results, rest := readSuite(out, func(r testResult) {
		if !c.json {
			writeTest(c.out, r)
		}
	})
	err = child.Wait()
	report := tested{Program: o.Program.Path, SHA256: o.Program.SHA256, Tests: results}
	report.count()
	if err == nil && len(results) == 0 {
		return usagef("no test has %q in its name", o.Run)
	}
	var broke error // what the list does not say: of a panic or the time limit, also after tests that failed
	if status, ok := errors.AsType[*exec.ExitError](err); err != nil && (report.Failed == 0 || !ok || status.ExitCode() != 1) {
		broke = fmt.Errorf("the tests did not come to an end: %w\n%s%s", err, rest, stderr.String())
	}
	if broke != nil && report.Failed == 0 {
		return broke
	}
	if err := c.print(report, func(w io.Writer) {
		fmt.Fprintf(w, "%s, %d failed, %d skipped\n", plural(len(report.Tests), "test"), report.Failed, report.Skipped)
		if o.File == "" {
			fmt.Fprintln(w, "Only the program was tested; its connectors need a test file: --config FILE")
		}
	}); err != nil {
		return err
	}
	if broke == nil && report.Failed > 0 {
		return errShown
	}
	return broke
}

func (t *tested) count() {
	if t.Tests == nil {
		t.Tests = []testResult{}
	}
	for _, r := range t.Tests {
		switch r.Result {
		case "ok":
			t.Passed++
		case "skipped":
			t.Skipped++
		default:
			t.Failed++
		}
	}
}

func writeTest(w io.Writer, r testResult) {
	fmt.Fprintf(w, "%-8s %s\n", r.Result, r.Name)
	if r.Result != "ok" {
		for line := range strings.Lines(r.Output) {
			fmt.Fprintf(w, "         %s", line)
		}
	}
}

// What `go test -v=test2json` prints, each after the byte 0x16.
var (
	suiteName   = regexp.MustCompile(`^=== (?:RUN|NAME|CONT) +(.*)$`)
	suiteResult = regexp.MustCompile(`^ *--- (PASS|FAIL|SKIP): (.*) \(([0-9.]+)s\)$`)
)

// readSuite reads the results as they come. A test that only holds others is
// one of the list when it failed by itself. rest is what belongs to none.
func readSuite(out io.Reader, each func(testResult)) (all []testResult, rest string) {
	outputs, parents := map[string]*strings.Builder{}, map[string]bool{}
	name := ""
	var other strings.Builder
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		line := strings.TrimPrefix(lines.Text(), "\x16")
		if m := suiteName.FindStringSubmatch(line); m != nil {
			if name = m[1]; outputs[name] == nil {
				outputs[name] = &strings.Builder{}
			}
			if parent, _, ok := cutLast(name); ok {
				parents[parent] = true
			}
			continue
		}
		if m := suiteResult.FindStringSubmatch(line); m != nil {
			text := ""
			if b := outputs[m[2]]; b != nil {
				text = b.String()
			}
			seconds, _ := strconv.ParseFloat(m[3], 64)
			r := testResult{Name: strings.ReplaceAll(m[2], "_", " "), Result: map[string]string{"PASS": "ok", "FAIL": "FAILED", "SKIP": "skipped"}[m[1]], Seconds: seconds, Output: text}
			if !parents[m[2]] || text != "" && r.Result != "ok" {
				all = append(all, r)
				each(r)
			}
			continue
		}
		if b := outputs[name]; b != nil {
			b.WriteString(strings.TrimLeft(line, " ") + "\n")
		} else {
			other.WriteString(line + "\n")
		}
	}
	if err := lines.Err(); err != nil {
		fmt.Fprintf(&other, "%v\n", err)
		_, _ = io.Copy(io.Discard, out) // the tests would wait for a reader
	}
	if b := outputs[name]; b != nil { // of a panic
		other.WriteString(b.String())
	}
	return all, other.String()
}

func cutLast(name string) (parent, last string, ok bool) {
	i := strings.LastIndexByte(name, '/')
	if i < 0 {
		return "", name, false
	}
	return name[:i], name[i+1:], true
}
