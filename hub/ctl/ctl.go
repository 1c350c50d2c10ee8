// Package ctl is the command line: `entrepot NOUN VERB`. Commands that steer a
// running site speak the Kafka protocol (topics, groups, dead letters,
// benchmarks) or the admin API (mesh, links, connectors, node); `log` and
// `config` work on files alone. What runs a node is handed in by main.
//
// Every reading command has --json. The exit status is 0 when the command did
// what it says, 1 when it failed, 2 when the call or a config file is wrong. An
// error goes to stderr and says what failed, where, and what would be right.
//
// Goroutines: only `bench` starts any, one for each client and one that shows
// progress; they have ended when the command returns.
package ctl

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/entrepot-hub/entrepot/connectors"
	"github.com/entrepot-hub/entrepot/connectors/strict"
)

// The exit statuses.
const (
	Done   = 0
	Failed = 1
	Usage  = 2
)

// Deps is what main hands to the commands.
type Deps struct {
	Version string
	// Getenv looks up a variable of the environment, for ENTREPOT_BROKERS,
	// ENTREPOT_ADMIN, ENTREPOT_REGISTRY and the references of config files.
	Getenv func(string) (string, bool)
	// Registry lists the connectors that config files may name.
	Registry connectors.Registry
	// CheckNode judges a node's config file (as opposed to a jobs file) and
	// returns the globs of the jobs files that it names.
	CheckNode func(file string, text []byte) (jobs []string, errs strict.Errors)
	// Schema is the JSON Schema of config files; its $defs has node and jobs.
	Schema func(connectors.Registry) strict.Schema
	// Plugins starts the programs that a node's file names, adds their
	// connectors to base, and returns what ends them.
	Plugins func(ctx context.Context, file string, text []byte, base connectors.Registry) (connectors.Registry, func(), strict.Errors)
	// PluginFile judges the test file of a plugin, and PluginSuite runs the
	// acceptance suite against a plugin and ends the process.
	PluginFile  func(path string) error
	PluginSuite func(opts SuiteOptions)
	// Serve runs a node until ctx ends.
	Serve func(ctx context.Context, opts ServeOptions) error
	// Demo runs the demonstration and writes its report.
	Demo func(ctx context.Context, opts DemoOptions, out io.Writer) error
}

// ServeOptions is how `entrepot serve` was called.
type ServeOptions struct {
	Config  string // path of the node's file; empty only with Dev
	Dev     bool   // a complete single-node site with defaults for what the file leaves out
	DataDir string // overrides the file; empty: as the file or the default says
}

// DemoOptions is how `entrepot demo` was called.
type DemoOptions struct {
	Input string // path of an access log; empty: a small one is generated
	Exit  bool   // stop when the counts are known
	Dir   string // where the sites and the lake lie
}

// UsageError marks an error of the caller: a flag, an argument or a config
// file. Its exit status is 2.
type UsageError struct{ Err error }

func (e UsageError) Error() string { return e.Err.Error() }
func (e UsageError) Unwrap() error { return e.Err }

func usagef(format string, args ...any) error { return UsageError{fmt.Errorf(format, args...)} }

// Main runs one command and returns its exit status. args come without the
// program's name.
func Main(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer, deps Deps) int {
	c := &cli{deps: deps, out: stdout, errOut: stderr}
	root := c.root()
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	return report(err, stderr)
}

// report writes err, if it is one, and returns the exit status for it.
func report(err error, stderr io.Writer) int {
	var config strict.Errors
	switch {
	case err == nil:
		return Done
	case errors.Is(err, errShown):
		return Failed
	case errors.Is(err, errUsageShown):
		return Usage
	case errors.As(err, &config):
		fmt.Fprintln(stderr, err) // lines of file:line:column, as editors read them
		return Usage
	}
	fmt.Fprintf(stderr, "entrepot: %v\n", err)
	if _, ok := errors.AsType[UsageError](err); ok {
		return Usage
	}
	return Failed
}

// The command has already said what is wrong; only the status is left.
var (
	errShown      = errors.New("failed")
	errUsageShown = errors.New("bad usage")
)

// cli is one call of the program: where it writes and what its flags say.
type cli struct {
	deps   Deps
	out    io.Writer
	errOut io.Writer

	brokers  []string
	admin    string
	registry string
	connect  string
	json     bool
	access   access // how a site that asks for TLS or a login is reached
}

// requestTime bounds a command that asks and prints; benchmarks and nodes run
// as long as they are told.
const requestTime = 30 * time.Second

// getenv is the environment, if there is one.
func (c *cli) getenv(name string) string {
	if c.deps.Getenv == nil {
		return ""
	}
	if v, ok := c.deps.Getenv(name); ok {
		return v
	}
	return ""
}
