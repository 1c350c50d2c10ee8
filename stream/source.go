package stream

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/entrepot-hub/entrepot/connectors"
	"github.com/entrepot-hub/entrepot/record"
	"github.com/twmb/franz-go/pkg/kgo"
)

// sourceRun is one session of a source job: every split is read by a
// goroutine of its own; all share one producer, whose buffer is the bound on
// what is in flight.
type sourceRun struct {
	*session
	client     *kgo.Client
	partitions int32
	batchLimit int // bytes that one record may have

	wg sync.WaitGroup
	mu struct {
		sync.Mutex
		acked map[record.TopicPartition]int64 // after the newest acknowledged record
	}
}

// runSource reads all splits until the source ends (nil), the session is
// stopped, or an error.
func runSource(s *session) error {
	r := &sourceRun{session: s}
	r.mu.acked = map[record.TopicPartition]int64{}
	topic, err := s.awaitTopic()
	if err != nil {
		return err
	}
	r.partitions = topic.partitions
	limit := batchLimit(s.hard, s.admin, s.spec.Topic)
	r.batchLimit = int(limit) - recordOverhead
	cl, closed, err := s.cluster.client(s.hard, "entrepot-source-"+s.spec.Name,
		kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.StopProducerOnDataLossDetected(),
		kgo.ProducerBatchMaxBytes(limit), kgo.MaxBufferedRecords(maxInFlight),
		kgo.MaxBufferedBytes(int(max(s.spec.memory(), int64(limit)))))
	if err != nil {
		return err
	}
	defer closed()
	r.client = cl
	if err := r.recall(); err != nil {
		return err
	}
	if err = r.splits(); err != nil && s.soft.Err() == nil {
		s.fail(err)
	}
	r.wg.Wait()
	return s.cause(err)
}

// recall shows what earlier runs have done, also of splits that are no more.
func (r *sourceRun) recall() error {
	prefix := sourceKey(r.spec.Name, "")
	for _, key := range r.store.keys(prefix) {
		var ck sourceCheckpoint
		if _, err := r.store.get(key, &ck); err != nil {
			return err
		}
		r.monitor.part(PartStatus{Name: strings.TrimPrefix(key, prefix), Position: ck.Where, Done: ck.Done, Counters: ck.Counters})
	}
	return nil
}

// maxInFlight is the number of records sent and not yet acknowledged.
const maxInFlight = 20_000

// splits follows the source's list of splits and reads each that appears.
func (r *sourceRun) splits() error {
	ctx, stop := context.WithCancel(r.soft)
	lists, err := r.spec.Source.Splits(ctx, r.spec.Config)
	if err != nil {
		stop()
		return fmt.Errorf("list what there is to read: %w", err)
	}
	defer func() {
		stop()
		for range lists { // until it is closed
		}
	}()
	stops := map[string]context.CancelFunc{}
	r.monitor.state(Running)
	for {
		select {
		case <-r.soft.Done():
			return r.cause(nil)
		case list, open := <-lists:
			if !open {
				return r.finish()
			}
			if err := r.offer(list, stops); err != nil {
				return err
			}
		}
	}
}

// finish waits for the splits of a list that is final.
func (r *sourceRun) finish() error {
	r.wg.Wait()
	if r.soft.Err() != nil {
		return r.cause(nil)
	}
	return nil
}

// offer starts the splits that are new and stops those that have gone.
func (r *sourceRun) offer(list []connectors.Split, stops map[string]context.CancelFunc) error {
	present := make(map[string]bool, len(list))
	var fresh []*splitRun
	for _, sp := range list {
		present[sp.ID] = true
		if stops[sp.ID] != nil {
			continue
		}
		s, err := r.openSplit(sp)
		if err != nil {
			return err
		}
		fresh = append(fresh, s)
	}
	if err := r.recover(fresh); err != nil {
		return err
	}
	for _, s := range fresh {
		ctx, stop := context.WithCancel(r.soft)
		stops[s.split.ID] = stop
		r.wg.Go(func() {
			defer stop()
			if err := r.guard(s.split.ID, func() error { return s.run(ctx) }); err != nil {
				r.fail(err)
			}
		})
	}
	for id, stop := range stops {
		if !present[id] {
			stop()
		}
	}
	return nil
}

// openSplit takes up a split where its checkpoint left it.
func (r *sourceRun) openSplit(sp connectors.Split) (*splitRun, error) {
	s := &splitRun{
		sourceRun: r, split: sp, key: sourceKey(r.spec.Name, sp.ID),
		prefix: sourcePrefix(r.spec.Name, sp.ID), pipe: r.spec.Pipeline.start(),
	}
	var ck sourceCheckpoint
	known, err := r.store.get(s.key, &ck)
	if err != nil {
		return nil, err
	}
	s.known, s.done = known, ck.Done
	s.mu.ledger = newLedger(ck.prefix())
	s.read, s.where = s.mu.ledger.prefix.Position, ck.Where
	s.saved = s.read
	s.show("")
	return s, nil
}

// landed says where an output is that an earlier run has written.
type landed struct {
	outcome outcome
	at      record.TopicPartition
	offset  int64
}

// recover finds out which outputs of the splits are in although their
// checkpoint does not cover them: those at or above the offsets that it
// recorded. A split that is new gets its first checkpoint here, before
// anything of it is written, so that there is always a place to look from.
func (r *sourceRun) recover(splits []*splitRun) error {
	bounds, err := spans(r.soft, r.admin, r.spec.Topic, r.letters.tp.Topic)
	if err != nil {
		return err
	}
	byPrefix := map[string]*splitRun{}
	ranges := map[record.TopicPartition]span{}
	for _, s := range splits {
		if !s.known || s.done {
			continue
		}
		byPrefix[s.prefix] = s
		for tp, b := range bounds {
			from := max(s.mu.ledger.prefix.Ends[tp], b.start)
			if old, ok := ranges[tp]; !ok || from < old.start {
				ranges[tp] = span{from, b.end}
			}
		}
	}
	err = r.cluster.scan(r.soft, "entrepot-recover-"+r.spec.Name, ranges, func(rec *kgo.Record) {
		r.recognise(rec, byPrefix)
	})
	if err != nil {
		return fmt.Errorf("look for what an earlier run has written: %w", err)
	}
	for _, s := range splits {
		if err := s.rebase(bounds); err != nil {
			return err
		}
	}
	return nil
}

// recognise notes a record that one of our splits has written.
func (r *sourceRun) recognise(rec *kgo.Record, byPrefix map[string]*splitRun) {
	for _, h := range rec.Headers {
		if h.Key != HeaderSource {
			continue
		}
		name := string(h.Value)
		s := byPrefix[name[:strings.LastIndexByte(name, '/')+1]]
		if s == nil || !s.beyond(name) {
			return
		}
		l := landed{produced, record.TopicPartition{Topic: rec.Topic, Partition: rec.Partition}, rec.Offset}
		if rec.Topic == r.letters.tp.Topic {
			l.outcome = dead
		}
		if s.seen == nil {
			s.seen = map[string]landed{}
		}
		s.seen[name] = l
		return
	}
}

// acknowledged notes that the hub has a record.
func (r *sourceRun) acknowledged(tp record.TopicPartition, offset int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if offset >= r.mu.acked[tp] {
		r.mu.acked[tp] = offset + 1
	}
}

// errStopped says that a split was asked to stop.
var errStopped = errors.New("stopped")
