// Package chaos runs a site of real processes under real clients while a
// nemesis kills, freezes and cuts off its nodes, and checks what the clients saw
// (hub/hubtest/history).
//
// Goroutines: one for each client of a run, which ends when the run's load does;
// the nemesis runs in the test's.
package chaos

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/entrepot-hub/entrepot/hub/hubtest"
	"github.com/entrepot-hub/entrepot/hub/hubtest/history"
)

// run is one run: a site, its clients, and what is recorded of them.
type run struct {
	t     *testing.T
	rec   *history.Recorder
	nodes []*hubtest.Node
	seed  uint64
	// python is an interpreter that has librdkafka's client.
	python string

	feed      context.Context // ends the producers
	load      context.Context // ends the other clients, when those have read it all
	producers sync.WaitGroup
	clients   sync.WaitGroup
}

// The topics of a run, and who writes them: records by idempotent producers
// (one group reads it, another copies it), what is compacted by the same ones,
// transactions with commits and aborts, the copies, and records by librdkafka.
var topics = map[string]int32{"records": 6, compacted: 3, "transactions": 3, "copies": 3, "foreign": 3}

// compacted is the topic of which only the last record of each key has to stay.
const compacted = "latest"

// names are those of the topics, in the same order in every run.
func names() []string { return slices.Sorted(maps.Keys(topics)) }

// writableIn is what the site has after a fault was healed. In short form, other
// tests have the processors too.
func writableIn() time.Duration {
	if os.Getenv("ENTREPOT_CHAOS_TIME") != "" {
		return 5 * time.Second
	}
	return 30 * time.Second
}

// setting is a number that the environment gives.
func setting(t *testing.T, name string, otherwise uint64) uint64 {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatalf("%s=%q: want a number", name, text)
	}
	return n
}

// newRun is a run on nodes that serve.
func newRun(t *testing.T, nodes []*hubtest.Node, seed uint64) *run {
	t.Helper()
	r := &run{t: t, rec: history.NewRecorder(), nodes: nodes, seed: seed, python: hubtest.Python(t, "confluent_kafka")}
	r.createTopics()
	return r
}

// begin starts the load. stopFeed ends the producers, and stop all that is left;
// each returns when they have ended.
func (r *run) begin() (stopFeed, stop func()) {
	var endFeed, end context.CancelFunc
	r.feed, endFeed = context.WithCancel(r.t.Context())
	r.load, end = context.WithCancel(r.t.Context())
	for i := range 2 {
		r.producers.Go(func() { r.appendRecords(i) })
		r.producers.Go(func() { r.transact(i) })
		r.producers.Go(func() { r.changeTopics(i) })
		r.clients.Go(func() { r.copyRecords(i) })
		r.clients.Go(func() { r.tail(i == 0) })
	}
	for i := range 3 {
		r.clients.Go(func() { r.member(i) })
	}
	r.clients.Go(r.askOffsets)
	r.producers.Go(r.foreign)
	stopFeed = func() {
		endFeed()
		r.producers.Wait()
	}
	return stopFeed, func() {
		stopFeed()
		end()
		r.clients.Wait()
	}
}

func (r *run) createTopics() {
	r.t.Helper()
	admin := kadm.NewClient(r.client())
	replicas := int16(min(3, len(r.nodes)))
	for _, name := range names() {
		age, dirty := "15000", "0.01" // of short segments there are many to compare, and to compact
		configs := map[string]*string{"segment.ms": &age}
		if name == compacted {
			configs["cleanup.policy"], configs["min.cleanable.dirty.ratio"] = kadm.StringPtr("compact"), &dirty
		}
		if _, err := admin.CreateTopic(r.t.Context(), topics[name], replicas, configs, name); err != nil {
			r.t.Fatal(err)
		}
		r.rec.Add(func(h *history.History) {
			h.Topics[name] = history.Topic{Partitions: topics[name], Compacted: name == compacted}
		})
	}
	r.rec.Add(func(h *history.History) {
		h.Pipes = []history.Pipe{{In: "records", Out: "copies", Group: "copiers"}}
	})
}

// random is a source of its own for each part of a run, out of the run's seed.
func (r *run) random(part string) *rand.Rand {
	n := uint64(14695981039346656037) // FNV-1a
	for _, b := range []byte(part) {
		n = (n ^ uint64(b)) * 1099511628211
	}
	return rand.New(rand.NewPCG(r.seed, n))
}

func (r *run) brokers() (all []string) {
	for _, n := range r.nodes {
		all = append(all, n.Kafka)
	}
	return all
}

// options are those of every client: it tries again soon, as the faults are
// short.
func (r *run) options(more ...kgo.Opt) []kgo.Opt {
	return append([]kgo.Opt{
		kgo.SeedBrokers(r.brokers()...), kgo.MetadataMinAge(100 * time.Millisecond), kgo.MetadataMaxAge(5 * time.Second),
		kgo.RetryBackoffFn(func(int) time.Duration { return 100 * time.Millisecond }), kgo.DialTimeout(2 * time.Second),
		kgo.RequestTimeoutOverhead(3 * time.Second), kgo.ProducerBatchCompression(kgo.NoCompression()),
	}, more...)
}

// client is one that lives as long as the test.
func (r *run) client(more ...kgo.Opt) *kgo.Client {
	r.t.Helper()
	cl, err := kgo.NewClient(r.options(more...)...)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(cl.Close)
	return cl
}

// pause waits, or until the producers end.
func (r *run) pause(d time.Duration) {
	select {
	case <-r.feed.Done():
	case <-time.After(d):
	}
}

// note keeps what a client was told, beside its operations.
func (r *run) note(format string, args ...any) {
	text := fmt.Sprintf("%s ", r.rec.Now().Round(time.Millisecond)) + fmt.Sprintf(format, args...)
	r.rec.Add(func(h *history.History) { h.Notes = append(h.Notes, text) })
}

// report checks the history, prints the report, and keeps both when something is
// wrong, or when ENTREPOT_CHAOS_DIR says where.
func (r *run) report() {
	r.t.Helper()
	h := r.rec.History()
	results := history.Check(h, history.Limits{Writable: writableIn()})
	summary := history.Summarize(h, time.Second)
	var text strings.Builder
	if err := summary.Write(&text, results); err != nil {
		r.t.Fatal(err)
	}
	r.t.Logf("seed %d, %s\n%s", r.seed, r.rec.Now().Round(time.Second), text.String())
	bad := 0
	for _, one := range results {
		bad += one.Count
		if one.Examined == 0 && (one.Check != "replicas alike" || len(r.nodes) > 1) {
			r.t.Errorf("%s had nothing to look at", one.Check)
		}
	}
	if bad > 0 {
		r.t.Errorf("%d violations; run it again with ENTREPOT_CHAOS_SEED=%d", bad, r.seed)
	}
	dir := os.Getenv("ENTREPOT_CHAOS_DIR")
	if err := os.MkdirAll(dir, 0o700); dir != "" && err != nil {
		r.t.Error(err)
	}
	if dir != "" && r.t.Failed() {
		r.keepNodes(dir)
	}
	if dir == "" && bad > 0 {
		dir = os.TempDir()
	}
	if dir != "" {
		r.keep(dir, map[string]any{"seed": r.seed, "summary": summary, "results": results}, h)
	}
}

// keepNodes keeps what each node has on disk, and what it said.
func (r *run) keepNodes(dir string) {
	r.t.Helper()
	for _, n := range r.nodes {
		path := filepath.Join(dir, fmt.Sprintf("chaos-%d-%s", r.seed, n.ID))
		err := errors.Join(os.RemoveAll(path), os.WriteFile(path+".log", []byte(n.Output()), 0o600)) // of an earlier run
		if err := errors.Join(err, os.CopyFS(path, os.DirFS(n.Dir))); err != nil {
			r.t.Error(err)
		}
		r.t.Logf("what %s has is in %s", n.ID, path)
	}
}

// cutShort keeps the history of a run that never came to its report.
func (r *run) cutShort() {
	if h := r.rec.History(); r.t.Failed() && len(h.Faults) > 0 {
		r.keep(os.TempDir(), "cut short", h)
	}
}

func (r *run) keep(dir string, report any, h *history.History) {
	r.t.Helper()
	for name, what := range map[string]any{"report": report, "history": h} {
		path := filepath.Join(dir, fmt.Sprintf("chaos-%d-%s.json", r.seed, name))
		text, err := json.Marshal(what)
		if err == nil {
			err = os.WriteFile(path, text, 0o600)
		}
		if err != nil {
			r.t.Error(err)
		}
		r.t.Logf("the %s is in %s", name, path)
	}
}
