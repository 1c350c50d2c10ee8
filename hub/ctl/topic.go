package ctl

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/entrepot-hub/entrepot/record"
)

func (c *cli) topicCommand() *cobra.Command {
	return c.kafka(noun("topic", "Create, list, describe, configure and delete topics",
		c.topicCreate(), c.reading(c.topicList()), c.reading(c.topicDescribe()), c.topicDelete(), c.topicConfig(), c.reading(c.topicReplicas())))
}

func (c *cli) topicCreate() *cobra.Command {
	var (
		partitions int32
		replicas   int16
		settings   []string
		accept     bool
	)
	cmd := &cobra.Command{
		Use:   "create NAME",
		Short: "Create a topic",
		Example: `  entrepot topic create clicks --partitions 6
  entrepot topic create orders --partitions 3 --config retention.ms=86400000 --config mirror.to=west`,
		Args: exactly("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if partitions < 1 {
				return usagef("--partitions %d: want 1 or more", partitions)
			}
			if replicas < 1 && replicas != -1 {
				return usagef("--replicas %d: want 1 or more", replicas)
			}
			config, err := keyValues("--config", settings)
			if err != nil {
				return err
			}
			return c.withAdmin(cmd.Context(), func(ctx context.Context, admin *kadm.Client) error {
				return c.createTopic(ctx, admin, args[0], partitions, replicas, config, accept)
			})
		},
	}
	cmd.Flags().Int32Var(&partitions, "partitions", 1, "`N` partitions")
	cmd.Flags().Int16Var(&replicas, "replicas", -1, "`N` copies of each partition at this site; -1: three at a site of three nodes or more, else one")
	cmd.Flags().StringArrayVar(&settings, "config", nil, "a setting, `KEY=VALUE`; may be given again")
	cmd.Flags().BoolVar(&accept, "if-not-exists", false, "succeed if the topic is there already")
	return cmd
}

func (c *cli) createTopic(ctx context.Context, admin *kadm.Client, name string, partitions int32, replicas int16, config map[string]*string, accept bool) error {
	resp, err := admin.CreateTopic(ctx, partitions, replicas, config, name)
	switch {
	case accept && errors.Is(err, kerr.TopicAlreadyExists):
		fmt.Fprintf(c.out, "topic %s is there already\n", name)
		return nil
	case errors.Is(err, kerr.TopicAlreadyExists):
		resp.ErrMessage = "" // our advice says more
	}
	if err != nil {
		return explain("create topic "+name, err, resp.ErrMessage)
	}
	fmt.Fprintf(c.out, "created topic %s with %s and %s\n", name, plural(int(partitions), "partition"), plural(int(max(replicas, resp.ReplicationFactor)), "replica"))
	return nil
}

// keyValues reads KEY=VALUE words. The value may hold anything, "=" included.
func keyValues(flag string, words []string) (map[string]*string, error) {
	all := map[string]*string{}
	for _, w := range words {
		k, v, ok := strings.Cut(w, "=")
		if !ok || k == "" {
			return nil, usagef("%s %q: want KEY=VALUE", flag, w)
		}
		all[k] = &v
	}
	return all, nil
}

func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return grouped(int64(n)) + " " + noun + "s"
}

// topicRow is one topic of `topic list --json`.
type topicRow struct {
	Name       string `json:"name"`
	Internal   bool   `json:"internal"`
	Partitions int    `json:"partitions"`
	Replicas   int    `json:"replicas"`
	Records    int64  `json:"records"`
}

func (c *cli) topicList() *cobra.Command {
	var internal bool
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List topics with their partitions and records",
		Example: `  entrepot topic list
  entrepot topic list --internal --json`,
		Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.withAdmin(cmd.Context(), func(ctx context.Context, admin *kadm.Client) error {
				rows, err := listTopics(ctx, admin, internal)
				if err != nil {
					return err
				}
				return c.print(rows, func(w io.Writer) {
					t := newTable("no topics; create one with `entrepot topic create NAME`", "TOPIC", ">PARTITIONS", ">REPLICAS", ">RECORDS")
					for _, r := range rows {
						t.row(r.Name, grouped(int64(r.Partitions)), grouped(int64(r.Replicas)), grouped(r.Records))
					}
					t.write(w)
				})
			})
		},
	}
	cmd.Flags().BoolVar(&internal, "internal", false, "the hub's own topics too")
	return cmd
}

func listTopics(ctx context.Context, admin *kadm.Client, internal bool) ([]topicRow, error) {
	details, err := admin.ListTopicsWithInternal(ctx)
	if err != nil {
		return nil, explain("list topics", err, "")
	}
	rows := []topicRow{}
	if !internal {
		details.FilterInternal()
	}
	if len(details) == 0 {
		return rows, nil
	}
	marks, err := listMarks(ctx, admin, details.Names()...)
	if err != nil {
		return nil, err
	}
	for _, d := range details.Sorted() {
		r := topicRow{Name: d.Topic, Internal: d.IsInternal, Partitions: len(d.Partitions)}
		for _, p := range d.Partitions {
			r.Replicas = max(r.Replicas, len(p.Replicas))
			start, end, err := marks.of(d.Topic, p.Partition)
			if err != nil {
				return nil, err
			}
			r.Records += end - start
		}
		rows = append(rows, r)
	}
	return rows, nil
}

// electing reports whether an error, or a part of it, is of a partition without
// a leader.
func electing(err error) bool {
	var shards *kadm.ShardErrors
	if errors.As(err, &shards) {
		return slices.ContainsFunc(shards.Errs, func(e kadm.ShardError) bool { return electing(e.Err) })
	}
	return errors.Is(err, kerr.LeaderNotAvailable) || errors.Is(err, kerr.NotLeaderForPartition)
}

// marks are the first and next offsets of partitions.
type marks struct{ start, end kadm.ListedOffsets }

func listMarks(ctx context.Context, admin *kadm.Client, topics ...string) (m marks, err error) {
	if m.start, err = onceLed(ctx, func() (kadm.ListedOffsets, error) { return admin.ListStartOffsets(ctx, topics...) }); err != nil {
		return m, explain("list start offsets", err, "")
	}
	if m.end, err = onceLed(ctx, func() (kadm.ListedOffsets, error) { return admin.ListEndOffsets(ctx, topics...) }); err != nil {
		return m, explain("list end offsets", err, "")
	}
	return m, nil
}

// electionTime is for how long a partition may be without a leader until a
// command says so.
const electionTime = 5 * time.Second

// onceLed asks again while a leader is being elected.
func onceLed(ctx context.Context, list func() (kadm.ListedOffsets, error)) (kadm.ListedOffsets, error) {
	until := time.Now().Add(electionTime)
	for {
		all, err := list()
		if !electing(err) && !electing(all.Error()) || time.Now().After(until) {
			return all, err
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return all, err
		}
	}
}

func (m marks) of(topic string, partition int32) (start, end int64, err error) {
	s, okS := m.start.Lookup(topic, partition)
	e, okE := m.end.Lookup(topic, partition)
	if err := errors.Join(s.Err, e.Err); err != nil {
		return 0, 0, explain(fmt.Sprintf("offsets of %s-%d", topic, partition), err, "")
	}
	if !okS || !okE {
		return 0, 0, fmt.Errorf("offsets of %s-%d: the site did not tell them", topic, partition)
	}
	return s.Offset, e.Offset, nil
}

// topicDetail is `topic describe --json`.
type topicDetail struct {
	Name       string            `json:"name"`
	ID         string            `json:"id"`
	Internal   bool              `json:"internal"`
	Partitions []partitionRow    `json:"partitions"`
	Config     map[string]string `json:"config"` // what is set on the topic itself
}

type partitionRow struct {
	Partition     int32   `json:"partition"`
	Leader        int32   `json:"leader"` // -1: none
	LeaderEpoch   int32   `json:"leader_epoch"`
	Replicas      []int32 `json:"replicas"`
	InSync        []int32 `json:"in_sync"`
	LogStart      int64   `json:"log_start"`
	HighWatermark int64   `json:"high_watermark"`
	Bytes         int64   `json:"bytes"` // on the leader's disk
}

// partitionOf is what the metadata tell of a partition. Lists are never null, as they are
// in p where they are empty: nobody is known to be in sync while a leader is
// elected.
func partitionOf(p kadm.PartitionDetail) partitionRow {
	return partitionRow{Partition: p.Partition, Leader: p.Leader, LeaderEpoch: p.LeaderEpoch,
		Replicas: append([]int32{}, p.Replicas...), InSync: append([]int32{}, p.ISR...)}
}

func (c *cli) topicDescribe() *cobra.Command {
	return &cobra.Command{
		Use:     "describe NAME",
		Short:   "Show a topic's partitions, offsets and settings",
		Example: "  entrepot topic describe clicks",
		Args:    exactly("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.withAdmin(cmd.Context(), func(ctx context.Context, admin *kadm.Client) error {
				d, err := describeTopic(ctx, admin, args[0])
				if err != nil {
					return err
				}
				return c.print(d, func(w io.Writer) { writeTopic(w, d) })
			})
		},
	}
}

func describeTopic(ctx context.Context, admin *kadm.Client, name string) (topicDetail, error) {
	all, err := admin.ListTopicsWithInternal(ctx, name)
	if err != nil {
		return topicDetail{}, explain("describe topic "+name, err, "")
	}
	t, ok := all[name]
	if !ok {
		t.Err = kerr.UnknownTopicOrPartition
	}
	if t.Err != nil {
		return topicDetail{}, explain("topic "+name, t.Err, "")
	}
	sizes, err := partitionBytes(ctx, admin, name)
	if err != nil {
		return topicDetail{}, explain("sizes of topic "+name, err, "")
	}
	d := topicDetail{Name: name, ID: record.TopicID(t.ID).String(), Internal: t.IsInternal, Partitions: []partitionRow{}, Config: map[string]string{}}
	marks, err := listMarks(ctx, admin, name)
	if err != nil {
		return d, err
	}
	for _, p := range t.Partitions.Sorted() {
		row := partitionOf(p)
		row.Bytes = sizes[place{p.Leader, p.Partition}]
		if row.LogStart, row.HighWatermark, err = marks.of(name, p.Partition); err != nil {
			return d, err
		}
		d.Partitions = append(d.Partitions, row)
	}
	settings, err := topicSettings(ctx, admin, name)
	for _, s := range settings {
		if s.Set {
			d.Config[s.Key] = s.Value
		}
	}
	return d, err
}

func writeTopic(w io.Writer, d topicDetail) {
	var config []string
	for _, k := range slices.Sorted(maps.Keys(d.Config)) {
		config = append(config, k+"="+d.Config[k])
	}
	facts(w, "topic", d.Name, "id", d.ID, "config", strings.Join(config, "  "))
	fmt.Fprintln(w)
	t := newTable("no partitions", ">PARTITION", ">LEADER", ">EPOCH", "REPLICAS", "IN SYNC", ">LOG START", ">NEXT OFFSET", ">RECORDS", ">BYTES")
	for _, p := range d.Partitions {
		t.row(fmt.Sprint(p.Partition), fmt.Sprint(p.Leader), fmt.Sprint(p.LeaderEpoch), nodes(p.Replicas), nodes(p.InSync),
			grouped(p.LogStart), grouped(p.HighWatermark), grouped(p.HighWatermark-p.LogStart), grouped(p.Bytes))
	}
	t.write(w)
}

// place is a partition on a node.
type place struct{ node, partition int32 }

// partitionBytes is what a topic takes on the disks of its nodes. A site that
// does not let this user see it tells nothing: the sizes are then 0.
func partitionBytes(ctx context.Context, admin *kadm.Client, topic string) (map[place]int64, error) {
	var set kadm.TopicsSet
	set.Add(topic)
	dirs, err := admin.DescribeAllLogDirs(ctx, set)
	if err != nil && !errors.Is(err, kerr.ClusterAuthorizationFailed) {
		return nil, err
	}
	sizes := map[place]int64{}
	dirs.Each(func(d kadm.DescribedLogDir) {
		d.Topics.Each(func(p kadm.DescribedLogDirPartition) {
			if p.Topic == topic {
				sizes[place{p.Broker, p.Partition}] += p.Size
			}
		})
	})
	return sizes, nil
}

func nodes(ids []int32) string {
	return strings.Trim(strings.ReplaceAll(fmt.Sprint(ids), " ", ","), "[]")
}

func (c *cli) topicDelete() *cobra.Command {
	return &cobra.Command{
		Use:     "delete NAME...",
		Short:   "Delete topics and all their records",
		Example: "  entrepot topic delete scratch",
		Args:    atLeast("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.withAdmin(cmd.Context(), func(ctx context.Context, admin *kadm.Client) error {
				for _, name := range args {
					resp, err := admin.DeleteTopic(ctx, name)
					if errors.Is(err, kerr.UnknownTopicOrPartition) {
						resp.ErrMessage = ""
					}
					if err != nil {
						return explain("delete topic "+name, err, resp.ErrMessage)
					}
					fmt.Fprintf(c.out, "deleted topic %s\n", name)
				}
				return nil
			})
		},
	}
}
