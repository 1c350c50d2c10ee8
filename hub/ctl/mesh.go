package ctl

import (
	"fmt"
	"io"
	"net/url"
	"strings"

	"github.com/spf13/cobra"

	"github.com/entrepot-hub/entrepot/hub/admin"
)

func (c *cli) meshCommand() *cobra.Command {
	return c.overHTTP(noun("mesh", "Show the nodes of all sites and the distance between them",
		c.reading(c.meshMembers()), c.reading(c.meshRTT())))
}

func (c *cli) meshMembers() *cobra.Command {
	return &cobra.Command{
		Use:     "members",
		Short:   "List the nodes that this node knows, of all sites",
		Example: "  entrepot mesh members",
		Args:    exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			var members []admin.Member
			if err := c.get(cmd.Context(), "/v1/mesh/members", &members); err != nil {
				return err
			}
			return c.print(members, func(w io.Writer) {
				t := newTable("this node is in no mesh", "NODE", "SITE", "POOL", "STATUS", "KAFKA", "GOSSIP", "VERSION")
				for _, m := range members {
					t.row(m.ID, m.Site, m.Pool, m.Status, dash(m.Kafka), dash(m.Addr), dash(m.Version))
				}
				t.write(w)
			})
		},
	}
}

func (c *cli) meshRTT() *cobra.Command {
	return &cobra.Command{
		Use:     "rtt NODE NODE",
		Short:   "Estimate the round-trip time between any two nodes",
		Long:    "Estimate the round-trip time between any two nodes from their network\ncoordinates, which gossip keeps; nothing is sent between the two.",
		Example: "  entrepot mesh rtt fra-1 nyc-1",
		Args:    exactly("NODE", "NODE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			var rtt admin.RTT
			if err := c.get(cmd.Context(), "/v1/mesh/rtt?"+url.Values{"a": args[:1], "b": args[1:]}.Encode(), &rtt); err != nil {
				return err
			}
			return c.print(rtt, func(w io.Writer) {
				fmt.Fprintf(w, "%s to %s: %.3f ms estimated\n", rtt.A, rtt.B, rtt.Millis)
			})
		},
	}
}

func writeStatus(w io.Writer, st admin.Status) {
	ready := map[bool]string{true: "yes", false: "no"}[st.Ready]
	if st.Reason != "" {
		ready += ": " + st.Reason
	}
	disk := size(st.Disk.FreeBytes) + " free, " + st.Disk.State
	if st.Disk.Reason != "" {
		disk += ": " + st.Disk.Reason
	}
	facts(w, "node", st.Node, "site", st.Site, "version", st.Version, "ready", ready, "kafka", st.Kafka,
		"cluster", st.ClusterID, "data", st.DataDir, "disk", disk, "checked", scrubText(st.Scrub), "started", stamp(st.Started))
	fmt.Fprintln(w)
	t := newTable("no topics", "TOPIC", "MIRROR", ">PARTITIONS", ">RECORDS", ">ON DISK")
	for _, topic := range st.Topics {
		if topic.Internal {
			continue
		}
		t.row(topic.Name, mirrorOf(topic), fmt.Sprint(len(topic.Partitions)), grouped(topic.Records()), size(topic.Bytes()))
	}
	t.write(w)
	for _, topic := range st.Topics {
		for _, p := range topic.Partitions {
			if p.Damage != "" {
				fmt.Fprintf(w, "quarantined: %s-%d: %s\n", topic.Name, p.ID, p.Damage)
			}
		}
	}
}

// scrubText tells how far the check of what is on the disk is, and what it found.
func scrubText(s *admin.Scrub) string {
	if s == nil {
		return ""
	}
	text := "never all of it"
	if !s.LastPass.IsZero() {
		text = "all of it, to " + stamp(s.LastPass)
	}
	if s.Running {
		text += ", again now, " + size(s.Bytes) + " so far"
	}
	return fmt.Sprintf("%s; found since the start: %d damaged logs, %d bad indexes, %d of them written anew", text, s.Damaged, s.Indexes, s.Mended)
}

func mirrorOf(t admin.Topic) string {
	switch {
	case t.Source != "":
		return "from " + t.Source
	case len(t.MirrorTo) > 0:
		return "to " + strings.Join(t.MirrorTo, ", ")
	default:
		return "-"
	}
}
