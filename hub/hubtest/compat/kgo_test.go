package compat

import (
	"testing"
	"time"

	"github.com/entrepot-hub/entrepot/hub/hubtest"
)

const kgoPackage = "github.com/twmb/franz-go/pkg/kgo"

// kgoSkips: what the suite leaves out.
var kgoSkips = map[string]string{
	"TestIssueProduceBrokerTooOldFailsRecords": "wants a broker that does not offer Produce 0; it is offered, as by Apache Kafka 4, or librdkafka would not compress",
}

// kgoNode is a hub for the suite, and what the suite is told of it.
func kgoNode(t *testing.T, records string) (*hubtest.Node, []string) {
	t.Helper()
	n := hubtest.NewNode(t, "solo", t.TempDir(), nil, nil, nil)
	login := n.Login(map[string]string{"kgo": "secret"})
	n.Start()
	return n, []string{
		"KGO_SEEDS=" + n.Kafka, "KGO_TEST_RF=1", "KGO_TEST_RECORDS=" + records, "KGO_LOG_LEVEL=none",
		"KGO_TEST_SCRAM_SEEDS=" + login, "KGO_TEST_SCRAM=kgo:secret",
	}
}

// TestKgo runs franz-go's own suite. In short, the tests that move records
// through groups, share groups and transactions.
func TestKgo(t *testing.T) {
	_, env := kgoNode(t, "100000")
	s := suite{client: "franz-go", version: version(t, "github.com/twmb/franz-go"), what: "its pkg/kgo suite, 100,000 records", known: kgoSkips}
	args := []string{"-timeout", "9m", kgoPackage}
	if !full() {
		args = append([]string{"-run", kgoMoves}, args...)
	}
	s.report(t, goTest(t, clients, env, args...))
}

// kgoMoves are the tests that move records from topic to topic.
const kgoMoves = "TestGroupETL|TestTxnEtl|TestShareGroupETL"

// killEvery is longer than a session of the consumer protocol, 45 s. A
// restarted coordinator gives each member its whole session anew, as Apache
// Kafka's does. A static member of kgo leaves without its instance ID, which
// both refuse. The suite removes it afterwards without a look at the outcome;
// where that fails, the member keeps its partitions until its session ends, and
// killed more often than that, the hub would never find out: with a kill every
// 20 s the test hung. Also, kgo tells the application of 20 heartbeats in a row
// for which the port was closed, which the suite counts as a failure: the fewer
// kills, the fewer members meet one.
const killEvery = time.Minute

// TestKgoKilled runs the tests that move records while the hub is killed and
// started again: nothing may be lost, doubled or stuck.
func TestKgoKilled(t *testing.T) {
	if !full() {
		t.Skip("part of make compat")
	}
	n, env := kgoNode(t, "300000")
	s := suite{client: "franz-go", version: version(t, "github.com/twmb/franz-go"), what: "its group and transaction ETL tests, 300,000 records, kill -9 of the hub every minute", known: kgoSkips}
	done := make(chan []result)
	go func() {
		done <- goTest(t, clients, env, "-run", kgoMoves, "-timeout", "19m", kgoPackage)
	}()
	kills := 0
	tick := time.NewTicker(killEvery)
	defer tick.Stop()
	for {
		select {
		case results := <-done:
			t.Logf("%d kills", kills)
			s.report(t, results)
			return
		case <-tick.C:
			n.Kill()
			n.Start()
			kills++
		}
	}
}
