package ctl

import (
	"encoding/json"
	"fmt"
	"net"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
)

// broker starts a reference broker and returns its address and a client.
func broker(t *testing.T) (addr string, client *kgo.Client) {
	t.Helper()
	c, err := kfake.NewCluster(kfake.NumBrokers(1))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	addr = c.ListenAddrs()[0]
	client, err = kgo.NewClient(kgo.SeedBrokers(addr))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return addr, client
}

// Programs that count the replicas in sync get a list also where nobody knows of one.
func TestListsOfAPartitionAreNeverNull(t *testing.T) {
	b, err := json.Marshal(partitionOf(kadm.PartitionDetail{Leader: -1, Replicas: []int32{1}}))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(b), `"replicas":[1],"in_sync":[]`) {
		t.Errorf("%s", b)
	}
}

func produce(t *testing.T, client *kgo.Client, topic string, partition int32, n int) {
	t.Helper()
	var records []*kgo.Record
	for i := range n {
		records = append(records, &kgo.Record{Topic: topic, Partition: partition, Key: []byte("k"), Value: fmt.Appendf(nil, "value %d", i), Headers: []kgo.RecordHeader{{Key: "reason", Value: []byte("no quote")}}})
	}
	if err := client.ProduceSync(t.Context(), records...).FirstErr(); err != nil {
		t.Fatal(err)
	}
}

// manual is a client that puts records where it is told.
func manual(t *testing.T, addr string) *kgo.Client {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(addr), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return client
}

func TestTopics(t *testing.T) {
	addr, _ := broker(t)
	at := []string{"--brokers", addr}
	do := func(args string, more ...string) []string {
		return append(append(strings.Fields(args), at...), more...)
	}

	out := mustRun(t, do("topic create clicks --partitions 3 --config retention.ms=1000 --config cleanup.policy=compact")...)
	if out != "created topic clicks with 3 partitions and 1 replica\n" {
		t.Errorf("create: %q", out)
	}
	r := run(t, Deps{}, do("topic create clicks")...)
	if r.status != Failed || !strings.Contains(r.stderr, "create topic clicks: TOPIC_ALREADY_EXISTS") || !strings.Contains(r.stderr, "--if-not-exists") {
		t.Errorf("create again: %+v", r)
	}
	if out := mustRun(t, do("topic create clicks --if-not-exists")...); out != "topic clicks is there already\n" {
		t.Errorf("create --if-not-exists: %q", out)
	}
	r = run(t, Deps{}, do("topic create wide --replicas 5")...)
	if r.status != Failed || !strings.Contains(r.stderr, "INVALID_REPLICATION_FACTOR") {
		t.Errorf("create with more replicas than nodes: %+v", r)
	}
	m := manual(t, addr)
	produce(t, m, "clicks", 1, 1234)

	want := "TOPIC   PARTITIONS  REPLICAS  RECORDS\nclicks           3         1    1,234\n"
	if out := mustRun(t, do("topic list")...); out != want {
		t.Errorf("list:\n%s\nwant:\n%s", out, want)
	}
	var rows []topicRow
	mustJSON(t, &rows, do("topic list")...)
	if len(rows) != 1 || rows[0] != (topicRow{Name: "clicks", Partitions: 3, Replicas: 1, Records: 1234}) {
		t.Errorf("list --json: %+v", rows)
	}

	var d topicDetail
	mustJSON(t, &d, do("topic describe clicks")...)
	if len(d.Partitions) != 3 || d.Partitions[1].HighWatermark != 1234 || d.Config["retention.ms"] != "1000" || len(d.Config) != 2 || d.ID == "" {
		t.Errorf("describe --json: %+v", d)
	}
	out = mustRun(t, do("topic describe clicks")...)
	for _, want := range []string{"topic:   clicks\n", "config:  cleanup.policy=compact  retention.ms=1000\n", "PARTITION  LEADER", "        1       0      0  0         0                0        1,234    1,234      0\n"} {
		if !strings.Contains(out, want) {
			t.Errorf("describe lacks %q:\n%s", want, out)
		}
	}
	for _, args := range []string{"topic describe nope", "topic delete nope", "topic config get nope", "topic config set nope a=b", "bench consume --topic nope"} {
		r := run(t, Deps{}, do(args)...)
		if r.status != Failed || !strings.Contains(r.stderr, "UNKNOWN_TOPIC_OR_PARTITION") || !strings.Contains(r.stderr, "`entrepot topic list` shows what is there") {
			t.Errorf("%s: %+v", args, r)
		}
	}
	if out := mustRun(t, do("topic delete clicks")...); out != "deleted topic clicks\n" {
		t.Errorf("delete: %q", out)
	}
	if out := mustRun(t, do("topic list")...); !strings.HasPrefix(out, "no topics; create one") {
		t.Errorf("list after delete: %q", out)
	}
	if out := mustRun(t, do("topic list --json")...); out != "[]\n" {
		t.Errorf("list --json after delete: %q", out)
	}
}

func TestTopicConfig(t *testing.T) {
	addr, _ := broker(t)
	do := func(args string) []string { return append(strings.Fields(args), "--brokers", addr) }
	mustRun(t, do("topic create clicks")...)
	if out := mustRun(t, do("topic config get clicks")...); !strings.HasPrefix(out, "all settings are the defaults") {
		t.Errorf("get: %q", out)
	}
	if out := mustRun(t, do("topic config set clicks retention.ms=86400000 max.message.bytes=2000000")...); out != "changed 2 settings of topic clicks\n" {
		t.Errorf("set: %q", out)
	}
	mustRun(t, do("topic config set clicks --remove max.message.bytes")...)
	var set []setting
	mustJSON(t, &set, do("topic config get clicks")...)
	if len(set) != 1 || set[0] != (setting{"retention.ms", "86400000", true}) {
		t.Errorf("get --json: %+v", set)
	}
	if out := mustRun(t, do("topic config get clicks --all")...); !strings.Contains(out, "default") || !strings.Contains(out, "retention.ms") {
		t.Errorf("get --all: %q", out)
	}
}

// num is a number of a group's first partition, or -1 when it is not known.
func num(d groupDetail, of func(offsetRow) *int64) int64 {
	if len(d.Offsets) == 0 || of(d.Offsets[0]) == nil {
		return -1
	}
	return *of(d.Offsets[0])
}

func committed(o offsetRow) *int64 { return o.Committed }
func lag(o offsetRow) *int64       { return o.Lag }

func TestGroups(t *testing.T) {
	addr, client := broker(t)
	do := func(args string) []string { return append(strings.Fields(args), "--brokers", addr) }
	mustRun(t, do("topic create orders --partitions 2")...)
	produce(t, manual(t, addr), "orders", 0, 100)
	produce(t, manual(t, addr), "orders", 1, 50)
	offsets := kadm.Offsets{}
	offsets.AddOffset("orders", 0, 30, -1)
	if err := kadm.NewClient(client).CommitAllOffsets(t.Context(), "billing", offsets); err != nil {
		t.Fatal(err)
	}
	if out := mustRun(t, do("group list")...); !strings.Contains(out, "billing  Empty") {
		t.Errorf("list: %q", out)
	}
	var d groupDetail
	mustJSON(t, &d, do("group describe billing")...)
	if d.State != "Empty" || len(d.Offsets) != 2 || d.Offsets[1].Committed != nil || num(d, committed) != 30 || num(d, lag) != 70 {
		t.Errorf("describe: %+v", d)
	}
	out := mustRun(t, do("group describe billing")...)
	if !strings.Contains(out, "no members") || !strings.Contains(out, "orders          0         30  100   70  -\n") {
		t.Errorf("describe:\n%s", out)
	}

	out = mustRun(t, do("group reset-offsets billing --topic orders --to-offset 60 --dry-run")...)
	want := "TOPIC   PARTITION  BEFORE  AFTER\norders          0      30     60\norders          1       -     50\nnothing was committed (--dry-run)\n"
	if out != want {
		t.Errorf("dry run:\n%s\nwant (60 is past partition 1's end, 50):\n%s", out, want)
	}
	mustJSON(t, &d, do("group describe billing")...)
	if num(d, committed) != 30 {
		t.Error("a dry run committed")
	}
	mustRun(t, do("group reset-offsets billing --to-latest")...)
	mustJSON(t, &d, do("group describe billing")...)
	if num(d, committed) != 100 || d.Offsets[1].Committed != nil {
		t.Errorf("after --to-latest of what was committed: %+v", d.Offsets)
	}
	mustRun(t, do("group reset-offsets billing --to-time 2000-01-01T00:00:00Z")...)
	mustJSON(t, &d, do("group describe billing")...)
	if num(d, committed) != 0 {
		t.Errorf("after --to-time before all records: %+v", d.Offsets)
	}
	mustRun(t, do("group reset-offsets billing --to-time 2999-01-01T00:00:00Z")...)
	mustJSON(t, &d, do("group describe billing")...)
	if num(d, committed) != 100 {
		t.Errorf("after --to-time past all records: %+v", d.Offsets)
	}
	if r := run(t, Deps{}, do("group reset-offsets billing --topic nope --to-latest")...); r.status != Failed || !strings.Contains(r.stderr, "nope") {
		t.Errorf("reset of a topic that is not there: %+v", r)
	}
	mustRun(t, do("group delete billing")...)
	if r := run(t, Deps{}, do("group describe billing")...); r.status != Failed || !strings.Contains(r.stderr, "`entrepot group list`") {
		t.Errorf("describe after delete: %+v", r)
	}
	if out := mustRun(t, do("group list")...); out != "no groups\n" {
		t.Errorf("list after delete: %q", out)
	}
}

// A group at work is not moved under its members, whichever protocol they use.
func TestResetRefusesMembers(t *testing.T) {
	addr, _ := broker(t)
	do := func(args string) []string { return append(strings.Fields(args), "--brokers", addr) }
	mustRun(t, do("topic create orders")...)
	produce(t, manual(t, addr), "orders", 0, 1)
	for name, opts := range map[string][]kgo.Opt{
		"classic": nil, "consumer": {kgo.ServerSideBalancer(), kgo.Balancers(kgo.StickyBalancer())},
	} {
		t.Run(name, func(t *testing.T) {
			member, err := kgo.NewClient(append(opts, kgo.SeedBrokers(addr), kgo.ConsumerGroup(name), kgo.ConsumeTopics("orders"))...)
			if err != nil {
				t.Fatal(err)
			}
			defer member.Close()
			if err := member.PollFetches(t.Context()).Err(); err != nil {
				t.Fatal(err)
			}
			r := run(t, Deps{}, do("group reset-offsets "+name+" --topic orders --to-latest")...)
			if r.status != Failed || !strings.Contains(r.stderr, "it has 1 member; stop the group's consumers first") {
				t.Errorf("reset of a group with a member: %+v", r)
			}
			out := mustRun(t, do("group describe "+name)...)
			if !strings.Contains(out, "Stable") || !strings.Contains(out, "kgo") {
				t.Errorf("describe:\n%s", out)
			}
		})
	}
}

// A share group is shown with what each partition has left.
func TestShareGroup(t *testing.T) {
	addr, _ := broker(t)
	do := func(args string) []string { return append(strings.Fields(args), "--brokers", addr) }
	mustRun(t, do("topic create orders")...)
	produce(t, manual(t, addr), "orders", 0, 5)
	admin := kadm.NewClient(manual(t, addr))
	begin := kadm.Offsets{}
	begin.AddOffset("orders", 0, 2, -1)
	if resp, err := admin.AlterShareGroupOffsets(t.Context(), "workers", begin); err != nil || resp.Error() != nil {
		t.Fatal(err, resp.Error())
	}
	if out := mustRun(t, do("group list")...); !strings.Contains(out, "workers  Empty  share") {
		t.Errorf("list:\n%s", out)
	}
	member, err := kgo.NewClient(kgo.SeedBrokers(addr), kgo.ShareGroup("workers"), kgo.ConsumeTopics("orders"))
	if err != nil {
		t.Fatal(err)
	}
	defer member.Close()
	if fs := member.PollFetches(t.Context()); fs.Err() != nil || fs.NumRecords() == 0 {
		t.Fatalf("%d records, %v", fs.NumRecords(), fs.Err())
	}
	if out := mustRun(t, do("group list")...); !strings.Contains(out, "workers  Stable  share") {
		t.Errorf("list:\n%s", out)
	}
	var d groupDetail
	mustJSON(t, &d, do("group describe workers")...)
	if d.State != "Stable" || len(d.Members) != 1 || len(d.Offsets) != 1 || *d.Offsets[0].Committed != 2 || *d.Offsets[0].End != 5 || d.Offsets[0].Member != d.Members[0].ID {
		t.Errorf("describe: %+v", d)
	}
	if out := mustRun(t, do("group describe workers")...); !strings.Contains(out, "orders") {
		t.Errorf("describe:\n%s", out)
	}
}

func TestDeadLetters(t *testing.T) {
	addr, _ := broker(t)
	do := func(args string) []string { return append(strings.Fields(args), "--brokers", addr) }
	if out := mustRun(t, do("dlq list")...); !strings.HasPrefix(out, "no dead-letter topics") {
		t.Errorf("list: %q", out)
	}
	mustRun(t, do("topic create access-log.dlq --partitions 2")...)
	mustRun(t, do("topic create other")...)
	m := manual(t, addr)
	produce(t, m, "access-log.dlq", 0, 2)
	if err := m.ProduceSync(t.Context(), &kgo.Record{Topic: "access-log.dlq", Partition: 1, Value: []byte("\x1b[2J\xff")}).FirstErr(); err != nil {
		t.Fatal(err)
	}
	if out := mustRun(t, do("dlq list")...); out != "TOPIC           RECORDS\naccess-log.dlq        3\n" {
		t.Errorf("list: %q", out)
	}
	out := mustRun(t, do("dlq show access-log")...)
	for _, want := range []string{"access-log.dlq-0 offset 1, ", "  reason:  no quote\n", "  value:   value 1\n", `"\x1b[2J\xff"`, "3 of 3 records shown\n"} {
		if !strings.Contains(out, want) {
			t.Errorf("show lacks %q:\n%s", want, out)
		}
	}
	if strings.Contains(out, "\x1b") {
		t.Error("show writes a stranger's escape sequence to the terminal")
	}
	var letters []letter
	mustJSON(t, &letters, do("dlq show access-log.dlq --limit 1")...)
	if len(letters) != 1 || letters[0].Headers[0] != (headerLine{"reason", "no quote"}) {
		t.Errorf("show --json: %+v", letters)
	}
	if out := mustRun(t, do("dlq show other")...); out != "0 of 0 records shown\n" {
		t.Errorf("show of an empty topic: %q", out)
	}
	if r := run(t, Deps{}, do("dlq show nope")...); r.status != Failed || !strings.Contains(r.stderr, "no dead-letter topic nope.dlq") {
		t.Errorf("show of none: %+v", r)
	}
}

// An address where something else listens is told from one where nobody does.
func TestNotAHub(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			_ = conn.Close()
		}
	}()
	r := run(t, Deps{}, "topic", "list", "--brokers", ln.Addr().String())
	if r.status != Failed || !strings.Contains(r.stderr, "does not answer the Kafka protocol") {
		t.Errorf("%+v", r)
	}
	_ = ln.Close()
	<-done
}
