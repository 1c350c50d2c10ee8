package ctl

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

// root is the tree of all commands.
func (c *cli) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "entrepot",
		Short: "Replicate topics between datacenters, and move data in and out of them",
		Long: `Entrepot is a cross-datacenter replication and integration hub. Its nodes hold
topics, speak the Kafka protocol, find the nodes of other sites by gossip,
mirror topics between sites, and run connectors to other systems.

New here?  entrepot demo         two sites on this machine, checked end to end
           entrepot serve --dev  one node to try with any Kafka client`,
		Example: `  entrepot serve --dev
  entrepot topic create clicks --partitions 6
  entrepot link list`,
		Version:           c.deps.Version,
		SilenceErrors:     true,
		SilenceUsage:      true,
		Args:              cobra.ArbitraryArgs,
		RunE:              wantSubcommand,
		CompletionOptions: cobra.CompletionOptions{HiddenDefaultCmd: true},
	}
	root.SetVersionTemplate("entrepot {{.Version}}\n")
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usagef("%s: %w; see %s --help", cmd.CommandPath(), err, cmd.CommandPath())
	})
	root.AddGroup(
		&cobra.Group{ID: "run", Title: "Run:"},
		&cobra.Group{ID: "site", Title: "A running site:"},
		&cobra.Group{ID: "files", Title: "Files, without a site:"},
	)
	add := func(group string, commands ...*cobra.Command) {
		for _, cmd := range commands {
			cmd.GroupID = group
			root.AddCommand(cmd)
		}
	}
	add("run", c.serveCommand(), c.demoCommand())
	add("site", c.topicCommand(), c.groupCommand(), c.txnCommand(), c.linkCommand(), c.schemaCommand(), c.connectorCommand(), c.dlqCommand(), c.userCommand(), c.aclCommand(), c.quotaCommand(), c.meshCommand(), c.nodeCommand(), c.benchCommand())
	add("files", c.configCommand(), c.pluginCommand(), c.logCommand())
	root.SetHelpCommandGroupID("files")
	return root
}

// noun is a command that only has verbs; its examples are the first of theirs.
func noun(name, short string, verbs ...*cobra.Command) *cobra.Command {
	var examples []string
	for _, v := range verbs {
		first, _, _ := strings.Cut(v.Example, "\n")
		examples = append(examples, first)
	}
	cmd := &cobra.Command{Use: name, Short: short, Example: strings.Join(examples, "\n"), Args: cobra.ArbitraryArgs, RunE: wantSubcommand}
	cmd.AddCommand(verbs...)
	return cmd
}

// wantSubcommand answers a call that names no verb, or one that is not there.
func wantSubcommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		cmd.SetOut(cmd.ErrOrStderr())
		if err := cmd.Help(); err != nil {
			return err
		}
		return errUsageShown
	}
	hint := "."
	cmd.SuggestionsMinimumDistance = 2
	if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
		hint = "; did you mean " + strings.Join(near, " or ") + "?"
	}
	return usagef("unknown command %q%s See %s --help", args[0], hint, cmd.CommandPath())
}

// exactly wants n arguments and names them when they are missing.
func exactly(names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) == len(names) {
			return nil
		}
		return usagef("%s takes %s, got %d; for example:\n%s", cmd.CommandPath(), describe(names), len(args), cmd.Example)
	}
}

func describe(names []string) string {
	switch len(names) {
	case 0:
		return "no arguments"
	case 1:
		return "one argument (" + names[0] + ")"
	default:
		return fmt.Sprintf("%d arguments (%s)", len(names), strings.Join(names, ", "))
	}
}

// atLeast wants one argument of a kind, or more.
func atLeast(name string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) > 0 {
			return nil
		}
		return usagef("%s takes one or more arguments (%s); for example:\n%s", cmd.CommandPath(), name, cmd.Example)
	}
}

// atMost wants one argument or none.
func atMost(name string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) < 2 {
			return nil
		}
		return usagef("%s takes at most one argument (%s), got %d", cmd.CommandPath(), name, len(args))
	}
}

// kafka gives cmd and its verbs the flag that says where the site is.
func (c *cli) kafka(cmd *cobra.Command) *cobra.Command {
	c.siteFlags(cmd)
	c.loginFlags(cmd)
	_ = cmd.PersistentFlags().MarkHidden("admin") // accepted, so that scripts give both everywhere
	return cmd
}

// overHTTP gives cmd and its verbs the flag that says where the admin API is.
func (c *cli) overHTTP(cmd *cobra.Command) *cobra.Command {
	c.siteFlags(cmd)
	_ = cmd.PersistentFlags().MarkHidden("brokers")
	return cmd
}

// The places where a node listens when nobody says otherwise.
const (
	defaultBrokers = "127.0.0.1:9092"
	defaultAdmin   = "http://127.0.0.1:8080"
)

func (c *cli) siteFlags(cmd *cobra.Command) {
	brokers := c.getenv("ENTREPOT_BROKERS")
	if brokers == "" {
		brokers = defaultBrokers
	}
	flags := cmd.PersistentFlags()
	c.tlsFlags(cmd)
	flags.StringSliceVar(&c.brokers, "brokers", strings.Split(brokers, ","), "Kafka addresses of the site, `host:port,...`; or ENTREPOT_BROKERS")
	c.adminFlag(flags.StringVar)
}

func (c *cli) adminFlag(stringVar func(at *string, name, value, usage string)) {
	admin := c.getenv("ENTREPOT_ADMIN")
	if admin == "" {
		admin = defaultAdmin
	}
	stringVar(&c.admin, "admin", admin, "admin `URL` of a node; or ENTREPOT_ADMIN")
}

// reading gives cmd the flag --json.
func (c *cli) reading(cmd *cobra.Command) *cobra.Command {
	cmd.Flags().BoolVar(&c.json, "json", false, "print JSON")
	return cmd
}
