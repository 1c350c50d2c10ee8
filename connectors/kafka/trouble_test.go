package kafka

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/entrepot-hub/entrepot/connectors"
	"github.com/entrepot-hub/entrepot/connectors/conntest"
)

// openAt opens the only partition of a topic.
func openAt(t testing.TB, cfg connectors.Config, topic string, from connectors.Position) (connectors.Reader, error) {
	t.Helper()
	r, err := Source{}.Open(t.Context(), conntest.Task(cfg), connectors.Split{ID: topic + "-0"}, from)
	if err == nil {
		t.Cleanup(func() { _ = r.Close(context.Background()) })
	}
	return r, err
}

// readAll reads to the end and returns the messages without marks.
func readAll(t testing.TB, r connectors.Reader) (all []connectors.Message) {
	t.Helper()
	for {
		b, err := r.Read(t.Context(), connectors.Limits{Wait: time.Second})
		all = append(all, b.Messages...)
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// TestCompactedTopic: what the broker's cleaner has left is read, each once,
// also where the last offsets of a batch are gone.
func TestCompactedTopic(t *testing.T) {
	broker := conntest.Kafka(t)
	topic := newTopic(t, broker, 1, "cleanup.policy=compact", "segment.ms=200", "min.cleanable.dirty.ratio=0.01", "segment.bytes=1048576",
		"min.compaction.lag.ms=0", "max.compaction.lag.ms=500")
	cl := client(t, broker)
	const rounds, keys = 20, 50
	for round := range rounds {
		var all []*kgo.Record
		for k := range keys { // one batch; the keys at its end are written again by the next
			all = append(all, &kgo.Record{Topic: topic, Key: fmt.Append(nil, (k+round*7)%(keys+20)), Value: fmt.Append(nil, round)})
		}
		if err := cl.ProduceSync(t.Context(), all...).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	var left []*kgo.Record
	until(t, "the topic is compacted", func() bool {
		// The cleaner does not touch the newest segment: a new one has to begin.
		if err := cl.ProduceSync(t.Context(), &kgo.Record{Topic: topic, Key: []byte("roll"), Value: fmt.Append(nil, len(left))}).FirstErr(); err != nil {
			t.Fatal(err)
		}
		left = committed(t, broker, topic)
		return len(left) < rounds*keys/4
	})
	r, err := openAt(t, sourceConfig(t, broker, map[string]any{"topics": []string{topic}, "follow": false}), topic, nil)
	if err != nil {
		t.Fatal(err)
	}
	got := readAll(t, r)
	left = committed(t, broker, topic)
	values := map[string]string{}
	for i, m := range got {
		if i > 0 && m.Offset <= got[i-1].Offset {
			t.Fatalf("offset %d after %d", m.Offset, got[i-1].Offset)
		}
		values[string(m.Key)] = string(m.Value)
	}
	for _, r := range left {
		if string(r.Key) != "roll" && values[string(r.Key)] != string(r.Value) {
			t.Errorf("key %s has %q, want %q", r.Key, values[string(r.Key)], r.Value)
		}
	}
	t.Logf("%d written, %d are left, %d read, %d keys", rounds*keys, len(left), len(got), len(values))
}

// TestTombstonesAndHeaders: null and empty, headers and times arrive as they
// were; a time that the broker set is the one it set.
func TestTombstonesAndHeaders(t *testing.T) {
	broker := conntest.Kafka(t)
	for _, kind := range []string{"CreateTime", "LogAppendTime"} {
		topic := newTopic(t, broker, 1, "message.timestamp.type="+kind)
		cl := client(t, broker)
		records := []*kgo.Record{
			{Key: []byte("k"), Value: nil}, {Key: nil, Value: []byte{}}, {Key: []byte{}, Value: []byte("v"), Headers: []kgo.RecordHeader{{Key: "a", Value: nil}, {Key: "a", Value: []byte{}}, {Key: "", Value: []byte("x")}}},
		}
		for i, r := range records {
			r.Topic, r.Timestamp = topic, time.UnixMilli(1_700_000_000_000+int64(i))
		}
		if err := cl.ProduceSync(t.Context(), records...).FirstErr(); err != nil {
			t.Fatal(err)
		}
		want := committed(t, broker, topic)
		r, err := openAt(t, sourceConfig(t, broker, map[string]any{"topics": []string{topic}, "follow": false}), topic, nil)
		if err != nil {
			t.Fatal(err)
		}
		got := readAll(t, r)
		if len(got) != len(want) {
			t.Fatalf("%d messages, want %d", len(got), len(want))
		}
		for i, m := range got {
			w := want[i]
			if (m.Key == nil) != (w.Key == nil) || (m.Value == nil) != (w.Value == nil) || string(m.Key) != string(w.Key) || string(m.Value) != string(w.Value) ||
				m.Timestamp != w.Timestamp.UnixMilli() || len(m.Headers) != len(w.Headers) || !m.Pinned {
				t.Errorf("%s %d: %+v, want %+v", kind, i, m, w)
			}
			for j, h := range m.Headers {
				if h.Key != w.Headers[j].Key || (h.Value == nil) != (w.Headers[j].Value == nil) || string(h.Value) != string(w.Headers[j].Value) {
					t.Errorf("header %d: %+v", j, h)
				}
			}
		}
	}
}

// TestDeletedBeforeRead: what was deleted before it was read stops the job,
// or is passed over where the config says so.
func TestDeletedBeforeRead(t *testing.T) {
	broker := conntest.Kafka(t)
	topic := newTopic(t, broker, 1)
	cl := client(t, broker)
	write(t, cl, topic, 0, "a", "b", "c", "d", "e")
	cfg := func(policy string) connectors.Config {
		return sourceConfig(t, broker, map[string]any{"topics": []string{topic}, "follow": false, "offset_out_of_range": policy})
	}
	r, err := openAt(t, cfg("fail"), topic, nil)
	if err != nil {
		t.Fatal(err)
	}
	all := readAll(t, r)
	var to kadm.Offsets
	to.Add(kadm.Offset{Topic: topic, Partition: 0, At: 3})
	if _, err := kadm.NewClient(cl).DeleteRecords(t.Context(), to); err != nil {
		t.Fatal(err)
	}
	for policy, want := range map[string]string{"earliest": "d e", "latest": "", "fail": "offsets 1 to 2"} {
		r, err := openAt(t, cfg(policy), topic, all[0].Position)
		if err != nil {
			t.Fatal(err)
		}
		if policy == "fail" {
			if _, err := r.Read(t.Context(), connectors.Limits{Wait: time.Second}); connectors.ClassOf(err) != connectors.ClassFatal || !strings.Contains(err.Error(), want) {
				t.Errorf("%v", err)
			}
			continue
		}
		var got []string
		for _, m := range readAll(t, r) {
			got = append(got, string(m.Value))
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s: %q, want %q", policy, got, want)
		}
	}
	beyond := appendPosition(nil, 99, [16]byte{})
	r, err = openAt(t, sourceConfig(t, broker, map[string]any{"topics": []string{topic}, "offset_out_of_range": "earliest"}), topic, beyond)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Read(t.Context(), connectors.Limits{Wait: time.Second}); connectors.ClassOf(err) != connectors.ClassFatal || !strings.Contains(err.Error(), "ends at offset 5, but 100 were read") {
		t.Errorf("past the end: %v", err)
	}
}

// TestTopicMadeAnew: a topic that was deleted and made again has offsets that
// mean something else, even where it has as many.
func TestTopicMadeAnew(t *testing.T) {
	broker := conntest.Kafka(t)
	topic := newTopic(t, broker, 1)
	cl := client(t, broker)
	write(t, cl, topic, 0, "a", "b")
	cfg := sourceConfig(t, broker, map[string]any{"topics": []string{topic}, "discover_every": time.Hour})
	r, err := openAt(t, cfg, topic, nil)
	if err != nil {
		t.Fatal(err)
	}
	b, err := r.Read(t.Context(), connectors.Limits{Records: 2, Wait: 5 * time.Second})
	if err != nil || len(b.Messages) == 0 {
		t.Fatal(b, err)
	}
	if _, err := kadm.NewClient(cl).DeleteTopic(t.Context(), topic); err != nil {
		t.Fatal(err)
	}
	var made kadm.CreateTopicResponse
	until(t, "the topic can be made anew", func() bool {
		made, err = kadm.NewClient(cl).CreateTopic(t.Context(), 1, 1, nil, topic)
		return err == nil
	})
	awaitTopic(t, broker, made, 1)
	write(t, client(t, broker), topic, 0, "A", "B", "C", "D")
	var stopped error
	until(t, "the reader stops", func() bool {
		b, err := r.Read(t.Context(), connectors.Limits{Wait: 100 * time.Millisecond})
		for _, m := range b.Messages {
			if strings.ToUpper(string(m.Value)) == string(m.Value) && !m.Mark {
				t.Fatalf("it reads %q of the new topic", m.Value)
			}
		}
		stopped = err
		return connectors.ClassOf(err) == connectors.ClassFatal
	})
	if !strings.Contains(stopped.Error(), "deleted and made anew") {
		t.Error(stopped)
	}
	if _, err := openAt(t, cfg, topic, b.Messages[0].Position); connectors.ClassOf(err) != connectors.ClassFatal {
		t.Errorf("opened again: %v", err)
	}
}

// TestStart: where a partition begins that was never read, and that the choice
// is kept.
func TestStart(t *testing.T) {
	broker := conntest.Kafka(t)
	topic := newTopic(t, broker, 1)
	cl := client(t, broker)
	for i, at := range []int64{1_700_000_000_000, 1_700_000_001_000, 1_700_000_002_000} {
		if err := cl.ProduceSync(t.Context(), &kgo.Record{Topic: topic, Value: fmt.Append(nil, i), Timestamp: time.UnixMilli(at)}).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	for start, want := range map[string]int64{"earliest": 0, "latest": 3, "2023-11-14T22:13:21Z": 1, "2030-01-01T00:00:00Z": 3} {
		r, err := openAt(t, sourceConfig(t, broker, map[string]any{"topics": []string{topic}, "start": start}), topic, nil)
		if err != nil {
			t.Fatal(err)
		}
		b, err := r.Read(t.Context(), connectors.Limits{Records: 1, Wait: 50 * time.Millisecond})
		if err != nil || len(b.Messages) != 1 {
			t.Fatalf("%s: %v, %v", start, b, err)
		}
		next, _, err := parsePosition(b.Messages[0].Position)
		if m := b.Messages[0]; m.Mark {
			next++
		}
		if err != nil || next != want {
			t.Errorf("%s: begins at %d, want %d: %v", start, next, want, err)
		}
	}
}

// TestNewPartitions: partitions and topics that appear are read from their
// first message, whatever start says.
func TestNewPartitions(t *testing.T) {
	broker := conntest.Kafka(t)
	topic := newTopic(t, broker, 1)
	cfg := sourceConfig(t, broker, map[string]any{"topics_regexp": topic + "(-more)?", "start": "latest", "discover_every": 100 * time.Millisecond})
	lists, err := Source{}.Splits(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	if first := <-lists; len(first) != 1 || first[0].ID != topic+"-0" || first[0].Config[noteStart] != "" {
		t.Fatalf("%+v", first)
	}
	adm := kadm.NewClient(client(t, broker))
	if _, err := adm.CreatePartitions(t.Context(), 1, topic); err != nil {
		t.Fatal(err)
	}
	createTopic(t, broker, topic+"-more", 1)
	var last []connectors.Split
	until(t, "the new partitions are listed", func() bool {
		select {
		case last = <-lists:
		default:
		}
		return len(last) == 3
	})
	for _, s := range last {
		if late := s.Config[noteStart] == fromFirst; late == (s.ID == topic+"-0") {
			t.Errorf("%+v", s)
		}
	}
	if _, err := (Source{}).Splits(t.Context(), sourceConfig(t, broker, map[string]any{"topics": []string{"missing"}})); err == nil || !strings.Contains(err.Error(), "missing") {
		t.Errorf("a topic that is not there: %v", err)
	}
}

// TestUncommittedWaits: an open transaction holds a reader of committed records
// back, and not the other.
func TestUncommittedWaits(t *testing.T) {
	broker := conntest.Kafka(t)
	topic := newTopic(t, broker, 1)
	txn := client(t, broker, kgo.TransactionalID("open-in-"+topic))
	if err := txn.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	write(t, txn, topic, 0, "open")
	for isolation, want := range map[string]int{"read_committed": 0, "read_uncommitted": 1} {
		r, err := openAt(t, sourceConfig(t, broker, map[string]any{"topics": []string{topic}, "isolation": isolation}), topic, nil)
		if err != nil {
			t.Fatal(err)
		}
		b, err := r.Read(t.Context(), connectors.Limits{Wait: 300 * time.Millisecond})
		if err != nil || len(b.Messages) != want {
			t.Errorf("%s: %d messages, want %d: %v", isolation, len(b.Messages), want, err)
		}
	}
	if err := txn.EndTransaction(t.Context(), kgo.TryAbort); err != nil {
		t.Fatal(err)
	}
}
