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
				cluster := benchCluster(b)
				benchJob(b, cluster, fmt.Sprintf(`
connectors:
  - name: access-log
    source: {type: lines}
    topic: clicks
    transforms: %s
`, c.transforms), registry(newFakeSource(true, map[string][]string{"a": all}), nil), func(s JobStatus) bool { return s.State == Completed })
				cluster.Close()
			}
			b.ReportMetric(float64(n*b.N)/b.Elapsed().Seconds(), "rec/s")
		})
	}
}

// BenchmarkSink loads a topic into a destination that does nothing.
func BenchmarkSink(b *testing.B) {
	const n = 300_000
	src := newFakeSource(true, map[string][]string{"a": make([]string, n)})
	for i := range n {
		src.splits["a"][i] = fmt.Sprintf(`{"remote_addr":"10.0.%d.%d","path":"/presentations/logstash-%d/images/kibana.png","status":200,"bytes":%d}`, i%200, i%77, i, i)
	}
	snk := newFakeSink(false, connectors.Limits{Records: 20_000, Wait: time.Second})
	reg := registry(src, nil)
	reg.Sinks["shelf"] = devNull{snk}
	cluster := benchCluster(b)
	defer cluster.Close()
	benchJob(b, cluster, "connectors: [{name: fill, source: {type: lines}, topic: clicks}]", reg, func(s JobStatus) bool { return s.State == Completed })
	round := 0
	for b.Loop() {
		round++
		job := fmt.Sprintf("connectors: [{name: lake-%d, sink: {type: shelf, path: x}, topic: clicks}]", round)
		benchJob(b, cluster, job, reg, func(s JobStatus) bool { return s.Written >= n })
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

func benchCluster(b *testing.B) *kfake.Cluster {
	b.Helper()
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(6, "clicks"), kfake.SeedTopics(1, CheckpointTopic))
	if err != nil {
		b.Fatal(err)
	}
	return cluster
}

func benchJob(b *testing.B, cluster *kfake.Cluster, text string, reg connectors.Registry, done func(JobStatus) bool) {
	b.Helper()
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
