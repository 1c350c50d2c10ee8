package hubtest

import (
	"fmt"
	"net"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

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
	for _, addr := range []string{"127.0.0.1:9092", "127.0.0.1:8080", "127.0.0.1:8081", "127.0.0.1:8083", "127.0.0.1:7946", "127.0.0.1:7947", "127.0.0.1:7948"} {
		ln, err := net.Listen("tcp", addr)
		if err != nil {
			Missing(t, "a port of the product is taken: %v", err)
		}
		_ = ln.Close()
	}
	p := Start(t, nil, "serve", "--dev", "--data-dir", t.TempDir())
	Until(t, 30*time.Second, "serve --dev", func() error {
		if p.Ended() {
			t.Fatalf("ended by itself:\n%s", p.Output())
		}
		return Ready("127.0.0.1:8080")
	})
	t.Log(run(t, Tool(t, "kcat"), "-L", "-b", "127.0.0.1:9092"))
}
