// Package registry is a schema registry with the REST API of Confluent's, so
// that their clients and serializers work unchanged: subjects, versions,
// compatibility, for Avro, JSON Schema and Protobuf.
//
// What is registered lies in the compacted topic _schemas, in Confluent's
// record format, and nowhere else. state is what the topic says, as a pure
// value; decisions (decide.go, settings.go) look at it and return the records
// to write; the driver (log.go, writer.go) reads the topic and writes to it as
// any Kafka client does. A write is answered only after its records were read
// back, so that an answer never tells of something that a reader, or a restart,
// would not find.
//
// Writes are decided one after the other, each on a state that has all earlier
// ones, those of other nodes too: two clients that register the same schema at
// once get one ID, and no ID means two schemas
// (docs/adr/0005-one-writer-for-schemas.md).
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
	writer *writer       // of the holder of turn; nil: the next write takes over first
	made   chan struct{} // a signal that the topic was made just now
	ended  chan struct{} // closed when Run has ended

	refused atomic.Int64 // logins

	mu struct {
		sync.Mutex
		state    *state
		reading  int           // counts how often it began with nothing
		next     int64         // the offset after the last record applied
		caughtUp bool          // the state has all that was there when Run began to read
		changed  chan struct{} // closed at the next change of the above
	}
}

// New makes a Registry that does nothing yet.
func New(cfg Config) *Registry {
	r := &Registry{cfg: cfg, logger: cfg.Logger, turn: make(chan struct{}, 1), made: make(chan struct{}, 1), ended: make(chan struct{})}
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

// write decides, writes what was decided, and returns when it was read back.
// What needs no write is answered from what was read, as reads are. check judges
// the state after it; it fails only when somebody who is no registry writes to
// the topic.
func (r *Registry) write(ctx context.Context, decide func(*state) ([]entry, error), check func(*state) bool) error {
	select {
	case r.turn <- struct{}{}:
		defer func() { <-r.turn }()
	case <-r.ended:
		return errEnded
	case <-ctx.Done():
		return fail(codeTimeout, "another write is under way: %v", context.Cause(ctx))
	}
	for range mostTries {
		var out []entry
		err := r.read(ctx, func(s *state) (err error) {
			out, err = decide(s)
			return err
		})
		if err != nil || len(out) == 0 {
			return err
		}
		sure := r.sure()
		if sure {
			err = r.put(ctx, out)
		} else {
			err = r.takeOver(ctx) // and decide again: there may be more than was read
		}
		switch {
		case isFenced(err): // another node has taken over: see what is there now
		case err != nil:
			return err
		case sure:
			return r.read(ctx, func(s *state) error {
				if !check(s) {
					return fail(codeStore, "somebody else wrote to topic %s at the same time and won; try again", Topic)
				}
				return nil
			})
		}
	}
	return fail(codeStore, "other nodes write to topic %s again and again; try again", Topic)
}

// mostTries bounds how often a write begins anew because other nodes write, too.
const mostTries = 20

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
		case <-r.ended:
			return errEnded
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
	r.update(func() {
		r.mu.state, r.mu.next, r.mu.caughtUp = newState(), 0, false
		r.mu.reading++
	})
}

func (r *Registry) setCaughtUp() { r.update(func() { r.mu.caughtUp = true }) }

// offset is where the topic was read to.
func (r *Registry) offset() int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.mu.next
}

// beginnings counts how often the topic was read from its start.
func (r *Registry) beginnings() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.mu.reading
}
