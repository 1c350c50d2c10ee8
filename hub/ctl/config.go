package ctl

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/entrepot-hub/entrepot/connectors"
	"github.com/entrepot-hub/entrepot/connectors/strict"
	"github.com/entrepot-hub/entrepot/stream"
)

func (c *cli) configCommand() *cobra.Command {
	return noun("config", "Check config files, run the tests in them, and describe them to editors", c.reading(c.configCheck()), c.reading(c.configTest()), c.configSchema())
}

// checked is `config check --json`.
type checked struct {
	Files    []string             `json:"files"` // the jobs files that a node file names included
	Errors   []finding            `json:"errors"`
	Warnings []finding            `json:"warnings"`
	Jobs     []stream.Description `json:"jobs"` // empty with errors
	topics   int
}

type finding struct {
	File    string `json:"file"`
	Line    int    `json:"line"`
	Column  int    `json:"column"`
	Message string `json:"message"`
	Hint    string `json:"hint,omitempty"`
}

func (c *cli) configCheck() *cobra.Command {
	return &cobra.Command{
		Use:   "check FILE...",
		Short: "Check node and jobs files without starting anything",
		Long: `Check node and jobs files: syntax, keys, types, references, expressions, names.
Nothing is opened, started or asked, but the plugins of a node file: they are
compared with their checksums and asked what they have. A node file is checked
together with the jobs files that it names; jobs files are checked together, as
one node would load them. Errors are FILE:LINE:COLUMN, and the exit status is 2.`,
		Example: `  entrepot config check /etc/entrepot/node.yaml
  entrepot config check configs/*.yaml`,
		Args: atLeast("FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			p := c.parse(cmd.Context(), args)
			defer p.close()
			if len(p.errs) == 0 {
				errs, warnings := p.jobs.Validate(cmd.Context(), connectors.ProbeNone)
				p.errs = errs
				for _, w := range warnings {
					p.warnings = append(p.warnings, finding{w.File, w.Line, w.Col, w.Message, w.Hint})
				}
			}
			return c.reportCheck(p)
		},
	}
}

func (c *cli) reportCheck(p *parsed) error {
	result := checked{Files: p.files, Errors: []finding{}, Warnings: append([]finding{}, p.warnings...), Jobs: []stream.Description{}}
	for _, e := range p.errs {
		result.Errors = append(result.Errors, finding{e.File, e.Line, e.Col, e.Msg, e.Hint})
	}
	if len(p.errs) == 0 {
		result.topics = len(p.jobs.Topics)
		for _, spec := range p.jobs.Connectors {
			result.Jobs = append(result.Jobs, stream.Describe(spec))
		}
	} else if !c.json {
		return p.errs
	}
	if err := c.print(result, func(w io.Writer) { writeChecked(w, result) }); err != nil {
		return err
	}
	if len(p.errs) > 0 {
		return errUsageShown
	}
	return nil
}

func writeChecked(w io.Writer, r checked) {
	for _, f := range r.Warnings {
		where := f.File
		if f.Line > 0 {
			where = fmt.Sprintf("%s:%d:%d", f.File, f.Line, f.Column)
		}
		fmt.Fprintf(w, "%s: warning: %s", where, f.Message)
		if f.Hint != "" {
			fmt.Fprintf(w, "; %s", f.Hint)
		}
		fmt.Fprintln(w)
	}
	fmt.Fprintf(w, "ok: %s, %s, %s\n", plural(len(r.Files), "file"), plural(r.topics, "topic"), plural(len(r.Jobs), "connector"))
	if len(r.Jobs) == 0 {
		return
	}
	t := newTable("", "CONNECTOR", "KIND", "TYPE", "TOPIC", "GUARANTEE")
	for _, j := range r.Jobs {
		t.row(j.Name, j.Kind, j.Type, j.Topic, dash(j.Guarantee))
	}
	t.write(w)
}

func (c *cli) configTest() *cobra.Command {
	return &cobra.Command{
		Use:     "test FILE...",
		Short:   "Run the tests in jobs files: lines in, records expected",
		Long:    "Run the entries of tests: in jobs files. The input lines go through the\ntransforms of their connector, without any network or file.",
		Example: "  entrepot config test configs/demo/east.yaml",
		Args:    atLeast("FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			p := c.parse(cmd.Context(), args)
			defer p.close()
			if len(p.errs) > 0 {
				return p.errs
			}
			return c.runTests(cmd.Context(), p.jobs)
		},
	}
}

func (c *cli) runTests(ctx context.Context, jobs *stream.Jobs) error {
	results := stream.Test(ctx, jobs)
	failed := 0
	for _, r := range results {
		if len(r.Failures) > 0 {
			failed++
		}
	}
	if err := c.print(results, func(w io.Writer) {
		for _, r := range results {
			for _, f := range r.Failures {
				fmt.Fprintf(w, "%s:%d: %s: %s\n", r.File, r.Line, r.Target, f)
			}
		}
		fmt.Fprintf(w, "%s, %d failed\n", plural(len(results), "test"), failed)
	}); err != nil {
		return err
	}
	if failed > 0 {
		return errShown
	}
	return nil
}

// What tells a node's file from a jobs file.
var (
	nodeKeys = [...]string{"node", "listeners", "mesh", "cluster", "security", "jobs", "plugins"}
	jobsKeys = [...]string{"topics", "connectors", "tests", "links", "stages"}
)

// parsed is what the files say together.
type parsed struct {
	jobs     *stream.Jobs
	files    []string // all that were read
	errs     strict.Errors
	warnings []finding
	plugins  bool   // there are some
	close    func() // ends the plugins that were started
}

// parse reads node and jobs files, and the jobs files that the former name.
func (c *cli) parse(ctx context.Context, paths []string) *parsed {
	p := &parsed{files: []string{}, close: func() {}}
	registry := c.deps.Registry
	var jobFiles []stream.File
	queue := slices.Clone(paths)
	for len(queue) > 0 {
		path := filepath.Clean(queue[0])
		queue = queue[1:]
		if slices.Contains(p.files, path) {
			continue
		}
		p.files = append(p.files, path)
		text, err := os.ReadFile(path)
		if err != nil {
			p.errs = append(p.errs, fileError(path, err))
			continue
		}
		root, wrong := strict.Parse(path, text)
		if len(wrong) > 0 {
			p.errs = append(p.errs, wrong...)
			continue
		}
		if root.Kind() == strict.Map && !hasAny(root, nodeKeys[:]) && !hasAny(root, jobsKeys[:]) {
			p.errs = append(p.errs, root.Errorf("this is neither a node's file, which has %s, nor a jobs file, which has %s",
				strings.Join(nodeKeys[:], ", "), strings.Join(jobsKeys[:3], ", ")))
			continue
		}
		if !hasAny(root, nodeKeys[:]) {
			jobFiles = append(jobFiles, stream.File{Name: path, Text: text})
			continue
		}
		globs, wrong := c.deps.CheckNode(path, text)
		if p.errs = append(p.errs, wrong...); len(wrong) > 0 {
			continue // what it says of jobs is not to be trusted
		}
		if _, ok := root.Get("plugins"); ok {
			all, end, wrong := c.deps.Plugins(ctx, path, text, registry)
			before := p.close
			p.plugins = true
			registry, p.close, p.errs = all, func() { end(); before() }, append(p.errs, wrong...)
		}
		for _, glob := range globs {
			queue = append(queue, p.expand(path, glob)...)
		}
	}
	if len(p.errs) > 0 && p.plugins {
		return p // what a plugin would have is not known, and every use of it would be an error
	}
	jobs, wrong := stream.Parse(jobFiles, registry, strict.Options{Env: c.deps.Getenv, ReadFile: os.ReadFile})
	p.jobs, p.errs = jobs, append(p.errs, wrong...)
	return p
}

func hasAny(root strict.Node, keys []string) bool {
	return slices.ContainsFunc(keys, func(key string) bool { _, ok := root.Get(key); return ok })
}

// expand finds the jobs files of one glob of a node file. A plain name has to
// be there; a pattern may find nothing, but hardly means to.
func (p *parsed) expand(node, glob string) []string {
	if !strings.ContainsAny(glob, `*?[\`) {
		return []string{glob}
	}
	found, err := filepath.Glob(glob)
	switch {
	case err != nil:
		p.errs = append(p.errs, &strict.Error{File: node, Msg: fmt.Sprintf("jobs: %q is no pattern of file names: %v", glob, err)})
	case len(found) == 0:
		p.warnings = append(p.warnings, finding{File: node, Message: fmt.Sprintf("jobs: no file matches %q", glob)})
	}
	return found
}

func fileError(path string, err error) *strict.Error {
	if p, ok := errors.AsType[*os.PathError](err); ok {
		err = p.Err
	}
	return &strict.Error{File: path, Msg: fmt.Sprintf("cannot be read: %v", err)}
}
