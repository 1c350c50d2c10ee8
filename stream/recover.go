package stream

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/entrepot-hub/entrepot/connectors"
	"github.com/entrepot-hub/entrepot/record"
	"github.com/twmb/franz-go/pkg/kgo"
)

// recoverLane finds where a partition stands and finishes what an earlier run
// has begun. Three may know: the destination, the group's offset and the last
// durable plan. The destination's word counts most; without one, the plan
// that begins at the group's offset is executed again as it was.
func (t *sinkTask) recoverLane(l *lane) error {
	if err := t.firstOffset(l); err != nil {
		return err
	}
	var ck sinkCheckpoint
	planned, err := t.store.get(sinkKey(t.spec.Name, l.tp), &ck)
	if err != nil {
		return err
	}
	if planned = planned && ck.Topic == t.topic.id; planned {
		if err := t.findDead(l, ck); err != nil {
			return err
		}
	}
	next, known, err := t.writer.Resume(t.hard, l.tp)
	if err != nil {
		return fmt.Errorf("ask the destination how much of %s it has: %w", l.tp, err)
	}
	if l.own = known; known && next != l.commit.offset {
		if err := t.follow(l, next); err != nil {
			return err
		}
	}
	last, begun, err := t.lastBegun(l)
	if err != nil {
		return err
	}
	if begun && l.commit.offset < last.To && !(planned && ck.From == last.From && ck.To == last.To) {
		if err := t.follow(l, last.From); err != nil {
			return err
		}
		planned, ck = true, sinkCheckpoint{From: last.From, To: last.To, ID: last.ID, Made: last.Made}
	}
	if err := t.checkGap(l); err != nil {
		return err
	}
	if !planned || ck.From != l.commit.offset {
		return nil
	}
	todo := plan(t.spec.Name, l.tp, ck.From, ck.To, t.epoch)
	todo.ID, todo.Made = ck.ID, ck.Made
	l.todo = &todo
	defer func() { l.todo = nil }()
	return t.again(l)
}

// errOlder ends a session whose destination knows an owner of a later epoch, of
// another site: the next one claims an epoch above that.
var errOlder = errors.New("the destination knows a later owner")

// lastBegun asks the destination for the newest plan that anybody has begun.
func (t *sinkTask) lastBegun(l *lane) (last connectors.Plan, begun bool, err error) {
	w, ok := t.writer.(connectors.Remembering)
	if !ok {
		return last, false, nil
	}
	last, known, err := w.Last(t.hard, l.tp)
	if err != nil {
		return last, false, fmt.Errorf("ask the destination for the last plan of %s: %w", l.tp, err)
	}
	if known && last.Epoch >= t.epoch { // every start at this site has an epoch of its own, so it is of another
		t.monitor.raise(last.Epoch)
		return last, false, fmt.Errorf("%w: epoch %d has written %s, this is epoch %d", errOlder, last.Epoch, l.tp, t.epoch)
	}
	return last, known && last.From < last.To, nil
}

// firstOffset gives a partition without a committed offset its first one.
func (t *sinkTask) firstOffset(l *lane) error {
	if l.commit.known {
		return nil
	}
	b := t.bounds[l.tp]
	l.commit = commit{known: true, offset: b.start}
	if t.spec.Start == Latest {
		l.commit.offset = b.end
	}
	return t.commitOffset(t.hard, l.tp, l.commit.offset, Counters{})
}

// findDead looks up which dead letters of the last plan, or of records after
// it, are in.
func (t *sinkTask) findDead(l *lane, ck sinkCheckpoint) error {
	bounds, err := spans(t.hard, t.admin, t.letters.tp.Topic)
	if err != nil {
		return err
	}
	b := bounds[t.letters.tp]
	b.start = max(b.start, offsetsMap(ck.Dead)[t.letters.tp])
	prefix := sourcePrefix(t.spec.Name, l.tp.String())
	l.dead = map[int64]int64{}
	err = t.cluster.scan(t.hard, "entrepot-recover-"+t.name, map[record.TopicPartition]span{t.letters.tp: b}, func(r *kgo.Record) {
		for _, h := range r.Headers {
			rest, ours := strings.CutPrefix(string(h.Value), prefix)
			if h.Key != HeaderSource || !ours {
				continue
			}
			if offset, err := strconv.ParseInt(rest, 10, 64); err == nil && offset >= ck.From {
				l.dead[offset] = r.Offset
			}
		}
	})
	if err != nil {
		return fmt.Errorf("look for dead letters that are in already: %w", err)
	}
	return nil
}

// follow moves the group's offset to where the destination says it is. What
// lies between was written by a run that did not come to commit it; it is
// read once more, only to be counted.
func (t *sinkTask) follow(l *lane, next int64) error {
	t.logger.Info("the destination is not where the group's offset is; its word counts",
		"topic", l.tp.Topic, "partition", l.tp.Partition, "offset", l.commit.offset, "destination", next)
	total := l.commit.counters
	if from := l.commit.offset; next > from {
		counted, err := t.count(l, from, next)
		if err != nil {
			return err
		}
		total = total.plus(counted)
	}
	if err := t.commitOffset(t.hard, l.tp, next, total); err != nil {
		return err
	}
	l.commit = commit{known: true, offset: next, counters: total}
	return nil
}

func (t *sinkTask) count(l *lane, from, to int64) (Counters, error) {
	var c Counters
	b := t.bounds[l.tp]
	within := span{max(from, b.start), min(to, b.end)}
	err := t.cluster.scanCommitted(t.hard, "entrepot-recover-"+t.name, map[record.TopicPartition]span{l.tp: within}, func(r *kgo.Record) {
		c.Read++
		m, ours := t.message(r)
		keep, err := t.transform(&m, ours)
		if _, sent := l.dead[r.Offset]; sent || err != nil {
			c.DeadLetters++
		} else if keep {
			c.Written++
		} else {
			c.Filtered++
		}
	})
	return c, err
}

// checkGap refuses to go on when the next record is no longer, or not yet, in
// the topic: nothing is skipped in silence.
func (t *sinkTask) checkGap(l *lane) error {
	b, at := t.bounds[l.tp], l.commit.offset
	switch {
	case at > b.end:
		if mirrored, err := t.mirrored(); err != nil {
			return err
		} else if mirrored {
			return connectors.Retry(0, fmt.Errorf("%s ends at offset %d here, and %d are loaded already: waiting for its mirror to bring them", l.tp, b.end, at))
		}
		return connectors.Fatalf("%s ends at offset %d, but %d are loaded: the topic was made anew or cut; "+
			"reset the offsets of group %s, and those that the destination keeps, to load it again", l.tp, b.end, at, t.group)
	case at >= b.start:
		return nil
	case !t.spec.Errors.SkipGaps:
		return connectors.Fatalf("records %d to %d of %s were deleted by retention before they were loaded; "+
			"set errors.gaps to skip to go on without them", at, b.start-1, l.tp)
	}
	t.logger.Warn("records were deleted by retention before they were loaded; they are skipped",
		"topic", l.tp.Topic, "partition", l.tp.Partition, "offset", at, "count", b.start-at)
	p := plan(t.spec.Name, l.tp, at, b.start, t.epoch)
	return t.execute(l, p, nil)
}

// again executes the plan that an earlier run has left, verbatim.
func (t *sinkTask) again(l *lane) error {
	b := t.bounds[l.tp]
	if l.todo.To > b.end {
		if mirrored, err := t.mirrored(); err != nil {
			return err
		} else if mirrored {
			return connectors.Retry(0, fmt.Errorf("%s ends at offset %d here, and a plan that was begun goes to %d: waiting for its mirror to bring them", l.tp, b.end, l.todo.To))
		}
		return connectors.Fatalf("%s ends at offset %d, but a plan goes to %d: the topic was made anew or cut", l.tp, b.end, l.todo.To)
	}
	var batch []connectors.Message
	err := t.cluster.scanCommitted(t.hard, "entrepot-recover-"+t.name, map[record.TopicPartition]span{l.tp: {l.todo.From, l.todo.To}}, func(r *kgo.Record) {
		m, ours := t.message(r)
		m.Mark = !ours
		batch = append(batch, m)
	})
	if err != nil {
		return fmt.Errorf("read the records of the plan %s again: %w", l.todo, err)
	}
	return t.execute(l, *l.todo, batch)
}

// mirrored reports whether the topic comes from another site, whose latest
// records may not be here yet.
func (t *sinkTask) mirrored() (bool, error) {
	all, err := t.admin.DescribeTopicConfigs(t.hard, t.spec.Topic)
	if err != nil {
		return false, fmt.Errorf("ask whether %s is mirrored: %w", t.spec.Topic, err)
	}
	for _, topic := range all {
		if topic.Err != nil {
			return false, fmt.Errorf("ask whether %s is mirrored: %w", t.spec.Topic, topic.Err)
		}
		for _, c := range topic.Configs {
			if c.Key == "mirror.source" && c.MaybeValue() != "" {
				return true, nil
			}
		}
	}
	return false, nil
}
