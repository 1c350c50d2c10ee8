package ctl

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"
)

func (c *cli) serveCommand() *cobra.Command {
	var opts ServeOptions
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run a node",
		Long: `Run one node until it is told to stop (Ctrl-C or SIGTERM). A second signal
cuts what is still draining.

With --dev no file is needed: the node is a complete site of its own, with its
data under ./entrepot-data, Kafka on 9092, the schema registry on 8081 and the
console on 8080.`,
		Example: `  entrepot serve --dev
  entrepot serve -c /etc/entrepot/node.yaml`,
		Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if opts.Config == "" && !opts.Dev {
				return usagef("serve needs to know which node this is: give its file with -c FILE, or --dev for a site of one node under ./entrepot-data")
			}
			if opts.Config != "" {
				if err := readableFile("-c", opts.Config); err != nil {
					return err
				}
			}
			return c.deps.Serve(cmd.Context(), opts)
		},
	}
	cmd.Flags().StringVarP(&opts.Config, "config", "c", "", "the node's `FILE`")
	cmd.Flags().BoolVar(&opts.Dev, "dev", false, "a complete single-node site with defaults")
	cmd.Flags().StringVar(&opts.DataDir, "data-dir", "", "`DIR` of the node's data, instead of the one in the file")
	return cmd
}

func (c *cli) demoCommand() *cobra.Command {
	opts := DemoOptions{}
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Two sites on this machine, from a log file to Parquet, checked at every step",
		Long: `Start two sites (east and west) with real sockets on this machine, read a web
access log into topic clicks at east, mirror it to west, load it there into
hourly Parquet files, and compare the counts of every step. Then stay up for any
Kafka client until Ctrl-C; with --exit, stop with status 0 if all counts agree
and 1 if not.

Run again with the same --dir it goes on where it was.`,
		Example: `  entrepot demo --exit
  entrepot demo --input /var/log/nginx/access.log --dir /tmp/demo`,
		Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if opts.Input != "" {
				if err := readableFile("--input", opts.Input); err != nil {
					return err
				}
			}
			return c.deps.Demo(cmd.Context(), opts, c.out)
		},
	}
	cmd.Flags().StringVar(&opts.Input, "input", "", "an access log in the combined or common format; without it, a small one is generated")
	cmd.Flags().BoolVar(&opts.Exit, "exit", false, "stop when the counts are known")
	cmd.Flags().StringVar(&opts.Dir, "dir", "./entrepot-demo", "`DIR` for both sites and the lake")
	return cmd
}

// readableFile finds a mistyped path before anything is started.
func readableFile(flag, path string) error {
	f, err := os.Open(path)
	if err != nil {
		return UsageError{fmt.Errorf("%s: %w", flag, err)}
	}
	defer f.Close()
	if info, err := f.Stat(); err == nil && info.IsDir() {
		return usagef("%s: %s is a directory, want a file", flag, path)
	}
	return nil
}
