package ctl

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/entrepot-hub/entrepot/connectors"
	"github.com/entrepot-hub/entrepot/record"
	"github.com/entrepot-hub/entrepot/stream"
)

const (
	// dryTime bounds a dry run, whose systems may be slow to answer.
	dryTime = 2 * time.Minute
	// topicTime bounds the look into one topic of the site.
	topicTime = 10 * time.Second
	// maxSample keeps a dry run a look.
	maxSample = 10_000
)

// dryReport is `connector dry-run --json`.
type dryReport struct {
	Live  bool            `json:"live"`
	OK    bool            `json:"ok"`
	Files []string        `json:"files"`
	Jobs  []stream.DryJob `json:"jobs"`
}

func (c *cli) connectorDryRun() *cobra.Command {
	var live bool
	var sample int
	var allow []string
	cmd := &cobra.Command{
		Use:   "dry-run FILE...",
		Short: "Show what the connectors of jobs files would do, and write nothing",
		Long: `Show what the connectors of jobs files would do: where records come from, what
is done with them, where they go, and which guarantee holds by which mechanism.

With --live the real systems are looked at, and only read: some records are
taken through the transforms and shown to the destination, which says how types
map, which statements it would run, and what would be lost or refused. Nothing
is written: no table, slot, topic, file, message, offset or acknowledgement. The
sample of a sink is what the sources of the files bring to its topic; if there
are none, the newest records of the topic at a running site (--brokers).

The exit status is 2 when a job would not run, a record of the sample would be
a dead letter, or a value would be changed in silence. The last can be accepted:
--allow numeric_to_double, or allow_lossy in the config of the source or sink.`,
		Example: `  entrepot connector dry-run warehouse.yaml
  entrepot connector dry-run warehouse.yaml --live --sample 1000
  entrepot connector dry-run warehouse.yaml --live --allow unknown_field --json`,
		Args: atLeast("FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if sample < 1 || sample > maxSample {
				return usagef("--sample %d: want 1 to %d", sample, maxSample)
			}
			for _, a := range allow {
				if !slices.Contains(stream.LossKinds, a) {
					return usagef("--allow %q: want some of %s", a, strings.Join(stream.LossKinds, ", "))
				}
			}
			p := c.parse(cmd.Context(), args)
			defer p.close()
			if len(p.errs) == 0 {
				p.errs, _ = p.jobs.Validate(cmd.Context(), connectors.ProbeNone)
			}
			if len(p.errs) > 0 {
				return p.errs
			}
			if len(p.jobs.Connectors) == 0 {
				return usagef("%s: there are no connectors", strings.Join(args, ", "))
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), dryTime)
			defer cancel()
			report := dryReport{Live: live, OK: true, Files: p.files, Jobs: stream.DryRun(ctx, p.jobs, stream.DryOptions{
				Live: live, Sample: sample, Allow: allow, Read: c.newest, Clock: time.Now,
			})}
			for _, j := range report.Jobs {
				report.OK = report.OK && !slices.ContainsFunc(j.Losses, stream.Loss.Bad)
			}
			if err := c.print(report, dryText{report}.write); err != nil {
				return err
			}
			if !report.OK {
				return errUsageShown
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&live, "live", false, "connect to the real systems, and only read")
	cmd.Flags().IntVar(&sample, "sample", 100, "look at `N` records of each source")
	cmd.Flags().StringSliceVar(&allow, "allow", nil, "accept these `KINDS` of losses: "+strings.Join(stream.LossKinds, ", "))
	c.loginFlags(cmd)
	return c.reading(cmd)
}

// newest reads some of the last records of a topic of the site, in no group.
func (c *cli) newest(ctx context.Context, topic string, most int) ([]connectors.Message, error) {
	ctx, cancel := context.WithTimeout(ctx, topicTime)
	defer cancel()
	client, err := c.kafkaClient(ctx, kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.KeepControlRecords())
	if err != nil {
		return nil, err
	}
	defer client.Close()
	detail, err := describeTopic(ctx, kadm.NewClient(client), topic)
	if err != nil {
		return nil, err
	}
	left := newRemaining()
	share := int64(most/max(1, len(detail.Partitions)) + 1)
	for _, p := range detail.Partitions {
		left.add(p.Partition, max(p.LogStart, p.HighWatermark-share), p.HighWatermark)
	}
	client.AddConsumePartitions(map[string]map[int32]kgo.Offset{topic: left.starts()})
	var all []connectors.Message
	for len(all) < most && !left.done() {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err(); errors.Is(err, context.DeadlineExceeded) && len(all) > 0 {
			break // a transaction is open behind them
		} else if err != nil {
			return nil, explain("read "+topic, err, "")
		}
		fetches.EachPartition(func(p kgo.FetchTopicPartition) {
			for _, r := range p.Records {
				if left.take(r.Partition, r.Offset) && len(all) < most && !r.Attrs.IsControl() {
					all = append(all, messageOf(r))
				}
			}
		})
	}
	return all, nil
}

func messageOf(r *kgo.Record) connectors.Message {
	m := connectors.Message{
		Key: r.Key, Value: r.Value, Original: r.Value, Timestamp: r.Timestamp.UnixMilli(),
		Partition: record.TopicPartition{Topic: r.Topic, Partition: r.Partition}, Offset: r.Offset,
	}
	for _, h := range r.Headers {
		m.Headers = append(m.Headers, record.Header{Key: h.Key, Value: h.Value})
	}
	return m
}

// systemOf is what a job's system is called in its config.
func systemOf(j stream.DryJob) string {
	for _, name := range []string{"table", "tables", "topics", "remote_topic", "queue", "stream", "exchange", "path", "url", "addr"} {
		if v, ok := j.Config[name]; ok {
			return fmt.Sprintf("%s %v", j.Type, v)
		}
	}
	return j.Type
}
