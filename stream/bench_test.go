package stream

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/entrepot-hub/entrepot/connectors"
	"github.com/entrepot-hub/entrepot/record"
	"github.com/twmb/franz-go/pkg/kfake"
)

// BenchmarkSource brings access-log lines through a source job into a topic
// of a hub in memory: read, parse, filter, key, produce with acks=all,
// checkpoints. The fake hub takes part of the machine.
func BenchmarkSource(b *testing.B) {
	for _, c := range []struct{ name, transforms string }{
		{"plain", "[]"},
		{"parse", "[{parse: {format: combined}}]"},
		{"parse-filter-key", "[{parse: {format: combined}}, {filter: value.status < 600}]\n    key: value.remote_addr"},
	} {
		b.Run(c.name, func(b *testing.B) {
			const n = 300_000
			all := make([]string, n)
			for i := range all {
				all[i] = fmt.Sprintf(`10.%d.%d.%d - - [17/May/2015:10:05:03 +0000] "GET /presentations/logstash-%d/images/kibana.png HTTP/1.1" 200 %d "http://example.com/" "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_9_1)"`, i%200, i%77, i%31, i, i)
			}
			for b.Loop() {
				benchJob(b, kfake.BlackholeProduce(), fmt.Sprintf(`
connectors:
  - name: access-log
    source: {type: lines}
    topic: clicks
    transforms: %s
`, c.transforms), registry(newFakeSource(true, map[string][]string{"a": all}), nil), func(s JobStatus) bool { return s.State == Completed })
			}
			b.ReportMetric(float64(n*b.N)/b.Elapsed().Seconds(), "rec/s")
		})
	}
}

// BenchmarkSink loads a topic into a destination that does nothing.
func BenchmarkSink(b *testing.B) {
	const n = 300_000
	for b.Loop() {
		snk := newFakeSink(false, connectors.Limits{Records: 20_000, Wait: time.Second})
		benchJob(b, kfake.SyntheticFetch(kfake.SyntheticBatch{Records: 5000, RecordBytes: 200}), `
connectors:
  - name: lake
    sink: {type: shelf, path: x}
    topic: clicks
`, connectors.Registry{Sinks: map[string]connectors.Sink{"shelf": devNull{snk}}}, func(s JobStatus) bool { return s.Written >= n })
	}
	b.ReportMetric(float64(n*b.N)/b.Elapsed().Seconds(), "rec/s")
}

type devNull struct{ *fakeSink }

func (s devNull) Open(context.Context, connectors.TaskContext, []record.TopicPartition) (connectors.Writer, error) {
	return devNullWriter{}, nil
}

type devNullWriter struct{}

func (devNullWriter) Resume(context.Context, record.TopicPartition) (int64, bool, error) {
	return 0, false, nil
}

func (devNullWriter) Write(context.Context, connectors.Plan, connectors.Batch) ([]connectors.RecordError, error) {
	return nil, nil
}

func (devNullWriter) Close(context.Context) error { return nil }

func benchJob(b *testing.B, opt kfake.Opt, text string, reg connectors.Registry, done func(JobStatus) bool) {
	b.Helper()
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(6, "clicks"), kfake.SeedTopics(1, CheckpointTopic), opt)
	if err != nil {
		b.Fatal(err)
	}
	defer cluster.Close()
	jobs, errs := Parse([]File{{"bench.yaml", []byte(text)}}, reg, testOptions())
	if len(errs) > 0 {
		b.Fatal(errs)
	}
	r, err := New(Config{Seeds: cluster.ListenAddrs(), Site: "bench"})
	if err != nil {
		b.Fatal(err)
	}
	if err := r.Apply(jobs.Connectors, nil); err != nil {
		b.Fatal(err)
	}
	ctx, stop := context.WithCancel(b.Context())
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx) }()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !done(r.Status()[0]) {
		<-tick.C
	}
	stop()
	if err := <-ended; err != nil {
		b.Fatal(err)
	}
}
