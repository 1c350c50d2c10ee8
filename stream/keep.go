package stream

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/entrepot-hub/entrepot/connectors"
	"github.com/entrepot-hub/entrepot/record"
)

// keepEvery is the pause between two calls of a sink's Keeper.
const keepEvery = time.Second

// standings is how far the tasks of a job are. They tell, the keeper reads.
type standings struct {
	mu     sync.Mutex
	loaded map[int32]int64
}

// set tells where a lane is. What lies between the committed offset and the
// last marker that was read is no record, so it counts as loaded.
func (s *standings) set(l *lane) {
	at := l.commit.offset
	if len(l.buffer) == 0 {
		at = max(at, l.passed)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.loaded == nil {
		s.loaded = map[int32]int64{}
	}
	s.loaded[l.tp.Partition] = at
}

func (s *standings) get(partition int32) (int64, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	at, ok := s.loaded[partition]
	return at, ok
}

// keep runs the sink's Keeper beside the tasks, if it has one. Loading goes on
// when it fails, unless that is for good.
func (r *sinkRun) keep() (err error) {
	sink, ok := r.spec.Sink.(connectors.Keeping)
	if !ok {
		return nil
	}
	keeper, err := sink.OpenKeeper(r.soft, r.task(r.spec.Name+"/keeper"))
	if err != nil || keeper == nil {
		return err
	}
	defer func() {
		if closed := keeper.Close(r.hard); closed != nil && err == nil {
			r.logger.Warn("a keeper did not close", "error", closed)
		}
	}()
	var pause backoff
	for wait := keepEvery; ; {
		if connectors.Pause(r.soft, wait) != nil {
			return nil
		}
		began := time.Now()
		err := r.keepOnce(keeper)
		switch {
		case r.soft.Err() != nil:
			return nil
		case connectors.ClassOf(err) == connectors.ClassFatal:
			return err
		case err != nil:
			wait = max(keepEvery, pause.next(time.Since(began), connectors.RetryAfter(err)))
			r.logger.Warn("a sink's work beside its plans failed and is tried again", "error", err, "wait", wait)
			r.monitor.fault(err)
		default:
			wait, pause = keepEvery, backoff{}
		}
	}
}

// keepOnce asks where the partitions stand and lets the keeper work. It says
// nothing before every task has said where it is.
func (r *sinkRun) keepOnce(keeper connectors.Keeper) error {
	ctx, cancel := context.WithCancel(r.soft)
	defer cancel()
	at := make([]connectors.Standing, 0, r.topic.partitions)
	for p := range r.topic.partitions {
		loaded, known := r.standings.get(p)
		if !known {
			return nil
		}
		at = append(at, connectors.Standing{Partition: record.TopicPartition{Topic: r.spec.Topic, Partition: p}, Loaded: loaded})
	}
	// The ends are asked for after the standings, so that what came in between
	// counts as outstanding.
	bounds, err := spans(ctx, r.admin, r.spec.Topic)
	if err != nil {
		return fmt.Errorf("ask for the ends of %s: %w", r.spec.Topic, err)
	}
	for i := range at {
		at[i].End = bounds[at[i].Partition].end
	}
	return keeper.Keep(ctx, at)
}
