package ctl

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// abortAgain is how often `txn abort` asks while the markers are written.
const abortAgain = 100 * time.Millisecond

func (c *cli) txnAbort() *cobra.Command {
	var topic string
	var partition int32
	var producer int64
	cmd := &cobra.Command{
		Use:   "abort [TRANSACTIONAL-ID]",
		Short: "Abort the open transaction of a transactional ID, or one that hangs in a partition",
		Long: `With a transactional ID, abort aborts the transaction that is open, if one is,
and fences the producer that has the ID: it fails at its next step and has to
start anew.

With --topic, --partition and --producer, abort ends what a producer has open in
that partition, past the coordinator. That is for a transaction that hangs: the
coordinator knows nothing of it, and readers with read_committed do not get
beyond it. Who still writes in it loses what was written there.`,
		Example: `  entrepot txn abort billing-7
  entrepot txn abort --topic orders --partition 3 --producer 4001`,
		Args: atMost("TRANSACTIONAL-ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			inPartition := topic != "" || cmd.Flags().Changed("partition") || cmd.Flags().Changed("producer")
			switch {
			case inPartition == (len(args) == 1):
				return usagef("txn abort takes a transactional ID, or --topic, --partition and --producer")
			case inPartition && (topic == "" || partition < 0):
				return usagef("txn abort in a partition needs --topic, --partition and --producer; without --producer it says which have a transaction open")
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), requestTime)
			defer cancel()
			client, err := c.kafkaClient(ctx)
			if err != nil {
				return err
			}
			defer client.Close()
			if inPartition {
				return c.abortInPartition(ctx, kadm.NewClient(client), topic, partition, producer)
			}
			return c.abortByID(ctx, client, args[0])
		},
	}
	cmd.Flags().StringVar(&topic, "topic", "", "topic in which the transaction hangs")
	cmd.Flags().Int32Var(&partition, "partition", -1, "its partition")
	cmd.Flags().Int64Var(&producer, "producer", -1, "producer ID of the transaction")
	return cmd
}

// abortByID takes the transactional ID over, as a producer that starts does.
func (c *cli) abortByID(ctx context.Context, client *kgo.Client, id string) error {
	was, err := describeTransaction(ctx, kadm.NewClient(client), id)
	if err != nil {
		return err
	}
	req := kmsg.NewPtrInitProducerIDRequest()
	req.TransactionalID, req.TransactionTimeoutMillis = &id, was.TimeoutMs
	for {
		resp, err := req.RequestWith(ctx, client)
		if err == nil {
			err = kerr.ErrorForCode(resp.ErrorCode)
		}
		if err == nil {
			break
		}
		if !errors.Is(err, kerr.ConcurrentTransactions) {
			return explain("abort "+id, err, "")
		}
		select {
		case <-time.After(abortAgain): // its markers are being written
		case <-ctx.Done():
			return explain("abort "+id, ctx.Err(), "")
		}
	}
	if was.Started == nil {
		fmt.Fprintf(c.out, "%s had no transaction open; its producer is fenced\n", id)
		return nil
	}
	fmt.Fprintf(c.out, "aborted the transaction of %s over %s; its producer is fenced\n", id, plural(was.Partitions, "partition"))
	return nil
}

// abortInPartition writes the marker itself, with what the partition knows of
// the producer.
func (c *cli) abortInPartition(ctx context.Context, admin *kadm.Client, topic string, partition int32, producer int64) error {
	where := fmt.Sprintf("%s-%d", topic, partition)
	what := fmt.Sprintf("producer %d in %s", producer, where)
	set := kadm.TopicsSet{}
	set.Add(topic, partition)
	all, err := admin.DescribeProducers(ctx, set)
	p := all[topic].Partitions[partition]
	if err == nil {
		err = p.Err
	}
	if err != nil {
		return explain("producers of "+where, err, "")
	}
	d, ok := p.ActiveProducers[producer]
	if !ok || d.CurrentTxnStartOffset < 0 {
		return fmt.Errorf("--producer %d has no transaction open in %s; %s", producer, where, openIn(p.ActiveProducers))
	}
	done, err := admin.WriteTxnMarkers(ctx, kadm.TxnMarkers{
		ProducerID: producer, ProducerEpoch: d.ProducerEpoch, CoordinatorEpoch: d.CoordinatorEpoch, Topics: set,
	})
	if err == nil {
		err = done[producer].Topics[topic].Partitions[partition].Err
	}
	if err != nil {
		return explain("abort "+what, err, "")
	}
	fmt.Fprintf(c.out, "aborted what %s had open since offset %d\n", what, d.CurrentTxnStartOffset)
	return nil
}

// openIn says which producers have a transaction open.
func openIn(all kadm.DescribedProducers) string {
	var open []string
	for _, d := range all.Sorted() {
		if d.CurrentTxnStartOffset >= 0 {
			open = append(open, fmt.Sprintf("%d since offset %d (it last wrote %s)", d.ProducerID, d.CurrentTxnStartOffset, stamp(time.UnixMilli(d.LastTimestamp))))
		}
	}
	if len(open) == 0 {
		return "nobody has"
	}
	return "these have: " + strings.Join(open, ", ")
}
