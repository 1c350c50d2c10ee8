package hubtest

import (
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"

	"github.com/entrepot-hub/entrepot/record"
)

// refused starts a node that must not start: it ends with the status and says
// all of the words, and the data directory is not made.
func refused(t *testing.T, n *Node, status int, words ...string) {
	t.Helper()
	p := Start(t, n.env, "serve", "-c", n.file)
	got, err := p.Wait(20 * time.Second)
	if err != nil {
		t.Fatal(err)
	}
	if got != status {
		t.Errorf("exit status %d, want %d", got, status)
	}
	for _, w := range words {
		if !strings.Contains(p.Output(), w) {
			t.Errorf("the output does not say %q:\n%s", w, p.Output())
		}
	}
	if lines := strings.Count(strings.TrimSpace(p.Output()), "\n"); lines > 0 && status == 1 {
		t.Errorf("%d lines of output, want one sentence:\n%s", lines+1, p.Output())
	}
}

func notMade(t *testing.T, dir string) {
	t.Helper()
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("%s was made (%v), want nothing started", dir, err)
	}
}

func TestBadJobsStartNothing(t *testing.T) {
	for name, c := range map[string]struct{ text, want string }{
		"unknown key":     {"connectors:\n  - name: a\n    sorce: {type: file, path: /x}\n    topic: t\n", `jobs.yaml:3:5`},
		"nearest key":     {"connectors:\n  - name: a\n    sorce: {type: file, path: /x}\n    topic: t\n", `source`},
		"wrong type":      {"topics:\n  - {name: t, partitions: many}\n", `jobs.yaml:2:27`},
		"missing env":     {"connectors:\n  - name: a\n    source: {type: file, path: \"${env:NO_SUCH_VARIABLE_HERE}\"}\n    topic: t\n", `NO_SUCH_VARIABLE_HERE`},
		"two of a name":   {"connectors:\n  - {name: a, source: {type: file, path: /x}, topic: t}\n  - {name: a, source: {type: file, path: /y}, topic: t}\n", `jobs.yaml:3:`},
		"unknown type":    {"connectors:\n  - {name: a, source: {type: fiel, path: /x}, topic: t}\n", `file`},
		"unknown setting": {"topics:\n  - {name: t, retntion: 1}\n", `jobs.yaml:2:`},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			n := NewNode(t, "solo", dir, nil, []string{writeJobs(t, dir, c.text)}, nil)
			refused(t, n, 2, c.want)
			notMade(t, n.Dir)
		})
	}
}

func TestPortTakenTouchesNothing(t *testing.T) {
	n := NewNode(t, "solo", t.TempDir(), nil, nil, nil)
	l, err := net.Listen("tcp", n.Kafka)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	refused(t, n, 1, n.Kafka, "in use")
	notMade(t, n.Dir)
}

func TestDataOfALiveNodeIsLeftAlone(t *testing.T) {
	dir := t.TempDir()
	first := NewNode(t, "solo", dir, nil, nil, nil)
	first.Start()
	second := NewNode(t, "solo", dir, nil, nil, nil) // other ports, the same data
	refused(t, second, 1, second.Dir, "in use", "solo-1")
	if err := Ready(first.Admin); err != nil {
		t.Errorf("the first node: %v", err)
	}
}

func TestOtherFormatIsLeftAlone(t *testing.T) {
	for _, version := range []string{"0", "999"} {
		n := NewNode(t, "solo", t.TempDir(), nil, nil, nil)
		n.Start()
		n.Kill()
		file := filepath.Join(n.Dir, "format")
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		other := strings.Map(func(r rune) rune {
			if r >= '0' && r <= '9' {
				return -1
			}
			return r
		}, strings.TrimSpace(string(text)))
		other = strings.TrimSpace(other) + " " + version + "\n"
		if err := os.WriteFile(file, []byte(other), 0o600); err != nil {
			t.Fatal(err)
		}
		refused(t, n, 1, n.Dir, "format")
		if now, err := os.ReadFile(file); err != nil || string(now) != other {
			t.Errorf("the format file was changed to %q (%v)", now, err)
		}
	}
}

// TestGarbageIsShutOut sends what no client would, then uses the hub.
func TestGarbageIsShutOut(t *testing.T) {
	n := devNode(t)
	before := memory(t, n)
	huge := binary.BigEndian.AppendUint32(nil, 2<<30-1)
	truncated := append(binary.BigEndian.AppendUint32(nil, 100), make([]byte, 20)...)
	unknownAPI := append(binary.BigEndian.AppendUint32(nil, 10), 0x7f, 0xff, 0, 0, 0, 0, 0, 1, 0xff, 0xff)
	negative := []byte{0xff, 0xff, 0xff, 0xff, 1, 2, 3}
	random := make([]byte, 1<<16)
	_, _ = rand.Read(random)
	for range 50 {
		for _, garbage := range [][]byte{huge, truncated, unknownAPI, negative, random, {}} {
			c, err := net.Dial("tcp", n.Kafka)
			if err != nil {
				t.Fatal(err)
			}
			_, _ = c.Write(garbage)
			t.Cleanup(func() { _ = c.Close() }) // some stay open and silent
		}
	}
	createTopic(t, n.Kafka, "t", 1)
	cl := client(t, kgo.SeedBrokers(n.Kafka), kgo.DefaultProduceTopic("t"))
	if err := cl.ProduceSync(t.Context(), kgo.StringRecord("still here")).FirstErr(); err != nil {
		t.Fatal(err)
	}
	if n.Process().Ended() {
		t.Fatal("the hub has ended")
	}
	if grown := memory(t, n) - before; grown > 100<<10 {
		t.Errorf("300 garbage connections grew the hub by %d KiB", grown)
	}
}

// memory is the resident memory of the node's process in KiB.
func memory(t *testing.T, n *Node) (kib int) {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", n.Process().Pid()))
	if err != nil {
		t.Skipf("SKIPPED: no /proc: %v", err)
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			_, _ = fmt.Sscan(rest, &kib)
		}
	}
	return kib
}

// TestCorruptBatchIsNotStored sends a batch whose checksum does not hold.
func TestCorruptBatchIsNotStored(t *testing.T) {
	n := devNode(t)
	createTopic(t, n.Kafka, "t", 1)
	b := record.NewBuilder(record.None)
	if err := b.Append(record.Record{Value: []byte("whole"), Timestamp: 1}); err != nil {
		t.Fatal(err)
	}
	batch, err := b.Build()
	if err != nil {
		t.Fatal(err)
	}
	batch[len(batch)-2] ^= 1
	req := kmsg.NewPtrProduceRequest()
	req.SetVersion(9)
	req.Acks, req.TimeoutMillis = -1, 5000
	topic := kmsg.NewProduceRequestTopic()
	topic.Topic = "t"
	part := kmsg.NewProduceRequestTopicPartition()
	part.Records = batch
	topic.Partitions = append(topic.Partitions, part)
	req.Topics = append(req.Topics, topic)
	cl := client(t, kgo.SeedBrokers(n.Kafka), kgo.MaxVersions(kversion.V3_0_0())) // topics by name
	resp, err := cl.Broker(1).Request(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	got := kerr.ErrorForCode(resp.(*kmsg.ProduceResponse).Topics[0].Partitions[0].ErrorCode)
	if got != kerr.CorruptMessage {
		t.Errorf("the answer is %v, want CORRUPT_MESSAGE", got)
	}
	if left := readAll(t, n.Kafka, "t", 0); len(left) != 0 {
		t.Errorf("%d records were stored", len(left))
	}
}

// TestMalformedLineIsADeadLetter puts three bad lines among good ones.
func TestMalformedLineIsADeadLetter(t *testing.T) {
	dir := t.TempDir()
	good := `1.2.3.4 - - [17/May/2015:10:05:03 +0000] "GET /%d HTTP/1.1" 200 5 "-" "curl"`
	var text strings.Builder
	for i := 1; i <= 1000; i++ {
		if i == 7 || i == 500 || i == 1000 {
			fmt.Fprintf(&text, "this is line %d and no request\n", i)
			continue
		}
		fmt.Fprintf(&text, good+"\n", i)
	}
	input := filepath.Join(dir, "bad.log")
	if err := os.WriteFile(input, []byte(text.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	n := jobsNode(t, followJobs, "ENTREPOT_DEMO_INPUT="+input)
	Until(t, 30*time.Second, "all lines are read", func() error {
		j, err := job(n.Admin, "access-log")
		if err == nil && (j.Counters["written"] != 997 || j.Counters["dead"] != 3) {
			err = fmt.Errorf("%v, want 997 written and 3 dead; %s", j.Counters, j.Reason)
		}
		return err
	})
	letters := readAll(t, n.Kafka, "access-log.dlq", 0)
	if len(letters) != 3 {
		t.Fatalf("%d dead letters, want 3", len(letters))
	}
	for i, line := range []int{7, 500, 1000} {
		headers := map[string]string{}
		for _, h := range letters[i].Headers {
			headers[h.Key] = string(h.Value)
		}
		all := fmt.Sprint(headers)
		if !strings.Contains(all, input) || !strings.Contains(all, fmt.Sprint(line)) {
			t.Errorf("dead letter %d does not name %s and line %d: %v", i, input, line, headers)
		}
		if want := fmt.Sprintf("this is line %d and no request", line); string(letters[i].Value) != want {
			t.Errorf("dead letter %d is %q, want the line as it was: %q", i, letters[i].Value, want)
		}
	}
}
