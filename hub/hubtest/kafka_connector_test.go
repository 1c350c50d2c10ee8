package hubtest

import (
	"context"
	"fmt"
	"strconv"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/entrepot-hub/entrepot/connectors/conntest"
)

// TestKilledKafkaConnectors kills the hub again and again while it reads a
// topic of Apache Kafka, of which a part is aborted, and writes what it has to
// another topic there. In the hub each committed record is once, in the
// partition and the order that it had. What comes out is each record once with
// transactions; without them none is lost, and those that are there twice are
// counted.
func TestKilledKafkaConnectors(t *testing.T) {
	rows := fullRows(60_000)
	for _, mode := range []string{"transaction", "off"} {
		t.Run(mode, func(t *testing.T) { killedKafka(t, conntest.Kafka(t), mode, rows, kills(t, 4)) })
		t.Run(mode+", another hub", func(t *testing.T) {
			far := NewNode(t, "far", t.TempDir(), nil, nil, nil)
			far.Start()
			killedKafka(t, far.Kafka, mode, rows, kills(t, 4))
		})
	}
}

const kafkaPartitions = 4

func killedKafka(t *testing.T, broker, mode string, rows, times int) {
	in, out := "kill-in-"+mode, "kill-out-"+mode
	fillKafka(t, broker, in, out, rows)
	n := jobsNode(t, fmt.Sprintf(`
topics:
  - {name: orders, partitions: %[5]d}
connectors:
  - name: orders-in
    source: {type: kafka, brokers: [%[1]q], topics: [%[2]s], group: watch-%[2]s}
    topic: orders
  - name: orders-out
    topic: orders
    sink: {type: kafka, brokers: [%[1]q], remote_topic: %[3]s, exactly_once: %[4]s, batch: {records: 1000, every: 50ms}}
`, broker, in, out, mode, kafkaPartitions))
	hub, far := collect(t, n.Kafka, "orders"), collect(t, broker, out)
	l := load{n: n, what: "records have come out", total: rows, limit: 2 * time.Minute, late: 60 * time.Millisecond}
	l.count = func() (int, error) { return far.count(), nil }
	l.kill(t, times)
	l.done(t, 5*time.Minute, func() error {
		if here, there := hub.distinct(), far.distinct(); min(here, there) < rows {
			return fmt.Errorf("%d of %d read in the hub, %d at the destination", here, rows, there)
		}
		return nil
	})
	lag := caughtUp(n, "orders-out")
	Until(t, time.Minute, "both jobs have no lag", func() error {
		if err := lag(); err != nil {
			return err
		}
		return watched(broker, in)
	})
	came := checkKafka(t, "in the hub", hub.all(), rows, 0)
	// A plan without a transaction is written twice at most for each kill.
	most := 0
	if mode == "off" {
		most = 1000 * kafkaPartitions * times
	}
	went := checkKafka(t, "at the destination", far.all(), rows, most)
	conntest.Figures(t, "%s: %d kills, source %d; in the hub %d rows = %d distinct; at the destination %d rows, %d distinct, %d twice",
		mode, times, rows, came.rows, came.distinct, went.rows, went.distinct, went.rows-went.distinct)
}

// fillKafka makes both topics and writes the rows, in transactions of which
// every fifth is aborted and written again.
func fillKafka(t *testing.T, broker, in, out string, rows int) {
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(broker), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.TransactionalID("fill-"+in))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	if _, err := kadm.NewClient(cl).CreateTopics(t.Context(), kafkaPartitions, 1, nil, in, out); err != nil {
		t.Fatal(err)
	}
	const each = 5000
	for from, turn := 0, 0; from < rows; turn++ {
		if err := cl.BeginTransaction(); err != nil {
			t.Fatal(err)
		}
		to := min(from+each, rows)
		for i := from; i < to; i++ {
			key := strconv.Itoa(i)
			cl.Produce(t.Context(), &kgo.Record{Topic: in, Partition: int32(i % kafkaPartitions), Key: []byte(key), Value: []byte("row " + key)}, func(_ *kgo.Record, err error) {
				if err != nil {
					t.Error(err)
				}
			})
		}
		commit := turn%5 != 1
		if err := cl.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := cl.EndTransaction(t.Context(), kgo.TransactionEndTry(commit)); err != nil {
			t.Fatal(err)
		}
		if commit {
			from = to
		}
	}
}

// watched looks whether the group that tools watch is where the topic ends.
func watched(broker, topic string) error {
	cl, err := kgo.NewClient(kgo.SeedBrokers(broker))
	if err != nil {
		return err
	}
	defer cl.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	lags, err := kadm.NewClient(cl).Lag(ctx, "watch-"+topic)
	if err != nil {
		return err
	}
	for _, l := range lags {
		for _, p := range l.Lag[topic] {
			if p.Lag > 1 { // the last marker
				return fmt.Errorf("partition %d: lag %d", p.Partition, p.Lag)
			}
		}
	}
	return nil
}

type counted struct{ rows, distinct int }

// checkKafka looks for each row, once but for the most that may be there
// twice; in the partition that the source had, and in its order.
func checkKafka(t *testing.T, where string, records []*kgo.Record, rows, most int) counted {
	t.Helper()
	seen := map[int]int{}
	last := map[int32]int{}
	for _, r := range records {
		i, err := strconv.Atoi(string(r.Key))
		if err != nil || string(r.Value) != "row "+string(r.Key) || i >= rows {
			t.Fatalf("%s: %s %s", where, r.Key, r.Value)
		}
		if where == "in the hub" {
			if r.Partition != int32(i%kafkaPartitions) {
				t.Fatalf("%s: row %d is in partition %d", where, i, r.Partition)
			}
			if before, ok := last[r.Partition]; ok && i <= before {
				t.Fatalf("%s: row %d comes after row %d", where, i, before)
			}
			last[r.Partition] = i
		}
		seen[i]++
	}
	if len(seen) != rows || len(records)-len(seen) > most {
		t.Errorf("%s: %d rows, %d distinct, want %d with %d twice at most", where, len(records), len(seen), rows, most)
	}
	return counted{len(records), len(seen)}
}
