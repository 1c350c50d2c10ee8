package webhook

import (
	"cmp"
	"context"
	"errors"
	"hash/maphash"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/entrepot-hub/entrepot/connectors"
	"github.com/entrepot-hub/entrepot/record"
)

// writer sends the plans of one task.
type writer struct {
	settings
	job       string
	clock     func() time.Time
	client    *http.Client
	transport *http.Transport

	// done holds the offsets at or above the plan's start that are delivered,
	// so that a plan that comes again without its poison, or after an error,
	// does not send the others again. It is bounded by the plan.
	done map[record.TopicPartition]map[int64]bool

	gate struct {
		sync.Mutex
		pacer
	}
}

// Resume implements connectors.Writer: an endpoint cannot be asked.
func (w *writer) Resume(context.Context, record.TopicPartition) (int64, bool, error) {
	return 0, false, nil
}

// Close implements connectors.Writer.
func (w *writer) Close(context.Context) error {
	w.transport.CloseIdleConnections()
	return nil
}

// Write implements connectors.Writer.
func (w *writer) Write(ctx context.Context, p connectors.Plan, batch connectors.Batch) ([]connectors.RecordError, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if refused := w.check(batch); len(refused) > 0 {
		return refused, nil
	}
	done := w.recall(p)
	left := slices.DeleteFunc(slices.Clone(batch.Messages), func(m connectors.Message) bool { return done[m.Offset] })
	if len(left) == 0 {
		return nil, nil
	}
	deadline := w.clock().Add(w.retryFor)
	if w.body == "single" {
		return w.inLanes(ctx, w.single(w.job, p, batch), done, deadline)
	}
	if err := w.deliver(ctx, w.whole(w.job, p, connectors.Batch{Messages: left}), deadline); err != nil {
		return nil, err
	}
	for _, m := range left {
		done[m.Offset] = true
	}
	return nil, nil
}

// recall is what is delivered of a plan. What lies before it is committed.
func (w *writer) recall(p connectors.Plan) map[int64]bool {
	done := w.done[p.Partition]
	if done == nil {
		done = map[int64]bool{}
		w.done[p.Partition] = done
	}
	for o := range done {
		if o < p.From {
			delete(done, o)
		}
	}
	return done
}

// laneSeed spreads keys over lanes: any order of keys among each other will do.
var laneSeed = maphash.MakeSeed()

// inLanes sends each record in the lane of its key.
func (w *writer) inLanes(ctx context.Context, all []shipment, done map[int64]bool, deadline time.Time) ([]connectors.RecordError, error) {
	lanes := make([][]shipment, w.lanes)
	for _, one := range all {
		if done[one.offset] {
			continue
		}
		n := uint64(one.offset)
		if one.key != nil {
			n = maphash.Bytes(laneSeed, one.key)
		}
		n %= uint64(len(lanes))
		lanes[n] = append(lanes[n], one)
	}
	var (
		wg      sync.WaitGroup
		mu      sync.Mutex
		stop    atomic.Bool // something is broken for all
		refused []connectors.RecordError
		errs    []error
	)
	for _, lane := range lanes {
		if len(lane) == 0 {
			continue
		}
		wg.Go(func() {
			for _, one := range lane {
				if stop.Load() {
					return
				}
				err := w.deliver(ctx, one, deadline)
				class := connectors.ClassOf(err)
				mu.Lock()
				switch {
				case err == nil:
					done[one.offset] = true
				case class == connectors.ClassPoison:
					refused = append(refused, connectors.RecordError{Index: one.index, Offset: one.offset, Err: err})
				default:
					errs = append(errs, err)
				}
				mu.Unlock()
				if err != nil && class != connectors.ClassPoison {
					if class == connectors.ClassFatal || errors.Is(err, errDenied) {
						stop.Store(true)
					}
					return // what follows in the lane has to wait
				}
			}
		})
	}
	wg.Wait()
	if len(errs) > 0 {
		return nil, gravest(errs)
	}
	slices.SortFunc(refused, func(a, b connectors.RecordError) int { return cmp.Compare(a.Index, b.Index) })
	return refused, nil
}

// gravest is the error that says most about what has to happen.
func gravest(errs []error) error {
	for _, class := range []connectors.Class{connectors.ClassFatal, connectors.ClassUnknown} {
		for _, err := range errs {
			if connectors.ClassOf(err) == class {
				return err
			}
		}
	}
	return errs[0]
}

// deliver sends one request until there is an answer that ends it, or its time
// is over.
func (w *writer) deliver(ctx context.Context, one shipment, deadline time.Time) error {
	var last error // of the tries so far
	for try := 1; ; try++ {
		if err := w.turn(ctx, deadline); err != nil {
			return ended(err, last)
		}
		err := w.once(ctx, one)
		class := connectors.ClassOf(err)
		w.gate.Lock()
		w.gate.tell(w.clock(), err == nil || class == connectors.ClassPoison)
		w.gate.Unlock()
		if class != connectors.ClassRetry && class != connectors.ClassUnknown || errors.Is(err, errDenied) {
			return err
		}
		if ctx.Err() != nil {
			return connectors.Unknown(err)
		}
		if class == connectors.ClassUnknown || connectors.ClassOf(last) != connectors.ClassUnknown {
			last = err // an outcome that is not known stays so until there is an answer that ends it
		}
		wait := max(backoff(try), connectors.RetryAfter(err))
		if w.clock().Add(wait).After(deadline) {
			return last
		}
		if err := connectors.Pause(ctx, wait); err != nil {
			return ended(err, last)
		}
	}
}

// ended is the error of a request that is given up: what is known of its tries.
func ended(err, last error) error {
	if last != nil {
		return last
	}
	return err
}

// errOpen says that the breaker or the rate does not let a request through in
// time.
var errOpen = errors.New("the endpoint has failed too often and is left alone for a while, or rate lets no more through within retry_for")

// turn waits until a request may go.
func (w *writer) turn(ctx context.Context, deadline time.Time) error {
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		w.gate.Lock()
		wait := w.gate.ask(w.clock())
		w.gate.Unlock()
		if wait == 0 {
			return nil
		}
		if w.clock().Add(wait).After(deadline) {
			return connectors.Retry(wait, errOpen)
		}
		if err := connectors.Pause(ctx, wait); err != nil {
			return err
		}
	}
}
