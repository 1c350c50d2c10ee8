package share

import (
	"fmt"
	"time"
)

// Acknowledge takes a member's word on records that it holds, all or nothing.
// Offsets below the start are passed over: they are done. The error wraps
// ErrRequest or ErrRecordState. renew allows the type of that name.
func (w *Window) Acknowledge(now time.Time, member string, lock time.Duration, acks []Ack, renew bool) error {
	most := Reject
	if renew {
		most = Renew
	}
	end := int64(-1)
	for _, a := range acks {
		if err := a.check(end, most); err != nil {
			return err
		}
		end = a.Last
		if a.Last < w.start {
			continue
		}
		if a.Last >= w.End() {
			return fmt.Errorf("%w: offset %d was never handed out", ErrRequest, a.Last)
		}
		for _, r := range w.runs {
			if r.last >= a.First && r.first <= a.Last && (r.state != Acquired || r.member != member) {
				return fmt.Errorf("%w: of %d to %d", ErrRecordState, a.First, a.Last)
			}
		}
	}
	for _, a := range acks {
		if a.Last >= w.start {
			w.acknowledge(now.Add(lock), a)
		}
	}
	w.settle()
	return nil
}

func (a Ack) check(after int64, most int8) error {
	n := len(a.Types)
	switch {
	case a.First < 0, a.First > a.Last, a.First <= after:
		return fmt.Errorf("%w: offsets %d to %d, out of order", ErrRequest, a.First, a.Last)
	case n == 0, n > 1 && int64(n) != a.Last-a.First+1:
		return fmt.Errorf("%w: %d types for offsets %d to %d", ErrRequest, n, a.First, a.Last)
	}
	for _, t := range a.Types {
		if t < Gap || t > most {
			return fmt.Errorf("%w: type %d, want 0 to %d", ErrRequest, t, most)
		}
	}
	return nil
}

// acknowledge applies one that was checked.
func (w *Window) acknowledge(until time.Time, a Ack) {
	if len(a.Types) == 1 {
		w.decide(a.First, a.Last, a.Types[0], until)
		return
	}
	from := a.First
	for o := a.First; o <= a.Last; o++ {
		if o == a.Last || a.Types[o+1-a.First] != a.Types[o-a.First] {
			w.decide(from, o, a.Types[o-a.First], until)
			from = o + 1
		}
	}
}

func (w *Window) decide(first, last int64, kind int8, until time.Time) {
	w.split(first)
	w.split(last + 1)
	for i := range w.runs {
		r := &w.runs[i]
		if r.first < first || r.last > last {
			continue
		}
		switch kind {
		case Accept:
			r.state = Acknowledged
		case Gap, Reject:
			r.state = Archived
		case Release:
			w.release(r)
		case Renew:
			r.until = until
		}
	}
}

// release gives a run back, or up.
func (w *Window) release(r *run) {
	r.state, r.member, r.until = Available, "", time.Time{}
	if r.count >= w.limits.Deliveries {
		r.state = Archived
	}
}

// Release takes back all that a member holds, and reports whether it held any.
func (w *Window) Release(member string) bool {
	return w.releaseIf(func(r *run) bool { return r.member == member })
}

// Tick takes back what was held for too long, and reports whether there was any.
func (w *Window) Tick(now time.Time) bool {
	return w.releaseIf(func(r *run) bool { return !now.Before(r.until) })
}

func (w *Window) releaseIf(f func(r *run) bool) (any bool) {
	for i := range w.runs {
		if r := &w.runs[i]; r.state == Acquired && f(r) {
			w.release(r)
			any = true
		}
	}
	if any {
		w.settle()
	}
	return any
}

// Deadline is when Tick has something to take back; zero: nothing is held.
func (w *Window) Deadline() (d time.Time) {
	for _, r := range w.runs {
		if r.state == Acquired && (d.IsZero() || r.until.Before(d)) {
			d = r.until
		}
	}
	return d
}
