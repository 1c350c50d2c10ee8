package share

import (
	"fmt"
	"slices"
	"time"
)

// State is where a record of a window is. The numbers are those that Kafka
// writes.
type State int8

// The states of a record.
const (
	Available    State = 0
	Acquired     State = 1 // held by a member; written as Available
	Acknowledged State = 2 // done
	Archived     State = 4 // given up: rejected, delivered too often, or no record at all
)

// The types of an acknowledgement, as they are on the wire.
const (
	Gap     int8 = 0 // there is no record at the offset
	Accept  int8 = 1
	Release int8 = 2 // to be delivered again
	Reject  int8 = 3
	Renew   int8 = 4 // hold it for longer
)

// Window is the records of one partition that one group is at work on. All
// below its start are done; all from its end on are untouched; between, runs
// cover every offset once.
type Window struct {
	start  int64
	runs   []run // in order, each beginning where the one before ends
	limits Limits
}

// run is neighbouring offsets that are in the same state.
type run struct {
	first, last int64
	state       State
	count       int16 // times that the records were handed out
	member      string
	until       time.Time // Acquired: when they are taken back
}

// Range is what a batch of the log covers.
type Range struct {
	First, Last int64
	Skip        bool // no records for members: a control batch
}

// Held is a run of records that were handed to a member.
type Held struct {
	First, Last int64
	Count       int16 // this delivery's number, from 1
}

// Ack is a member's word on the offsets from First to Last: one type for all,
// or one for each.
type Ack struct {
	First, Last int64
	Types       []int8
}

// Batch is one run of a Snapshot.
type Batch struct {
	First, Last int64
	State       State
	Count       int16
}

// NewWindow is a window in which nothing was handed out yet.
func NewWindow(start int64, l Limits) *Window { return &Window{start: start, limits: l} }

// Restore brings back what Snapshot gave. Batches that do not fit are an error;
// holes between them are taken for available.
func Restore(start int64, batches []Batch, l Limits) (*Window, error) {
	w := NewWindow(start, l)
	for _, b := range batches {
		switch {
		case start < 0 || b.Last < b.First || b.First < w.End() || b.Last >= 1<<62:
			return nil, fmt.Errorf("records %d to %d do not fit behind %d", b.First, b.Last, w.End())
		case b.State != Available && b.State != Acknowledged && b.State != Archived, b.Count < 0:
			return nil, fmt.Errorf("records %d to %d are in state %d, delivered %d times", b.First, b.Last, b.State, b.Count)
		case b.First > w.End():
			w.extend(b.First-1, Available)
		}
		if b.State == Available && b.Count >= l.Deliveries {
			b.State = Archived // its last delivery ended with the process
		}
		w.runs = append(w.runs, run{first: b.First, last: b.Last, state: b.State, count: b.Count})
	}
	w.settle()
	return w, nil
}

// Start is the share-partition start offset: everything below it is done.
func (w *Window) Start() int64 { return w.start }

// End is the first offset that was never looked at.
func (w *Window) End() int64 {
	if n := len(w.runs); n > 0 {
		return w.runs[n-1].last + 1
	}
	return w.start
}

// Done counts the offsets from the start on that are done.
func (w *Window) Done() (n int64) {
	for _, r := range w.runs {
		if r.state == Acknowledged || r.state == Archived {
			n += r.last - r.first + 1
		}
	}
	return n
}

// Snapshot is what must be durable. Records that are held are in it as
// available, delivered as often as they were.
func (w *Window) Snapshot() (start int64, batches []Batch) {
	for _, r := range w.runs {
		if r.state == Acquired {
			r.state = Available
		}
		if n := len(batches); n > 0 && batches[n-1].State == r.state && batches[n-1].Count == r.count {
			batches[n-1].Last = r.last
			continue
		}
		batches = append(batches, Batch{r.first, r.last, r.state, r.count})
	}
	if n := len(batches); n > 0 && batches[n-1].State == Available && batches[n-1].Count == 0 {
		batches = batches[:n-1] // as good as untouched
	}
	return w.start, batches
}

// Trim gives up what the log no longer has, and reports whether there was any.
func (w *Window) Trim(logStart int64) bool {
	if logStart <= w.start {
		return false
	}
	for i := range w.runs {
		if r := &w.runs[i]; r.last < logStart {
			r.state = Archived
		} else if r.first < logStart {
			w.split(logStart)
			w.runs[i].state = Archived
			break
		}
	}
	w.settle()
	w.start = max(w.start, logStart)
	return true
}

// Next is the offset from which on there may be records to hand out; ok is
// false when so many are in flight that there are none.
func (w *Window) Next() (offset int64, ok bool) {
	for _, r := range w.runs {
		if r.state == Available {
			return r.first, true
		}
	}
	return w.End(), w.End()-w.start < w.limits.InFlight
}

// Acquire hands the member up to most records of those that batches cover. They
// are what the log has from offset from on, in its order. A window that has not
// come as far as from gives nothing: it is not the one that was read for.
func (w *Window) Acquire(now time.Time, member string, most int64, lock time.Duration, from int64, batches []Range) (held []Held) {
	if from > w.End() {
		return nil
	}
	for _, b := range batches {
		if most <= 0 {
			break
		}
		w.cover(from, b)
		from = b.Last + 1
		if b.Skip {
			continue
		}
		var got []Held
		got, most = w.take(b, run{state: Acquired, member: member, until: now.Add(lock)}, most)
		held = append(held, got...)
	}
	w.settle()
	return held
}

// cover makes the window reach to the end of a batch, as far as it may. Between
// from and the batch, compaction has left nothing.
func (w *Window) cover(from int64, b Range) {
	top := w.start + w.limits.InFlight - 1
	if from < b.First {
		w.extend(min(b.First-1, top), Archived)
		w.split(from)
		w.split(b.First)
		for i := range w.runs {
			if r := &w.runs[i]; r.state == Available && r.first >= from && r.last < b.First {
				r.state = Archived
			}
		}
	}
	if w.End() < b.First {
		return
	}
	state := Available
	if b.Skip {
		state = Archived
	}
	w.extend(min(b.Last, top), state)
}

func (w *Window) extend(last int64, s State) {
	if first := w.End(); last >= first {
		w.runs = append(w.runs, run{first: first, last: last, state: s})
	}
}

// take turns available records of a batch into copies of as, at most most.
func (w *Window) take(b Range, as run, most int64) (held []Held, left int64) {
	w.split(b.First)
	w.split(b.Last + 1)
	for i := 0; i < len(w.runs) && most > 0; i++ {
		r := w.runs[i]
		if r.state != Available || r.first < b.First || r.last > b.Last {
			continue
		}
		if r.last-r.first >= most {
			w.split(r.first + most)
			r = w.runs[i]
		}
		most -= r.last - r.first + 1
		r.count++
		w.runs[i] = run{first: r.first, last: r.last, state: as.state, count: r.count, member: as.member, until: as.until}
		held = append(held, Held{r.first, r.last, r.count})
	}
	return held, most
}

// split makes a run begin at offset, if one covers it.
func (w *Window) split(offset int64) {
	i, found := slices.BinarySearchFunc(w.runs, offset, func(r run, o int64) int {
		switch {
		case r.last < o:
			return -1
		case r.first > o:
			return 1
		}
		return 0
	})
	if !found || w.runs[i].first == offset {
		return
	}
	tail := w.runs[i]
	tail.first = offset
	w.runs[i].last = offset - 1
	w.runs = slices.Insert(w.runs, i+1, tail)
}

// settle moves the start over what is done and joins equal neighbours.
func (w *Window) settle() {
	end := w.End()
	kept := w.runs[:0]
	for _, r := range w.runs {
		done := r.state == Acknowledged || r.state == Archived
		if done {
			r.member, r.until = "", time.Time{}
		}
		n := len(kept)
		switch {
		case n == 0 && done:
		case n > 0 && kept[n-1].joins(r):
			kept[n-1].last = r.last
		default:
			kept = append(kept, r)
		}
	}
	w.runs = kept
	w.start = end
	if len(kept) > 0 {
		w.start = kept[0].first
	}
}

func (r run) joins(next run) bool {
	return r.state == next.state && r.count == next.count && r.member == next.member && r.until.Equal(next.until)
}
