package ctl

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kgo"
)

func (c *cli) benchCommand() *cobra.Command {
	return c.kafka(noun("bench", "Measure how fast a site takes and gives records",
		c.reading(c.benchProduce()), c.reading(c.benchConsume())))
}

// benchOptions are the flags of both.
type benchOptions struct {
	topic    string
	records  int64
	duration time.Duration
	clients  int
}

func (o *benchOptions) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&o.topic, "topic", "bench", "`NAME` of the topic")
	f.Int64Var(&o.records, "records", 0, "stop after `N` records in all")
	f.DurationVar(&o.duration, "duration", 0, "stop after this `TIME`, such as 30s")
	f.IntVar(&o.clients, "clients", 1, "`N` clients with connections of their own")
}

func (o *benchOptions) check() error {
	switch {
	case o.records < 0:
		return usagef("--records %d: want 1 or more", o.records)
	case o.duration < 0:
		return usagef("--duration %s: want more than 0", o.duration)
	case o.clients < 1:
		return usagef("--clients %d: want 1 or more", o.clients)
	}
	return nil
}

// benchResult is what both print with --json. MB are 1,000,000 bytes of keys
// and values; what the protocol adds is not counted.
type benchResult struct {
	Topic         string   `json:"topic"`
	Records       int64    `json:"records"`
	Bytes         int64    `json:"bytes"`
	Seconds       float64  `json:"seconds"`
	RecordsSecond float64  `json:"records_per_second"`
	MBSecond      float64  `json:"mb_per_second"`
	Failed        int64    `json:"failed"`
	FirstError    string   `json:"first_error,omitempty"`
	Latency       *latency `json:"latency_ms,omitempty"`
	Interrupted   bool     `json:"interrupted"`
}

// latency in milliseconds, from handing a record to the client until the site
// has acknowledged it.
type latency struct {
	P50  float64 `json:"p50"`
	P95  float64 `json:"p95"`
	P99  float64 `json:"p99"`
	P999 float64 `json:"p99_9"`
	Max  float64 `json:"max"`
}

// tally is what the clients count into while they run.
type tally struct {
	records, bytes, failed atomic.Int64
	firstError             atomic.Pointer[error]
}

func (t *tally) fail(err error) {
	t.failed.Add(1)
	t.firstError.CompareAndSwap(nil, &err)
}

// runClients runs one goroutine for each client and one that shows progress,
// and returns when the clients have ended.
func (c *cli) runClients(ctx context.Context, opts benchOptions, t *tally, clients []*kgo.Client, run func(context.Context, int, *kgo.Client)) time.Duration {
	bounded, cancel := ctx, context.CancelFunc(func() {})
	if opts.duration > 0 {
		bounded, cancel = context.WithTimeout(ctx, opts.duration)
	}
	defer cancel()
	progress, stop := context.WithCancel(ctx)
	var shown, running sync.WaitGroup
	start := time.Now()
	shown.Go(func() { c.showProgress(progress, t) })
	for i, client := range clients {
		running.Go(func() { run(bounded, i, client) })
	}
	running.Wait()
	elapsed := time.Since(start)
	stop()
	shown.Wait()
	return elapsed
}

// showProgress writes a line a second to stderr, unless the answer is for a
// program.
func (c *cli) showProgress(ctx context.Context, t *tally) {
	if c.json {
		return
	}
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	var records, bytes int64
	last := time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			r, b := t.records.Load(), t.bytes.Load()
			s := now.Sub(last).Seconds()
			fmt.Fprintf(c.errOut, "%15s records  %12s records/s  %9.1f MB/s\n", grouped(r), grouped(int64(float64(r-records)/s)), float64(b-bytes)/s/1e6)
			records, bytes, last = r, b, now
		}
	}
}

// finish prints the result; records that failed make the command fail.
func (c *cli) finish(ctx context.Context, topic string, t *tally, elapsed time.Duration, h *histogram) error {
	r := benchResult{Topic: topic, Records: t.records.Load(), Bytes: t.bytes.Load(), Seconds: elapsed.Seconds(), Failed: t.failed.Load(), Interrupted: ctx.Err() != nil}
	if r.Seconds > 0 {
		r.RecordsSecond, r.MBSecond = float64(r.Records)/r.Seconds, float64(r.Bytes)/r.Seconds/1e6
	}
	if h != nil && h.total > 0 {
		ms := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
		r.Latency = &latency{P50: ms(h.quantile(0.5)), P95: ms(h.quantile(0.95)), P99: ms(h.quantile(0.99)), P999: ms(h.quantile(0.999)), Max: ms(h.max)}
	}
	if first := t.firstError.Load(); first != nil {
		r.FirstError = (*first).Error()
	}
	if err := c.print(r, func(w io.Writer) { writeResult(w, r) }); err != nil {
		return err
	}
	switch {
	case r.Failed > 0:
		return fmt.Errorf("%s failed; the first: %s", plural(int(r.Failed), "record"), r.FirstError)
	case r.FirstError != "":
		return errors.New(r.FirstError)
	}
	return nil
}

func writeResult(w io.Writer, r benchResult) {
	fmt.Fprintf(w, "%s records of %s in %.2f s: %.1f MB/s, %s records/s\n", grouped(r.Records), size(r.Bytes), r.Seconds, r.MBSecond, grouped(int64(r.RecordsSecond)))
	if l := r.Latency; l != nil {
		fmt.Fprintf(w, "latency ms: p50 %.1f  p95 %.1f  p99 %.1f  p99.9 %.1f  max %.1f\n", l.P50, l.P95, l.P99, l.P999, l.Max)
	}
	if r.Interrupted {
		fmt.Fprintln(w, "interrupted: the figures are of the part that was done")
	}
}

// openClients opens n clients; the caller closes them.
func (c *cli) openClients(ctx context.Context, n int, opts ...kgo.Opt) (clients []*kgo.Client, err error) {
	for range n {
		client, err := c.kafkaClient(ctx, opts...)
		if err != nil {
			closeAll(clients)
			return nil, err
		}
		clients = append(clients, client)
	}
	return clients, nil
}

func closeAll(clients []*kgo.Client) {
	for _, client := range clients {
		client.Close()
	}
}
