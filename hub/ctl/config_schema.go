package ctl

import (
	"encoding/json"
	"maps"

	"github.com/spf13/cobra"

	"github.com/entrepot-hub/entrepot/connectors/strict"
)

func (c *cli) configSchema() *cobra.Command {
	var node string
	cmd := &cobra.Command{
		Use:   "schema [node | jobs]",
		Short: "Print the JSON Schema of config files, for editors",
		Long: `Print the JSON Schema (draft 2020-12) of a node's file, of a jobs file, or of
both, which tells them apart by their keys. Editors complete and check with it.
In VS Code, with the extension YAML:

  entrepot config schema > entrepot.schema.json

and as the first line of a config file

  # yaml-language-server: $schema=./entrepot.schema.json

It knows keys, types and ranges of the connectors that are built in, and with
--node of those that the plugins of that file have; config check looks at expressions, names and references too.`,
		Example: "  entrepot config schema\n  entrepot config schema jobs",
		Args:    atMost("node or jobs"),
		RunE: func(cmd *cobra.Command, args []string) error {
			end, err := c.withPlugins(cmd.Context(), node)
			if err != nil {
				return err
			}
			defer end()
			s := c.deps.Schema(c.deps.Registry)
			if len(args) == 1 {
				all := s["$defs"].(strict.Schema)
				one, ok := all[args[0]].(strict.Schema)
				if !ok {
					return usagef("config schema %q: want node or jobs, or nothing for both", args[0])
				}
				one = maps.Clone(one)
				one["$schema"], one["title"] = s["$schema"], s["title"]
				s = one
			}
			enc := json.NewEncoder(c.out)
			enc.SetEscapeHTML(false)
			enc.SetIndent("", "  ")
			return enc.Encode(s)
		},
	}
	nodeFlag(cmd, &node)
	return cmd
}
