package hubtest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// The topics of the test. What writers put into written they put into ledger
// too, where it is compacted.
const (
	inTopic, outTopic, writtenTopic, ledgerTopic = "in", "out", "written", "ledger"
	exactGroup                                   = "transformers"
	exactPartitions                              = 2
)

// exact is the state of TestKilledNodeKeepsTransactions.
type exact struct {
	t       *testing.T
	n       *Node
	began   time.Time
	seed    uint64
	pad     string
	mu      sync.Mutex
	outcome map[string]outcome // by transaction of a writer
	sent    int                // records of inTopic that were acknowledged
	counts  map[string]int
}

type outcome int

const (
	unknown outcome = iota // whoever ended it got no answer: all or nothing
	committed
	aborted
)

// TestKilledNodeKeepsTransactions kills the node again and again under
// transactional producers that commit, abort, die and come back as zombies,
// under a group that consumes, transforms and produces, and under idempotent
// producers, on topics that are compacted all the while. In the end every
// committed record is there exactly once and in order, none that was aborted is
// seen, and nothing is left open. ENTREPOT_SEED replays what the clients want to
// do; when they get to do it the machine decides.
func TestKilledNodeKeepsTransactions(t *testing.T) {
	x := &exact{t: t, n: NewNode(t, "solo", t.TempDir(), nil, nil, nil), outcome: map[string]outcome{}, counts: map[string]int{},
		began: time.Now(), seed: rand.Uint64(), pad: strings.Repeat("·", 300)}
	if s := os.Getenv("ENTREPOT_SEED"); s != "" {
		x.seed, _ = strconv.ParseUint(s, 10, 64)
	}
	t.Logf("ENTREPOT_SEED=%d", x.seed)
	x.n.Start()
	x.createTopics()

	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var all sync.WaitGroup
	for i, actor := range []func(context.Context, *rand.Rand, string){x.write, x.write, x.write, x.feed, x.transform, x.transform, x.overwrite, x.watchOffsets} {
		all.Go(func() { actor(ctx, rand.New(rand.NewPCG(x.seed, uint64(i))), fmt.Sprintf("actor%d", i)) })
	}
	for i := range kills(t, 2) {
		x.goesOn()
		if i%3 == 0 {
			x.compacted(90) // what comes next finds compacted segments; the writers go on
		}
		pause(ctx, 100*time.Millisecond, 2*time.Second)
		x.n.Kill()
		t.Logf("%s: kill %d, served again after %s", x.since(), i+1, x.n.Start().Round(time.Millisecond))
		x.shrink()
	}
	x.goesOn()
	stop()
	all.Wait()
	t.Logf("%s: the clients have ended", x.since())
	x.settle()
	x.compacted(50)
	t.Logf("%s: all transactions have ended, and what they wrote is compacted", x.since())
	x.check()
	t.Logf("%v", x.counts)
	x.n.Kill()
	verify := Start(t, nil, "log", "verify", x.n.Dir)
	if code, err := verify.Wait(time.Minute); code != 0 || err != nil {
		t.Errorf("log verify: status %d, %v\n%s", code, err, verify.Output())
	}
}

func (x *exact) since() time.Duration { return time.Since(x.began).Round(100 * time.Millisecond) }

func (x *exact) count(what string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.counts[what]++
}

// goesOn waits until everybody got on since the start.
func (x *exact) goesOn() {
	x.t.Helper()
	now := func() map[string]int {
		x.mu.Lock()
		defer x.mu.Unlock()
		return maps.Clone(x.counts)
	}
	before := now()
	Until(x.t, time.Minute, "the load goes on", func() error {
		for _, what := range []string{"commits", "aborts", "copies", "overwrites"} {
			if n := now()[what] - before[what]; n < 2 {
				return fmt.Errorf("%d %s since the start", n, what)
			}
		}
		return nil
	})
}

func (x *exact) admin() *kadm.Client { return kadm.NewClient(client(x.t, kgo.SeedBrokers(x.n.Kafka))) }

func (x *exact) createTopics() {
	admin := x.admin()
	p := func(s string) *string { return &s }
	for topic, config := range map[string]map[string]*string{
		inTopic: nil, outTopic: nil, writtenTopic: nil,
		ledgerTopic: {"cleanup.policy": p("compact"), "segment.bytes": p("1048576"), "min.cleanable.dirty.ratio": p("0.01"), "max.compaction.lag.ms": p("1000"), "delete.retention.ms": p("0")},
	} {
		if _, err := admin.CreateTopic(x.t.Context(), exactPartitions, 1, config, topic); err != nil {
			x.t.Fatal(err)
		}
	}
}

// shrink makes the coordinators' own topics be compacted as early.
func (x *exact) shrink() {
	p := func(s string) *string { return &s }
	var set []kadm.AlterConfig
	for name, value := range map[string]string{"segment.bytes": "1048576", "min.cleanable.dirty.ratio": "0.01", "max.compaction.lag.ms": "1000", "delete.retention.ms": "0"} {
		set = append(set, kadm.AlterConfig{Op: kadm.SetConfig, Name: name, Value: p(value)})
	}
	if _, err := x.admin().AlterTopicConfigs(x.t.Context(), set, "__consumer_offsets", "__transaction_state"); err != nil {
		x.t.Error(err)
	}
}

func (x *exact) options(more ...kgo.Opt) []kgo.Opt {
	return append(more, kgo.SeedBrokers(x.n.Kafka), kgo.RecordPartitioner(kgo.StickyKeyPartitioner(nil)),
		kgo.TransactionTimeout(6*time.Second), kgo.RetryBackoffFn(func(int) time.Duration { return 50 * time.Millisecond }),
		kgo.MetadataMinAge(50*time.Millisecond), kgo.ConnIdleTimeout(30*time.Second))
}

// writer is a transactional producer with the transaction it has open.
type writer struct {
	cl  *kgo.Client
	txn string
}

// write runs transactions of one transactional ID. One that was left open is
// sometimes ended by the client that had it, when another has the ID already.
func (x *exact) write(ctx context.Context, rng *rand.Rand, name string) {
	open := func() *writer {
		cl, err := kgo.NewClient(x.options(kgo.TransactionalID(name))...)
		if err != nil {
			x.t.Error(err)
		}
		return &writer{cl: cl}
	}
	w := open()
	var zombie *writer
	for i := 0; ctx.Err() == nil; i++ {
		ok := x.runTransaction(rng, w, name, i)
		switch choice := rng.IntN(10); {
		case ok && choice == 0: // leave it open, and perhaps come back
			if zombie != nil {
				zombie.cl.Close()
			}
			zombie, w = w, open()
			x.count("left open")
			if rng.IntN(3) == 0 {
				pause(ctx, 6*time.Second, 8*time.Second) // it times out
			}
		case !ok || !x.end(w, choice < 7):
			w.cl.Close()
			w = open()
		}
		if zombie != nil && rng.IntN(4) == 0 {
			x.count("zombies")
			x.end(zombie, rng.IntN(2) == 0)
			zombie.cl.Close()
			zombie = nil
		}
	}
	w.cl.Close()
	if zombie != nil {
		zombie.cl.Close()
	}
}

// runTransaction begins a transaction and writes into it. It reports whether
// all of it was acknowledged.
func (x *exact) runTransaction(rng *rand.Rand, w *writer, name string, i int) bool {
	if err := w.cl.BeginTransaction(); err != nil {
		return false
	}
	w.txn = fmt.Sprintf("%s/%08d", name, i)
	x.mu.Lock()
	x.outcome[w.txn] = unknown
	x.mu.Unlock()
	var rs []*kgo.Record
	for j := range 1 + rng.IntN(6) {
		key, value := fmt.Appendf(nil, "%s-%d", name, rng.IntN(12)), fmt.Appendf(nil, "%s/%d %s", w.txn, j, x.pad)
		rs = append(rs, &kgo.Record{Topic: writtenTopic, Key: key, Value: value}, &kgo.Record{Topic: ledgerTopic, Key: key, Value: value})
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	return w.cl.ProduceSync(ctx, rs...).FirstErr() == nil
}

// end ends the writer's transaction and notes the outcome. It reports whether
// the client can go on.
func (x *exact) end(w *writer, commit bool) bool {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	err := w.cl.EndTransaction(ctx, kgo.TransactionEndTry(commit))
	x.mu.Lock()
	defer x.mu.Unlock()
	switch {
	case err != nil:
		x.counts["ends that failed"]++
		return false
	case commit:
		x.outcome[w.txn] = committed
		x.counts["commits"]++
	default:
		x.outcome[w.txn] = aborted
		x.counts["aborts"]++
	}
	return true
}

// feed writes what the transformers read.
func (x *exact) feed(ctx context.Context, _ *rand.Rand, _ string) {
	cl := client(x.t, x.options(kgo.DefaultProduceTopic(inTopic))...)
	for i := 0; ctx.Err() == nil; i++ {
		r := &kgo.Record{Key: fmt.Append(nil, i%7), Value: fmt.Append(nil, i)}
		if err := cl.ProduceSync(context.Background(), r).FirstErr(); err != nil {
			x.t.Errorf("input %d was refused: %v", i, err)
			return
		}
		x.mu.Lock()
		x.sent++
		x.mu.Unlock()
	}
}

// overwrite writes to the compacted topic without transactions.
func (x *exact) overwrite(ctx context.Context, _ *rand.Rand, name string) {
	cl := client(x.t, x.options(kgo.DefaultProduceTopic(ledgerTopic))...)
	for i := 0; ctx.Err() == nil; i++ {
		key, value := fmt.Appendf(nil, "%s-%d", name, i%12), fmt.Appendf(nil, "%s/%08d/0 %s", name, i, x.pad)
		rs := []*kgo.Record{{Key: key, Value: value}, {Topic: writtenTopic, Key: key, Value: value}}
		if err := cl.ProduceSync(context.Background(), rs...).FirstErr(); err != nil {
			x.t.Errorf("record %d was refused: %v", i, err)
			return
		}
		x.mu.Lock()
		x.outcome[fmt.Sprintf("%s/%08d", name, i)] = committed
		x.counts["overwrites"]++
		x.mu.Unlock()
	}
}

// transform copies from inTopic to outTopic, exactly once.
func (x *exact) transform(ctx context.Context, rng *rand.Rand, name string) {
	for ctx.Err() == nil {
		s, err := kgo.NewGroupTransactSession(x.options(kgo.TransactionalID(name), kgo.ConsumerGroup(exactGroup), kgo.ConsumeTopics(inTopic),
			kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.DefaultProduceTopic(outTopic), kgo.RequireStableFetchOffsets(),
			kgo.SessionTimeout(6*time.Second), kgo.HeartbeatInterval(500*time.Millisecond), kgo.FetchMaxWait(200*time.Millisecond))...)
		if err != nil {
			x.t.Error(err)
			return
		}
		for rounds := 3 + rng.IntN(60); rounds > 0 && ctx.Err() == nil && x.copySome(ctx, rng, s); rounds-- {
		}
		s.Close()
	}
}

func (x *exact) copySome(ctx context.Context, rng *rand.Rand, s *kgo.GroupTransactSession) bool {
	poll, cancel := context.WithTimeout(ctx, time.Second)
	fetches := s.PollRecords(poll, 1+rng.IntN(50))
	cancel()
	if fetches.NumRecords() == 0 {
		return true
	}
	if s.Begin() != nil {
		return false
	}
	var promise kgo.FirstErrPromise
	fetches.EachRecord(func(r *kgo.Record) {
		s.Produce(context.Background(), &kgo.Record{Key: r.Key, Value: fmt.Appendf(nil, "%d %d %s", r.Partition, r.Offset, r.Value)}, promise.Promise())
	})
	if promise.Err() != nil {
		x.count("copies that failed")
	}
	end, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	did, err := s.End(end, kgo.TransactionEndTry(promise.Err() == nil && rng.IntN(6) > 0))
	if did {
		x.count("copies")
	}
	return err == nil
}

// watchOffsets sees to it that the group's offsets never go back.
func (x *exact) watchOffsets(ctx context.Context, _ *rand.Rand, _ string) {
	admin := x.admin()
	last := map[int32]int64{}
	for ctx.Err() == nil {
		pause(ctx, 50*time.Millisecond, 100*time.Millisecond)
		offsets, err := admin.FetchOffsets(ctx, exactGroup)
		if err != nil {
			continue
		}
		offsets.Each(func(o kadm.OffsetResponse) {
			if o.Err == nil && o.At < last[o.Partition] {
				x.t.Errorf("the group's offset of partition %d went from %d to %d", o.Partition, last[o.Partition], o.At)
			}
			last[o.Partition] = max(last[o.Partition], o.At)
		})
	}
}

// settle waits until no transaction is open any more.
func (x *exact) settle() {
	x.t.Helper()
	admin := x.admin()
	Until(x.t, time.Minute, "all transactions end", func() error {
		open, err := admin.ListTransactions(x.t.Context(), nil, []string{"Ongoing", "PrepareCommit", "PrepareAbort"})
		if err == nil && len(open) > 0 {
			err = fmt.Errorf("open are %v", open)
		}
		return err
	})
	list := Start(x.t, nil, "txn", "list", "--brokers", x.n.Kafka, "--json", "--state", "Ongoing")
	if code, err := list.Wait(time.Minute); code != 0 || err != nil || strings.TrimSpace(list.Output()) != "[]" {
		x.t.Errorf("txn list: status %d, %v\n%s", code, err, list.Output())
	}
	topics := []string{inTopic, outTopic, writtenTopic, ledgerTopic, "__consumer_offsets", "__transaction_state"}
	ends, err := admin.ListEndOffsets(x.t.Context(), topics...)
	if err != nil {
		x.t.Fatal(err)
	}
	stable, err := admin.ListCommittedOffsets(x.t.Context(), topics...)
	if err != nil {
		x.t.Fatal(err)
	}
	ends.Each(func(end kadm.ListedOffset) {
		if lso, _ := stable.Lookup(end.Topic, end.Partition); lso.Offset != end.Offset || lso.Err != nil || end.Err != nil {
			x.t.Errorf("%s-%d: last stable offset %d, high watermark %d; %v %v", end.Topic, end.Partition, lso.Offset, end.Offset, lso.Err, end.Err)
		}
	})
}

// compacted waits until the compacted topic has at most so many percent of the
// size that it would have. The hub looks every 15 s for something to compact.
func (x *exact) compacted(most int64) {
	x.t.Helper()
	admin := x.admin()
	Until(x.t, time.Minute, "the topic is compacted", func() error {
		dirs, err := admin.DescribeAllLogDirs(x.t.Context(), nil)
		size := map[string]int64{}
		dirs.Each(func(d kadm.DescribedLogDir) {
			d.Topics.Each(func(p kadm.DescribedLogDirPartition) { size[p.Topic] += p.Size })
		})
		if err == nil && size[ledgerTopic] > size[writtenTopic]*most/100 {
			err = fmt.Errorf("%s has %d bytes, %s with the same records %d", ledgerTopic, size[ledgerTopic], writtenTopic, size[writtenTopic])
		}
		return err
	})
}

// check compares what is in the topics with what was done.
func (x *exact) check() {
	last, visible := x.checkWritten()
	records, got := 0, map[string]string{}
	for p := range int32(exactPartitions) {
		for _, r := range x.read(ledgerTopic, p) {
			txn, _, _ := strings.Cut(value(r), " ")
			if txn = txn[:strings.LastIndexByte(txn, '/')]; !visible[txn] {
				x.t.Errorf("ledger: %s at offset %d of partition %d is not of a committed transaction", txn, r.Offset, p)
			}
			records++
			got[string(r.Key)] = value(r)
		}
	}
	if !maps.Equal(got, last) {
		x.t.Errorf("ledger: the last values are %v, want %v", got, last)
	}
	x.counts["records left in the compacted topic"] = records
	if records == x.counts["records of writers"] {
		x.t.Error("nothing was compacted")
	}
	x.checkCopies()
}

func value(r *kgo.Record) string {
	v, _, _ := strings.Cut(string(r.Value), " ")
	return v
}

// checkWritten returns the last committed value of each key and the
// transactions that are seen.
func (x *exact) checkWritten() (last map[string]string, visible map[string]bool) {
	last, visible = map[string]string{}, map[string]bool{}
	seen, order := map[string]bool{}, map[string]string{}
	for p := range int32(exactPartitions) {
		for _, r := range x.read(writtenTopic, p) {
			v := value(r)
			txn := v[:strings.LastIndexByte(v, '/')]
			name, _, _ := strings.Cut(txn, "/")
			by := fmt.Sprint(name, p)
			switch {
			case seen[v]:
				x.t.Errorf("written: %s is there twice", v)
			case x.outcome[txn] == aborted:
				x.t.Errorf("written: %s at offset %d of partition %d was aborted", v, r.Offset, p)
			case v < order[by]:
				x.t.Errorf("written: %s at offset %d of partition %d after %s", v, r.Offset, p, order[by])
			}
			seen[v], order[by], visible[txn], last[string(r.Key)] = true, v, true, v
			x.counts["records of writers"]++
		}
	}
	for txn, o := range x.outcome {
		if o == committed && !visible[txn] {
			x.t.Errorf("written: nothing of %s, which was committed", txn)
		}
		// Their records are numbered from 0 on.
		for j := 5; visible[txn] && j >= 0; j-- {
			if seen[fmt.Sprintf("%s/%d", txn, j)] && j > 0 && !seen[fmt.Sprintf("%s/%d", txn, j-1)] {
				x.t.Errorf("written: %s/%d is there, the record before it is not", txn, j)
			}
		}
	}
	return last, visible
}

// checkCopies compares outTopic with inTopic and with the group's offsets.
func (x *exact) checkCopies() {
	next, seen := map[int64]int64{}, map[string]bool{}
	for p := range int32(exactPartitions) {
		order := map[int64]int64{}
		for _, r := range x.read(outTopic, p) {
			f := strings.Fields(string(r.Value))
			from, _ := strconv.ParseInt(f[0], 10, 64)
			at, _ := strconv.ParseInt(f[1], 10, 64)
			if place := f[0] + "/" + f[1]; seen[place] || at < order[from] {
				x.t.Errorf("out: the copy of offset %d of partition %d is there twice or out of order", at, from)
			} else {
				seen[place] = true
			}
			order[from] = at
			next[from] = max(next[from], at+1)
			x.counts["records copied"]++
		}
	}
	for from, end := range next {
		for at := range end {
			if !seen[fmt.Sprintf("%d/%d", from, at)] {
				x.t.Errorf("out: no copy of offset %d of partition %d", at, from)
			}
		}
	}
	offsets, err := x.admin().FetchOffsets(x.t.Context(), exactGroup)
	if err != nil {
		x.t.Fatal(err)
	}
	offsets.Each(func(o kadm.OffsetResponse) {
		if o.Err != nil || o.At != next[int64(o.Partition)] {
			x.t.Errorf("the group is at offset %d of partition %d, the copies end at %d; %v", o.At, o.Partition, next[int64(o.Partition)], o.Err)
		}
	})
	if len(seen) == 0 || !slices.Contains(slices.Collect(maps.Values(x.outcome)), committed) {
		x.t.Error("nothing was done")
	}
	if x.sent < len(seen) {
		x.t.Errorf("%d inputs acknowledged, %d copied", x.sent, len(seen))
	}
}

// read reads a partition as read_committed up to its last stable offset.
func (x *exact) read(topic string, partition int32) (all []*kgo.Record) {
	x.t.Helper()
	end, err := x.admin().ListCommittedOffsets(x.t.Context(), topic)
	if err != nil {
		x.t.Fatal(err)
	}
	to, _ := end.Lookup(topic, partition)
	cl := client(x.t, kgo.SeedBrokers(x.n.Kafka), kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.KeepControlRecords(),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: {partition: kgo.NewOffset().AtStart()}}))
	for next := int64(0); next < to.Offset; {
		ctx, cancel := context.WithTimeout(x.t.Context(), 3*time.Second)
		fetches := cl.PollFetches(ctx)
		cancel()
		switch err := fetches.Err(); {
		case errors.Is(err, context.DeadlineExceeded):
			return all // what is left has no records: it was compacted
		case err != nil:
			x.t.Fatalf("read %s-%d at offset %d of %d: %v", topic, partition, next, to.Offset, err)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			next = r.Offset + 1
			if !r.Attrs.IsControl() {
				all = append(all, r)
			}
		})
	}
	return all
}
