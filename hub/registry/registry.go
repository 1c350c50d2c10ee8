// Package registry is a schema registry with the REST API of Confluent's, so
// that their clients and serializers work unchanged: subjects, versions,
// compatibility, for Avro, JSON Schema and Protobuf.
//
// What is registered lies in the compacted topic _schemas, in Confluent's
// record format, and nowhere else. state is what the topic says, as a pure
// value; decisions (decide.go, settings.go) look at it and return the records
// to write; the driver (log.go) reads the topic and writes to it as any Kafka
// client does. A write is answered only after its records were read back, so
// that an answer never tells of something that a reader, or a restart, would
// not find.
//
// Writes are decided one after the other, each on a state that has all earlier
// ones: two clients that register the same schema at once get one ID. See
// docs/adr/ for how this stays so when a site has several nodes.
//
// Goroutines: Run reads the topic, Serve has those of hub/web; all have ended when
// they return, and so have those of their Kafka clients.
package registry

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// Config of a Registry.
type Config struct {
	// Dial reaches Seeds, the hub's own Kafka address.
	Dial  func(ctx context.Context, network, addr string) (net.Conn, error)
	Seeds []string
	// ClusterID and Version are told to clients that ask.
	ClusterID string
	Version   string
	Logger    *slog.Logger // nil: silent
	// Login checks the user and password of each request; nil: nobody is asked.
	Login func(ctx context.Context, user, password string) error
	// Relay stands before the handler of the listener: it passes on what another
	// node of the site has to answer. nil: nothing.
	Relay func(http.Handler) http.Handler
}

// Registry serves the API. Make it with New; it answers once Run has read the
// topic.
type Registry struct {
	cfg    Config
	logger *slog.Logger
	turn   chan struct{} // held by the one write under way
	unsure bool          // by the holder of turn: the last write failed and may still have been written
	made   chan struct{} // a signal that the topic was made just now

	refused atomic.Int64 // logins

	mu struct {
		sync.Mutex
		state    *state
		next     int64         // the offset after the last record applied
		caughtUp bool          // the state has all that was there when Run began to read
		changed  chan struct{} // closed at the next change of the above
	}
}

// New makes a Registry that does nothing yet.
func New(cfg Config) *Registry {
	r := &Registry{cfg: cfg, logger: cfg.Logger, turn: make(chan struct{}, 1), made: make(chan struct{}, 1)}
	if r.logger == nil {
		r.logger = slog.New(slog.DiscardHandler)
	}
	r.mu.state, r.mu.changed = newState(), make(chan struct{})
	return r
}

// Subjects counts the subjects that have a version which is not deleted; known
// is false until the topic was read.
func (r *Registry) Subjects() (n int, known bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for subject := range r.mu.state.subjects {
		if len(r.mu.state.versions(subject, false)) > 0 {
			n++
		}
	}
	return n, r.mu.caughtUp
}

// read looks at the state. look must not keep it.
func (r *Registry) read(ctx context.Context, look func(*state) error) error {
	if err := r.await(ctx, func() bool { return r.mu.caughtUp }); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return look(r.mu.state)
}

// write decides on the newest state, writes what was decided, and returns when
// it was read back. It goes on when the client has left: the next decision
// needs to see this one. check judges the state after it; it fails only when
// somebody else writes to the topic.
func (r *Registry) write(ctx context.Context, decide func(*state) ([]entry, error), check func(*state) bool) error {
	select {
	case r.turn <- struct{}{}:
		defer func() { <-r.turn }()
	case <-ctx.Done():
		return fail(codeTimeout, "another write is under way: %v", context.Cause(ctx))
	}
	if r.unsure {
		if err := r.put(ctx, []entry{{noopKey(), nil}}); err != nil {
			return err
		}
	}
	var out []entry
	err := r.read(ctx, func(s *state) (err error) {
		out, err = decide(s)
		return err
	})
	if err != nil || len(out) == 0 {
		return err
	}
	if err := r.put(ctx, out); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if !check(r.mu.state) {
		return fail(codeStore, "somebody else wrote to topic %s at the same time and won; try again", Topic)
	}
	return nil
}

// put writes records and waits until they were read back. What fails half way
// may have been written all the same; the next write finds out by writing a
// record that says nothing, and reading up to it.
func (r *Registry) put(ctx context.Context, out []entry) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), writeTime)
	defer cancel()
	r.unsure = true
	last, err := r.append(ctx, out)
	if err != nil {
		r.unsure = !refused(err)
		return fail(codeStore, "the record was not written to topic %s: %v", Topic, err)
	}
	if err := r.await(ctx, func() bool { return r.mu.next > last }); err != nil {
		return err
	}
	r.unsure = false
	return nil
}

// writeTime bounds one write with its way back.
const writeTime = 30 * time.Second

// await waits until is holds; it is called with the lock held.
func (r *Registry) await(ctx context.Context, is func() bool) error {
	for {
		r.mu.Lock()
		ok, changed := is(), r.mu.changed
		r.mu.Unlock()
		if ok {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fail(codeTimeout, "topic %s is not read that far yet: %v", Topic, context.Cause(ctx))
		}
	}
}

// update changes the state and wakes those who wait for it.
func (r *Registry) update(change func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	change()
	close(r.mu.changed)
	r.mu.changed = make(chan struct{})
}

// take applies one record.
func (r *Registry) take(offset int64, key, value []byte) {
	r.update(func() {
		if err := r.mu.state.apply(key, value); err != nil {
			r.logger.Warn("a record is passed over", "topic", Topic, "offset", offset, "error", err)
		}
		r.mu.next = offset + 1
	})
}

// forget begins with nothing, before the topic is read from its start.
func (r *Registry) forget() {
	r.update(func() { r.mu.state, r.mu.next, r.mu.caughtUp = newState(), 0, false })
}

func (r *Registry) setCaughtUp() { r.update(func() { r.mu.caughtUp = true }) }

// offset is where the topic was read to.
func (r *Registry) offset() int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.mu.next
}
