package hubtest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// tool finds a program of the test set-up. Without it the test is skipped
// loudly, and fails under `make test`, whose set-up has to have it.
func tool(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		missing(t, "%s is not installed; deploy/test/setup.sh installs it", name)
	}
	return path
}

func missing(t *testing.T, format string, args ...any) {
	t.Helper()
	if os.Getenv("CI") != "" || os.Getenv("ENTREPOT_TEST_TOOLS") == "all" {
		t.Fatalf(format, args...)
	}
	t.Skipf("SKIPPED: "+format, args...)
}

// python finds an interpreter that has the module: the one of the test
// set-up's environment first.
func python(t *testing.T, module string) string {
	t.Helper()
	for _, path := range []string{os.Getenv("ENTREPOT_TEST_PYTHON"), "../../.cache/venv/bin/python", "python3"} {
		if path != "" && exec.Command(path, "-c", "import "+module).Run() == nil {
			return path
		}
	}
	missing(t, "no python3 with the module %s; deploy/test/setup.sh installs it", module)
	return ""
}

func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", filepath.Base(name), strings.Join(args, " "), err, out)
	}
	return string(out)
}

// devNode is `entrepot serve --dev` moved to free ports by a file.
func devNode(t *testing.T) *Node {
	t.Helper()
	n := NewNode(t, "solo", t.TempDir(), nil, nil, nil)
	n.dev = true
	n.Start()
	return n
}

func TestConfluentKafka(t *testing.T) {
	py, n := python(t, "confluent_kafka"), devNode(t)
	createTopic(t, n.Kafka, "t", 3)
	t.Log(run(t, py, "testdata/clients/confluent.py", n.Kafka, "t", "g", "5000"))
}

func TestKafkaPython(t *testing.T) {
	py, n := python(t, "kafka"), devNode(t)
	createTopic(t, n.Kafka, "t", 3)
	t.Log(run(t, py, "testdata/clients/kafkapython.py", n.Kafka, "t", "g", "2000"))
}

func TestKcat(t *testing.T) {
	kcat, n := tool(t, "kcat"), devNode(t)
	createTopic(t, n.Kafka, "t", 3)
	for _, codec := range []string{"none", "gzip", "snappy", "lz4", "zstd"} {
		cmd := exec.Command(kcat, "-P", "-b", n.Kafka, "-t", "t", "-K:", "-z", codec, "-X", "acks=all")
		var in strings.Builder
		for i := range 200 {
			fmt.Fprintf(&in, "k%d:%s-%d\n", i, codec, i)
		}
		cmd.Stdin = strings.NewReader(in.String())
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("kcat -P -z %s: %v\n%s", codec, err, out)
		}
	}
	seen := map[string]bool{}
	for _, line := range strings.Fields(run(t, kcat, "-C", "-b", n.Kafka, "-t", "t", "-o", "beginning", "-e", "-q", "-f", "%s\n")) {
		seen[line] = true
	}
	if len(seen) != 1000 {
		t.Errorf("kcat -C read %d distinct values, want 1000", len(seen))
	}
	// A group: two runs, the second goes on where the first committed.
	group := func(count string) []string {
		return strings.Fields(run(t, kcat, "-b", n.Kafka, "-G", "g", "-X", "auto.offset.reset=earliest", "-c", count, "-q", "-f", "%p:%o\n", "t"))
	}
	places := map[string]bool{}
	for _, at := range append(group("600"), group("400")...) {
		if strings.Contains(at, ":") && places[at] {
			t.Errorf("%s was read twice by the group", at)
		}
		places[at] = true
	}
	if len(places) != 1000 {
		t.Errorf("the group read %d places, want 1000", len(places))
	}
}

func TestFranzGo(t *testing.T) {
	n := devNode(t)
	createTopic(t, n.Kafka, "t", 3)
	producer := client(t, kgo.SeedBrokers(n.Kafka), kgo.DefaultProduceTopic("t"))
	for i := range 3000 {
		producer.Produce(t.Context(), &kgo.Record{Key: fmt.Appendf(nil, "k%d", i), Value: fmt.Appendf(nil, "v%d", i)}, func(_ *kgo.Record, err error) {
			if err != nil {
				t.Error(err)
			}
		})
	}
	if err := producer.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, want := range []int{1000, 3000} { // the second consumer goes on where the first committed
		cl := client(t, kgo.SeedBrokers(n.Kafka), kgo.ConsumerGroup("g"), kgo.ConsumeTopics("t"), kgo.DisableAutoCommit(), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
		for len(seen) < want {
			fetches := cl.PollRecords(t.Context(), want-len(seen))
			if err := fetches.Err(); err != nil {
				t.Fatal(err)
			}
			fetches.EachRecord(func(r *kgo.Record) {
				if seen[string(r.Value)] {
					t.Errorf("%s was read twice by the group", r.Value)
				}
				seen[string(r.Value)] = true
			})
			if err := cl.CommitRecords(t.Context(), fetches.Records()...); err != nil {
				t.Fatal(err)
			}
		}
		cl.Close()
	}
}

// TestDevServes is the README's second command: `entrepot serve --dev`. It
// needs the product's own ports and is skipped where they are taken.
func TestDevServes(t *testing.T) {
	if Ready("127.0.0.1:8080") == nil {
		missing(t, "port 8080 is taken by another hub")
	}
	p := Start(t, nil, "serve", "--dev", "--data-dir", t.TempDir())
	Until(t, 30*time.Second, "serve --dev", func() error {
		if p.Ended() {
			t.Fatalf("ended by itself:\n%s", p.Output())
		}
		return Ready("127.0.0.1:8080")
	})
	t.Log(run(t, tool(t, "kcat"), "-L", "-b", "127.0.0.1:9092"))
}
