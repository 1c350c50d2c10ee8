package compat

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/entrepot-hub/entrepot/hub/hubtest"
)

// toolCase is one call of one of Kafka's tools and what it must print. ADDR
// stands for the hub's address, DIR for a folder of the test.
type toolCase struct {
	name, stdin, class string
	args               string
	want               string // regular expressions, one a line, all to be found
	short              bool   // part of make test
}

const lines = "one\ntwo\nthree\nfour\nfive\n"

// toolCases go from top to bottom: later ones build on earlier ones.
var toolCases = []toolCase{
	{"api versions", "", "BrokerApiVersionsCommand", "--bootstrap-server ADDR", `Produce\(0\): 0 to 13`, false},
	{"cluster id", "", "ClusterTool", "cluster-id --bootstrap-server ADDR", `Cluster ID: .{22}`, false},
	{"features", "", "FeatureCommand", "--bootstrap-server ADDR describe", "metadata.version\ntransaction.version\ngroup.version", false},
	{"create a topic", "", "TopicCommand", "--bootstrap-server ADDR --create --topic t --partitions 3 --config retention.ms=3600000", `Created topic t`, true},
	{"create it again", "", "TopicCommand", "--bootstrap-server ADDR --create --topic t --partitions 3", `TopicExistsException`, false},
	{"create it if it is not there", "", "TopicCommand", "--bootstrap-server ADDR --create --if-not-exists --topic t", ``, false},
	{"a wrong name", "", "TopicCommand", "--bootstrap-server ADDR --create --topic ../t", `InvalidTopicException|can only contain|illegal`, false},
	{"more partitions", "", "TopicCommand", "--bootstrap-server ADDR --alter --topic t --partitions 4", ``, false},
	{"describe topics", "", "TopicCommand", "--bootstrap-server ADDR --describe --topic t", "PartitionCount: 4\nretention.ms=3600000\nLeader: 1\nIsr: 1", false},
	{"list topics", "", "TopicCommand", "--bootstrap-server ADDR --list", `(?m)^t$`, false},
	{"console producer", lines, "ConsoleProducer", "--bootstrap-server ADDR --topic t", ``, true},
	{"console consumer", "", "consumer.ConsoleConsumer", "--bootstrap-server ADDR --topic t --from-beginning --max-messages 5 --group g", "(?m)^one$\n(?m)^five$", true},
	{"console producer, keys, acks=1, compression", "k1:a\nk2:b\n", "ConsoleProducer", "--bootstrap-server ADDR --topic t --command-property acks=1 --compression-codec zstd --reader-property parse.key=true --reader-property key.separator=:", ``, false},
	{"console consumer, read_committed", "", "consumer.ConsoleConsumer", "--bootstrap-server ADDR --topic t --from-beginning --max-messages 7 --isolation-level read_committed", `(?m)^three$`, false},
	{"list groups", "", "consumer.group.ConsumerGroupCommand", "--bootstrap-server ADDR --list", `(?m)^g$`, false},
	{"describe groups", "", "consumer.group.ConsumerGroupCommand", "--bootstrap-server ADDR --describe --group g", `g\s+t\s+\d\s+\d+\s+\d+\s+\d+`, false},
	{"group state", "", "consumer.group.ConsumerGroupCommand", "--bootstrap-server ADDR --describe --group g --state", `Empty`, false},
	{"reset offsets", "", "consumer.group.ConsumerGroupCommand", "--bootstrap-server ADDR --reset-offsets --to-earliest --group g --topic t --execute", `g\s+t\s+0\s+0`, false},
	{"reset offsets by time", "", "consumer.group.ConsumerGroupCommand", "--bootstrap-server ADDR --reset-offsets --to-datetime 2020-01-01T00:00:00.000 --group g --topic t --execute", `g\s+t\s+0\s+0`, false},
	{"delete offsets", "", "consumer.group.ConsumerGroupCommand", "--bootstrap-server ADDR --delete-offsets --group g --topic t", `(?i)successful`, false},
	{"groups of all kinds", "", "GroupsCommand", "--bootstrap-server ADDR --list", `GROUP`, false},
	{"end offsets", "", "GetOffsetShell", "--bootstrap-server ADDR --topic t", `t:0:\d+`, false},
	{"earliest offsets", "", "GetOffsetShell", "--bootstrap-server ADDR --topic t --time earliest", `t:0:0`, false},
	{"verifiable producer", "", "VerifiableProducer", "--bootstrap-server ADDR --topic t --max-messages 1000 --acks -1", `"sent":1000,"acked":1000`, true},
	{"verifiable consumer", "", "VerifiableConsumer", "--bootstrap-server ADDR --topic t --group-id v --max-messages 1000 --reset-policy earliest", "partitions_assigned\noffsets_committed.*\"success\":true\nshutdown_complete", true},
	{"verifiable consumer, KIP-848", "", "VerifiableConsumer", "--bootstrap-server ADDR --topic t --group-id v848 --group-protocol consumer --max-messages 1000 --reset-policy earliest", "partitions_assigned\noffsets_committed.*\"success\":true\nshutdown_complete", true},
	{"delete a group", "", "consumer.group.ConsumerGroupCommand", "--bootstrap-server ADDR --delete --group v", `(?i)was successful`, false},
	{"producer performance", "", "ProducerPerformance", "--topic t --num-records 100000 --record-size 1000 --throughput -1 --bootstrap-server ADDR --command-property acks=all", `100000 records sent`, false},
	{"producer performance, transactions", "", "ProducerPerformance", "--topic t --num-records 20000 --record-size 100 --throughput -1 --transaction-duration-ms 100 --transactional-id perf --bootstrap-server ADDR", `20000 records sent`, false},
	{"consumer performance", "", "ConsumerPerformance", "--bootstrap-server ADDR --topic t --num-records 100000", `(?m), 1\d\d\d\d\d, `, false},
	{"end-to-end latency", "", "EndToEndLatency", "--bootstrap-server ADDR --topic t --num-records 200 --producer-acks all --record-size 100", `Percentiles`, false},
	{"describe log dirs", "", "LogDirsCommand", "--bootstrap-server ADDR --describe --topic-list t", `"partition":"t-0","size":[1-9]`, false},
	{"transactions", "", "TransactionsCommand", "--bootstrap-server ADDR list", "TransactionalId\nperf", false},
	{"a transaction", "", "TransactionsCommand", "--bootstrap-server ADDR describe --transactional-id perf", `perf|CompleteCommit`, false},
	{"producers", "", "TransactionsCommand", "--bootstrap-server ADDR describe-producers --topic t --partition 0", `ProducerId`, false},
	{"hanging transactions", "", "TransactionsCommand", "--bootstrap-server ADDR find-hanging --broker-id 1", ``, false},
	{"delete records", "", "DeleteRecordsCommand", "--bootstrap-server ADDR --offset-json-file DIR/delete.json", `partition: t-0\s+low_watermark: 1`, false},
	{"alter a topic's config", "", "kafka.admin.ConfigCommand", "--bootstrap-server ADDR --alter --entity-type topics --entity-name t --add-config cleanup.policy=compact", `Completed updating config`, false},
	{"an unknown config", "", "kafka.admin.ConfigCommand", "--bootstrap-server ADDR --alter --entity-type topics --entity-name t --add-config no.such=1", `InvalidConfig|Unknown|unknown`, false},
	{"describe a topic's config", "", "kafka.admin.ConfigCommand", "--bootstrap-server ADDR --describe --entity-type topics --entity-name t --all", `cleanup.policy=compact`, false},
	{"describe a broker's config", "", "kafka.admin.ConfigCommand", "--bootstrap-server ADDR --describe --entity-type brokers --entity-name 1 --all", `=`, false},
	{"SCRAM users", "", "kafka.admin.ConfigCommand", "--bootstrap-server ADDR --alter --entity-type users --entity-name u --add-config SCRAM-SHA-256=[password=p]", `Completed updating config`, false},
	{"quotas", "", "kafka.admin.ConfigCommand", "--bootstrap-server ADDR --alter --entity-type users --entity-name u --add-config producer_byte_rate=1048576", `Completed updating config`, false},
	{"describe quotas", "", "kafka.admin.ConfigCommand", "--bootstrap-server ADDR --describe --entity-type users --entity-name u", `producer_byte_rate=1048576`, false},
	{"a topic for it", "", "TopicCommand", "--bootstrap-server ADDR --create --topic c", `Created topic c`, false},
	{"client compatibility", "", "ClientCompatibilityTest", "--bootstrap-server ADDR --topic c --offsets-for-times-supported true --cluster-id-supported true --expect-record-too-large-exception false --num-cluster-nodes 1 --create-topics-supported true --describe-acls-supported true --describe-configs-supported true --idempotent-producer-supported true", `SUCCESS`, false},
	{"elect preferred leaders", "", "LeaderElectionCommand", "--bootstrap-server ADDR --election-type PREFERRED --all-topic-partitions", ``, false},
	{"list reassignments", "", "reassign.ReassignPartitionsCommand", "--bootstrap-server ADDR --list", `No partition reassignments found`, false},
	{"delete a topic", "", "TopicCommand", "--bootstrap-server ADDR --delete --topic t", ``, false},
}

// TestKafkaTools runs Kafka's command line tools.
func TestKafkaTools(t *testing.T) {
	needJava(t)
	n := node(t)
	dir := t.TempDir()
	writeFile(t, dir, "delete.json", `{"version":1,"partitions":[{"topic":"t","partition":0,"offset":1}]}`)
	s := suite{client: "Apache Kafka", version: kafkaVersion(t), what: "its command line tools", known: nil}
	if !full() {
		s.what += ", short"
	}
	var results []result
	for _, c := range toolCases {
		if !full() && !c.short {
			continue
		}
		args := strings.Fields(strings.NewReplacer("ADDR", n.Kafka, "DIR", dir).Replace(c.args))
		out, err := runTool(t, c.stdin, c.class, args...)
		results = append(results, c.judge(out, err))
	}
	s.report(t, results)
}

func (c toolCase) judge(out string, err error) result {
	r := result{name: c.name, outcome: passed, output: out}
	for want := range strings.Lines(c.want) {
		if !regexp.MustCompile(strings.TrimSpace(want)).MatchString(out) {
			r.outcome, r.output = failed, fmt.Sprintf("no %s in the output (%v):\n%s", strings.TrimSpace(want), err, tail(out, 3000))
		}
	}
	if c.want == "" && err != nil {
		r.outcome, r.output = failed, fmt.Sprintf("%v\n%s", err, tail(out, 3000))
	}
	return r
}

// TestDumpLog: what `log export` writes is a segment that Kafka's own tool
// reads, record by record.
func TestDumpLog(t *testing.T) {
	needJava(t)
	n := node(t)
	var results []result
	step := func(c toolCase, stdin string, args ...string) {
		out, err := runTool(t, stdin, c.class, args...)
		results = append(results, c.judge(out, err))
	}
	createTopic(t, n.Kafka, "d", 1)
	step(toolCase{name: "produce", class: "VerifiableProducer", want: `"acked":1000`}, "", "--bootstrap-server", n.Kafka, "--topic", "d", "--max-messages", "1000", "--acks", "-1")
	n.Kill()
	dir := t.TempDir()
	logs, err := filepath.Glob(filepath.Join(n.Dir, "d-*"))
	if err != nil || len(logs) != 1 {
		t.Fatalf("one log of topic d in %s: %v, %v", n.Dir, logs, err)
	}
	out, err := exec.Command(hubtest.Build(t), "log", "export", logs[0], dir).CombinedOutput()
	if err != nil {
		t.Fatalf("log export: %v\n%s", err, out)
	}
	segments, err := filepath.Glob(filepath.Join(dir, "d-0", "*.log"))
	if err != nil || len(segments) == 0 {
		files, _ := os.ReadDir(dir)
		t.Fatalf("no segment was exported: %v, %v", files, err)
	}
	step(toolCase{name: "dump", class: "DumpLogSegments", want: "payload: 0\npayload: 999\nisvalid: true"}, "", "--files", segments[0], "--deep-iteration", "--print-data-log")
	s := suite{client: "Apache Kafka", version: kafkaVersion(t), what: "kafka-dump-log on what log export writes"}
	s.report(t, results)
}
