package ctl

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"
)

func (c *cli) groupCommand() *cobra.Command {
	return c.kafka(noun("group", "List, describe, reset and delete groups",
		c.reading(c.groupList()), c.reading(c.groupDescribe()), c.groupReset(), c.groupDelete()))
}

// groupRow is one group of `group list --json`.
type groupRow struct {
	Group    string `json:"group"`
	State    string `json:"state"`
	Protocol string `json:"protocol_type"`
}

func (c *cli) groupList() *cobra.Command {
	return &cobra.Command{
		Use:     "list",
		Short:   "List groups: classic, consumer and share",
		Example: "  entrepot group list",
		Args:    exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.withAdmin(cmd.Context(), func(ctx context.Context, admin *kadm.Client) error {
				groups, err := admin.ListGroups(ctx)
				if err != nil {
					return explain("list groups", err, "")
				}
				rows := []groupRow{}
				for _, g := range groups.Sorted() {
					rows = append(rows, groupRow{g.Group, g.State, g.ProtocolType})
				}
				return c.print(rows, func(w io.Writer) {
					t := newTable("no groups", "GROUP", "STATE", "TYPE")
					for _, r := range rows {
						t.row(r.Group, dash(r.State), dash(r.Protocol))
					}
					t.write(w)
				})
			})
		},
	}
}

// groupDetail is `group describe --json`.
type groupDetail struct {
	Group       string      `json:"group"`
	State       string      `json:"state"`
	Coordinator int32       `json:"coordinator"`
	Assignor    string      `json:"assignor"`
	Members     []memberRow `json:"members"`
	Offsets     []offsetRow `json:"offsets"`
}

type memberRow struct {
	ID       string `json:"member_id"`
	Client   string `json:"client_id"`
	Host     string `json:"host"`
	Instance string `json:"instance_id,omitempty"`
}

// offsetRow has null for what is not there: no commit, or an end that the site
// did not tell.
type offsetRow struct {
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
	Committed *int64 `json:"committed"`
	End       *int64 `json:"end"`
	Lag       *int64 `json:"lag"`
	Member    string `json:"member_id,omitempty"`
	Error     string `json:"error,omitempty"`
}

func (c *cli) groupDescribe() *cobra.Command {
	return &cobra.Command{
		Use:     "describe GROUP",
		Short:   "Show a group's members, offsets and lag",
		Example: "  entrepot group describe billing",
		Args:    exactly("GROUP"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.withAdmin(cmd.Context(), func(ctx context.Context, admin *kadm.Client) error {
				d, err := describeGroup(ctx, admin, args[0])
				if err != nil {
					return err
				}
				return c.print(d, func(w io.Writer) { writeGroup(w, d) })
			})
		},
	}
}

func describeGroup(ctx context.Context, admin *kadm.Client, name string) (groupDetail, error) {
	if d, ok, err := describeConsumers(ctx, admin, name); err == nil && ok {
		return d, nil
	}
	if d, ok, err := describeShares(ctx, admin, name); err == nil && ok {
		return d, nil
	}
	all, err := admin.Lag(ctx, name)
	g, ok := all[name]
	if err == nil && ok {
		err = g.Error()
	}
	if err == nil && (!ok || g.State == "Dead" && len(g.Lag) == 0) {
		err = fmt.Errorf("there is no such group; `entrepot group list` shows what is there")
	}
	if err != nil {
		return groupDetail{}, explain("group "+name, err, "")
	}
	d := groupDetail{Group: name, State: g.State, Coordinator: g.Coordinator.NodeID, Assignor: g.Protocol, Members: []memberRow{}, Offsets: []offsetRow{}}
	for _, m := range g.Members {
		row := memberRow{ID: m.MemberID, Client: m.ClientID, Host: m.ClientHost}
		if m.InstanceID != nil {
			row.Instance = *m.InstanceID
		}
		d.Members = append(d.Members, row)
	}
	for _, l := range g.Lag.Sorted() {
		d.Offsets = append(d.Offsets, lagRow(l))
	}
	return d, nil
}

func lagRow(l kadm.GroupMemberLag) offsetRow {
	row := offsetRow{Topic: l.Topic, Partition: l.Partition}
	if l.Commit.At >= 0 {
		row.Committed = &l.Commit.At
	}
	if l.End.Err == nil && l.End.Offset >= 0 {
		row.End = &l.End.Offset
	}
	if l.Err == nil && l.Lag >= 0 {
		row.Lag = &l.Lag
	}
	if l.Err != nil {
		row.Error = l.Err.Error()
	}
	if l.Member != nil {
		row.Member = l.Member.MemberID
	}
	return row
}

func writeGroup(w io.Writer, d groupDetail) {
	facts(w, "group", d.Group, "state", d.State, "coordinator", fmt.Sprint(d.Coordinator), "assignor", d.Assignor)
	fmt.Fprintln(w)
	t := newTable("no members", "MEMBER", "CLIENT", "HOST")
	for _, m := range d.Members {
		t.row(m.ID, dash(m.Client), dash(m.Host))
	}
	t.write(w)
	fmt.Fprintln(w)
	t = newTable("no offsets committed", "TOPIC", ">PARTITION", ">COMMITTED", ">END", ">LAG", "MEMBER")
	for _, o := range d.Offsets {
		t.row(o.Topic, fmt.Sprint(o.Partition), known(o.Committed, "-"), known(o.End, "unknown"), known(o.Lag, "unknown"), dash(o.Member))
	}
	t.write(w)
}

func known(n *int64, otherwise string) string {
	if n == nil {
		return otherwise
	}
	return grouped(*n)
}

func (c *cli) groupDelete() *cobra.Command {
	return &cobra.Command{
		Use:     "delete GROUP...",
		Short:   "Delete groups that have no members, with their offsets",
		Example: "  entrepot group delete billing",
		Args:    atLeast("GROUP"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.withAdmin(cmd.Context(), func(ctx context.Context, admin *kadm.Client) error {
				for _, name := range args {
					resp, err := admin.DeleteGroup(ctx, name)
					if err != nil {
						return explain("delete group "+name, err, resp.ErrMessage)
					}
					fmt.Fprintf(c.out, "deleted group %s\n", name)
				}
				return nil
			})
		},
	}
}

// sortedOffsets orders what a reset does by topic and partition.
func sortedOffsets(os kadm.Offsets) []kadm.Offset {
	all := os.Sorted()
	slices.SortFunc(all, func(a, b kadm.Offset) int {
		if n := strings.Compare(a.Topic, b.Topic); n != 0 {
			return n
		}
		return int(a.Partition - b.Partition)
	})
	return all
}
