package httpcollector

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/entrepot-hub/entrepot/connectors"
)

// errClosed and errFull are why events are not taken.
var (
	errClosed = errors.New("the collector is stopping")
	errFull   = errors.New("too much is waiting for its commit")
)

// parcel is the events of one request.
type parcel struct {
	messages []connectors.Message
	bytes    int64 // that it holds of the budget until it is committed
	taken    int   // messages that were read
	last     uint64
	done     chan struct{} // closed when err is set, and no more after that
	err      error
}

// intake is the queue between the requests and the runtime. Requests put
// parcels in; the reader takes messages, which get their numbers by that, and
// says which are committed. Lock order: none but mu.
type intake struct {
	most  int64         // bytes
	ready chan struct{} // holds a token when there may be something to read

	mu struct {
		sync.Mutex
		number  uint64    // of the last message that was read
		held    int64     // bytes
		waiting []*parcel // to be read, oldest first
		reading []*parcel // read wholly, waiting for their commit, oldest first
		closed  bool
	}
}

func newIntake(number uint64, most int64) *intake {
	q := &intake{most: most, ready: make(chan struct{}, 1)}
	q.mu.number = number
	return q
}

// reserve takes bytes out of the budget, or says that there are none left. An
// empty queue takes anything.
func (q *intake) reserve(n int64) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case q.mu.closed:
		return errClosed
	case q.mu.held > 0 && q.mu.held+n > q.most:
		return errFull
	}
	q.mu.held += n
	return nil
}

// release gives bytes back that did not become a parcel.
func (q *intake) release(n int64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.mu.held -= n
}

// put hands a parcel over, with its bytes.
func (q *intake) put(p *parcel) error {
	p.done = make(chan struct{})
	q.mu.Lock()
	closed := q.mu.closed
	if !closed {
		q.mu.waiting = append(q.mu.waiting, p)
	}
	q.mu.Unlock()
	if closed {
		return errClosed
	}
	select {
	case q.ready <- struct{}{}:
	default:
	}
	return nil
}

// read waits for messages, numbers them and hands them out.
func (q *intake) read(ctx context.Context, limits connectors.Limits) (connectors.Batch, error) {
	var over <-chan time.Time
	for {
		if err := ctx.Err(); err != nil {
			return connectors.Batch{}, err
		}
		if got := q.take(limits); len(got) > 0 {
			return connectors.Batch{Messages: got}, nil
		}
		if over == nil {
			t := time.NewTimer(limits.Wait)
			defer t.Stop()
			over = t.C
		}
		select {
		case <-q.ready:
		case <-over:
			return connectors.Batch{}, nil
		case <-ctx.Done():
			return connectors.Batch{}, ctx.Err()
		}
	}
}

func (q *intake) take(limits connectors.Limits) (out []connectors.Message) {
	q.mu.Lock()
	defer q.mu.Unlock()
	size := 0
	for len(q.mu.waiting) > 0 {
		p := q.mu.waiting[0]
		for ; p.taken < len(p.messages); p.taken++ {
			m := &p.messages[p.taken]
			if n := len(out); n > 0 && (limits.Records > 0 && n >= limits.Records || limits.Bytes > 0 && size+m.Size() > limits.Bytes) {
				return out
			}
			q.mu.number++
			m.Position = positionOf(q.mu.number)
			size += m.Size()
			out = append(out, *m)
		}
		p.last, p.messages = q.mu.number, nil
		q.mu.waiting[0] = nil
		q.mu.waiting = q.mu.waiting[1:]
		q.mu.reading = append(q.mu.reading, p)
	}
	return out
}

// committed lets the parcels go whose last message is in.
func (q *intake) committed(upTo uint64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	n := 0
	for n < len(q.mu.reading) && q.mu.reading[n].last <= upTo {
		p := q.mu.reading[n]
		q.mu.held -= p.bytes
		close(p.done)
		q.mu.reading[n] = nil
		n++
	}
	q.mu.reading = q.mu.reading[n:]
}

// close turns everybody away who waits, and who comes later.
func (q *intake) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.mu.closed = true
	for _, list := range [][]*parcel{q.mu.reading, q.mu.waiting} {
		for _, p := range list {
			q.mu.held -= p.bytes
			p.err = errClosed
			close(p.done)
		}
	}
	q.mu.reading, q.mu.waiting = nil, nil
}
