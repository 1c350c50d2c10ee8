package chaos

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/entrepot-hub/entrepot/hub/hubtest"
	"github.com/entrepot-hub/entrepot/hub/hubtest/history"
	"github.com/entrepot-hub/entrepot/storage"
	"github.com/entrepot-hub/entrepot/storage/vfs"
)

// probe writes to every partition, as a client that comes when a fault was
// healed, and records when each took the write.
func (r *run) probe(after history.Fault) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), time.Minute)
	defer cancel()
	s := &sender{r: r, name: fmt.Sprint("probe-", after.End.Milliseconds())}
	defer s.end()
	cl, err := kgo.NewClient(r.options(kgo.RecordPartitioner(kgo.ManualPartitioner()))...)
	if err != nil {
		r.t.Fatal(err)
	}
	defer cl.Close()
	var all sync.WaitGroup
	for topic, partitions := range topics {
		for p := range partitions {
			all.Add(1)
			s.produce(cl, history.Send{Topic: topic, Partition: p, Key: "probe"}, func(err error) {
				defer all.Done()
				one := history.Probe{After: after.Kind, Topic: topic, Partition: p, Healed: after.End}
				if err == nil {
					one.Writable = r.rec.Now()
				}
				r.rec.Add(func(h *history.History) { h.Probes = append(h.Probes, one) })
			})
		}
	}
	if err := cl.Flush(ctx); err != nil {
		r.t.Errorf("not every partition took a write after %s: %v", after.Kind, err)
		r.state()
		cl.Close() // ends those that wait
	}
	all.Wait()
}

// until waits for a condition; the run goes on without it, so that what its
// clients saw is checked all the same.
func (r *run) until(timeout time.Duration, what string, condition func() error) bool {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), timeout)
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		err := condition()
		if err == nil {
			return true
		}
		select {
		case <-ctx.Done():
			r.t.Errorf("%s: not within %s: %v", what, timeout, err)
			r.state()
			return false
		case <-tick.C:
		}
	}
}

// state logs what the site says of its groups and transactions, for people.
func (r *run) state() {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), 10*time.Second)
	defer cancel()
	admin := kadm.NewClient(r.client())
	topics, err := admin.ListTopicsWithInternal(ctx)
	r.t.Logf("partitions without a leader: (%v)", err)
	for _, topic := range topics.Sorted() {
		for _, p := range topic.Partitions.Sorted() {
			if p.Err != nil || p.Leader < 0 {
				r.t.Logf("%s-%d: leader %d epoch %d %v", p.Topic, p.Partition, p.Leader, p.LeaderEpoch, p.Err)
			}
		}
	}
	open, err := admin.ListTransactions(ctx, nil, nil)
	r.t.Logf("transactions: %v (%v)", open, err)
	groups, err := admin.DescribeGroups(ctx, "readers", "copiers")
	r.t.Logf("groups: %+v (%v)", groups, err)
	stable, err := admin.ListCommittedOffsets(ctx, "records", "copies", "transactions")
	stable.Each(func(o kadm.ListedOffset) {
		r.t.Logf("last stable offset of %s-%d: %d (%v)", o.Topic, o.Partition, o.Offset, o.Err)
	})
	ends, err := admin.ListEndOffsets(ctx, "records", "copies", "transactions")
	ends.Each(func(o kadm.ListedOffset) { r.t.Logf("end of %s-%d: %d (%v)", o.Topic, o.Partition, o.Offset, o.Err) })
	r.rec.Add(func(h *history.History) {
		for _, one := range h.Notes[max(0, len(h.Notes)-30):] {
			r.t.Log(one)
		}
	})
}

// drain waits until the groups have come to the end of what they read.
func (r *run) drain() {
	r.t.Helper()
	admin := kadm.NewClient(r.client())
	r.until(2*time.Minute, "the groups come to the end", func() error {
		ctx, cancel := context.WithTimeout(r.t.Context(), 10*time.Second)
		defer cancel()
		ends, err := admin.ListEndOffsets(ctx, "records")
		if err != nil {
			return err
		}
		for _, group := range []string{"readers", "copiers"} {
			at, err := r.offsets(ctx, admin, group)
			if err != nil {
				return fmt.Errorf("group %s: %w", group, err)
			}
			for p, got := range at {
				if end, ok := ends.Lookup("records", p); !ok || end.Err != nil || got < end.Offset {
					return fmt.Errorf("group %s is at %d of records-%d, its end is %d (%v)", group, got, p, end.Offset, end.Err)
				}
			}
		}
		return nil
	})
}

// settle waits until no transaction is open: what was left open is aborted.
func (r *run) settle() {
	r.t.Helper()
	admin := kadm.NewClient(r.client())
	r.until(time.Minute, "all transactions end", func() error {
		ctx, cancel := context.WithTimeout(r.t.Context(), 10*time.Second)
		defer cancel()
		open, err := admin.ListTransactions(ctx, nil, []string{"Ongoing", "PrepareCommit", "PrepareAbort"})
		if err == nil && len(open) > 0 {
			err = fmt.Errorf("open are %v", open)
		}
		return err
	})
}

// readAll reads every topic to its end with fresh consumers.
func (r *run) readAll() {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), 3*time.Minute)
	defer cancel()
	all := names()
	ends, err := kadm.NewClient(r.client()).ListEndOffsets(ctx, all...)
	if err == nil {
		err = ends.Error()
	}
	if err != nil {
		r.t.Fatal(err)
	}
	for _, committed := range []bool{false, true} {
		isolation, name := kgo.ReadUncommitted(), "final"
		if committed {
			isolation, name = kgo.ReadCommitted(), "final-committed"
		}
		cl := r.client(kgo.ConsumeTopics(all...), kgo.FetchIsolationLevel(isolation), kgo.KeepControlRecords(), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
		polls := map[string]*history.Poll{}
		begin := r.rec.Now()
		err := hubtest.ReadTo(ctx, cl, ends, func(one *kgo.Record) {
			at := fmt.Sprint(one.Topic, one.Partition)
			if polls[at] == nil {
				polls[at] = &history.Poll{Span: history.Span{Begin: begin}, Consumer: name, Topic: one.Topic, Partition: one.Partition, Committed: committed, Final: true, High: -1}
			}
			polls[at].Reads = append(polls[at].Reads, reads([]*kgo.Record{one})...)
		})
		if err != nil {
			r.t.Fatalf("%s: %v", name, err)
		}
		r.rec.Add(func(h *history.History) {
			for _, p := range polls {
				p.End = r.rec.Now()
				h.Polls = append(h.Polls, *p)
			}
		})
	}
}

// whole waits until every node has all of every partition.
func (r *run) whole() {
	r.t.Helper()
	if len(r.nodes) > 1 {
		r.until(5*time.Minute, "every node has everything", func() error { return wholeNow(r.nodes[0], 0) })
	}
}

// stopNodes ends all nodes and adds what each has on disk to the history.
func (r *run) stopNodes() {
	r.t.Helper()
	for _, n := range r.nodes {
		n.Terminate()
	}
	for _, n := range r.nodes {
		all, err := storage.ReadContents(vfs.OS(), n.Dir)
		if err != nil {
			r.t.Errorf("what %s has on disk: %v", n.ID, err)
		}
		r.rec.Add(func(h *history.History) {
			h.Nodes = append(h.Nodes, n.ID)
			for _, c := range all {
				h.Replicas = append(h.Replicas, replica(n.ID, c))
			}
		})
	}
}

func replica(node string, c storage.Contents) history.Replica {
	r := history.Replica{Node: node, Log: c.Log + " of " + c.TopicID, Commit: c.Commit, Entries: make([]history.Entry, 0, len(c.Entries))}
	dash := strings.LastIndexByte(c.Log, '-')
	partition, _ := strconv.ParseInt(c.Log[dash+1:], 10, 32)
	r.Topic, r.Partition = c.Log[:dash], int32(partition)
	for _, e := range c.Entries {
		r.Entries = append(r.Entries, history.Entry{Index: e.Index, Term: e.Term, Kind: fmt.Sprint(e.Kind), Base: e.Base, Epoch: e.Epoch, Sum: e.Payload})
	}
	for _, one := range c.Records {
		r.Records = append(r.Records, history.Record(one))
	}
	return r
}
