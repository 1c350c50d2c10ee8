package stream

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"github.com/entrepot-hub/entrepot/connectors"
)

// writeTimeout bounds how long one write to a destination may say nothing (see
// connectors.TaskContext.Note). What has not answered by then has an unknown
// outcome, and the same plan is executed again.
const writeTimeout = 2 * time.Minute

// execute brings one plan into the destination: decide each record, make the
// plan durable, send the dead letters, write, commit, in this order. What
// happens when it is cut off after each step:
//
//	decided          nothing has happened
//	plan durable     the next run executes the same plan
//	dead letters in  the next run finds them and does not send them again
//	written          the same plan again changes nothing, or the destination
//	                 says itself that it has it
//	committed        it is done
func (t *sinkTask) execute(l *lane, p connectors.Plan, batch []connectors.Message) error {
	w := &work{sinkTask: t, lane: l, plan: p, first: true}
	w.durable = l.todo != nil && *l.todo == p
	began := time.Now()
	err := w.execute(batch, false)
	if err != nil && t.hard.Err() == nil {
		t.monitor.trouble(l.tp.String(), began, err)
	}
	return err
}

// execute brings the plan in; bad says that a write of just these records is
// known to fail for one of them.
func (w *work) execute(batch []connectors.Message, bad bool) error {
	if err := w.decide(batch); err != nil {
		return err
	}
	if !w.lane.own || len(w.failed) > 0 {
		if err := w.makeDurable(); err != nil {
			return err
		}
	}
	if err := w.bury(); err != nil {
		return err
	}
	if bad && len(w.kept) > 1 {
		return w.bisect(batch)
	}
	err := w.write()
	if connectors.ClassOf(err) == connectors.ClassPoison {
		return w.isolate(batch, err)
	}
	if err != nil {
		return err
	}
	return w.commit()
}

// work is one plan being executed.
type work struct {
	*sinkTask
	lane     *lane
	plan     connectors.Plan
	batch    []connectors.Message // all of the plan, as in the topic
	fates    []connectors.Fate    // of batch
	kept     []connectors.Message // to write, in offset order
	failed   []failedRecord       // to send to the dead letters
	counters Counters             // of this plan
	durable  bool
	first    bool // not a part of a plan that failed
}

type failedRecord struct {
	message connectors.Message
	err     error
}

// decide runs the transforms. Messages are copied: a plan may be tried again.
func (w *work) decide(batch []connectors.Message) error {
	w.batch, w.fates = batch, make([]connectors.Fate, len(batch))
	w.kept = make([]connectors.Message, 0, len(batch))
	for i, m := range batch {
		w.counters.Read++
		if _, sent := w.lane.dead[m.Offset]; sent {
			w.counters.DeadLetters++
			w.fates[i] = connectors.DeadLettered
			continue
		}
		keep, err := w.transform(&m, !m.Mark)
		switch {
		case err != nil:
			w.failed = append(w.failed, failedRecord{m, err})
			w.fates[i] = connectors.DeadLettered
		case keep:
			w.kept = append(w.kept, m)
		default:
			w.counters.Filtered++
			w.fates[i] = connectors.Filtered
		}
		if !w.first {
			continue
		}
		if err := w.window.add(err != nil); err != nil {
			return err
		}
	}
	return nil
}

// transform runs the transforms over a message that is ours.
func (t *sinkTask) transform(m *connectors.Message, ours bool) (keep bool, err error) {
	if !ours {
		return false, nil
	}
	if m.Err != nil {
		return false, m.Err
	}
	return t.pipe.apply(m)
}

// makeDurable writes the plan down. Invariant: no byte of a plan reaches a
// destination without its own offset, and no dead letter is sent, before.
func (w *work) makeDurable() error {
	if w.durable {
		return nil
	}
	if w.plan.Made == 0 {
		w.plan.Made = time.Now().UnixMilli()
	}
	tp := w.letters.tp
	err := w.store.put(w.hard, sinkKey(w.spec.Name, w.lane.tp), sinkCheckpoint{
		V: checkpointVersion, From: w.plan.From, To: w.plan.To, Epoch: w.plan.Epoch, ID: w.plan.ID, Made: w.plan.Made, Topic: w.topic.id,
		Dead: []partitionOffset{{tp.Topic, tp.Partition, w.lane.floor(w.plan.From, w.letters.floor())}},
	})
	w.durable = err == nil
	return err
}

// bury sends the failed records to the dead letters and waits until the hub
// has them.
func (w *work) bury() error {
	if len(w.failed) == 0 {
		return nil
	}
	var (
		wg    sync.WaitGroup
		mu    sync.Mutex
		first error
	)
	for _, f := range w.failed {
		wg.Add(1)
		m := f.message
		l := letter{
			source: sinkSource(w.spec.Name, w.lane.tp, m.Offset), where: fmt.Sprintf("%s@%d", w.lane.tp, m.Offset),
			err: f.err, key: m.Key, value: m.Original, headers: m.Headers, time: m.Timestamp, fallback: "sink",
		}
		w.letters.send(w.hard, l, func(at int64, err error) {
			defer wg.Done()
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				first = errors.Join(first, fmt.Errorf("write to %s: %w", w.letters.tp.Topic, err))
				return
			}
			if w.lane.dead == nil {
				w.lane.dead = map[int64]int64{}
			}
			w.lane.dead[m.Offset] = at
		})
	}
	wg.Wait()
	if first == nil {
		w.counters.DeadLetters += int64(len(w.failed))
		w.buried += len(w.failed)
		w.failed = nil
	}
	return first
}

// write executes the plan. Records that the destination refuses one by one
// become dead letters, and the rest is written as the same plan.
func (w *work) write() error {
	for {
		refused, err := w.writeOnce()
		if err != nil {
			return err
		}
		if len(refused) == 0 {
			w.counters.Written += int64(len(w.kept))
			return nil
		}
		if err := w.refuse(refused); err != nil {
			return err
		}
	}
}

func (w *work) writeOnce() ([]connectors.RecordError, error) {
	ctx, cancel := context.WithCancel(w.hard)
	defer cancel()
	limit := time.AfterFunc(writeTimeout, cancel)
	defer limit.Stop()
	w.now.Store(&writing{w.lane.tp.String(), time.Now(), limit})
	defer w.now.Store(nil)
	refused, err := w.writeGuarded(ctx)
	if err == nil {
		return refused, nil
	}
	if connectors.ClassOf(err) == connectors.ClassStopped && w.hard.Err() == nil {
		err = connectors.Unknown(fmt.Errorf("no answer within %v: %w", writeTimeout, err))
	}
	return nil, fmt.Errorf("write %s: %w", w.plan, err)
}

// writeGuarded turns a panic of the connector into an outcome that is not
// known, and after a few of the same records into poison.
func (w *work) writeGuarded(ctx context.Context) (refused []connectors.RecordError, err error) {
	defer func() {
		p := recover()
		if p == nil {
			return
		}
		w.logger.Error("a connector panicked", "task", w.name, "offset", w.plan.From, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
		refused, err = nil, fmt.Errorf("the connector panicked: %v", p)
		if w.monitor.breaker.crashed(w.plan) && len(w.kept) > 0 {
			err = connectors.Poison(err)
			return
		}
		err = connectors.Unknown(err)
	}()
	return w.writer.Write(ctx, w.plan, connectors.Batch{Messages: w.kept, Records: w.batch, Fates: w.fates})
}

// refuse takes refused records out of the batch and buries them.
func (w *work) refuse(refused []connectors.RecordError) error {
	out := make(map[int]error, len(refused))
	for _, r := range refused {
		if r.Index < 0 || r.Index >= len(w.kept) {
			return connectors.Fatalf("write %s: the connector refused record %d of %d", w.plan, r.Index, len(w.kept))
		}
		out[r.Index] = r.Err
	}
	rest := make([]connectors.Message, 0, len(w.kept)-len(out))
	for i, m := range w.kept {
		if err, bad := out[i]; bad {
			w.failed = append(w.failed, failedRecord{m, err})
			if at, found := slices.BinarySearchFunc(w.batch, m.Offset, byOffset); found {
				w.fates[at] = connectors.DeadLettered
			}
			if err := w.window.add(true); err != nil {
				return err
			}
			continue
		}
		rest = append(rest, m)
	}
	w.kept = rest
	if err := w.makeDurable(); err != nil {
		return err
	}
	return w.bury()
}

func byOffset(m connectors.Message, offset int64) int { return cmp.Compare(m.Offset, offset) }

func (w *work) commit() error {
	total := w.lane.commit.counters.plus(w.counters)
	if err := w.commitOffset(w.hard, w.lane.tp, w.plan.To, total); err != nil {
		return err
	}
	w.lane.done(w.plan, total)
	w.show(w.lane)
	return nil
}

// isolate handles a plan that fails as a whole because of a record that the
// destination does not name.
func (w *work) isolate(batch []connectors.Message, err error) error {
	switch len(w.kept) {
	case 0:
		return connectors.Fatalf("the destination refuses a plan without records: %w", err)
	case 1:
		return w.buryLast(err)
	}
	return w.bisect(batch)
}

// buryLast makes a dead letter of the only record and moves on over it, at
// the destination too.
func (w *work) buryLast(err error) error {
	if err := w.refuse([]connectors.RecordError{{Index: 0, Offset: w.kept[0].Offset, Err: err}}); err != nil {
		return err
	}
	if err := w.write(); err != nil {
		if connectors.ClassOf(err) == connectors.ClassPoison {
			return w.isolate(nil, err)
		}
		return err
	}
	return w.commit()
}

// bisect replaces a plan that fails by its two halves. Nothing of it is
// visible, so that is allowed; each half is durable before it is written. A
// single bad record costs about twice the logarithm of the batch in writes:
// when the left half went through whole, the right one is not tried whole.
func (w *work) bisect(batch []connectors.Message) error {
	middle := w.kept[len(w.kept)/2].Offset
	at := slices.IndexFunc(batch, func(m connectors.Message) bool { return m.Offset >= middle })
	buried := w.buried
	if err := w.part(w.plan.From, middle).execute(batch[:at], false); err != nil {
		return err
	}
	return w.part(middle, w.plan.To).execute(batch[at:], w.buried == buried)
}

func (w *work) part(from, to int64) *work {
	return &work{sinkTask: w.sinkTask, lane: w.lane, plan: plan(w.spec.Name, w.lane.tp, from, to, w.epoch)}
}
