package replica

import (
	"fmt"
	"sync"

	"github.com/entrepot-hub/entrepot/record"
	pb "go.etcd.io/raft/v3/raftpb"
)

// inbox collects what a group has to step through, and knows whether a worker
// has it: a group is stepped by one worker at a time.
type inbox struct {
	mu struct {
		sync.Mutex
		state   inboxState
		props   []*proposal
		msgs    []pb.Message
		life    int // counts the cores
		durable int
		err     error
		ticks   int
		rollNow bool
		expire  int64
		calls   []func(*core)
		trimmed bool
		unsent  []pb.Message
		// campaign: there is reason to think that nobody leads.
		campaign bool
		wake     bool          // a quiet group goes on
		suspect  uint64        // a member that is said to have failed
		received classBytes    // of msgs, which the set counts
		closed   error         // not nil: nothing is taken any more
		idle     chan struct{} // closed when a worker lets go of a closed group
	}
}

type inboxState uint8

const (
	inboxIdle    inboxState = iota // nobody has it
	inboxQueued                    // it is in the queue of groups
	inboxRunning                   // a worker steps it
	inboxAgain                     // so, and something came meanwhile
)

// propose takes a proposal, unless the group is closed.
func (b *inbox) propose(p *proposal) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.mu.closed != nil {
		return b.mu.closed
	}
	b.mu.props = append(b.mu.props, p)
	return nil
}

// receive takes a message of another member. It reports false for a group that
// is closed.
func (b *inbox) receive(class Class, m pb.Message, bytes int64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.mu.closed != nil {
		return false
	}
	b.mu.msgs = append(b.mu.msgs, m)
	b.mu.received[class] += bytes
	return true
}

// completed counts a round that is durable, or keeps why none will be. A round
// of a core that is gone counts no more.
func (b *inbox) completed(life int, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case life != b.mu.life:
	case err == nil && b.mu.err == nil:
		b.mu.durable++
	case b.mu.err == nil:
		b.mu.err = err
	}
}

// post changes the inbox under its lock.
func (b *inbox) post(f func(b *inbox)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	f(b)
}

// call has f run by the worker that steps the group.
func (b *inbox) call(f func(*core)) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.mu.closed != nil {
		return b.mu.closed
	}
	b.mu.calls = append(b.mu.calls, f)
	return nil
}

// wake notes that something came. It reports whether the group must be put
// into the queue now.
func (b *inbox) wake() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch b.mu.state {
	case inboxIdle:
		b.mu.state = inboxQueued
		return true
	case inboxRunning:
		b.mu.state = inboxAgain
	}
	return false
}

// begin gives everything that came to a worker. It reports false for a group
// that was closed meanwhile.
func (b *inbox) begin(in *input) (calls []func(*core), ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.mu.closed != nil {
		b.mu.state = inboxIdle
		return nil, false
	}
	b.mu.state = inboxRunning
	props := in.props[:0]
	clear(in.props)
	in.props, b.mu.props = b.mu.props, props
	msgs := in.msgs[:0]
	clear(in.msgs)
	in.msgs, b.mu.msgs = b.mu.msgs, msgs
	in.durable, b.mu.durable = b.mu.durable, 0
	in.err, in.ticks, in.rollNow, in.expire, in.trimmed = b.mu.err, b.mu.ticks, b.mu.rollNow, b.mu.expire, b.mu.trimmed
	b.mu.ticks, b.mu.rollNow, b.mu.expire, b.mu.trimmed = 0, false, 0, false
	in.campaign, b.mu.campaign = b.mu.campaign, false
	in.wake, b.mu.wake = b.mu.wake, false
	in.suspect, b.mu.suspect = b.mu.suspect, 0
	in.unsent, b.mu.unsent = b.mu.unsent, in.unsent[:0]
	in.received, b.mu.received = b.mu.received, classBytes{}
	calls, b.mu.calls = b.mu.calls, nil
	return calls, true
}

// end lets go of the group. It reports whether it must be queued again.
func (b *inbox) end() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	again := b.mu.state == inboxAgain && b.mu.closed == nil
	b.mu.state = inboxIdle
	if again {
		b.mu.state = inboxQueued
	}
	if b.mu.idle != nil {
		close(b.mu.idle)
		b.mu.idle = nil
	}
	return again
}

// close refuses everything from now on and waits until no worker has the
// group. It returns what was waiting.
func (b *inbox) close(why error) ([]*proposal, []func(*core)) {
	b.mu.Lock()
	if b.mu.closed == nil {
		b.mu.closed = fmt.Errorf("%w: %w", record.ErrStopped, why)
	}
	for b.mu.state == inboxRunning || b.mu.state == inboxAgain {
		if b.mu.idle == nil {
			b.mu.idle = make(chan struct{})
		}
		idle := b.mu.idle
		b.mu.Unlock()
		<-idle
		b.mu.Lock()
	}
	defer b.mu.Unlock()
	props, calls := b.mu.props, b.mu.calls
	b.mu.props, b.mu.calls, b.mu.msgs = nil, nil, nil
	return props, calls
}
