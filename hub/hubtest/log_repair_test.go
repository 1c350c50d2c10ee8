package hubtest

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// repairOf is what `log repair --json` says of one log.
type repairOf struct {
	Log  string `json:"log"`
	Gaps []struct {
		Offset     int64 `json:"offset"`
		NextOffset int64 `json:"next_offset"`
	} `json:"gaps"`
	Lost     int64  `json:"lost_offsets"`
	Repaired bool   `json:"repaired"`
	Kept     string `json:"kept"`
	Refused  string `json:"refused"`
}

// logRepair runs the command on a data directory.
func logRepair(t *testing.T, args ...string) (logs []repairOf, err error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), Build(t), append([]string{"log", "repair", "--json"}, args...)...)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, err
	}
	var all struct{ Logs []repairOf }
	if err := json.Unmarshal(out, &all); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return all.Logs, nil
}

// TestLogRepair: a node alone, and damage in logs that nobody else has: in a batch,
// in the header of a frame and in that of a segment. The node refuses to serve them and says so. `log repair`
// shows what is lost and changes nothing; with --execute all that it did not show
// is there again, and the topics go on.
func TestLogRepair(t *testing.T) {
	t.Parallel() // it waits more than it works
	n := NewNode(t, "alone", t.TempDir(), nil, nil, nil)
	n.Start()
	want := map[string][]string{}
	for _, topic := range []string{"batches", "frames", "headers", "sound"} {
		createTopic(t, n.Kafka, topic, 1)
		want[topic] = fillTopic(t, n, topic, 2000)
	}
	if logs, err := logRepair(t, n.Dir); err == nil {
		t.Errorf("repair under a running node: %+v", logs)
	}
	n.Terminate()
	t.Log(flipIn(t, filepath.Join(n.Dir, "batches-0"), "batch"))
	t.Log(flipIn(t, filepath.Join(n.Dir, "frames-0"), "frame header"))
	t.Log(flipIn(t, filepath.Join(n.Dir, "headers-0"), "segment header"))
	n.Start()
	for _, topic := range []string{"batches", "frames", "headers"} {
		cl := client(t, kgo.SeedBrokers(n.Kafka), kgo.DefaultProduceTopic(topic), kgo.RecordDeliveryTimeout(3*time.Second), kgo.RecordRetries(2))
		if err := cl.ProduceSync(t.Context(), kgo.StringRecord("refused")).FirstErr(); err == nil {
			t.Errorf("%s takes records, and its log is damaged", topic)
		}
		cl.Close()
		reported := `msg="the log is damaged and quarantined" part=storage log=` + topic + "-0 "
		if topic == "headers" {
			reported = `msg="a partition cannot be opened" error="open headers-0: `
		}
		if !strings.Contains(n.Output(), reported) {
			t.Errorf("%s: not reported:\n%s", topic, n.Output())
		}
	}
	n.Terminate()

	shown, err := logRepair(t, n.Dir)
	if err != nil || len(shown) != 3 || shown[0].Repaired || shown[0].Lost == 0 || shown[1].Lost == 0 || shown[2].Lost != 0 {
		t.Fatalf("shown: %+v, %v", shown, err)
	}
	again, err := logRepair(t, n.Dir)
	if err != nil || fmt.Sprint(again) != fmt.Sprint(shown) {
		t.Fatalf("shown again: %+v, %v", again, err)
	}
	done, err := logRepair(t, n.Dir, "--execute")
	if err != nil || len(done) != 3 {
		t.Fatalf("repaired: %+v, %v", done, err)
	}
	lost := map[string]repairOf{}
	for i, l := range done {
		if l.Lost != shown[i].Lost || !l.Repaired || l.Kept != filepath.Join(n.Dir, l.Log+".damaged") {
			t.Errorf("repaired %+v, shown was %+v", l, shown[i])
		}
		lost[strings.TrimSuffix(l.Log, "-0")] = l
		t.Logf("%s: %d offsets lost", l.Log, l.Lost)
	}
	if left, err := logRepair(t, n.Dir); err != nil || len(left) != 0 {
		t.Errorf("left to repair: %+v, %v", left, err)
	}

	n.Start()
	for topic, values := range want {
		more := fillTopic(t, n, topic, 500)
		got := topicValues(t, n, topic)
		missing := int64(0)
		for i, v := range values {
			told := false
			for _, g := range lost[topic].Gaps {
				told = told || g.Offset <= int64(i) && int64(i) < g.NextOffset
			}
			if got[int64(i)] != v && !told {
				t.Fatalf("%s: offset %d has %q, want %q", topic, i, got[int64(i)], v)
			}
			if got[int64(i)] == "" {
				missing++
			}
		}
		if missing != lost[topic].Lost {
			t.Errorf("%s: %d records are missing, %d were told to be lost", topic, missing, lost[topic].Lost)
		}
		for i, v := range more {
			if at := int64(len(values) + i); got[at] != v {
				t.Fatalf("%s: offset %d, written since, has %q, want %q", topic, at, got[at], v)
			}
		}
	}
	n.Terminate()
	run(t, Build(t), "log", "verify", n.Dir)
}

// fillTopic writes n records to a topic's only partition, in many batches, and
// returns their values in order.
func fillTopic(t *testing.T, n *Node, topic string, count int) (values []string) {
	t.Helper()
	cl := client(t, kgo.SeedBrokers(n.Kafka), kgo.DefaultProduceTopic(topic), kgo.ProducerBatchMaxBytes(2048))
	defer cl.Close()
	var failed kgo.FirstErrPromise
	id := time.Now().UnixNano()
	for i := range count {
		values = append(values, fmt.Sprintf("%d-%d", id, i))
		cl.Produce(t.Context(), kgo.StringRecord(values[i]), failed.Promise())
	}
	if err := failed.Err(); err != nil {
		t.Fatal(err)
	}
	return values
}

// topicValues reads a topic's only partition: value by offset.
func topicValues(t *testing.T, n *Node, topic string) map[int64]string {
	t.Helper()
	cl := client(t, kgo.SeedBrokers(n.Kafka), kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.KeepControlRecords())
	defer cl.Close()
	ends, err := kadm.NewClient(cl).ListEndOffsets(t.Context(), topic)
	if err != nil {
		t.Fatal(err)
	}
	got := map[int64]string{}
	if err := ReadTo(t.Context(), cl, ends, func(r *kgo.Record) { got[r.Offset] = string(r.Value) }); err != nil {
		t.Fatal(err)
	}
	return got
}
