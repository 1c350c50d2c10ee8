package ctl

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/entrepot-hub/entrepot/hub/admin"
)

func (c *cli) nodeCommand() *cobra.Command {
	return c.overHTTP(noun("node", "Show the nodes of a site, and take them out and in",
		c.reading(c.nodeStatus()), c.reading(c.nodeList()), c.reading(c.nodeMoves()), c.reading(c.nodeDrain()), c.reading(c.nodeDecommission()),
		c.reading(c.nodeReplace()), c.reading(c.nodeRemove()), c.reading(c.nodeRebalance()), c.reading(c.nodeFetchRate()), c.reading(c.nodeCompaction())))
}

// nodeState is `node status --json`.
type nodeState struct {
	admin.Status
	Nodes  []admin.SiteNode `json:"nodes"`            // of the site
	Groups []admin.Group    `json:"groups,omitempty"` // with --groups: every copy of every partition
}

func (c *cli) nodeStatus() *cobra.Command {
	groups := false
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show a node's health, disk and topics, and the nodes of its site",
		Long: `Show a node's health, disk and topics, and what each node of its site leads and
has. BEHIND is what a node's copies lack, as the leaders of the partitions know.
UNWRITABLE WITHOUT IT counts the partitions that could not be written if this
node were lost, too.
With --groups every copy of every partition is listed: its role, Raft term, and
the indexes of the last entry that is committed and of the last one in its log.`,
		Example: "  entrepot node status --admin http://127.0.0.1:8080\n  entrepot node status --groups",
		Args:    exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			var st nodeState
			if err := c.get(cmd.Context(), "/v1/status", &st.Status); err != nil {
				return err
			}
			if err := c.get(cmd.Context(), "/v1/site/nodes", &st.Nodes); err != nil {
				return err
			}
			if groups {
				if err := c.get(cmd.Context(), "/v1/site/groups", &st.Groups); err != nil {
					return err
				}
			}
			return c.print(st, func(w io.Writer) {
				writeStatus(w, st.Status)
				if len(st.Nodes) > 0 {
					fmt.Fprintln(w)
					writeNodes(w, st.Nodes)
				}
				if groups {
					fmt.Fprintln(w)
					writeGroups(w, st.Groups)
				}
			})
		},
	}
	cmd.Flags().BoolVar(&groups, "groups", false, "list every copy of every partition")
	return cmd
}

func (c *cli) nodeList() *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List the nodes of the site",
		Long: `List the nodes of the site, each asked for what it has. STATE is up, down (it
does not answer), draining or leaving. INCARNATION rises when a node comes back
without its data. BEHIND is what its copies lack, as the leaders of the partitions
know. UNWRITABLE WITHOUT IT counts the partitions that could not be written if it
were lost, too: while it is 0, the node can be stopped.`,
		Example: "  entrepot node list\n  entrepot node list --json",
		Args:    exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			var nodes []admin.SiteNode
			if err := c.get(cmd.Context(), "/v1/site/nodes", &nodes); err != nil {
				return err
			}
			return c.print(nodes, func(w io.Writer) { writeNodes(w, nodes) })
		},
	}
}

func writeNodes(w io.Writer, nodes []admin.SiteNode) {
	t := newTable("this node belongs to no site yet", ">ID", "NODE", "ZONE", "VERSION", ">INCARNATION", "STATE", ">LEADS", ">REPLICAS", ">BEHIND", ">QUARANTINED", ">UNWRITABLE WITHOUT IT")
	for _, n := range nodes {
		t.row(fmt.Sprint(n.ID), n.Name, dash(n.Zone), dash(n.Version), fmt.Sprint(n.Incarnation), n.State,
			fmt.Sprint(n.Leads), fmt.Sprint(n.Replicas), behind(n.Behind), fmt.Sprint(n.Quarantined), fmt.Sprint(n.Unwritable))
	}
	t.write(w)
}

func behind(m admin.Measure) string {
	v, known := m.Value()
	if !known {
		return "-"
	}
	return size(int64(v))
}

func left(m admin.Measure) string {
	v, known := m.Value()
	if !known {
		return "-"
	}
	return time.Duration(v * float64(time.Second)).Round(time.Second).String()
}

func writeGroups(w io.Writer, groups []admin.Group) {
	t := newTable("no partitions", "TOPIC", ">PARTITION", ">NODE", "ROLE", ">LEADER", ">TERM", ">COMMIT", ">LAST", ">BEHIND", "REASON")
	for _, g := range groups {
		t.row(g.Topic, fmt.Sprint(g.Partition), fmt.Sprint(g.Node), g.Role, fmt.Sprint(g.Leader), fmt.Sprint(g.Term),
			fmt.Sprint(g.Commit), fmt.Sprint(g.Last), behind(g.Behind), dash(g.Reason))
	}
	t.write(w)
}

func (c *cli) nodeMoves() *cobra.Command {
	return &cobra.Command{
		Use:   "moves",
		Short: "List the partitions that are on their way to other nodes",
		Long: `List the partitions that are on their way to other nodes. STATE is moving, waiting
(for its turn: few are copied at a time), blocked (a node that is to get a copy is
down) or stalled (most members have lost their data). BEHIND is what the new copies
lack, and LEFT how long that takes at the pace so far, once it is known.`,
		Example: "  entrepot node moves",
		Args:    exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			var moves []admin.Move
			if err := c.get(cmd.Context(), "/v1/site/moves", &moves); err != nil {
				return err
			}
			return c.print(moves, func(w io.Writer) {
				t := newTable("nothing moves", "TOPIC", ">PARTITION", "REPLICAS", "ADDING", "REMOVING", "STATE", ">BEHIND", ">LEFT", "DOING")
				for _, m := range moves {
					t.row(m.Topic, fmt.Sprint(m.Partition), dash(nodes(m.Replicas)), dash(nodes(m.Adding)), dash(nodes(m.Removing)), m.State, behind(m.Behind), left(m.Left), dash(m.Doing))
				}
				t.write(w)
			})
		},
	}
}

func (c *cli) nodeDrain() *cobra.Command {
	off := false
	cmd := &cobra.Command{
		Use:   "drain NODE",
		Short: "Let other nodes lead what a node leads",
		Long: `Let other nodes lead what a node leads, and run its connectors, until it is told
otherwise with --off. Its copies stay and are kept up. A node that is stopped
lets others lead by itself; this is for a node that shall stay up and be left
alone.`,
		Example: "  entrepot node drain fra-2\n  entrepot node drain fra-2 --off",
		Args:    exactly("NODE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if off {
				return c.actNode(cmd, args[0], admin.UndrainNode, "")
			}
			return c.actNode(cmd, args[0], admin.DrainNode, "")
		},
	}
	cmd.Flags().BoolVar(&off, "off", false, "let it lead again")
	return cmd
}

func (c *cli) nodeDecommission() *cobra.Command {
	cancel := false
	cmd := &cobra.Command{
		Use:   "decommission NODE",
		Short: "Move everything that a node has to other nodes",
		Long: `Move everything that a node has to other nodes, which must be enough for it. Once
'entrepot node status' shows no replicas on it any more it can be stopped and
taken out with 'entrepot node remove'. --cancel lets it stay.`,
		Example: "  entrepot node decommission fra-2\n  entrepot node decommission fra-2 --cancel",
		Args:    exactly("NODE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if cancel {
				return c.actNode(cmd, args[0], admin.RecommissionNode, "")
			}
			return c.actNode(cmd, args[0], admin.DecommissionNode, "")
		},
	}
	cmd.Flags().BoolVar(&cancel, "cancel", false, "let it stay")
	return cmd
}

func (c *cli) nodeReplace() *cobra.Command {
	with := ""
	cmd := &cobra.Command{
		Use:   "replace NODE --with NODE",
		Short: "Give all that a lost node had to another one",
		Long: `Give all that a node had, which is lost for good, to another node of the site. A
node that has lost its disk and comes back under its own name needs no replacing:
it is made whole by itself.`,
		Example: "  entrepot node replace fra-2 --with fra-4",
		Args:    exactly("NODE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if with == "" {
				return usagef("say who takes its place: --with NODE")
			}
			return c.actNode(cmd, args[0], admin.ReplaceNode, with)
		},
	}
	cmd.Flags().StringVar(&with, "with", "", "the `NODE` that takes its place")
	return cmd
}

func (c *cli) nodeRemove() *cobra.Command {
	return &cobra.Command{
		Use:   "remove NODE",
		Short: "Forget a node that has been decommissioned",
		Long: `Forget a node that has been decommissioned or replaced, and has no replicas any
more. Stop it first: it is not of the site from then on, and its data directory
can be deleted.`,
		Example: "  entrepot node remove fra-2",
		Args:    exactly("NODE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.actNode(cmd, args[0], admin.RemoveNode, "")
		},
	}
}

func (c *cli) nodeRebalance() *cobra.Command {
	dry := false
	cmd := &cobra.Command{
		Use:   "rebalance",
		Short: "Move replicas so that the nodes have alike",
		Long: `Move replicas so that the nodes have alike, as after one has come: replicas that
share a zone while another has none first, then from nodes that have most to
those that have least, and preferred leaders last. --dry-run shows the moves and
makes none.`,
		Example: "  entrepot node rebalance --dry-run\n  entrepot node rebalance",
		Args:    exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if dry {
				return c.rebalancePlan(cmd)
			}
			var done admin.NodeActed
			if err := c.call(cmd.Context(), http.MethodPost, "/v1/site/rebalance", &done); err != nil {
				return err
			}
			return c.print(done, func(w io.Writer) { writeActed(w, done) })
		},
	}
	cmd.Flags().BoolVar(&dry, "dry-run", false, "show the moves and make none")
	return cmd
}

func (c *cli) rebalancePlan(cmd *cobra.Command) error {
	var plan []admin.Wish
	if err := c.get(cmd.Context(), "/v1/site/rebalance/plan", &plan); err != nil {
		return err
	}
	return c.print(plan, func(w io.Writer) { writePlan(w, "the nodes have alike", plan) })
}

func writePlan(w io.Writer, empty string, plan []admin.Wish) {
	t := newTable(empty, "TOPIC", ">PARTITION", "FROM", "TO")
	for _, one := range plan {
		t.row(one.Topic, fmt.Sprint(one.Partition), nodes(one.From), nodes(one.To))
	}
	t.write(w)
}

func (c *cli) actNode(cmd *cobra.Command, node string, action admin.NodeAction, with string) error {
	path := "/v1/site/nodes/" + url.PathEscape(node) + "/" + string(action)
	if with != "" {
		path += "?" + url.Values{"with": {with}}.Encode()
	}
	var done admin.NodeActed
	if err := c.call(cmd.Context(), http.MethodPost, path, &done); err != nil {
		return err
	}
	return c.print(done, func(w io.Writer) { writeActed(w, done) })
}

func writeActed(w io.Writer, done admin.NodeActed) {
	var parts []string
	if done.Node != "" {
		parts = append(parts, done.Node+":")
	}
	parts = append(parts, done.Done)
	if done.Moves > 0 {
		parts = append(parts, fmt.Sprintf("(%d partitions; see 'entrepot node moves')", done.Moves))
	}
	fmt.Fprintln(w, strings.Join(parts, " "))
}
