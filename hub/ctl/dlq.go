package ctl

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// dlqSuffix ends the name of every dead-letter topic: JOB.dlq.
const dlqSuffix = ".dlq"

func (c *cli) dlqCommand() *cobra.Command {
	cmd := noun("dlq", "Look at dead letters, replay and drop them: records that a connector could not take",
		c.reading(c.dlqList()), c.reading(c.dlqShow()), c.reading(c.dlqReplay()), c.dlqDrop())
	c.siteFlags(cmd)
	c.loginFlags(cmd)
	return cmd
}

func (c *cli) dlqList() *cobra.Command {
	return &cobra.Command{
		Use:     "list",
		Short:   "List dead-letter topics with their records",
		Example: "  entrepot dlq list",
		Args:    exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.withAdmin(cmd.Context(), func(ctx context.Context, admin *kadm.Client) error {
				topics, err := listTopics(ctx, admin, false)
				if err != nil {
					return err
				}
				rows := []topicRow{}
				for _, t := range topics {
					if strings.HasSuffix(t.Name, dlqSuffix) {
						rows = append(rows, t)
					}
				}
				return c.print(rows, func(w io.Writer) {
					t := newTable("no dead-letter topics: nothing has been refused", "TOPIC", ">RECORDS")
					for _, r := range rows {
						t.row(r.Name, grouped(r.Records))
					}
					t.write(w)
				})
			})
		},
	}
}

// letter is one dead letter of `dlq show --json`. A value that is not text is
// written as Go would quote it.
type letter struct {
	Partition int32        `json:"partition"`
	Offset    int64        `json:"offset"`
	Time      string       `json:"time"`
	Key       string       `json:"key"`
	Value     string       `json:"value"`
	Headers   []headerLine `json:"headers"`
}

type headerLine struct {
	Key   string `json:"key"`
	Value string `json:"value"`
}

func (c *cli) dlqShow() *cobra.Command {
	var limit int
	cmd := &cobra.Command{
		Use:   "show NAME",
		Short: "Print dead letters: where, why, and the original bytes",
		Long:  "Print the records of a dead-letter topic, given by its name or its connector's,\noldest first in each partition.",
		Example: `  entrepot dlq show access-log
  entrepot dlq show access-log.dlq --limit 5 --json`,
		Args: exactly("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if limit < 1 {
				return usagef("--limit %d: want 1 or more", limit)
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), requestTime)
			defer cancel()
			d, err := c.readLetters(ctx, args[0], limit)
			if err != nil {
				return err
			}
			return c.print(d.letters, func(w io.Writer) { writeLetters(w, d) })
		},
	}
	cmd.Flags().IntVar(&limit, "limit", 20, "at most `N` records")
	return cmd
}

// deadLetters is what was read of a dead-letter topic.
type deadLetters struct {
	topic   string
	letters []letter
	total   int64 // how many there are
}

// readLetters reads from the start of the topic up to the end that it has now.
func (c *cli) readLetters(ctx context.Context, name string, limit int) (d deadLetters, err error) {
	client, err := c.kafkaClient(ctx)
	if err != nil {
		return d, err
	}
	defer client.Close()
	detail, err := findLetters(ctx, kadm.NewClient(client), name)
	if err != nil {
		return d, err
	}
	d = deadLetters{topic: detail.Name, letters: []letter{}}
	left := newRemaining()
	for _, p := range detail.Partitions {
		d.total += p.HighWatermark - p.LogStart
		left.add(p.Partition, p.LogStart, p.HighWatermark)
	}
	client.AddConsumePartitions(map[string]map[int32]kgo.Offset{d.topic: left.starts()})
	for len(d.letters) < limit && !left.done() {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			return d, explain("read "+d.topic, err, "")
		}
		fetches.EachPartition(func(p kgo.FetchTopicPartition) {
			for _, r := range p.Records {
				if left.take(r.Partition, r.Offset) && len(d.letters) < limit {
					d.letters = append(d.letters, newLetter(r))
				}
			}
		})
	}
	return d, nil
}

// findLetters takes the name of a connector or of a dead-letter topic.
func findLetters(ctx context.Context, admin *kadm.Client, name string) (topicDetail, error) {
	topic := strings.TrimSuffix(name, dlqSuffix) + dlqSuffix
	detail, err := describeTopic(ctx, admin, topic)
	if errors.Is(err, kerr.UnknownTopicOrPartition) && topic != name {
		detail, err = describeTopic(ctx, admin, name)
	}
	if errors.Is(err, kerr.UnknownTopicOrPartition) {
		return detail, fmt.Errorf("there is no dead-letter topic %s: that connector has refused nothing, or has another name; `entrepot dlq list` shows what is there", topic)
	}
	return detail, err
}

// remaining is what is still to be read of each partition, up to the ends at
// the beginning.
type remaining map[int32]*span

type span struct{ next, end int64 }

func newRemaining() remaining { return remaining{} }

// add leaves out what is empty.
func (r remaining) add(partition int32, start, end int64) {
	if start < end {
		r[partition] = &span{start, end}
	}
}

func (r remaining) starts() map[int32]kgo.Offset {
	all := map[int32]kgo.Offset{}
	for p, s := range r {
		all[p] = kgo.NewOffset().At(s.next)
	}
	return all
}

// take reports whether the record is one of those to be read.
func (r remaining) take(partition int32, offset int64) bool {
	s, ok := r[partition]
	if !ok || offset >= s.end {
		return false
	}
	if s.next = offset + 1; s.next >= s.end {
		delete(r, partition)
	}
	return true
}

func (r remaining) done() bool { return len(r) == 0 }

func newLetter(r *kgo.Record) letter {
	l := letter{Partition: r.Partition, Offset: r.Offset, Time: stamp(r.Timestamp), Key: text(r.Key), Value: text(r.Value), Headers: []headerLine{}}
	for _, h := range r.Headers {
		l.Headers = append(l.Headers, headerLine{h.Key, text(h.Value)})
	}
	return l
}

// text shows bytes as they are if they can be shown, else quoted, so that a
// terminal is not written to by a stranger's bytes.
func text(b []byte) string {
	if utf8.Valid(b) && !strings.ContainsFunc(string(b), func(r rune) bool { return r < ' ' && r != '\t' && r != '\n' || r == 0x7f }) {
		return string(b)
	}
	return strconv.QuoteToASCII(string(b))
}

func writeLetters(w io.Writer, d deadLetters) {
	for _, l := range d.letters {
		fmt.Fprintf(w, "%s-%d offset %d, %s\n", d.topic, l.Partition, l.Offset, l.Time)
		pairs := []string{}
		for _, h := range l.Headers {
			pairs = append(pairs, "  "+h.Key, dash(h.Value))
		}
		facts(w, append(pairs, "  key", l.Key, "  value", dash(l.Value))...)
		fmt.Fprintln(w)
	}
	fmt.Fprintf(w, "%d of %s shown\n", len(d.letters), plural(int(d.total), "record"))
}
