package ctl

import (
	"fmt"
	"io"
	"slices"

	"github.com/spf13/cobra"

	"github.com/entrepot-hub/entrepot/hub/admin"
)

func (c *cli) linkCommand() *cobra.Command {
	return c.overHTTP(noun("link", "Show what is mirrored into this site, and how far behind it is",
		c.reading(c.linkList()), c.reading(c.linkStatus())))
}

func (c *cli) linkList() *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List the links into this site with their lag",
		Long: `List the links into this site. The lag is "unknown" when the source has not been
heard lately: a link that cannot see its source does not claim to be level.`,
		Example: "  entrepot link list",
		Args:    exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			links, err := c.links(cmd)
			if err != nil {
				return err
			}
			return c.print(links, func(w io.Writer) {
				t := newTable("no topic is mirrored to this site", "LINK", "SOURCE", "STATE", ">LAG RECORDS", ">LAG SECONDS", ">COPIED", "REASON")
				for _, l := range links {
					t.row(l.Name, l.Source, l.State, measure(l.LagRecords), measure(l.LagSeconds), grouped(l.Records), dash(l.Reason))
				}
				t.write(w)
			})
		},
	}
}

func (c *cli) linkStatus() *cobra.Command {
	return &cobra.Command{
		Use:     "status [LINK]",
		Short:   "Show links partition by partition",
		Long:    "Show links partition by partition: all, the one of this name, or those from this\nsite.",
		Example: "  entrepot link status east",
		Args:    atMost("LINK"),
		RunE: func(cmd *cobra.Command, args []string) error {
			links, err := c.links(cmd)
			if err != nil {
				return err
			}
			if len(args) > 0 {
				links = slices.DeleteFunc(links, func(l admin.Link) bool { return l.Name != args[0] && l.Source != args[0] })
				if len(links) == 0 {
					return fmt.Errorf("link %s: there is no such link; `entrepot link list` shows what is there", args[0])
				}
			}
			return c.print(links, func(w io.Writer) { writeLinks(w, links) })
		},
	}
}

func writeLinks(w io.Writer, links []admin.Link) {
	if len(links) == 0 {
		fmt.Fprintln(w, "no topic is mirrored to this site")
	}
	for i, l := range links {
		if i > 0 {
			fmt.Fprintln(w)
		}
		heard := measure(l.Heard)
		if _, known := l.Heard.Value(); known {
			heard += " s ago"
		}
		facts(w, "link", l.Name, "kind", l.Kind, "source", l.Source, "state", l.State, "reason", l.Reason,
			"copied", grouped(l.Records)+" records, "+size(l.Bytes), "heard", heard)
		fmt.Fprintln(w)
		t := newTable("no partitions yet", "TOPIC", ">PARTITION", "STATE", ">NEXT OFFSET", ">SOURCE END", ">LAG RECORDS", ">LAG SECONDS", "REASON")
		for _, p := range l.Partitions {
			t.row(p.Topic, fmt.Sprint(p.Partition), p.State, grouped(p.Next), measure(p.SourceEnd), measure(p.LagRecords), measure(p.LagSeconds), dash(p.Reason))
		}
		t.write(w)
	}
}

func (c *cli) links(cmd *cobra.Command) (links []admin.Link, err error) {
	err = c.get(cmd.Context(), "/v1/links", &links)
	return links, err
}

// measure groups whole numbers; what is not known stays "unknown".
func measure(m admin.Measure) string {
	if v, known := m.Value(); known && v == float64(int64(v)) {
		return grouped(int64(v))
	}
	return m.String()
}
