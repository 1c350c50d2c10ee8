package kafka

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/segmentio/kafka-go/protocol"
	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/entrepot-hub/entrepot/connectors"
	"github.com/entrepot-hub/entrepot/connectors/conntest"
	"github.com/entrepot-hub/entrepot/record"
)

// TestGroupHears: the remote group hears where the hub is, also when a commit
// to it fails and nothing new comes, and when the hub was killed before it.
func TestGroupHears(t *testing.T) {
	broker := conntest.Kafka(t)
	topic := newTopic(t, broker, 1)
	cl := client(t, broker)
	write(t, cl, topic, 0, "a", "b", "c", "d")
	adm := kadm.NewClient(cl)
	heard := func(group string) (int64, error) {
		all, err := adm.FetchOffsets(t.Context(), group)
		if err != nil {
			return 0, err
		}
		at, _ := all.Lookup(topic, 0)
		return at.At, nil
	}
	hears := func(r *reader, group string, want int64) {
		t.Helper()
		until(t, fmt.Sprintf("group %s is at %d", group, want), func() bool {
			if b, err := r.Read(t.Context(), connectors.Limits{Wait: time.Millisecond}); err != nil || len(b.Messages) > 0 {
				t.Fatal(b, err)
			}
			at, err := heard(group)
			return err == nil && at == want && r.owed == 0
		})
	}
	for _, lost := range []string{"request", "answer"} {
		group := "hears-" + lost + "-" + topic
		cfg := sourceConfig(t, broker, map[string]any{"topics": []string{topic}, "group": group})
		armed := true
		c := &cutter{when: func(k protocol.ApiKey) (before, after bool) {
			now := armed && k == protocol.OffsetCommit
			armed = armed && !now
			return now && lost == "request", now && lost == "answer"
		}}
		open := func(from connectors.Position) *reader {
			r, err := openReader(t.Context(), cutting(t, cfg, c), conntest.Task(cfg), connectors.Split{}, record.TopicPartition{Topic: topic}, from)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = r.Close(context.Background()) })
			return r
		}
		r := open(nil)
		var all []connectors.Message
		for len(all) < 4 {
			b, err := r.Read(t.Context(), connectors.Limits{Records: 1, Wait: time.Second})
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, b.Messages...)
		}
		until(t, "the group has a coordinator", func() bool {
			_, err := r.cluster.coordinator(t.Context(), group, ofGroup)
			return err == nil
		})
		if err := r.Committed(t.Context(), all[3].Position); err != nil || armed {
			t.Fatalf("a commit to the group that fails stops the job: %v", err)
		}
		hears(r, group, 4)
	}
	group := "killed-" + topic
	for _, follow := range []bool{true, false} {
		group += "-"
		cfg := sourceConfig(t, broker, map[string]any{"topics": []string{topic}, "group": group, "follow": follow})
		r, err := openAt(t, cfg, topic, appendPosition(nil, 3, record.TopicID{}))
		if err != nil {
			t.Fatal(err)
		}
		if follow {
			hears(r.(*reader), group, 4)
		} else if all := readAll(t, r); len(all) > 0 {
			t.Errorf("read %v", all)
		}
		if at, err := heard(group); err != nil || at != 4 {
			t.Errorf("follow %t: the group is at %d, %v", follow, at, err)
		}
	}
}
