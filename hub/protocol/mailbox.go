package protocol

import "sync"

// mailbox is an unbounded queue of what a coordinator has to do, filled from
// any goroutine without waiting: callbacks of appends must never block.
type mailbox[S any] struct {
	mu struct {
		sync.Mutex
		queue  []event[S]
		closed bool
	}
	ready chan struct{} // has room for one; a value says that the queue may not be empty
}

func (m *mailbox[S]) put(e event[S]) (open bool) {
	m.mu.Lock()
	if m.mu.closed {
		m.mu.Unlock()
		return false
	}
	m.mu.queue = append(m.mu.queue, e)
	m.mu.Unlock()
	select {
	case m.ready <- struct{}{}:
	default:
	}
	return true
}

// all takes everything that is queued.
func (m *mailbox[S]) all() []event[S] {
	m.mu.Lock()
	defer m.mu.Unlock()
	q := m.mu.queue
	m.mu.queue = nil
	return q
}

// close refuses everything from now on and returns what was queued.
func (m *mailbox[S]) close() []event[S] {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.mu.closed = true
	q := m.mu.queue
	m.mu.queue = nil
	return q
}
