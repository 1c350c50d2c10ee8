package hubtest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kversion"
)

// copying is the state of TestKilledNodeCopiesExactlyOnce.
type copying struct {
	t      *testing.T
	n      *Node
	k      *killer
	seed   uint64
	sent   atomic.Int64
	copied atomic.Int64 // records of committed attempts
	mu     sync.Mutex
	tries  map[string]*attempt
	counts map[string]int
}

// attempt is one transaction of one process, with what its client was told.
type attempt struct {
	records int
	end     outcome
}

const copyPartitions = 4

// copyPad makes records so large that segments are short.
var copyPad = strings.Repeat("x", 4000)

// TestKilledNodeCopiesExactlyOnce kills the node again and again while clients
// copy a topic in transactions, with the offsets of what they have read, and
// abort some of them; the kills come at chosen points of their transactions.
// Beside them processes take each other's transactional ID while its
// transaction is open. Each record is copied exactly once, what a
// read_committed consumer was shown meanwhile is what is there in the end, and
// no process that was fenced gets anything done. Half of the copiers are older
// than KIP-890. ENTREPOT_SEED replays what the clients want to do and where
// they are hit.
func TestKilledNodeCopiesExactlyOnce(t *testing.T) {
	x := &copying{t: t, n: NewNode(t, "solo", t.TempDir(), nil, nil, nil), seed: rand.Uint64(), tries: map[string]*attempt{}, counts: map[string]int{}}
	if s := os.Getenv("ENTREPOT_SEED"); s != "" {
		x.seed, _ = strconv.ParseUint(s, 10, 64)
	}
	t.Logf("ENTREPOT_SEED=%d", x.seed)
	x.k = &killer{n: x.n}
	x.n.Start()
	createTopic(t, x.n.Kafka, "in", copyPartitions)
	x.createOut()

	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	feed, stopFeed := context.WithCancel(ctx)
	defer stopFeed()
	var feeding, work sync.WaitGroup
	feeding.Go(func() { x.feed(feed) })
	for i := range 4 {
		work.Go(func() { x.copy(ctx, rand.New(rand.NewPCG(x.seed, uint64(i))), i) })
	}
	work.Go(func() { x.usurp(feed, rand.New(rand.NewPCG(x.seed, 100))) })
	work.Go(func() { x.commitOffsets(feed, rand.New(rand.NewPCG(x.seed, 101))) })
	shown := map[int32][]shownRecord{}
	work.Go(func() { x.watch(ctx, shown) })

	x.strike(rand.New(rand.NewPCG(x.seed, 200)))
	stopFeed()
	feeding.Wait()
	Until(t, time.Minute, "everything is copied", func() error {
		if sent, at := x.sent.Load(), x.groupAt(); at != sent {
			return fmt.Errorf("the group is at %d of %d records", at, sent)
		}
		return nil
	})
	stop()
	work.Wait()
	x.settle()
	x.check(shown)
}

// createOut creates a topic of short segments: a node that starts finds open
// transactions in the header of the newest, too.
func (x *copying) createOut() {
	size := "1048576"
	admin := kadm.NewClient(client(x.t, kgo.SeedBrokers(x.n.Kafka)))
	if _, err := admin.CreateTopic(x.t.Context(), copyPartitions, 1, map[string]*string{"segment.bytes": &size}, "out"); err != nil {
		x.t.Fatal(err)
	}
}

// strike kills at all points, in an order that the seed gives.
func (x *copying) strike(rng *rand.Rand) {
	all := strikes()
	hit := map[string]int{}
	total := kills(x.t, len(all))
	for i := range total {
		if i%len(all) == 0 {
			rng.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
		}
		x.hit(rng, all[i%len(all)])
		hit[all[i%len(all)].String()]++
	}
	// The time between decision and completion is short: go on until it was hit.
	for range 15 {
		if x.lateEnds() > 0 {
			break
		}
		x.hit(rng, decided)
		hit[decided.String()]++
		total++
	}
	if x.k.kills != total {
		x.t.Errorf("%d kills, want %d", x.k.kills, total)
	}
	x.t.Logf("%d kills: %v", x.k.kills, hit)
}

// hit kills the node at a point, once the copy goes on after the last kill, and
// starts it again.
func (x *copying) hit(rng *rand.Rand, at strike) {
	x.t.Helper()
	before := x.copied.Load()
	Until(x.t, time.Minute, "the copy goes on", func() error {
		if now := x.copied.Load(); now < before+20 {
			return fmt.Errorf("%d records copied since the start", now-before)
		}
		return nil
	})
	x.k.kill(x.t, rng, at)
	x.n.Start()
}

func (x *copying) options(more ...kgo.Opt) []kgo.Opt {
	return append(more, kgo.SeedBrokers(x.n.Kafka), kgo.RetryBackoffFn(func(int) time.Duration { return 20 * time.Millisecond }), kgo.MetadataMinAge(20*time.Millisecond),
		kgo.ProducerBatchCompression(kgo.NoCompression()))
}

// feed sends numbered records, each acknowledged, until ctx ends.
func (x *copying) feed(ctx context.Context) {
	cl := client(x.t, x.options(kgo.DefaultProduceTopic("in"), kgo.RecordPartitioner(kgo.ManualPartitioner()))...)
	for ctx.Err() == nil {
		var rs []*kgo.Record
		for range 20 {
			i := int(x.sent.Load()) + len(rs)
			rs = append(rs, &kgo.Record{Partition: int32(i % copyPartitions), Value: fmt.Appendf(nil, "%08d", i)})
		}
		if err := cl.ProduceSync(context.WithoutCancel(ctx), rs...).FirstErr(); err != nil {
			x.t.Errorf("feed: %v", err)
			return
		}
		x.sent.Add(int64(len(rs)))
		pause(ctx, 10*time.Millisecond, 30*time.Millisecond)
	}
}

// begin notes an attempt and gives it a name.
func (x *copying) begin(who string, records int) string {
	x.mu.Lock()
	defer x.mu.Unlock()
	name := fmt.Sprintf("%s/%d", who, len(x.tries))
	x.tries[name] = &attempt{records: records}
	return name
}

// ended notes what the client of an attempt was told.
func (x *copying) ended(name string, o outcome) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.tries[name].end = o
	x.counts[[...]string{"in doubt", "committed", "aborted"}[o]]++
	if o == committed {
		x.copied.Add(int64(x.tries[name].records))
	}
}

// copy copies in transactions until ctx ends. After a bad end of one the
// process would start anew.
func (x *copying) copy(ctx context.Context, rng *rand.Rand, i int) {
	who := fmt.Sprint("copier-", i)
	opts := x.options(
		kgo.TransactionalID(who), kgo.TransactionTimeout(10*time.Second), kgo.WithHooks(x.k),
		kgo.ConsumerGroup("copiers"), kgo.InstanceID(who), kgo.ConsumeTopics("in"), kgo.RequireStableFetchOffsets(),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.DefaultProduceTopic("out"), kgo.SessionTimeout(6*time.Second), kgo.HeartbeatInterval(500*time.Millisecond))
	if i%2 == 1 {
		opts = append(opts, kgo.MaxVersions(kversion.V3_6_0()))
	}
	for ctx.Err() == nil {
		sess, err := kgo.NewGroupTransactSession(opts...)
		if err != nil {
			x.t.Error(err)
			return
		}
		for ctx.Err() == nil && x.copySome(ctx, rng, who, sess) {
		}
		sess.Close()
	}
}

// copySome reports whether the client can go on.
func (x *copying) copySome(ctx context.Context, rng *rand.Rand, who string, sess *kgo.GroupTransactSession) bool {
	fs := sess.PollRecords(ctx, 10+rng.IntN(90))
	if fs.NumRecords() == 0 || ctx.Err() != nil {
		return true
	}
	if err := sess.Begin(); err != nil {
		return false
	}
	name := x.begin(who, fs.NumRecords())
	var promise kgo.FirstErrPromise
	fs.EachRecord(func(r *kgo.Record) {
		sess.Produce(context.WithoutCancel(ctx), &kgo.Record{Value: fmt.Appendf(nil, "%s %s %s", r.Value, name, copyPad)}, promise.Promise())
	})
	ok := promise.Err() == nil && rng.IntN(6) > 0
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), 20*time.Second)
	defer cancel()
	done, err := sess.End(end, kgo.TransactionEndTry(ok))
	switch {
	case err != nil:
		x.ended(name, unknown)
	case done:
		x.ended(name, committed)
	default:
		x.ended(name, aborted)
	}
	return err == nil
}

// usurp lets a process take the transactional ID of another whose transaction
// is open. What the other one tries then must come to nothing.
func (x *copying) usurp(ctx context.Context, rng *rand.Rand) {
	open := func() (*kgo.Client, string) {
		cl, err := kgo.NewClient(x.options(kgo.TransactionalID("usurped"), kgo.TransactionTimeout(5*time.Second), kgo.DefaultProduceTopic("out"),
			kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.WithHooks(x.k))...)
		if err != nil {
			x.t.Error(err)
		}
		return cl, x.begin("usurped", 1)
	}
	for ctx.Err() == nil {
		partition := rng.Int32N(copyPartitions)
		old, oldName := open()
		if x.write(old, partition, oldName) == nil {
			pause(ctx, 0, 100*time.Millisecond)
			young, name := open()
			err := x.write(young, partition, name)
			if err == nil && rng.IntN(2) == 0 {
				err = x.finish(young, name)
			}
			if err == nil {
				x.try(old, partition, oldName, rng.IntN(2) == 0)
				_ = x.finish(young, name) // of one that is over: nothing
			}
			young.Close()
		}
		old.Close()
	}
}

// try lets a process go on that was fenced.
func (x *copying) try(old *kgo.Client, partition int32, name string, write bool) {
	if write {
		ctx, cancel := context.WithTimeout(x.t.Context(), 20*time.Second)
		defer cancel()
		if err := old.ProduceSync(ctx, &kgo.Record{Partition: partition, Value: fmt.Appendf(nil, "- %s %s", name, copyPad)}).FirstErr(); err == nil {
			x.t.Errorf("%s was fenced and could write", name)
		}
	}
	if x.finish(old, name) == nil {
		x.t.Errorf("%s was fenced and could commit", name)
	}
	x.ended(name, aborted)
	x.mu.Lock()
	x.counts["fenced"]++
	x.mu.Unlock()
}

func (x *copying) write(cl *kgo.Client, partition int32, name string) error {
	if err := cl.BeginTransaction(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(x.t.Context(), 20*time.Second)
	defer cancel()
	return cl.ProduceSync(ctx, &kgo.Record{Partition: partition, Value: fmt.Appendf(nil, "- %s %s", name, copyPad)}).FirstErr()
}

// finish commits.
func (x *copying) finish(cl *kgo.Client, name string) error {
	ctx, cancel := context.WithTimeout(x.t.Context(), 20*time.Second)
	defer cancel()
	err := cl.EndTransaction(ctx, kgo.TryCommit)
	if err == nil {
		x.ended(name, committed)
	}
	return err
}

// shownRecord is what a consumer was shown.
type shownRecord struct {
	offset int64
	value  string
}

func unpad(r *kgo.Record) string { return strings.TrimRight(string(r.Value), " x") }

// watch reads the copy as it grows.
func (x *copying) watch(ctx context.Context, shown map[int32][]shownRecord) {
	cl := client(x.t, x.options(kgo.ConsumeTopics("out"), kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.FetchMaxWait(50*time.Millisecond),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))...)
	for ctx.Err() == nil {
		cl.PollFetches(ctx).EachRecord(func(r *kgo.Record) {
			shown[r.Partition] = append(shown[r.Partition], shownRecord{r.Offset, unpad(r)})
		})
	}
}

// groupAt is how many records the group has got behind it.
func (x *copying) groupAt() (n int64) {
	offsets, err := kadm.NewClient(client(x.t, x.options()...)).FetchOffsets(x.t.Context(), "copiers")
	if err != nil {
		return -1
	}
	offsets.Each(func(o kadm.OffsetResponse) { n += max(0, o.At) })
	return n
}

// settle waits until no transaction is open.
func (x *copying) settle() {
	x.t.Helper()
	admin := kadm.NewClient(client(x.t, x.options()...))
	Until(x.t, time.Minute, "all transactions end", func() error {
		open, err := admin.ListTransactions(x.t.Context(), nil, []string{"Ongoing", "PrepareCommit", "PrepareAbort"})
		if err == nil && len(open) > 0 {
			err = fmt.Errorf("open are %v", open)
		}
		return err
	})
}

// check compares what is there with what was sent, done and shown.
func (x *copying) check(shown map[int32][]shownRecord) {
	records := map[string]int{} // by attempt
	copies := map[string]int{}
	next := map[int32]int{} // of shown
	var markers []marker
	readEach(x.t, 20*time.Second, x.n.Kafka, "out", func(r *kgo.Record) {
		if r.Attrs.IsControl() {
			markers = append(markers, markerOf(r))
			return
		}
		if s, i := shown[r.Partition], next[r.Partition]; i < len(s) && s[i] != (shownRecord{r.Offset, unpad(r)}) {
			x.t.Fatalf("partition %d: a consumer was shown %v, and there is %q at offset %d", r.Partition, s[i], unpad(r), r.Offset)
		}
		next[r.Partition]++
		number, name, _ := strings.Cut(unpad(r), " ")
		records[name]++
		if number != "-" {
			copies[number]++
		}
	}, kgo.FetchIsolationLevel(kgo.ReadCommitted()))
	for p, all := range shown {
		if len(all) > next[p] {
			x.t.Errorf("partition %d: a consumer was shown %d records, there are %d", p, len(all), next[p])
		}
		x.counts["shown"] += len(all)
	}
	x.checkAttempts(records)
	x.checkCopies(copies)
	x.counts[lateEnd], x.counts[lateMarker] = x.lateEnds(), x.lateMarkers(markers)
	for _, what := range []string{"committed", "aborted", "fenced", "shown", lateEnd} {
		if x.counts[what] == 0 {
			x.t.Errorf("none: %s", what)
		}
	}
	x.t.Logf("%d records, each copied exactly once: %v", x.sent.Load(), x.counts)
}

// checkAttempts: all of an attempt is there or nothing, as its client was told.
func (x *copying) checkAttempts(records map[string]int) {
	for name, a := range x.tries {
		if n := records[name]; n != 0 && (n != a.records || a.end == aborted) || n == 0 && a.end == committed {
			x.t.Errorf("%s: %d records of %d are there, its end was %d (0 in doubt, 1 committed, 2 aborted)", name, n, a.records, a.end)
		}
	}
}

func (x *copying) checkCopies(copies map[string]int) {
	lost, twice := 0, 0
	for i := range x.sent.Load() {
		switch n := copies[fmt.Sprintf("%08d", i)]; {
		case n == 0:
			lost++
		case n > 1:
			twice++
		}
	}
	if lost+twice > 0 || len(copies) > int(x.sent.Load()) {
		x.t.Errorf("of %d records %d were lost and %d copied more than once", x.sent.Load(), lost, twice)
	}
}
