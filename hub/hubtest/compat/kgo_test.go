package compat

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
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

// killEvery is from one kill to the next. ENTREPOT_KILL_EVERY is another one, to
// find out more.
func killEvery(t *testing.T, usual time.Duration) time.Duration {
	t.Helper()
	text := os.Getenv("ENTREPOT_KILL_EVERY")
	if text == "" {
		return usual
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		t.Fatalf("ENTREPOT_KILL_EVERY: %v", err)
	}
	return d
}

// killable is a server that keeps its data over kill -9.
type killable interface {
	Kill()
	Start() time.Duration
}

// TestKgoKilled runs the tests that move records while the hub is killed and
// started again: nothing may be lost, doubled or stuck.
func TestKgoKilled(t *testing.T) {
	if !full() {
		t.Skip("part of make compat")
	}
	n := hubtest.NewNode(t, "solo", t.TempDir(), nil, nil, nil)
	front := hubtest.Forward(t, n.Kafka)
	n.Advertise(front.Addr)
	// Without a delay: new groups, for which the suite's members come in two lots,
	// would wait up to 9 s. With sessions shorter than the time between two kills:
	// each start begins them anew, so members that the suite left behind would
	// never be found dead.
	n.Configure("group_delay: 0s\nconsumer_groups: {session: 6s, heartbeat: 2s, min_session: 6s, min_heartbeat: 1s}")
	killedSuite(t, "the hub").report(t, kgoKilled(t, n, front.Addr))
}

// oneNodeKilled is how often the one node of a site is killed, counted from when
// it serves again.
const oneNodeKilled = 10 * time.Second

// TestKgoSite runs the whole suite on a site of three nodes, every topic on all
// of them, while every 20 s one of them, drawn anew each time, is killed and
// started again.
func TestKgoSite(t *testing.T) {
	if !full() {
		t.Skip("part of make compat")
	}
	site := hubtest.NewSite(t, "trio", 3)
	var logins []string
	for _, n := range site.Nodes {
		logins = append(logins, n.Login(map[string]string{"kgo": "secret"}))
		n.Configure("consumer_groups: {session: 6s, heartbeat: 2s, min_session: 6s, min_heartbeat: 1s}")
	}
	site.Start()
	env := []string{"KGO_SEEDS=" + site.Bootstrap(), "KGO_TEST_RF=3", "KGO_TEST_RECORDS=100000", "KGO_LOG_LEVEL=none",
		"KGO_TEST_SCRAM_SEEDS=" + strings.Join(logins, ","), "KGO_TEST_SCRAM=kgo:secret"}
	every := killEvery(t, 20*time.Second)
	done := make(chan []result)
	go func() { done <- goTest(t, clients, env, "-timeout", "18m", kgoPackage) }()
	kills := 0
	next := time.NewTicker(every)
	defer next.Stop()
	for {
		select {
		case results := <-done:
			t.Logf("%d kills", kills)
			s := suite{client: "franz-go", version: version(t, "github.com/twmb/franz-go"), what: fmt.Sprintf("its pkg/kgo suite, 100,000 records, three replicas, kill -9 of one of three nodes every %s", every), known: kgoSkips}
			s.report(t, results)
			return
		case <-next.C:
			n := site.Nodes[rand.IntN(len(site.Nodes))]
			n.Kill()
			n.Start()
			kills++
		}
	}
}

// TestKgoKilledKafka does the same to Apache Kafka when ENTREPOT_KILL_KAFKA is
// set, to know which failures are the suite's own: it takes long, and what fails
// there is no failure of ours.
func TestKgoKilledKafka(t *testing.T) {
	if os.Getenv("ENTREPOT_KILL_KAFKA") == "" {
		t.Skip("for comparisons by hand: set ENTREPOT_KILL_KAFKA")
	}
	n := newKafkaNode(t)
	front := hubtest.Forward(t, n.addr)
	n.configure("advertised.listeners=PLAINTEXT://"+front.Addr+",CONTROLLER://"+n.controller, "group.initial.rebalance.delay.ms=0",
		"group.consumer.session.timeout.ms=6000", "group.consumer.min.session.timeout.ms=6000",
		"group.consumer.heartbeat.interval.ms=2000", "group.consumer.min.heartbeat.interval.ms=1000")
	killedSuite(t, "Apache Kafka "+kafkaVersion(t)).report(t, kgoKilled(t, n, front.Addr))
}

func killedSuite(t *testing.T, who string) suite {
	t.Helper()
	what := fmt.Sprintf("its group and transaction ETL tests, 300,000 records, kill -9 of %s every %s", who, killEvery(t, oneNodeKilled))
	return suite{client: "franz-go", version: version(t, "github.com/twmb/franz-go"), what: what}
}

// kgoKilled runs the tests that move records against a server that is killed
// over and over; clients reach it at addr, whose port stays open: kgo tells the
// application of 20 refused dials in a row, which the suite counts as a failure.
func kgoKilled(t *testing.T, server killable, addr string) []result {
	t.Helper()
	every := killEvery(t, oneNodeKilled)
	server.Start()
	env := []string{"KGO_SEEDS=" + addr, "KGO_TEST_RF=1", "KGO_TEST_RECORDS=300000", "KGO_LOG_LEVEL=none"}
	done := make(chan []result)
	go func() {
		done <- goTest(t, clients, env, "-run", kgoMoves, "-timeout", "9m", kgoPackage)
	}()
	kills := 0
	next := time.NewTimer(every)
	defer next.Stop()
	for {
		select {
		case results := <-done:
			t.Logf("%d kills", kills)
			return results
		case <-next.C:
			server.Kill()
			server.Start()
			kills++
			next.Reset(every)
		}
	}
}
