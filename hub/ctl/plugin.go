package ctl

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/spf13/cobra"

	"github.com/entrepot-hub/entrepot/plugins/host"
)

func (c *cli) pluginCommand() *cobra.Command {
	return noun("plugin", "Look at programs that bring connectors, and test them", c.pluginTest(), c.reading(c.pluginDescribe()))
}

// withPlugins adds the plugins of a node's file to the connectors that this
// call knows, and returns what ends them. file may be empty.
func (c *cli) withPlugins(ctx context.Context, file string) (end func(), err error) {
	if file == "" {
		return func() {}, nil
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, UsageError{err}
	}
	reg, end, errs := c.deps.Plugins(ctx, file, text, c.deps.Registry)
	if len(errs) > 0 {
		end()
		return nil, errs
	}
	c.deps.Registry = reg
	return end, nil
}

// nodeFlag gives cmd the flag --node, for withPlugins.
func nodeFlag(cmd *cobra.Command, file *string) {
	cmd.Flags().StringVar(file, "node", "", "node's `FILE` whose plugins count, too")
}

// pluginProgram is a program that a command is to start, with the checksum
// that it has now.
func (c *cli) pluginProgram(path string, args []string) (host.Config, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return host.Config{}, UsageError{err}
	}
	sum := sha256.Sum256(text)
	return host.Config{Name: pluginName(path), Path: path, SHA256: hex.EncodeToString(sum[:]), Args: args}, nil
}

// pluginName is what a program is called by its file.
func pluginName(path string) string {
	name := strings.Trim(notInName.ReplaceAllString(strings.ToLower(filepath.Base(path)), "-"), "-0123456789")
	if name == "" {
		return "plugin"
	}
	return name[:min(len(name), 63)]
}

var notInName = regexp.MustCompile(`[^a-z0-9]+`)

// describedPlugin is `plugin describe --json`.
type describedPlugin struct {
	Name       string            `json:"name"`
	Version    string            `json:"version"`
	Path       string            `json:"path"`
	SHA256     string            `json:"sha256"`
	Connectors []pluginConnector `json:"connectors"`
}

type pluginConnector struct {
	Kind      string        `json:"kind"`
	Type      string        `json:"type"`
	Summary   string        `json:"summary"`
	Guarantee string        `json:"guarantee"`
	Queue     bool          `json:"queue,omitempty"`
	Fields    []pluginField `json:"fields"`
}

type pluginField struct {
	Name        string `json:"name"`
	Kind        string `json:"kind"`
	Description string `json:"description"`
	Required    bool   `json:"required"`
	Default     any    `json:"default,omitempty"`
}

func (c *cli) pluginDescribe() *cobra.Command {
	return &cobra.Command{
		Use:   "describe PROGRAM [ARG...]",
		Short: "Start a plugin and show what it has",
		Long: `Start a plugin, ask what it has, and end it: its connectors with their fields
and guarantees, and the entry for plugins: in a node's file.`,
		Example: "  entrepot plugin describe ./ledger",
		Args:    atLeast("PROGRAM"),
		RunE: func(cmd *cobra.Command, args []string) error {
			cfg, err := c.pluginProgram(args[0], args[1:])
			if err != nil {
				return err
			}
			h, err := host.Open(cmd.Context(), []host.Config{cfg}, host.Options{Version: c.deps.Version, Getenv: c.deps.Getenv})
			if err != nil {
				return err
			}
			defer h.Close()
			out := describePlugin(h.Programs()[0], cfg)
			return c.print(out, func(w io.Writer) { writePlugin(w, out) })
		},
	}
}

func describePlugin(p host.Program, cfg host.Config) describedPlugin {
	path, err := filepath.Abs(cfg.Path)
	if err != nil {
		path = cfg.Path
	}
	out := describedPlugin{Name: p.Says, Version: p.Version, Path: path, SHA256: cfg.SHA256, Connectors: []pluginConnector{}}
	for _, one := range p.Connectors {
		pc := pluginConnector{Kind: one.Kind, Type: one.Spec.Type, Summary: one.Spec.Summary, Guarantee: one.Spec.Guarantee, Queue: one.Queue, Fields: []pluginField{}}
		for _, f := range one.Spec.Fields {
			pf := pluginField{Name: f.Name, Kind: f.Kind.String(), Description: f.Description, Required: f.Required}
			if f.Default != nil && !f.Kind.Secret() {
				pf.Default = fmt.Sprint(f.Default)
			}
			pc.Fields = append(pc.Fields, pf)
		}
		out.Connectors = append(out.Connectors, pc)
	}
	return out
}

func writePlugin(w io.Writer, p describedPlugin) {
	fmt.Fprintf(w, "%s %s\n", p.Name, p.Version)
	for _, one := range p.Connectors {
		fmt.Fprintf(w, "\n%s %s: %s\nguarantee: %s\n", one.Kind, one.Type, one.Summary, one.Guarantee)
		t := newTable("  ", "FIELD", "KIND", "DEFAULT", "DESCRIPTION")
		for _, f := range one.Fields {
			standard := "required"
			if !f.Required {
				standard = "-"
				if f.Default != nil {
					standard = fmt.Sprint(f.Default)
				}
			}
			t.row(f.Name, f.Kind, standard, f.Description)
		}
		t.write(w)
	}
	fmt.Fprintf(w, "\nplugins:\n  - name: %s\n    path: %s\n    sha256: %q\n", pluginName(p.Name), p.Path, p.SHA256)
}
