package stream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/entrepot-hub/entrepot/connectors"
	"github.com/entrepot-hub/entrepot/connectors/strict"
	"github.com/entrepot-hub/entrepot/record"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// pipes is a network in memory: what it dials, it accepts. It can count what
// clients write and cut all their connections.
type pipes struct {
	mu        sync.Mutex
	listeners map[string]*pipeListener
	next      int
}

// wire is the network of one life of a runner.
type wire struct {
	mu    sync.Mutex
	left  int // writes until the cut; negative: never
	after bool
	cut   func()
	down  bool
	held  chan struct{} // not nil: what is written waits until it is closed
	conns []net.Conn
	gone  sync.WaitGroup // server sides of the connections
}

func newPipes() *pipes { return &pipes{listeners: map[string]*pipeListener{}} }

type pipeListener struct {
	addr   pipeAddr
	accept chan net.Conn
	done   chan struct{}
	once   sync.Once
}

type pipeAddr string

func (a pipeAddr) Network() string { return "tcp" }
func (a pipeAddr) String() string  { return string(a) }

func (p *pipes) listen(_, _ string) (net.Listener, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.next++
	l := &pipeListener{addr: pipeAddr("127.0.0.1:" + strconv.Itoa(9000+p.next)), accept: make(chan net.Conn), done: make(chan struct{})}
	p.listeners[string(l.addr)] = l
	return l, nil
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.accept:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error   { l.once.Do(func() { close(l.done) }); return nil }
func (l *pipeListener) Addr() net.Addr { return l.addr }

// over returns a dialer whose connections belong to a wire.
func (p *pipes) over(w *wire) func(ctx context.Context, network, addr string) (net.Conn, error) {
	return func(ctx context.Context, _, addr string) (net.Conn, error) { return p.dial(ctx, w, addr) }
}

func (p *pipes) dial(ctx context.Context, w *wire, addr string) (net.Conn, error) {
	p.mu.Lock()
	l := p.listeners[addr]
	p.mu.Unlock()
	if l == nil {
		return nil, fmt.Errorf("no listener at %s", addr)
	}
	client, server := net.Pipe()
	w.mu.Lock()
	if w.down {
		w.mu.Unlock()
		return nil, errors.New("the network is down")
	}
	w.gone.Add(1)
	w.conns = append(w.conns, client)
	w.mu.Unlock()
	select {
	case l.accept <- &serverConn{Conn: server, gone: w.gone.Done}:
	case <-ctx.Done():
		w.gone.Done()
		return nil, ctx.Err()
	case <-l.done:
		w.gone.Done()
		return nil, net.ErrClosed
	}
	return &clientConn{Conn: client, wire: w}, nil
}

type serverConn struct {
	net.Conn
	once sync.Once
	gone func()
}

func (c *serverConn) RemoteAddr() net.Addr { return pipeAddr("127.0.0.1:1") }
func (c *serverConn) LocalAddr() net.Addr  { return pipeAddr("127.0.0.1:2") }
func (c *serverConn) Close() error {
	c.once.Do(c.gone)
	return c.Conn.Close()
}

type clientConn struct {
	net.Conn
	wire *wire
}

// Write passes a request on, or cuts the network before or after it.
func (c *clientConn) Write(b []byte) (int, error) {
	w := c.wire
	w.mu.Lock()
	last := w.left == 0
	w.left--
	down, after, held := w.down, w.after, w.held
	w.mu.Unlock()
	if held != nil {
		<-held
	}
	if down {
		return 0, net.ErrClosed
	}
	if !last {
		return c.Conn.Write(b)
	}
	n := 0
	if after {
		n, _ = c.Conn.Write(b)
	}
	w.kill()
	return n, net.ErrClosed
}

// hold stops all requests on their way, as a process or a network that is
// frozen does; release lets them go on.
func (w *wire) hold() (release func()) {
	held := make(chan struct{})
	w.mu.Lock()
	defer w.mu.Unlock()
	w.held = held
	return func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.held = nil
		close(held)
	}
}

// kill ends all connections at once and lets none be made again.
func (w *wire) kill() {
	w.mu.Lock()
	conns, cut := w.conns, w.cut
	already := w.down
	w.down = true
	w.mu.Unlock()
	if already {
		return
	}
	if cut != nil {
		cut()
	}
	for _, c := range conns {
		_ = c.Close()
	}
}

// world is a hub (kfake) with its network, inside a synctest bubble.
type world struct {
	t       *testing.T
	net     *pipes
	cluster *kfake.Cluster
	client  *kgo.Client
	admin   *kadm.Client
	logger  *slog.Logger
	wire    *wire // of the test's own client
}

func newWorld(t *testing.T, opts ...kfake.Opt) *world {
	t.Helper()
	w := &world{t: t, net: newPipes(), wire: &wire{left: -1}, logger: slog.New(slog.NewTextHandler(io.Discard, nil))}
	if os.Getenv("STREAM_TEST_LOG") != "" {
		w.logger = slog.New(slog.NewTextHandler(os.Stderr, nil))
	}
	var err error
	opts = append([]kfake.Opt{kfake.NumBrokers(1), kfake.ListenFn(w.net.listen)}, opts...)
	if w.cluster, err = kfake.NewCluster(opts...); err != nil {
		t.Fatal(err)
	}
	if w.client, err = kgo.NewClient(kgo.SeedBrokers(w.cluster.ListenAddrs()...), kgo.Dialer(w.net.over(w.wire)), kgo.DisableClientMetrics(),
		kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerLinger(0)); err != nil {
		t.Fatal(err)
	}
	w.admin = kadm.NewClient(w.client)
	return w
}

func (w *world) close() {
	w.client.Close()
	w.cluster.Close()
}

// life is one run of a runner, from start to stop or crash.
type life struct {
	*Runner
	world *world
	wire  *wire
	stop  context.CancelFunc
	done  chan error
}

// start runs the specs over a wire of their own.
func (w *world) start(drain time.Duration, specs ...ConnectorSpec) *life {
	w.t.Helper()
	return w.startAs(drain, nil, specs...)
}

// startAs is start with leases that others have, too.
func (w *world) startAs(drain time.Duration, claim func(ctx context.Context, job string, tasks Share, floor int64) (int64, error), specs ...ConnectorSpec) *life {
	w.t.Helper()
	wire := &wire{left: -1}
	r, err := New(Config{Dial: w.net.over(wire), Seeds: w.cluster.ListenAddrs(), Site: "east", Drain: drain, Claim: claim, Logger: w.logger})
	if err != nil {
		w.t.Fatal(err)
	}
	if err := r.Apply(specs, nil); err != nil {
		w.t.Fatal(err)
	}
	ctx, stop := context.WithCancel(w.t.Context())
	l := &life{Runner: r, world: w, wire: wire, stop: stop, done: make(chan error, 1)}
	go func() { l.done <- r.Run(ctx) }()
	return l
}

// end stops the runner and waits for it.
func (l *life) end() {
	l.world.t.Helper()
	l.stop()
	if err := <-l.done; err != nil {
		l.world.t.Error(err)
	}
}

// crash drops the runner as a kill does: no drain, all connections cut. It
// returns when the hub has seen all that had been sent.
func (l *life) crash() {
	l.wire.kill()
	l.end()
	l.wire.gone.Wait()
}

// await waits until the job shows what is wanted.
func (l *life) await(job string, most time.Duration, ok func(JobStatus) bool) JobStatus {
	l.world.t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	late := time.After(most)
	for {
		for _, s := range l.Status() {
			if s.Name == job && ok(s) {
				return s
			}
		}
		select {
		case <-tick.C:
		case <-late:
			l.world.t.Fatalf("%s did not come to what was awaited within %v: %+v", job, most, l.Status())
		}
	}
}

func inState(s State) func(JobStatus) bool { return func(j JobStatus) bool { return j.State == s } }

// records reads a whole topic, in the order of each partition, also what was
// aborted.
func (w *world) records(topic string) []*kgo.Record {
	w.t.Helper()
	return w.read(topic, kgo.ReadUncommitted())
}

// committed is records without what was aborted.
func (w *world) committed(topic string) []*kgo.Record {
	w.t.Helper()
	return w.read(topic, kgo.ReadCommitted())
}

func (w *world) read(topic string, level kgo.IsolationLevel) []*kgo.Record {
	w.t.Helper()
	c := &cluster{dial: w.net.over(w.wire), seeds: w.cluster.ListenAddrs()}
	bounds, err := spans(w.t.Context(), w.admin, topic)
	if err != nil {
		w.t.Fatal(err)
	}
	var out []*kgo.Record
	err = c.read(w.t.Context(), "check", bounds, level, withoutMarkers(func(r *kgo.Record) { out = append(out, r) }))
	if err != nil {
		w.t.Fatal(err)
	}
	slices.SortStableFunc(out, func(a, b *kgo.Record) int {
		if a.Partition != b.Partition {
			return int(a.Partition - b.Partition)
		}
		return int(a.Offset - b.Offset)
	})
	return out
}

// produce writes values into one partition.
func (w *world) produce(topic string, partition int32, values ...string) {
	w.t.Helper()
	for _, v := range values {
		r := &kgo.Record{Topic: topic, Partition: partition, Value: []byte(v), Key: []byte("k" + v)}
		if err := w.client.ProduceSync(w.t.Context(), r).FirstErr(); err != nil {
			w.t.Fatal(err)
		}
	}
}

func (w *world) createTopic(name string, partitions int32) {
	w.t.Helper()
	if err := w.cluster.CreateTopic(name, partitions, nil); err != nil {
		w.t.Fatal(err)
	}
}

func header(r *kgo.Record, key string) string {
	for _, h := range r.Headers {
		if h.Key == key {
			return string(h.Value)
		}
	}
	return ""
}

// inBubble runs a test on a fake clock.
func inBubble(t *testing.T, fn func(t *testing.T)) { t.Helper(); synctest.Test(t, fn) }

// parseOne compiles a jobs file with one connector.
func parseOne(t *testing.T, reg connectors.Registry, text string) ConnectorSpec {
	t.Helper()
	jobs, errs := Parse([]File{{"jobs.yaml", []byte(text)}}, reg, strict.Options{})
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	return jobs.Connectors[0]
}

type topicPartition = record.TopicPartition

// tp is short for tests.
func tp(topic string, p int32) record.TopicPartition {
	return record.TopicPartition{Topic: topic, Partition: p}
}

func lines(from, to int) []string {
	out := make([]string, 0, to-from)
	for i := from; i < to; i++ {
		out = append(out, strconv.Itoa(i))
	}
	return out
}

func joined(list []string) string { return strings.Join(list, " ") }

// pass lets the bubble's time pass.
func pass(d time.Duration) { <-time.After(d) }
