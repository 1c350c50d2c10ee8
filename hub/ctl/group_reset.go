package ctl

import (
	"context"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"
)

// resetTo says where a group is to go on. Exactly one of the first four is
// given.
type resetTo struct {
	earliest, latest bool
	offset           int64  // -1: not given
	time             string // RFC 3339
	topics           []string
	partition        int32 // -1: all
	dryRun           bool
}

// resetRow is one partition of `group reset-offsets --json`.
type resetRow struct {
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
	Before    *int64 `json:"before"` // null: nothing was committed
	After     int64  `json:"after"`
}

func (c *cli) groupReset() *cobra.Command {
	to := resetTo{}
	cmd := &cobra.Command{
		Use:   "reset-offsets GROUP",
		Short: "Move a group without members to other offsets",
		Long: `Commit other offsets for a group. The group must have no members: stop its
consumers first. --dry-run shows what would be committed.`,
		Example: `  entrepot group reset-offsets billing --topic orders --to-earliest
  entrepot group reset-offsets billing --topic orders --to-time 2026-03-01T00:00:00Z --dry-run`,
		Args: exactly("GROUP"),
		RunE: func(cmd *cobra.Command, args []string) error {
			at, err := to.check()
			if err != nil {
				return err
			}
			return c.withAdmin(cmd.Context(), func(ctx context.Context, admin *kadm.Client) error {
				return c.resetGroup(ctx, admin, args[0], to, at)
			})
		},
	}
	f := cmd.Flags()
	f.StringSliceVar(&to.topics, "topic", nil, "`NAME` of a topic; may be given again; without it, all that the group has committed")
	f.Int32Var(&to.partition, "partition", -1, "one partition `N` only")
	f.BoolVar(&to.earliest, "to-earliest", false, "to the first record there is")
	f.BoolVar(&to.latest, "to-latest", false, "to the end")
	f.Int64Var(&to.offset, "to-offset", -1, "to offset `N`")
	f.StringVar(&to.time, "to-time", "", "to the first record at or after `TIME` (RFC 3339)")
	f.BoolVar(&to.dryRun, "dry-run", false, "show it, commit nothing")
	return c.reading(cmd)
}

// check returns the time of --to-time.
func (to resetTo) check() (time.Time, error) {
	given := 0
	for _, is := range []bool{to.earliest, to.latest, to.offset >= 0, to.time != ""} {
		if is {
			given++
		}
	}
	if given != 1 {
		return time.Time{}, usagef("say where to, by one of --to-earliest, --to-latest, --to-offset N (0 or more) and --to-time TIME")
	}
	if to.time == "" {
		return time.Time{}, nil
	}
	at, err := time.Parse(time.RFC3339, to.time)
	if err != nil {
		return at, usagef("--to-time %s: want a time such as 2026-03-01T00:00:00Z", to.time)
	}
	return at, nil
}

func (c *cli) resetGroup(ctx context.Context, admin *kadm.Client, group string, to resetTo, at time.Time) error {
	what := "reset offsets of group " + group
	described, err := admin.DescribeGroups(ctx, group)
	if err != nil {
		return explain(what, err, "")
	}
	members := len(described[group].Members)
	if consumers, err := admin.DescribeConsumerGroups(ctx, group); err == nil { // an older broker has no such groups
		members += len(consumers[group].Members)
	}
	if members > 0 {
		return fmt.Errorf("%s: it has %s; stop the group's consumers first", what, plural(members, "member"))
	}
	before, err := admin.FetchOffsets(ctx, group)
	if err != nil {
		return explain(what, err, "")
	}
	after, err := to.offsets(ctx, admin, before, at)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	rows := []resetRow{}
	for _, o := range sortedOffsets(after) {
		row := resetRow{Topic: o.Topic, Partition: o.Partition, After: o.At}
		if b, ok := before.Lookup(o.Topic, o.Partition); ok && b.Err == nil && b.At >= 0 {
			row.Before = &b.At
		}
		rows = append(rows, row)
	}
	if !to.dryRun {
		if err := admin.CommitAllOffsets(ctx, group, after); err != nil {
			return explain(what, err, "")
		}
	}
	return c.print(rows, func(w io.Writer) {
		t := newTable("nothing to reset: the group has committed nothing; name a --topic", "TOPIC", ">PARTITION", ">BEFORE", ">AFTER")
		for _, r := range rows {
			t.row(r.Topic, fmt.Sprint(r.Partition), known(r.Before, "-"), grouped(r.After))
		}
		t.write(w)
		if to.dryRun {
			fmt.Fprintln(w, "nothing was committed (--dry-run)")
		}
	})
}

// offsets works out what to commit. An offset outside a partition's records is
// moved to its nearer end, as a consumer's own reset would do.
func (to resetTo) offsets(ctx context.Context, admin *kadm.Client, committed kadm.OffsetResponses, at time.Time) (kadm.Offsets, error) {
	topics := slices.Clone(to.topics)
	if len(topics) == 0 {
		for t := range committed {
			topics = append(topics, t)
		}
	}
	after := kadm.Offsets{}
	if len(topics) == 0 {
		return after, nil
	}
	m, err := listMarks(ctx, admin, topics...)
	if err != nil {
		return nil, err
	}
	byTime := m.end
	if !at.IsZero() {
		if byTime, err = admin.ListOffsetsAfterMilli(ctx, at.UnixMilli(), topics...); err != nil {
			return nil, explain("look up the time", err, "")
		}
	}
	for _, topic := range topics {
		if len(m.end[topic]) == 0 {
			return nil, fmt.Errorf("topic %s is not there; `entrepot topic list` shows what is", topic)
		}
		for p := range m.end[topic] {
			_, had := committed.Lookup(topic, p)
			if to.partition >= 0 && p != to.partition || len(to.topics) == 0 && !had {
				continue
			}
			start, end, err := m.of(topic, p)
			if err != nil {
				return nil, err
			}
			target := to.offset
			switch {
			case to.earliest:
				target = start
			case to.latest:
				target = end
			case !at.IsZero():
				o, _ := byTime.Lookup(topic, p)
				if target = o.Offset; o.Err != nil || target < 0 {
					target = end // nothing is as young
				}
			}
			after.AddOffset(topic, p, min(max(target, start), end), -1)
		}
	}
	return after, nil
}
