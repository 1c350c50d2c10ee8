package ctl

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kmsg"
)

func (c *cli) topicConfig() *cobra.Command {
	return noun("config", "Show and change a topic's settings", c.reading(c.topicConfigGet()), c.topicConfigSet())
}

// setting is one line of `topic config get`.
type setting struct {
	Key   string `json:"key"`
	Value string `json:"value"`
	Set   bool   `json:"set"` // on the topic itself; else it is the default
}

func (c *cli) topicConfigGet() *cobra.Command {
	var all bool
	cmd := &cobra.Command{
		Use:   "get NAME",
		Short: "Show the settings of a topic",
		Example: `  entrepot topic config get clicks
  entrepot topic config get clicks --all`,
		Args: exactly("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.withAdmin(cmd.Context(), func(ctx context.Context, admin *kadm.Client) error {
				settings, err := topicSettings(ctx, admin, args[0])
				if err != nil {
					return err
				}
				if !all {
					settings = slices.DeleteFunc(settings, func(s setting) bool { return !s.Set })
				}
				return c.print(settings, func(w io.Writer) {
					t := newTable("all settings are the defaults; --all shows them", "SETTING", "VALUE", "")
					for _, s := range settings {
						t.row(s.Key, dash(s.Value), map[bool]string{true: "", false: "default"}[s.Set])
					}
					t.write(w)
				})
			})
		},
	}
	cmd.Flags().BoolVar(&all, "all", false, "defaults too")
	return cmd
}

func topicSettings(ctx context.Context, admin *kadm.Client, name string) ([]setting, error) {
	resources, err := admin.DescribeTopicConfigs(ctx, name)
	if err != nil {
		return nil, explain("settings of topic "+name, err, "")
	}
	r, err := resources.On(name, nil)
	if err == nil {
		err = r.Err
	}
	if err != nil {
		return nil, explain("settings of topic "+name, err, "")
	}
	settings := []setting{}
	for _, k := range r.Configs {
		settings = append(settings, setting{Key: k.Key, Value: k.MaybeValue(), Set: k.Source == kmsg.ConfigSourceDynamicTopicConfig})
	}
	slices.SortFunc(settings, func(a, b setting) int { return strings.Compare(a.Key, b.Key) })
	return settings, nil
}

func (c *cli) topicConfigSet() *cobra.Command {
	var remove []string
	cmd := &cobra.Command{
		Use:   "set NAME KEY=VALUE...",
		Short: "Change settings of a topic, or put them back to the default",
		Example: `  entrepot topic config set clicks retention.ms=86400000 mirror.to=west,north
  entrepot topic config set clicks --remove retention.ms`,
		Args: atLeast("NAME KEY=VALUE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			set, err := keyValues("setting", args[1:])
			if err != nil {
				return err
			}
			if len(set)+len(remove) == 0 {
				return usagef("%s: nothing to change; give KEY=VALUE or --remove KEY", cmd.CommandPath())
			}
			var changes []kadm.AlterConfig
			for k, v := range set {
				changes = append(changes, kadm.AlterConfig{Op: kadm.SetConfig, Name: k, Value: v})
			}
			for _, k := range remove {
				changes = append(changes, kadm.AlterConfig{Op: kadm.DeleteConfig, Name: k})
			}
			return c.withAdmin(cmd.Context(), func(ctx context.Context, admin *kadm.Client) error {
				return c.alterTopic(ctx, admin, args[0], changes)
			})
		},
	}
	cmd.Flags().StringSliceVar(&remove, "remove", nil, "`KEY` to put back to its default; may be given again")
	return cmd
}

func (c *cli) alterTopic(ctx context.Context, admin *kadm.Client, name string, changes []kadm.AlterConfig) error {
	what := "change settings of topic " + name
	all, err := admin.AlterTopicConfigs(ctx, changes, name)
	if err != nil {
		return explain(what, err, "")
	}
	r, err := all.On(name, nil)
	if err == nil {
		err = r.Err
	}
	if err != nil {
		return explain(what, err, r.ErrMessage)
	}
	fmt.Fprintf(c.out, "changed %s of topic %s\n", plural(len(changes), "setting"), name)
	return nil
}
