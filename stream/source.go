package stream

import (
	"context"
	"fmt"
	"strings"
	"sync"

	"github.com/entrepot-hub/entrepot/connectors"
)

// sourceRun is one session of a source job: every split is read by a
// goroutine of its own, with a transactional producer of its own; all share
// the bound on what is in flight.
type sourceRun struct {
	*session
	pace       connectors.Limits // when a split commits
	awaited    bool              // somebody waits for that
	partitions int32
	topicLimit int32 // bytes that a batch may have
	batchLimit int   // and one record
	budget     *budget
	slots      chan struct{} // of a connectors.Finite: one for each split that is read; else nil

	wg sync.WaitGroup
}

// runSource reads all splits until the source ends (nil), the session is
// stopped, or an error.
func runSource(s *session) error {
	r, err := newSourceRun(s, "")
	if err != nil {
		return err
	}
	if err := r.recall(); err != nil {
		return err
	}
	if err = r.splits(); err != nil && s.soft.Err() == nil {
		s.fail(err)
	}
	r.wg.Wait()
	return s.cause(err)
}

// newSourceRun looks at the topic and ends what an earlier run has left open:
// the transaction of one ID, or with "" of all splits.
func newSourceRun(s *session, id string) (*sourceRun, error) {
	r := &sourceRun{session: s, pace: pace(s.spec)}
	_, r.awaited = s.spec.Source.(connectors.Paced)
	topic, err := s.awaitTopic()
	if err != nil {
		return nil, err
	}
	r.partitions = topic.partitions
	r.topicLimit = batchLimit(s.hard, s.admin, s.spec.Topic)
	r.batchLimit = int(r.topicLimit) - recordOverhead
	r.budget = &budget{most: int(max(s.spec.memory(), int64(r.topicLimit)))}
	if f, ok := s.spec.Source.(connectors.Finite); ok {
		r.slots = make(chan struct{}, f.Parallel(s.spec.Config))
	}
	if err := adopt(s.hard, s.admin, s.kafka, s.spec, id); err != nil {
		return nil, err
	}
	return r, s.store.load(s.soft) // once more, with what was adopted
}

// pace says when the splits of a job commit.
func pace(spec ConnectorSpec) connectors.Limits {
	out := connectors.Limits{Records: commitRecords, Wait: commitEvery}
	p, ok := spec.Source.(connectors.Paced)
	if !ok {
		return out
	}
	own := p.Pace(spec.Config)
	if own.Records > 0 {
		out.Records = min(out.Records, own.Records)
	}
	if own.Wait > 0 {
		out.Wait = min(out.Wait, own.Wait)
	}
	return out
}

// recall shows what earlier runs have done, also of splits that are no more.
func (r *sourceRun) recall() error {
	prefix := sourceKey(r.spec.Name, "")
	for _, key := range r.store.keys(prefix) {
		if split := strings.TrimPrefix(key, prefix); split == letterSplit || !r.spec.Share.split(split) {
			continue
		}
		var ck sourceCheckpoint
		if _, err := r.store.get(key, &ck); err != nil {
			return err
		}
		r.monitor.part(PartStatus{Name: strings.TrimPrefix(key, prefix), Position: ck.Where, Done: ck.Done, Counters: ck.Counters})
	}
	return nil
}

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
		if !r.spec.Share.split(sp.ID) {
			continue
		}
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
	for _, s := range fresh {
		ctx, stop := context.WithCancel(r.soft)
		stops[s.split.ID] = stop
		r.wg.Go(func() {
			defer stop()
			if err := r.guard(s.split.ID, func() error { return s.run(ctx) }); err != nil {
				r.fail(err)
			}
			if r.soft.Err() == nil { // it is done, or gone: nothing is waited for any more
				r.monitor.well(s.split.ID)
			}
		})
	}
	for id, stop := range stops {
		if !present[id] {
			stop()
		}
	}
	r.monitor.only(present) // also of splits that went between two sessions
	return nil
}

// openSplit takes up a split where its checkpoint left it.
func (r *sourceRun) openSplit(sp connectors.Split) (*splitRun, error) {
	s := &splitRun{
		sourceRun: r, split: sp, key: sourceKey(r.spec.Name, sp.ID),
		prefix: sourcePrefix(r.spec.Name, sp.ID), pipe: r.spec.Pipeline.start(),
	}
	if err := s.restore(); err != nil {
		return nil, err
	}
	s.show("")
	return s, nil
}
