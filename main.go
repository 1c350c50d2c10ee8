// Command entrepot is a cross-datacenter replication and integration hub: hub
// nodes own durable topic logs, speak the Kafka protocol, mirror topics between
// sites and run connectors. This file hands the parts to the command line.
package main

import (
	"context"
	_ "embed"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/entrepot-hub/entrepot/connectors"
	"github.com/entrepot-hub/entrepot/connectors/all"
	"github.com/entrepot-hub/entrepot/connectors/strict"
	"github.com/entrepot-hub/entrepot/hub"
	"github.com/entrepot-hub/entrepot/hub/ctl"
	"github.com/entrepot-hub/entrepot/hub/demo"
	"github.com/entrepot-hub/entrepot/plugins/acceptance"
	"github.com/entrepot-hub/entrepot/plugins/host"
)

// version is what `entrepot --version` says and the mesh is told.
const version = "0.1.0"

//go:embed configs/demo/east.yaml
var eastJobs []byte

//go:embed configs/demo/west.yaml
var westJobs []byte

func main() {
	if len(os.Args) > 1 && os.Args[1] == "serve" {
		loosenTimers() // before signals are caught: none is lost
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// A second signal ends the process at once: whatever is cut off then, the
	// logs are written for.
	context.AfterFunc(ctx, stop)
	status := ctl.Main(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr, ctl.Deps{
		Version: version, Getenv: os.LookupEnv, Registry: all.Builtin(),
		CheckNode: checkNode, Schema: hub.Schema, Plugins: openPlugins, PluginFile: acceptance.Check, PluginSuite: runSuite, Serve: serve, Demo: runDemo,
	})
	os.Exit(status)
}

// serve runs one node.
func serve(ctx context.Context, opts ctl.ServeOptions) error {
	base := hub.Default()
	if opts.Dev {
		base = hub.Dev()
	}
	if opts.DataDir != "" {
		base.Node.DataDir = opts.DataDir
	}
	cfg := base
	if opts.Config != "" {
		text, err := os.ReadFile(opts.Config)
		if err != nil {
			return ctl.UsageError{Err: err}
		}
		var errs strict.Errors
		if cfg, errs = hub.Parse(opts.Config, text, base, strict.FromOS()); len(errs) > 0 {
			return errs
		}
		if opts.DataDir != "" {
			cfg.Node.DataDir = opts.DataDir
		}
	}
	h, err := hub.Open(ctx, cfg, hub.Deps{
		Registry: all.Builtin(), Version: version, References: strict.FromOS(),
		Logger: slog.New(slog.NewTextHandler(os.Stderr, nil)),
	})
	if err != nil {
		return err
	}
	return h.Run(ctx)
}

// checkNode judges a node's file without starting anything, and names the jobs
// files that belong to it.
func checkNode(file string, text []byte) (jobs []string, errs strict.Errors) {
	cfg, errs := hub.Parse(file, text, hub.Default(), strict.FromOS())
	return cfg.Jobs, errs
}

// openPlugins starts the programs of a node's file for a command that reads
// what uses them.
func openPlugins(ctx context.Context, file string, text []byte, base connectors.Registry) (connectors.Registry, func(), strict.Errors) {
	return hub.Plugins(ctx, file, text, base, host.Options{Version: version, Getenv: os.LookupEnv})
}

func runSuite(o ctl.SuiteOptions) {
	acceptance.Main(acceptance.Options{Program: o.Program, File: o.File, Run: o.Run, Timeout: o.Timeout})
}

func runDemo(ctx context.Context, opts ctl.DemoOptions, out io.Writer) error {
	return demo.Run(ctx, demo.Options{
		Input: opts.Input, Dir: opts.Dir, Exit: opts.Exit,
		EastJobs: eastJobs, WestJobs: westJobs, Open: openDemo,
	}, out)
}

// openDemo opens the one node of a site of the demonstration.
func openDemo(ctx context.Context, site demo.Site) (demo.Node, error) {
	cfg := hub.Dev()
	cfg.Node.ID, cfg.Node.Site, cfg.Node.DataDir = site.Name+"-1", site.Name, site.DataDir
	cfg.AutoCreateTopics = false
	cfg.Listeners.Kafka.Addr, cfg.Listeners.Admin.Addr = site.Kafka, site.Admin
	cfg.Listeners.Registry.Addr, cfg.Listeners.Connect.Addr = site.Registry, site.Connect
	cfg.Listeners.Peer.Addr, cfg.Mesh.LAN.Addr, cfg.Mesh.WAN.Addr = "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0"
	cfg.Mesh.WAN.Join = site.Join
	h, err := hub.Open(ctx, cfg, hub.Deps{
		Registry: all.Builtin(), Version: version, References: site.References, JobsText: site.JobsText,
		Logger: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn})),
	})
	if err != nil {
		return nil, err
	}
	return h, nil
}
