package kafka

import (
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/entrepot-hub/entrepot/connectors"
	"github.com/entrepot-hub/entrepot/connectors/conntest"
	"github.com/entrepot-hub/entrepot/record"
)

// clusterState is what a look must not change: groups, topics and their ends.
func clusterState(t *testing.T, broker string) string {
	t.Helper()
	admin := kadm.NewClient(client(t, broker))
	groups, err := admin.ListGroups(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ends, err := admin.ListEndOffsets(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	ends.Each(func(o kadm.ListedOffset) { all = append(all, fmt.Sprintf("%s-%d %d", o.Topic, o.Partition, o.Offset)) })
	slices.Sort(all)
	return strings.Join(append(all, groups.Groups()...), "\n")
}

// TestLook reads the first records of each partition and what a topic takes,
// finds times, and changes nothing at the other cluster.
func TestLook(t *testing.T) {
	broker := conntest.Kafka(t)
	topic := newTopic(t, broker, 2, "max.message.bytes=10000")
	cl := client(t, broker)
	noon := time.Date(2026, 5, 17, 12, 0, 0, 0, time.UTC)
	for p := range int32(2) {
		for i := range 10 {
			r := &kgo.Record{Topic: topic, Partition: p, Value: fmt.Appendf(nil, "%d/%d", p, i), Timestamp: noon.Add(time.Duration(i) * time.Minute)}
			if err := cl.ProduceSync(t.Context(), r).FirstErr(); err != nil {
				t.Fatal(err)
			}
		}
	}
	task := conntest.Task(sourceConfig(t, broker, map[string]any{"topics": []string{topic}, "start": "latest", "group": "lag-of-" + topic}))
	before := clusterState(t, broker)
	got, err := Source{}.Sample(t.Context(), task, 6)
	if err != nil || len(got.Messages) != 6 || string(got.Messages[3].Value) != "1/0" {
		t.Errorf("got %v, %v", got.Messages, err)
	}
	split := connectors.Split{ID: topic + "-1"}
	for minutes, want := range map[int]int64{5: 5, 100: 10} {
		found, err := Source{}.At(t.Context(), task, split, noon.Add(time.Duration(minutes)*time.Minute-time.Second))
		if err != nil {
			t.Fatal(err)
		}
		if offset, _, err := parsePosition(found.Position); err != nil || offset+1 != want {
			t.Errorf("minute %d: the next is %d, want %d: %v", minutes, offset+1, want, err)
		}
	}
	if _, err := (Source{}).At(t.Context(), task, split, noon); !errors.Is(err, record.ErrInvalidRequest) {
		t.Errorf("before all records, with start: latest: %v", err)
	}
	cfg := conntest.Config(t, Sink{}.Spec(), map[string]any{"brokers": []string{broker}, "remote_topic": topic})
	large := make([]byte, 10_010) // that nothing makes smaller
	_, _ = rand.Read(large)
	sample := []connectors.Message{{Value: []byte("small")}, {Value: large}}
	seen, err := Sink{}.Preview(t.Context(), conntest.Task(cfg), sample)
	if err != nil || len(seen.Refused) != 1 || seen.Refused[0].Index != 1 || !strings.Contains(seen.Target, "2 partitions") {
		t.Errorf("got %+v, %v", seen, err)
	}
	if after := clusterState(t, broker); after != before {
		t.Errorf("the cluster was changed:\n%s\nit was\n%s", after, before)
	}
}
