// Package host runs connectors that are programs of their own: it checks a
// program against its checksum, starts it, gives its connectors to the hub as
// if they were built in, and starts it again when it has died or hung.
//
// What a task sees of a process that ends is an error of class Retry, or Unknown
// while a plan was written: the runtime opens the task again, and with that the
// process is started anew. A plugin cannot harm more than its own tasks.
//
// Goroutines: each process has one that holds the thread which started it (the
// kernel ends the process with that thread) and awaits its end, one that asks
// for its health, and those of go-plugin; Close of the Host ends and awaits them.
// Each reader and writer has one that receives, and ends with Close; each list
// of splits one that ends with its context.
package host

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"regexp"
	"time"

	"github.com/entrepot-hub/entrepot/connectors"
)

// Config is one program of the list plugins: in a node's file.
type Config struct {
	// Name is what the logs call it, unique in the list.
	Name string `yaml:"name,required"`
	// Path is the program: an executable file, or a script with an interpreter
	// in its first line.
	Path string `yaml:"path,required"`
	// SHA256 is the checksum of that file, 64 hexadecimal digits, looked at
	// before each start.
	SHA256 string `yaml:"sha256,required"`
	// Args are handed to the program. Everybody on the machine can read them.
	Args []string `yaml:"args"`
	// Env names variables of the hub's own environment that the program gets,
	// beside PATH and TMPDIR.
	Env []string `yaml:"env"`
	// Timeout is how long one call of a task may take, such as writing a plan; a program
	// that takes longer is killed and started anew. Default: 2m.
	Timeout time.Duration `yaml:"timeout"`
}

const (
	defaultTimeout = 2 * time.Minute
	minTimeout     = time.Second
)

var (
	nameForm = regexp.MustCompile(`^[a-z][a-z0-9-]{0,62}$`)
	sumForm  = regexp.MustCompile(`^[0-9a-fA-F]{64}$`)
)

// Validate looks at one entry without touching anything; key is the field that
// is wrong.
func (c Config) Validate() (key string, err error) {
	switch {
	case !nameForm.MatchString(c.Name):
		return "name", fmt.Errorf("plugin name %q: want lower case letters, digits and dashes, such as ledger", c.Name)
	case c.Path == "":
		return "path", fmt.Errorf("plugin %s has no path: want the program's file", c.Name)
	case !sumForm.MatchString(c.SHA256):
		return "sha256", fmt.Errorf("plugin %s: sha256 is %q, want the 64 digits that sha256sum prints of its file", c.Name, c.SHA256)
	case c.Timeout != 0 && c.Timeout < minTimeout:
		return "timeout", fmt.Errorf("plugin %s: timeout is %s, want %s or more", c.Name, c.Timeout, minTimeout)
	}
	return "", nil
}

func (c Config) timeout() time.Duration {
	if c.Timeout == 0 {
		return defaultTimeout
	}
	return c.Timeout
}

// Options is what a Host gets from outside.
type Options struct {
	Logger  *slog.Logger                // nil: silent
	Version string                      // of the hub
	Getenv  func(string) (string, bool) // nil: no variables

	health pulse // zero: the standard one
}

// pulse says how a process that does not run any more is found: stopped, or
// busy with itself.
type pulse struct {
	every time.Duration // how often it is asked
	limit time.Duration // how long it may take to answer
}

func standardPulse() pulse { return pulse{every: 3 * time.Second, limit: 20 * time.Second} }

// Host is the programs of one node.
type Host struct {
	plugins []*plugin
}

// Open starts each program once and asks what it has. An error is an *Error,
// which says whose.
func Open(ctx context.Context, all []Config, opts Options) (*Host, error) {
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	if opts.Getenv == nil {
		opts.Getenv = func(string) (string, bool) { return "", false }
	}
	if opts.health == (pulse{}) {
		opts.health = standardPulse()
	}
	h := &Host{}
	for i, cfg := range all {
		p := newPlugin(cfg, opts)
		h.plugins = append(h.plugins, p)
		err := validate(all[:i], cfg)
		if err == nil {
			err = p.begin(ctx)
		}
		if err != nil {
			h.Close()
			return nil, &Error{Index: i, Name: cfg.Name, Err: err}
		}
	}
	return h, nil
}

func validate(before []Config, cfg Config) error {
	for _, one := range before {
		if one.Name == cfg.Name {
			return fmt.Errorf("there are two plugins of this name")
		}
	}
	_, err := cfg.Validate()
	return err
}

// Error is what is wrong with one program of the list.
type Error struct {
	Index int // in the list
	Name  string
	Err   error
}

func (e *Error) Error() string { return fmt.Sprintf("plugin %s: %v", e.Name, e.Err) }

func (e *Error) Unwrap() error { return e.Err }

// Registry is base and what the programs have. A type that is there already is
// an *Error.
func (h *Host) Registry(base connectors.Registry) (connectors.Registry, error) {
	out := connectors.Registry{Sources: maps.Clone(base.Sources), Sinks: maps.Clone(base.Sinks)}
	for i, p := range h.plugins {
		for typ, s := range p.sources {
			if _, taken := out.Sources[typ]; taken {
				return base, &Error{Index: i, Name: p.cfg.Name, Err: fmt.Errorf("its source %q is there already; a plugin has to call it otherwise", typ)}
			}
			out.Sources[typ] = s
		}
		for typ, s := range p.sinks {
			if _, taken := out.Sinks[typ]; taken {
				return base, &Error{Index: i, Name: p.cfg.Name, Err: fmt.Errorf("its sink %q is there already; a plugin has to call it otherwise", typ)}
			}
			out.Sinks[typ] = s
		}
	}
	return out, nil
}

// Close ends the programs, kindly first, and awaits their ends.
func (h *Host) Close() {
	for _, p := range h.plugins {
		p.close()
	}
}
