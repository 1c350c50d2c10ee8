package hub

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/goleak"

	"github.com/entrepot-hub/entrepot/connectors"
	"github.com/entrepot-hub/entrepot/connectors/file"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		// Serf's and memberlist's own, which end soon after Close but cannot be
		// waited for.
		goleak.IgnoreAnyFunction("github.com/hashicorp/serf/serf.(*Serf).checkQueueDepth"),
		goleak.IgnoreAnyFunction("github.com/hashicorp/memberlist.(*Memberlist).packetHandler"),
		goleak.IgnoreAnyFunction("github.com/hashicorp/serf/serf.(*Snapshotter).stream"),
	)
}

// config is a site of one node on free ports.
func config(t *testing.T, site string, join ...string) Config {
	t.Helper()
	c := Dev()
	c.Node.ID, c.Node.Site, c.Node.DataDir = site+"-1", site, filepath.Join(t.TempDir(), site)
	for _, addr := range []*string{&c.Listeners.Kafka.Addr, &c.Listeners.Admin.Addr, &c.Listeners.Peer.Addr, &c.Listeners.Registry.Addr, &c.Listeners.Connect.Addr, &c.Mesh.LAN.Addr, &c.Mesh.WAN.Addr} {
		*addr = "127.0.0.1:0"
	}
	c.Mesh.WAN.Join = join
	return c
}

// start runs a hub until the returned function, or the test, ends it. It serves.
func start(t *testing.T, c Config, deps Deps) (*Hub, func()) {
	t.Helper()
	h, stop := launch(t, c, deps)
	until(t, func() bool { return h.ready.Load() == nil })
	return h, stop
}

// launch is start of a hub that may never serve.
func launch(t *testing.T, c Config, deps Deps) (*Hub, func()) {
	t.Helper()
	if deps.Registry.Sources == nil {
		deps.Registry = connectors.Registry{Sources: map[string]connectors.Source{"file": file.Source{}}}
	}
	h, err := Open(t.Context(), c, deps)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- h.Run(ctx) }()
	done := false
	stop := func() {
		if done {
			return
		}
		done = true
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(stop)
	return h, stop
}

func until(t *testing.T, condition func() bool) {
	t.Helper()
	deadline := time.After(time.Minute)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !condition() {
		select {
		case <-deadline:
			t.Fatal("the condition does not come true")
		case <-tick.C:
		}
	}
}

func client(t *testing.T, h *Hub, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	cl, err := kgo.NewClient(append(opts, kgo.SeedBrokers(h.Kafka()))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	return cl
}

// TestTopicsSurviveARestart: names, IDs, partitions, settings and records.
func TestTopicsSurviveARestart(t *testing.T) {
	c := config(t, "solo")
	h, stop := start(t, c, Deps{})
	cl := client(t, h)
	adm := kadm.NewClient(cl)
	retention := "3600000"
	if _, err := adm.CreateTopic(t.Context(), 3, 1, map[string]*string{"retention.ms": &retention}, "a"); err != nil {
		t.Fatal(err)
	}
	if _, err := adm.CreateTopic(t.Context(), 1, 1, nil, "gone"); err != nil {
		t.Fatal(err)
	}
	if _, err := adm.DeleteTopic(t.Context(), "gone"); err != nil {
		t.Fatal(err)
	}
	if err := cl.ProduceSync(t.Context(), &kgo.Record{Topic: "a", Partition: 0, Value: []byte("kept")}).FirstErr(); err != nil {
		t.Fatal(err)
	}
	before, _ := h.meta.State().Topic("a")
	cl.Close()
	stop()
	h, _ = start(t, c, Deps{})
	after, ok := h.meta.State().Topic("a")
	if !ok || after.ID != before.ID || len(after.Partitions) != 3 || after.Config["retention.ms"] != retention {
		t.Errorf("before %+v, after %+v", before, after)
	}
	if h.Has("gone") {
		t.Error("a deleted topic is back")
	}
	var records int64
	for p := range int32(3) {
		records += h.Offsets("a", p).HighWatermark
	}
	if records != 1 {
		t.Errorf("%d records, want 1", records)
	}
	if _, err := os.Stat(filepath.Join(c.Node.DataDir, "gone-0")); !os.IsNotExist(err) {
		t.Errorf("the data of a deleted topic is there: %v", err)
	}
}

// TestKilledInADeletion: the logs of a topic whose deletion was decided, but not
// carried out when the node ended, stayed for ever.
func TestKilledInADeletion(t *testing.T) {
	c := config(t, "solo")
	h, stop := start(t, c, Deps{})
	cl := client(t, h)
	adm := kadm.NewClient(cl)
	if _, err := adm.CreateTopic(t.Context(), 1, 1, nil, "gone"); err != nil {
		t.Fatal(err)
	}
	stop()
	dir := filepath.Join(c.Node.DataDir, "gone-0")
	kept := t.TempDir()
	if err := os.CopyFS(kept, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	h, stop = start(t, c, Deps{})
	cl = client(t, h)
	if _, err := kadm.NewClient(cl).DeleteTopic(t.Context(), "gone"); err != nil {
		t.Fatal(err)
	}
	stop()
	if err := os.CopyFS(dir, os.DirFS(kept)); err != nil {
		t.Fatal(err)
	}
	_, stop = start(t, c, Deps{})
	stop()
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("the data of a deleted topic is there: %v", err)
	}
}

// TestDamagedPartitionStaysAlone: a log whose header cannot be read kept the
// whole node from starting.
func TestDamagedPartitionStaysAlone(t *testing.T) {
	c := config(t, "solo")
	h, stop := start(t, c, Deps{})
	cl := client(t, h, kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if _, err := kadm.NewClient(cl).CreateTopic(t.Context(), 2, 1, nil, "a"); err != nil {
		t.Fatal(err)
	}
	for p := range int32(2) {
		if err := cl.ProduceSync(t.Context(), &kgo.Record{Topic: "a", Partition: p, Value: []byte("x")}).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	cl.Close()
	stop()
	files, err := filepath.Glob(filepath.Join(c.Node.DataDir, "a-0", "*.log"))
	if err != nil || len(files) != 1 {
		t.Fatalf("%v %v", files, err)
	}
	before, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	damaged := bytes.Clone(before)
	clear(damaged[:32])
	if err := os.WriteFile(files[0], damaged, 0o600); err != nil {
		t.Fatal(err)
	}
	h, _ = start(t, c, Deps{})
	if o := h.Offsets("a", 1); o.HighWatermark != 1 {
		t.Errorf("the whole partition has %+v, want one record", o)
	}
	cl = client(t, h, kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.RecordRetries(1), kgo.UnknownTopicRetries(1))
	if err := cl.ProduceSync(t.Context(), &kgo.Record{Topic: "a", Partition: 1, Value: []byte("y")}).FirstErr(); err != nil {
		t.Errorf("the whole partition does not take records: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if err := cl.ProduceSync(ctx, &kgo.Record{Topic: "a", Partition: 0, Value: []byte("y")}).FirstErr(); err == nil {
		t.Error("a damaged partition took a record")
	}
	after, err := os.ReadFile(files[0])
	if err != nil || !bytes.Equal(after, damaged) {
		t.Errorf("the damaged file was changed (%v)", err)
	}
}

// TestMirrorSetting: the setting of a topic is all that mirrors it, a mirror
// is read-only, and settings and partitions follow.
func TestMirrorSetting(t *testing.T) {
	east, _ := start(t, config(t, "east"), Deps{})
	west, _ := start(t, config(t, "west", east.WAN()), Deps{})
	to := "west"
	adm := kadm.NewClient(client(t, east))
	if _, err := adm.CreateTopic(t.Context(), 2, 1, map[string]*string{"mirror.to": &to}, "orders"); err != nil {
		t.Fatal(err)
	}
	if _, err := adm.CreateTopic(t.Context(), 1, 1, nil, "private"); err != nil {
		t.Fatal(err)
	}
	cl := client(t, east, kgo.DefaultProduceTopic("orders"), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	for i := range 100 {
		if err := cl.ProduceSync(t.Context(), &kgo.Record{Partition: int32(i % 2), Value: []byte("x")}).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	until(t, func() bool {
		return west.Has("orders") && west.Offsets("orders", 0).HighWatermark == 50 && west.Offsets("orders", 1).HighWatermark == 50
	})
	if west.Has("private") {
		t.Error("a topic without the setting was mirrored")
	}
	err := client(t, west, kgo.DefaultProduceTopic("orders"), kgo.RecordRetries(1)).ProduceSync(t.Context(), kgo.StringRecord("no")).FirstErr()
	if !errors.Is(err, kerr.PolicyViolation) {
		t.Errorf("a mirror answers a client's record with %v, want POLICY_VIOLATION", err)
	}
	if _, err := adm.CreatePartitions(t.Context(), 1, "orders"); err != nil {
		t.Fatal(err)
	}
	retention := "7200000"
	if _, err := adm.AlterTopicConfigs(t.Context(), []kadm.AlterConfig{{Op: kadm.SetConfig, Name: "retention.ms", Value: &retention}}, "orders"); err != nil {
		t.Fatal(err)
	}
	until(t, func() bool {
		topic, _ := west.meta.State().Topic("orders")
		return len(topic.Partitions) == 3 && topic.Config["retention.ms"] == retention
	})
	configs, err := kadm.NewClient(client(t, west)).DescribeTopicConfigs(t.Context(), "orders")
	if err != nil {
		t.Fatal(err)
	}
	from := ""
	for _, c := range configs[0].Configs {
		if c.Key == "mirror.source" {
			from = c.MaybeValue()
		}
	}
	if from != "east" {
		t.Errorf("the mirror shows mirror.source %q, want east", from)
	}
	source, _ := east.meta.State().Topic("orders")
	if copied, _ := west.meta.State().Topic("orders"); copied.ID != source.ID {
		t.Errorf("the mirror has ID %s, its source %s", copied.ID, source.ID)
	}
}

// TestJobsFilesMakeTopics: topics of the jobs files are there when the hub is
// ready, and follow the files at the next start.
func TestJobsFilesMakeTopics(t *testing.T) {
	c := config(t, "solo")
	jobs := func(text string) Deps { return Deps{JobsText: map[string][]byte{"jobs.yaml": []byte(text)}} }
	h, stop := start(t, c, jobs("topics:\n  - {name: a, partitions: 2, config: {retention.ms: 1000000}}\n"))
	if a, _ := h.meta.State().Topic("a"); len(a.Partitions) != 2 || a.Config["retention.ms"] != "1000000" {
		t.Errorf("%+v", a)
	}
	stop()
	h, _ = start(t, c, jobs("topics:\n  - {name: a, partitions: 4, mirror_to: [west], config: {retention.ms: 2000000}}\n"))
	if a, _ := h.meta.State().Topic("a"); len(a.Partitions) != 4 || a.Config["retention.ms"] != "2000000" || a.Config["mirror.to"] != "west" {
		t.Errorf("%+v", a)
	}
}
