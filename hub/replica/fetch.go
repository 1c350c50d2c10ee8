package replica

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/entrepot-hub/entrepot/record"
	"github.com/entrepot-hub/entrepot/storage"
)

// Source is where replicas get what they lack: other nodes.
type Source interface {
	// Call asks a node and returns its answer.
	Call(ctx context.Context, node int32, method string, body []byte) ([]byte, error)
	// Open asks a node for a stream of bytes.
	Open(ctx context.Context, node int32, method string, body []byte) (io.ReadCloser, error)
	// Holders are the nodes that may lead a group, the likeliest first; this
	// one may be among them.
	Holders(id storage.LogID) []int32
}

// Methods begins the name of every method that Set.Answer and Set.Stream know.
const Methods = "replica/"

const (
	methodOffer   = Methods + "offer"
	methodSegment = Methods + "segment"
	methodCheck   = Methods + "check"
)

const (
	fetchers     = 2 // logs that are fetched at the same time
	fetchTries   = 5 // in a row without a byte more
	fetchPause   = 500 * time.Millisecond
	offerTimeout = 10 * time.Second // for the leader to commit something and answer
	repairEvery  = 5 * time.Second  // between two attempts for one replica
	fullRest     = time.Minute      // until a log is fetched again that did not fit on the disk
)

// fetches are the logs that are being fetched, or wait for it.
type fetches struct {
	queue chan *fetch
	mu    struct {
		sync.Mutex
		byLog map[storage.LogID]*fetch
		next  map[storage.LogID]time.Time // not fetched again before that
		idle  map[storage.LogID]time.Time // since when nobody wants what was fetched of it
	}
}

// fetch is the fetching of one log.
type fetch struct {
	r       *Replica
	from    int32 // the leader's node, 0 when it has to be found
	staging atomic.Pointer[storage.Staging]
	had     atomic.Int64  // bytes that were there when it began
	ended   chan struct{} // closed when it is over
	discard bool          // nothing is fetched: what was before is deleted

	// Under the lock of fetches.
	began    time.Time
	cancel   context.CancelFunc // nil: it has not begun
	unwanted bool
	fits     bool // what it lacks is part of what the disk has room for
}

func newFetches() *fetches {
	f := &fetches{queue: make(chan *fetch, 1<<16)}
	f.mu.byLog = map[storage.LogID]*fetch{}
	f.mu.next, f.mu.idle = map[storage.LogID]time.Time{}, map[storage.LogID]time.Time{}
	return f
}

// want has a replica's log fetched, unless it is already or was a moment ago. from
// is the leader's node if it is known.
func (s *Set) want(r *Replica, from int32) {
	if s.cfg.Source == nil {
		return
	}
	now := s.cfg.Clock()
	t := s.fetches
	t.mu.Lock()
	defer t.mu.Unlock()
	if now.Before(t.mu.next[r.id]) {
		return
	}
	if t.enqueue(&fetch{r: r, from: from, ended: make(chan struct{})}) && from == 0 {
		t.mu.next[r.id] = now.Add(repairEvery)
	}
}

// enqueue is called under the lock. It reports false when the log has a fetch,
// or there are too many: then it will be wanted again.
func (t *fetches) enqueue(f *fetch) bool {
	if t.mu.byLog[f.r.id] != nil {
		return false
	}
	select {
	case t.queue <- f:
		t.mu.byLog[f.r.id] = f
		delete(t.mu.idle, f.r.id)
		return true
	default:
		return false
	}
}

// repair has the quarantined replicas fetch their logs, each now and then.
func (s *Set) repair() {
	for _, r := range s.replicas(nil) {
		if r.view.Load().role == RoleQuarantined {
			s.want(r, 0)
		}
	}
}

// fetching runs fetches until ctx ends.
func (s *Set) fetching(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case f := <-s.fetches.queue:
			one, cancel := context.WithCancel(ctx)
			if !s.fetches.begin(f, s.cfg.Clock(), cancel) {
				cancel()
				continue
			}
			err := s.fetch(one, f)
			over := one.Err() != nil
			cancel()
			if errors.Is(err, record.ErrDiskFull) {
				s.fetches.later(f.r.id, s.cfg.Clock().Add(fullRest))
			}
			s.fetches.end(f)
			if err != nil && !over {
				s.cfg.Logger.Warn("the log was not fetched from another node; it will be tried again", "topic", f.r.id.Topic, "partition", f.r.id.Partition, "error", err)
			}
		}
	}
}

// begin reports false for a fetch that nobody wants any more.
func (t *fetches) begin(f *fetch, now time.Time, cancel context.CancelFunc) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	f.began, f.cancel = now, cancel
	return !f.unwanted
}

func (t *fetches) end(f *fetch) {
	t.mu.Lock()
	defer t.mu.Unlock()
	close(f.ended)
	if t.mu.byLog[f.r.id] == f {
		delete(t.mu.byLog, f.r.id)
	}
}

// forget ends the fetching of a log that is removed, and waits until it has: what
// it writes lies beside the log and goes with it.
func (t *fetches) forget(id storage.LogID) {
	t.mu.Lock()
	f := t.mu.byLog[id]
	delete(t.mu.byLog, id)
	delete(t.mu.next, id)
	delete(t.mu.idle, id)
	began := f != nil && f.cancel != nil
	if f != nil {
		f.unwanted = true
	}
	if began {
		f.cancel()
	}
	t.mu.Unlock()
	if began {
		<-f.ended
	}
}

// fetch brings a log from its leader and puts it in place. What was fetched is
// kept when it fails, so that the next attempt goes on there, but for what does
// not fit on the disk or is not needed any more.
func (s *Set) fetch(ctx context.Context, f *fetch) error {
	if f.discard {
		return s.store.DiscardStaged(f.r.id)
	}
	var last error
	for tries := 0; tries < fetchTries; tries++ {
		if last != nil && !pause(ctx, fetchPause) {
			return last
		}
		before := f.done()
		err := s.fetchOnce(ctx, f)
		switch {
		case err == nil, errors.Is(err, storage.ErrExists), errors.Is(err, record.ErrStopped), errors.Is(err, record.ErrOffline):
			return err
		case errors.Is(err, errNotNeeded):
			return s.store.DiscardStaged(f.r.id)
		case errors.Is(err, record.ErrDiskFull):
			return errors.Join(err, s.store.DiscardStaged(f.r.id))
		case f.done() > before:
			tries = 0
		}
		last = err
	}
	return last
}

// pacedReader reads no faster than it may.
type pacedReader struct {
	ctx context.Context
	io.ReadCloser
	pace *pace
}

func (p *pacedReader) Read(b []byte) (int, error) {
	n, err := p.ReadCloser.Read(b)
	if werr := p.pace.wait(p.ctx, n); werr != nil {
		return n, werr
	}
	return n, err
}

func (f *fetch) done() int64 {
	if g := f.staging.Load(); g != nil {
		done, _ := g.Progress()
		return done
	}
	return 0
}

// pause waits; false: ctx has ended.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

func (s *Set) fetchOnce(ctx context.Context, f *fetch) error {
	node, o, err := s.askOffer(ctx, f)
	if err != nil {
		return err
	}
	g, err := s.store.Stage(o.manifest)
	if err != nil {
		return err
	}
	if f.staging.Swap(g) == nil {
		done, _ := g.Progress()
		f.had.Store(done)
	}
	if err := s.claimRoom(f, g); err != nil {
		return err
	}
	s.copies.Add(1)
	defer s.copies.Add(-1)
	pace := newPace(s.cfg.FetchRate / fetchers)
	err = g.Fetch(ctx, func(ctx context.Context, file storage.ManifestFile, from int64) (io.ReadCloser, error) {
		b, err := s.cfg.Source.Open(ctx, node, methodSegment, segmentRequest{f.r.id, file, from}.encode())
		return &pacedReader{ctx, b, pace}, err
	})
	if damaged, ok := errors.AsType[*storage.DamagedCopyError](err); ok {
		// It must find out by itself: then it does not lead any more.
		_, cerr := s.cfg.Source.Call(ctx, node, methodCheck, segmentRequest{f.r.id, damaged.File, 0}.encode())
		return errors.Join(err, cerr)
	}
	if err != nil {
		return err
	}
	if err := f.r.become(ctx, g, o); err != nil {
		return err
	}
	done, _ := g.Progress()
	s.cfg.Logger.Info("a log was fetched from another node and is in place", "topic", f.r.id.Topic, "partition", f.r.id.Partition,
		"node", node, "bytes", done, "fetched", done-f.had.Load(), "entry", o.manifest.State.Index, "took", s.cfg.Clock().Sub(f.began))
	return nil
}

// askOffer asks who leads for its log. A quarantined replica does not know in
// which term it is, so it takes an offer only of a leader that has committed
// something since it was asked, which no deposed one can.
func (s *Set) askOffer(ctx context.Context, f *fetch) (int32, offer, error) {
	nodes := []int32{f.from}
	quarantined := f.r.view.Load().role == RoleQuarantined
	if f.from == 0 {
		nodes = s.cfg.Source.Holders(f.r.id)
	}
	errs := []error{fmt.Errorf("%w: no other node answers with a log", record.ErrLeaderUnknown)}
	for _, node := range nodes {
		if node == NodeOf(s.cfg.Member) {
			continue
		}
		one, cancel := context.WithTimeout(ctx, offerTimeout)
		b, err := s.cfg.Source.Call(one, node, methodOffer, offerRequest{f.r.id, quarantined}.encode())
		cancel()
		var o offer
		if err == nil {
			o, err = decodeOffer(b)
		}
		if err == nil && o.manifest.Log != f.r.id {
			err = fmt.Errorf("%w: it offers log %s", record.ErrInvalidRequest, o.manifest.Log)
		}
		if err == nil {
			o.certain = quarantined
			return node, o, nil
		}
		errs = append(errs, fmt.Errorf("node %d: %w", node, err))
	}
	return 0, offer{}, errors.Join(errs...)
}

// Fetching tells how far the fetching of a log is.
type Fetching struct {
	Done, Of int64         // bytes
	Left     time.Duration // at the pace so far; 0 when nothing can be said
}

// progress is nil when the replica's log is not being fetched.
func (s *Set) fetchProgress(id storage.LogID) *Fetching {
	s.fetches.mu.Lock()
	f := s.fetches.mu.byLog[id]
	var began time.Time
	if f != nil {
		began = f.began
	}
	s.fetches.mu.Unlock()
	if f == nil || f.discard {
		return nil
	}
	p := &Fetching{}
	if g := f.staging.Load(); g != nil {
		p.Done, p.Of = g.Progress()
		if took, got := s.cfg.Clock().Sub(began), p.Done-f.had.Load(); got > 0 {
			p.Left = time.Duration(float64(took) / float64(got) * float64(p.Of-p.Done)).Round(time.Second)
		}
	}
	return p
}
