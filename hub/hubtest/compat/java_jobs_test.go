package compat

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/entrepot-hub/entrepot/hub/hubtest"
)

// createTopic makes a topic.
func createTopic(t *testing.T, addr, name string, partitions int32) {
	t.Helper()
	cl := client(t, addr)
	defer cl.Close()
	if _, err := kadm.NewClient(cl).CreateTopic(t.Context(), partitions, 1, nil, name); err != nil {
		t.Fatalf("create topic %s: %v", name, err)
	}
}

func client(t *testing.T, addr string, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	cl, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(addr)}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	return cl
}

// produce writes the records, each in the partition that it names, and waits
// until all are acknowledged.
func produce(ctx context.Context, t *testing.T, addr string, records []*kgo.Record) {
	t.Helper()
	cl := client(t, addr, kgo.RecordPartitioner(kgo.ManualPartitioner()))
	defer cl.Close()
	if err := cl.ProduceSync(ctx, records...).FirstErr(); err != nil {
		t.Errorf("produce: %v", err)
	}
}

// readCommitted returns what a read_committed consumer finds in a topic up to
// its end as it is now.
func readCommitted(t *testing.T, addr, topic string) (all []*kgo.Record, err error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cl := client(t, addr, kgo.ConsumeTopics(topic), kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.KeepControlRecords(), kgo.FetchMaxWait(100*time.Millisecond))
	defer cl.Close()
	ends, err := kadm.NewClient(cl).ListCommittedOffsets(ctx, topic)
	if err == nil {
		err = ends.Error()
	}
	if err != nil {
		return nil, fmt.Errorf("the ends of %s: %w", topic, err)
	}
	err = hubtest.ReadTo(ctx, cl, ends, func(r *kgo.Record) {
		if !r.Attrs.IsControl() {
			all = append(all, r)
		}
	})
	if err != nil {
		return all, fmt.Errorf("read %s: %w, %d records so far", topic, err, len(all))
	}
	return all, nil
}

// readOnce reads a topic with read_committed and says what is missing or
// doubled in it of the numbers from 0 to n.
func readOnce(t *testing.T, addr, topic string, n int) error {
	t.Helper()
	all, err := readCommitted(t, addr, topic)
	if err != nil {
		return err
	}
	return onceEach(all, n)
}

// records are n numbered ones over the partitions, with times 10 ms apart.
func records(topic string, n int, partitions, keys int) []*kgo.Record {
	begin := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	all := make([]*kgo.Record, n)
	for i := range all {
		key := i % keys
		all[i] = &kgo.Record{
			Topic: topic, Partition: int32(key % partitions), Key: []byte("k" + strconv.Itoa(key)),
			Value: []byte(strconv.Itoa(i)), Timestamp: begin.Add(time.Duration(i) * 10 * time.Millisecond),
		}
	}
	return all
}

// onceEach says what is missing or doubled of the numbers from 0 to n.
func onceEach(got []*kgo.Record, n int) error {
	seen := make([]int, n)
	for _, r := range got {
		i, err := strconv.Atoi(string(r.Value))
		if err != nil || i < 0 || i >= n {
			return fmt.Errorf("value %q was never written", r.Value)
		}
		seen[i]++
	}
	missing, doubled := 0, 0
	for _, k := range seen {
		switch {
		case k == 0:
			missing++
		case k > 1:
			doubled++
		}
	}
	if missing > 0 || doubled > 0 {
		return fmt.Errorf("of %d numbers %d are missing and %d doubled", n, missing, doubled)
	}
	return nil
}

// step turns the outcome of a check into a result.
func step(name string, err error) result {
	if err != nil {
		return result{name: name, outcome: failed, output: err.Error()}
	}
	return result{name: name, outcome: passed}
}

// TestStreams runs a Kafka Streams application with exactly_once_v2 that copies
// and counts in windows, while the hub is killed.
func TestStreams(t *testing.T) {
	needJava(t)
	n, kills, count := node(t), 2, 40_000
	if full() {
		kills, count = 10, 200_000
	}
	const partitions, keys = 4, 40
	for _, topic := range []string{"in", "copy", "counts"} {
		createTopic(t, n.Kafka, topic, partitions)
	}
	app := startJava(t, "StreamsCount.java", n.Kafka, t.TempDir(), "classic", "in", "copy", "counts")
	hubtest.Until(t, 2*time.Minute, "the application runs", func() error { return app.says("state RUNNING") })

	all := records("in", count, partitions, keys)
	busy := make(chan struct{})
	go func() {
		defer close(busy)
		for chunk := range slices.Chunk(all, max(count/(4*kills), 1)) {
			produce(t.Context(), t, n.Kafka, chunk)
		}
	}()
	done := killWhile(n, 5*time.Second, kills, make(chan struct{}))
	<-busy
	var copied, counted error
	arrives(t, 3*time.Minute, func() bool { copied = readOnce(t, n.Kafka, "copy", count); return copied == nil })
	arrives(t, time.Minute, func() bool { counted = sameCounts(t, n.Kafka, "counts", windows(all)); return counted == nil })
	s := suite{client: "Kafka Streams", version: kafkaVersion(t), what: fmt.Sprintf("exactly_once_v2: copy and windowed count of %d records, %d kill -9 of the hub", count, done)}
	s.report(t, []result{
		step("every record copied once", copied),
		step("every window counted right", counted),
	})
	_ = app.stdin.Close()
	if err := app.wait(time.Minute); err != nil {
		t.Errorf("the application's end: %v", err)
	}
}

// says reports whether the program has printed a text.
func (p *javaProcess) says(text string) error {
	if over, err := p.ended(); over {
		return fmt.Errorf("the program has ended: %v", err)
	}
	if !strings.Contains(p.out.String(), text) {
		return errors.New("it has not said " + text)
	}
	return nil
}

// windows counts the records by key in windows of ten seconds.
func windows(all []*kgo.Record) map[string]int {
	counts := map[string]int{}
	for _, r := range all {
		ms := r.Timestamp.UnixMilli()
		counts[fmt.Sprintf("%s@%d", r.Key, ms-ms%10_000)]++
	}
	return counts
}

// sameCounts compares the last value of each key in the topic with the counts.
func sameCounts(t *testing.T, addr, topic string, want map[string]int) error {
	t.Helper()
	all, err := readCommitted(t, addr, topic)
	if err != nil {
		return err
	}
	got := map[string]int{}
	for _, r := range all {
		got[string(r.Key)], _ = strconv.Atoi(string(r.Value))
	}
	wrong := 0
	for k, n := range want {
		if got[k] != n {
			wrong++
		}
	}
	if wrong > 0 || len(got) != len(want) {
		return fmt.Errorf("%d windows, want %d; %d of them with another count", len(got), len(want), wrong)
	}
	return nil
}

// TestMessageCopier runs Kafka's own copier, which moves a partition in
// transactions some of which it aborts, while the hub is killed.
func TestMessageCopier(t *testing.T) {
	needJava(t)
	if !full() {
		t.Skip("part of make compat")
	}
	const count, kills = 50_000, 5
	n := node(t)
	createTopic(t, n.Kafka, "in", 1)
	createTopic(t, n.Kafka, "out", 1)
	produce(t.Context(), t, n.Kafka, records("in", count, 1, 10))
	p := startJava(t, "org.apache.kafka.tools.TransactionalMessageCopier", "--broker-list", n.Kafka,
		"--input-topic", "in", "--input-partition", "0", "--output-topic", "out", "--consumer-group", "copier",
		"--transactional-id", "copier", "--transaction-size", "200", "--transaction-timeout", "30000",
		"--max-messages", strconv.Itoa(count), "--enable-random-aborts", "--use-group-metadata")
	for i := range kills {
		left := count - count*(i+1)/(kills+1)
		hubtest.Until(t, time.Minute, fmt.Sprintf("%d records are left", left), func() error { return p.hasLeft(left) })
		n.Kill()
		n.Start()
	}
	err := p.wait(3 * time.Minute)
	s := suite{client: "Apache Kafka", version: kafkaVersion(t), what: fmt.Sprintf("TransactionalMessageCopier, %d records, random aborts, %d kill -9 of the hub", count, kills)}
	s.report(t, []result{
		step("it ends well", err),
		step("every record copied once", readOnce(t, n.Kafka, "out", count)),
	})
}

// hasLeft is an error until the copier has said that it has no more records
// left than that.
func (p *javaProcess) hasLeft(most int) error {
	if over, err := p.ended(); over {
		return fmt.Errorf("the program has ended: %v", err)
	}
	said := p.out.String()
	_, last, _ := strings.Cut(said[max(0, strings.LastIndex(said, `"remaining":`)):], ":")
	digits := strings.TrimLeft(last, " ")
	digits = digits[:len(digits)-len(strings.TrimLeft(digits, "0123456789"))]
	if left, err := strconv.Atoi(digits); err != nil || left > most {
		return fmt.Errorf("%q are left", digits)
	}
	return nil
}

// arrives waits until the condition holds, or the time is over.
func arrives(t *testing.T, limit time.Duration, holds func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}
