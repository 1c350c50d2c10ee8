package compat

import (
	"testing"
	"time"
)

const kgoPackage = "github.com/twmb/franz-go/pkg/kgo"

const noShareGroups = "share groups (KIP-932) are not offered"

// kgoSkips: what the suite leaves out.
var kgoSkips = map[string]string{
	"TestSCRAMAuth":                            "wants a second listener with SCRAM",
	"TestSCRAMAuthBadCredentials":              "wants a second listener with SCRAM",
	"TestIssueProduceBrokerTooOldFailsRecords": "wants a broker that does not offer Produce 0; it is offered, as by Apache Kafka 4, or librdkafka would not compress",
	"TestConsumeRegexShareSkipsInternal":       noShareGroups,
	"TestShareGroup":                           noShareGroups,
	"TestShareGroupAckOnClose":                 noShareGroups,
	"TestShareGroupETL":                        noShareGroups,
	"TestShareGroupOffsetsAdmin":               noShareGroups,
}

func kgoEnv(kafka, records string) []string {
	return []string{"KGO_SEEDS=" + kafka, "KGO_TEST_RF=1", "KGO_TEST_RECORDS=" + records, "KGO_LOG_LEVEL=none"}
}

// TestKgo runs franz-go's own suite. In short, the tests that move records
// through groups.
func TestKgo(t *testing.T) {
	n := node(t)
	s := suite{client: "franz-go", version: version(t, "github.com/twmb/franz-go"), what: "its pkg/kgo suite, 100,000 records", known: kgoSkips}
	args := []string{"-timeout", "9m", kgoPackage}
	if !full() {
		args = append([]string{"-run", "TestGroupETL"}, args...)
	}
	s.report(t, goTest(t, kgoEnv(n.Kafka, "100000"), args...))
}

// TestKgoKilled runs the same while the hub is killed and started again every
// few seconds: nothing may be lost, doubled or stuck.
func TestKgoKilled(t *testing.T) {
	if !full() {
		t.Skip("part of make compat")
	}
	n := node(t)
	s := suite{client: "franz-go", version: version(t, "github.com/twmb/franz-go"), what: "its group and transaction ETL tests, 500,000 records, kill -9 of the hub every 10 s", known: kgoSkips}
	done := make(chan []result)
	go func() {
		done <- goTest(t, kgoEnv(n.Kafka, "500000"), "-run", "ETL|Etl", "-timeout", "19m", kgoPackage)
	}()
	kills := 0
	tick := time.NewTicker(10 * time.Second)
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
