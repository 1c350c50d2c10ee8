package kafka

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/entrepot-hub/entrepot/connectors"
	"github.com/entrepot-hub/entrepot/connectors/conntest"
)

// TestSource runs the acceptance suite over partitions that hold plain
// records, aborted and committed transactions, and markers.
func TestSource(t *testing.T) {
	broker := conntest.Kafka(t)
	conntest.Source(t, Source{}, func(t *testing.T) conntest.SourceCase {
		topic := newTopic(t, broker, 2)
		want := map[string][]string{}
		plain, txn := client(t, broker), client(t, broker, kgo.TransactionalID("writer-of-"+topic))
		for p := range int32(2) {
			id := fmt.Sprintf("%s-%d", topic, p)
			for i := range 6 {
				values := []string{fmt.Sprintf("%d/%d/a", p, i), fmt.Sprintf("%d/%d/b", p, i)}
				switch commit := i%3 == 1; i % 3 {
				case 0:
					write(t, plain, topic, p, values...)
				default:
					transaction(t, txn, topic, p, commit, values...)
					if !commit {
						continue
					}
				}
				want[id] = append(want[id], values...)
			}
			write(t, plain, topic, p, "last") // after the marker of an aborted one
			want[id] = append(want[id], "last")
		}
		waiting := sourceConfig(t, broker, map[string]any{"topics": []string{topic}})
		return conntest.SourceCase{
			Config: sourceConfig(t, broker, map[string]any{"topics": []string{topic}, "follow": false}), Waiting: &waiting, Want: want,
		}
	})
}

// TestSink runs the acceptance suite with and without transactions.
func TestSink(t *testing.T) {
	broker := conntest.Kafka(t)
	for _, mode := range []string{"off", "transaction"} {
		t.Run(mode, func(t *testing.T) {
			conntest.Sink(t, Sink{}, func(t *testing.T) conntest.SinkCase { return sinkCase(t, broker, mode) })
		})
	}
}

func sinkCase(t *testing.T, broker, mode string) conntest.SinkCase {
	topic := newTopic(t, broker, 3, "max.message.bytes=10000")
	rows := func(t *testing.T) (ids []int64) {
		for _, r := range committed(t, broker, topic) {
			var v struct{ ID int64 }
			if err := json.Unmarshal(r.Value, &v); err != nil {
				t.Fatal(err)
			}
			ids = append(ids, v.ID)
		}
		return ids
	}
	more := map[string]any{"remote_topic": topic, "exactly_once": mode}
	if mode == "transaction" {
		more["transactional_id"] = "conntest-" + topic
	}
	return conntest.SinkCase{
		Config: sinkConfig(t, broker, more), Rows: rows, Remembers: mode == "transaction",
		Poison: func(m *connectors.Message) { m.Value = noise(20_000) },
		State: func(t *testing.T) string {
			var all []string
			for _, r := range committed(t, broker, topic) {
				all = append(all, fmt.Sprintf("%d %s %s %v %d", r.Partition, r.Key, r.Value, r.Headers, r.Timestamp.UnixMilli()))
			}
			slices.SortStableFunc(all, func(a, b string) int { return int(a[0]) - int(b[0]) })
			return strings.Join(all, "\n")
		},
	}
}

// noise is a value that no codec makes smaller.
func noise(n int) []byte {
	b, x := make([]byte, n), uint32(2463534242)
	for i := range b {
		x ^= x << 13
		x ^= x >> 17
		x ^= x << 5
		b[i] = byte(x >> 11)
	}
	return b
}
