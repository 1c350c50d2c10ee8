package ctl

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// produceOptions are the flags of `bench produce`.
type produceOptions struct {
	benchOptions
	size        int
	partitions  int32
	replicas    int16
	acks        string
	compression string
	rate        int64
}

func (c *cli) benchProduce() *cobra.Command {
	o := &produceOptions{}
	cmd := &cobra.Command{
		Use:   "produce",
		Short: "Produce records as fast as they are taken, or at a given rate",
		Long: `Produce records of random bytes, which do not compress, and print throughput
and the time until they were acknowledged. Without --rate the client keeps as
much in flight as it can, and the latency is mostly that of its own queue; for
the latency at a load, give --rate.

The topic is created when it is not there. Without --records and --duration it
is a million records.`,
		Example: `  entrepot bench produce --record-size 1024 --records 1000000 --partitions 6
  entrepot bench produce --record-size 100 --duration 30s --rate 50000 --json`,
		Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := o.check(); err != nil {
				return err
			}
			return c.runProduce(cmd.Context(), *o)
		},
	}
	o.flags(cmd)
	f := cmd.Flags()
	f.IntVar(&o.size, "record-size", 1024, "`BYTES` of each value")
	f.Int32Var(&o.partitions, "partitions", 6, "`N` partitions, if the topic has to be created")
	f.Int16Var(&o.replicas, "replicas", 1, "`N` copies, if the topic has to be created")
	f.StringVar(&o.acks, "acks", "all", "all (idempotent), leader or none")
	f.StringVar(&o.compression, "compression", "none", "none, gzip, snappy, lz4 or zstd")
	f.Int64Var(&o.rate, "rate", 0, "`N` records a second in all; 0: as fast as they are taken")
	return cmd
}

func (o *produceOptions) check() error {
	if err := o.benchOptions.check(); err != nil {
		return err
	}
	switch {
	case o.size < 1 || o.size > 1<<20:
		return usagef("--record-size %d: want 1 to %d", o.size, 1<<20)
	case o.partitions < 1:
		return usagef("--partitions %d: want 1 or more", o.partitions)
	case o.replicas < 1:
		return usagef("--replicas %d: want 1 or more", o.replicas)
	case o.rate < 0:
		return usagef("--rate %d: want 0 or more", o.rate)
	}
	if o.records == 0 && o.duration == 0 {
		o.records = 1_000_000
	}
	_, err := o.options()
	return err
}

// options are the client's. Batches are as large as a topic takes by default,
// so that what is measured is the site and not the client's thrift.
func (o *produceOptions) options() ([]kgo.Opt, error) {
	opts := []kgo.Opt{
		kgo.DefaultProduceTopic(o.topic),
		kgo.ProducerBatchMaxBytes(1_000_000),
		kgo.MaxBufferedRecords(1 << 20),
		kgo.MaxBufferedBytes(64 << 20),
		kgo.ProducerLinger(time.Millisecond),
		kgo.RecordPartitioner(kgo.UniformBytesPartitioner(256<<10, false, false, nil)),
		kgo.RecordDeliveryTimeout(time.Minute),
	}
	switch o.acks {
	case "all", "-1":
		opts = append(opts, kgo.RequiredAcks(kgo.AllISRAcks()))
	case "leader", "1":
		opts = append(opts, kgo.RequiredAcks(kgo.LeaderAck()), kgo.DisableIdempotentWrite())
	case "none", "0":
		opts = append(opts, kgo.RequiredAcks(kgo.NoAck()), kgo.DisableIdempotentWrite())
	default:
		return nil, usagef("--acks %s: want all, leader or none", o.acks)
	}
	codecs := map[string]kgo.CompressionCodec{
		"none": kgo.NoCompression(), "gzip": kgo.GzipCompression(), "snappy": kgo.SnappyCompression(),
		"lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression(),
	}
	codec, ok := codecs[o.compression]
	if !ok {
		return nil, usagef("--compression %s: want none, gzip, snappy, lz4 or zstd", o.compression)
	}
	return append(opts, kgo.ProducerBatchCompression(codec)), nil
}

func (c *cli) runProduce(ctx context.Context, o produceOptions) error {
	opts, err := o.options()
	if err != nil {
		return err
	}
	if err := c.withAdmin(ctx, func(ctx context.Context, admin *kadm.Client) error {
		resp, err := admin.CreateTopic(ctx, o.partitions, o.replicas, nil, o.topic)
		if err != nil && !errors.Is(err, kerr.TopicAlreadyExists) {
			return explain("create topic "+o.topic, err, resp.ErrMessage)
		}
		return nil
	}); err != nil {
		return err
	}
	clients, err := c.openClients(ctx, o.clients, opts...)
	if err != nil {
		return err
	}
	defer closeAll(clients)
	var t tally
	var left atomic.Int64
	left.Store(o.records)
	times := make([]*latencies, len(clients))
	elapsed := c.runClients(ctx, o.benchOptions, &t, clients, func(ctx context.Context, i int, client *kgo.Client) {
		times[i] = &latencies{}
		p := producer{client: client, o: o, tally: &t, left: &left, times: times[i], rng: rand.New(rand.NewPCG(uint64(i), 1))}
		p.run(ctx)
	})
	var all histogram
	for _, l := range times {
		all.merge(&l.mu.histogram)
	}
	return c.finish(ctx, o.topic, &t, elapsed, &all)
}

// latencies is one client's histogram; the client's own goroutine adds to it.
type latencies struct {
	mu struct {
		sync.Mutex
		histogram
	}
}

func (l *latencies) add(d time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mu.add(d)
}

// producer is one client at work.
type producer struct {
	client *kgo.Client
	o      produceOptions
	tally  *tally
	left   *atomic.Int64 // shared by all clients; used when records is given
	times  *latencies
	rng    *rand.Rand
}

// Records are made in slabs and every tenth is timed: making each by itself
// and a closure for each would cost more than sending them.
const (
	slab       = 1000
	timedEvery = 10
)

// run produces until its time or the records are over, then waits for what is
// in flight. A cancelled ctx (Ctrl-C, or the duration) ends the sending only.
func (p *producer) run(ctx context.Context) {
	sending := context.WithoutCancel(ctx)
	bytes := randomBytes(p.rng, p.o.size)
	pace := newPacer(p.o.rate, p.o.clients)
	for ctx.Err() == nil {
		n := p.claim(pace.slab())
		if n == 0 || !pace.wait(ctx, n) {
			break
		}
		p.produce(sending, p.records(bytes, n))
		if p.tally.failed.Load() > 1000 {
			break // the site refuses them; more of the same says nothing new
		}
	}
	flushing, cancel := context.WithTimeout(sending, time.Minute)
	defer cancel()
	if err := p.client.Flush(flushing); err != nil {
		p.tally.fail(err)
	}
}

// claim takes up to n of the records that are left.
func (p *producer) claim(n int64) int64 {
	if p.o.records == 0 {
		return n
	}
	after := p.left.Add(-n)
	return max(min(n, n+after), 0)
}

// records are n records whose values are windows into the same random bytes.
func (p *producer) records(bytes []byte, n int64) []kgo.Record {
	all := make([]kgo.Record, n)
	for i := range all {
		at := p.rng.IntN(len(bytes) - p.o.size + 1)
		all[i].Value = bytes[at : at+p.o.size]
	}
	return all
}

func (p *producer) produce(ctx context.Context, records []kgo.Record) {
	count := func(r *kgo.Record, err error) {
		if err != nil {
			p.tally.fail(err)
			return
		}
		p.tally.records.Add(1)
		p.tally.bytes.Add(int64(len(r.Value)))
	}
	for i := range records {
		if i%timedEvery != 0 {
			p.client.Produce(ctx, &records[i], count)
			continue
		}
		start := time.Now()
		p.client.Produce(ctx, &records[i], func(r *kgo.Record, err error) {
			if err == nil {
				p.times.add(time.Since(start))
			}
			count(r, err)
		})
	}
}

// randomBytes has room for windows that differ.
func randomBytes(rng *rand.Rand, size int) []byte {
	b := make([]byte, size+1<<20)
	for i := 0; i+8 <= len(b); i += 8 {
		v := rng.Uint64()
		for j := range 8 {
			b[i+j] = byte(v >> (8 * j))
		}
	}
	return b
}

// pacer spreads records over time, so that a rate is kept on the average
// whatever the site does: a pause is made good, not forgotten.
type pacer struct {
	each  time.Duration // the time that one record stands for; 0: no pace
	start time.Time
	sent  int64
}

func newPacer(rate int64, clients int) *pacer {
	p := &pacer{start: time.Now()}
	if rate > 0 {
		p.each = time.Duration(clients) * time.Second / time.Duration(rate)
	}
	return p
}

// slab is how many records to make at once: at a pace, what 10 ms stand for.
func (p *pacer) slab() int64 {
	if p.each == 0 {
		return slab
	}
	return max(min(int64(10*time.Millisecond/p.each), slab), 1)
}

// wait waits until the next n are due. False: ctx ended.
func (p *pacer) wait(ctx context.Context, n int64) bool {
	if p.each == 0 {
		return true
	}
	due := p.start.Add(time.Duration(p.sent) * p.each)
	p.sent += n
	timer := time.NewTimer(time.Until(due))
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
