package ctl

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

func (c *cli) benchConsume() *cobra.Command {
	o := &benchOptions{}
	cmd := &cobra.Command{
		Use:   "consume",
		Short: "Read a topic from its start as fast as it is given",
		Long: `Read the records that the topic has now, without a group, and print throughput.
The partitions are shared out between the clients. Without --records it reads
all of them.`,
		Example: `  entrepot bench consume --records 1000000
  entrepot bench consume --topic clicks --clients 3 --json`,
		Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := o.check(); err != nil {
				return err
			}
			return c.runConsume(cmd.Context(), *o)
		},
	}
	o.flags(cmd)
	return cmd
}

func (c *cli) runConsume(ctx context.Context, o benchOptions) error {
	shares := make([]remaining, o.clients)
	if err := c.withAdmin(ctx, func(ctx context.Context, admin *kadm.Client) error {
		detail, err := describeTopic(ctx, admin, o.topic)
		for i, p := range detail.Partitions {
			if shares[i%o.clients] == nil {
				shares[i%o.clients] = newRemaining()
			}
			shares[i%o.clients].add(p.Partition, p.LogStart, p.HighWatermark)
		}
		return err
	}); err != nil {
		return err
	}
	clients, err := c.openClients(ctx, o.clients, kgo.FetchMaxBytes(64<<20), kgo.FetchMaxPartitionBytes(8<<20), kgo.FetchMaxWait(500*time.Millisecond), kgo.WithPools(new(recordPool)))
	if err != nil {
		return err
	}
	defer closeAll(clients)
	var t tally
	var left atomic.Int64
	left.Store(o.records)
	elapsed := c.runClients(ctx, o, &t, clients, func(ctx context.Context, i int, client *kgo.Client) {
		if shares[i].done() {
			return
		}
		client.AddConsumePartitions(map[string]map[int32]kgo.Offset{o.topic: shares[i].starts()})
		consume(ctx, client, shares[i], o.records > 0, &left, &t)
	})
	if o.records > 0 && t.records.Load() < o.records && t.firstError.Load() == nil && ctx.Err() == nil && o.duration == 0 {
		short := errors.New("the topic has " + plural(int(t.records.Load()), "record") + ", fewer than --records asks for")
		t.firstError.Store(&short)
	}
	return c.finish(ctx, o.topic, &t, elapsed, nil)
}

// consume polls until share has been read, the records that all clients
// together were to read have been, or ctx ends.
func consume(ctx context.Context, client *kgo.Client, share remaining, bounded bool, left *atomic.Int64, t *tally) {
	for !share.done() && (!bounded || left.Load() > 0) {
		fetches := client.PollFetches(ctx)
		if ctx.Err() != nil {
			return
		}
		if err := fetches.Err(); err != nil {
			t.firstError.CompareAndSwap(nil, &err)
			return
		}
		var records, bytes int64
		fetches.EachRecord(func(r *kgo.Record) {
			if share.take(r.Partition, r.Offset) {
				records++
				bytes += int64(len(r.Key) + len(r.Value))
			}
			r.Recycle()
		})
		left.Add(-records)
		t.records.Add(records)
		t.bytes.Add(bytes)
	}
}

// recordPool reuses what the client decodes records into: nobody keeps them
// here, and without it the collector would be measured along with the site.
type recordPool struct{ pool sync.Pool }

// GetRecords returns room for n records (kgo.PoolRecords).
func (p *recordPool) GetRecords(n int) []kgo.Record {
	if s, ok := p.pool.Get().(*[]kgo.Record); ok && cap(*s) >= n {
		return *s
	}
	return make([]kgo.Record, n)
}

// PutRecords takes it back.
func (p *recordPool) PutRecords(s []kgo.Record) { p.pool.Put(&s) }
