package protocol

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"go.uber.org/goleak"

	"github.com/entrepot-hub/entrepot/hub/catalog"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m)
}

// site is one node of a site: a server on a loopback listener over a memSite.
type site struct {
	*memSite
	id   int32
	srv  *Server
	addr string
	stop func()
}

// quick is Default without the delay that a group's first rebalance has.
func quick() Config {
	c := Default()
	c.Node = 1
	c.Group.InitialDelay = 0
	c.OffsetsPartitions, c.TransactionsPartitions = 3, 3
	if testing.Verbose() && os.Getenv("PROTOCOL_LOG") != "" {
		c.Logger = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	return c
}

func startSite(t testing.TB, cfg Config) *site {
	t.Helper()
	return startNodes(t, 1, cfg)[0]
}

// startNodes starts a site of n nodes, each a server of its own in a rack of its
// own.
func startNodes(t testing.TB, n int, cfg Config) []*site {
	t.Helper()
	m := newMemSite()
	t.Cleanup(m.close)
	if _, err := m.Propose(t.Context(), catalog.SiteInit{Site: "here", SiteID: 3}); err != nil {
		t.Fatal(err)
	}
	nodes := make([]*site, n)
	for i := range nodes {
		nodes[i] = startNode(t, m, int32(i+1), cfg)
	}
	return nodes
}

func startNode(t testing.TB, m *memSite, id int32, cfg Config) *site {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := m.Propose(t.Context(), catalog.RegisterNode{
		Name: fmt.Sprintf("n%d", id), Site: "here", Kafka: ln.Addr().String(), Rack: fmt.Sprintf("r%d", id),
	}); err != nil {
		t.Fatal(err)
	}
	node := memNode{m, id}
	cfg.Node, cfg.Peers = id, node
	ctx, cancel := context.WithCancel(context.Background())
	s := &site{memSite: m, id: id, srv: New(cfg, node, m), addr: ln.Addr().String()}
	m.mu.Lock()
	m.mu.servers[id] = s.srv
	m.mu.Unlock()
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := s.srv.Serve(ctx, Listener{Name: MainListener, Net: ln}); err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	wg.Go(func() { _ = s.srv.Run(ctx) })
	s.stop = sync.OnceFunc(func() {
		cancel()
		wg.Wait()
	})
	t.Cleanup(s.stop)
	return s
}

func (s *site) topic(t testing.TB, name string, partitions int32, config ...string) *catalog.Topic {
	t.Helper()
	cmd, err := s.srv.newTopic(name, partitions, 1)
	if err != nil {
		t.Fatal(err)
	}
	cmd.Config = map[string]string{}
	for i := 0; i+1 < len(config); i += 2 {
		cmd.Config[config[i]] = config[i+1]
	}
	v, err := s.Propose(t.Context(), cmd)
	if err != nil {
		t.Fatal(err)
	}
	return v.(*catalog.Topic)
}

func (s *site) memLog(t testing.TB, topic string, p int32) *memLog {
	t.Helper()
	l, err := s.log(topic, p)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func (s *site) client(t testing.TB, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	cl, err := kgo.NewClient(append([]kgo.Opt{
		kgo.SeedBrokers(s.addr), kgo.MetadataMinAge(10 * time.Millisecond), kgo.RetryBackoffFn(func(int) time.Duration { return 10 * time.Millisecond }),
	}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	return cl
}

func (s *site) admin(t testing.TB) *kadm.Client { return kadm.NewClient(s.client(t)) }

func testContext(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// eventually polls until ok; the test fails after 20 s.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.NewTimer(20 * time.Second)
	defer deadline.Stop()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("not within 20 s: %s", what)
		}
	}
}

// rawConn speaks the protocol byte by byte.
type rawConn struct {
	t    testing.TB
	nc   net.Conn
	next int32
}

func (s *site) dial(t testing.TB) *rawConn {
	t.Helper()
	nc, err := net.Dial("tcp", s.addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = nc.Close() })
	return &rawConn{t: t, nc: nc}
}

func (c *rawConn) write(b []byte) {
	c.t.Helper()
	if _, err := c.nc.Write(b); err != nil {
		c.t.Fatal(err)
	}
}

// send writes a request and returns its correlation ID.
func (c *rawConn) send(req kmsg.Request) int32 {
	c.t.Helper()
	c.next++
	c.write(kmsg.NewRequestFormatter(kmsg.FormatterClientID("raw")).AppendRequest(nil, req, c.next))
	return c.next
}

// frame reads one response, without its length.
func (c *rawConn) frame() ([]byte, error) {
	_ = c.nc.SetReadDeadline(time.Now().Add(20 * time.Second))
	var head [4]byte
	if _, err := io.ReadFull(c.nc, head[:]); err != nil {
		return nil, err
	}
	b := make([]byte, int(head[0])<<24|int(head[1])<<16|int(head[2])<<8|int(head[3]))
	_, err := io.ReadFull(c.nc, b)
	return b, err
}

// receive reads the response to req and checks its correlation ID.
func (c *rawConn) receive(req kmsg.Request, correlation int32) kmsg.Response {
	c.t.Helper()
	b, err := c.frame()
	if err != nil {
		c.t.Fatalf("no answer to %s v%d: %v", kmsg.NameForKey(req.Key()), req.GetVersion(), err)
	}
	if got := int32(b[0])<<24 | int32(b[1])<<16 | int32(b[2])<<8 | int32(b[3]); got != correlation {
		c.t.Fatalf("answer %d, want that to %d", got, correlation)
	}
	b = b[4:]
	if req.IsFlexible() && req.Key() != apiVersionsKey {
		b = b[1:]
	}
	resp := req.ResponseKind()
	resp.SetVersion(req.GetVersion())
	if err := resp.ReadFrom(b); err != nil {
		c.t.Fatalf("answer to %s v%d: %v", kmsg.NameForKey(req.Key()), req.GetVersion(), err)
	}
	if again := resp.AppendTo(nil); !bytes.Equal(again, b) {
		c.t.Fatalf("answer to %s v%d: there are other bytes in it than the codec writes:\n% x\n% x", kmsg.NameForKey(req.Key()), req.GetVersion(), b, again)
	}
	return resp
}

func (c *rawConn) ask(req kmsg.Request) kmsg.Response {
	c.t.Helper()
	return c.receive(req, c.send(req))
}

// closed waits until the server closes the connection; answers that come
// before are returned.
func (c *rawConn) closed() (answers int) {
	c.t.Helper()
	for {
		_, err := c.frame()
		switch {
		case err == nil:
			answers++
		case errors.Is(err, os.ErrDeadlineExceeded):
			c.t.Fatal("the connection is still open")
		default:
			return answers
		}
	}
}

func ask[R kmsg.Response](c *rawConn, req kmsg.Request) R {
	c.t.Helper()
	r, ok := c.ask(req).(R)
	if !ok {
		c.t.Fatalf("another response than that of %T", req)
	}
	return r
}

// missing skips a test whose tools are not there, by name; where the set-up has
// to have them, it fails.
func missing(t *testing.T, format string, args ...any) {
	t.Helper()
	if os.Getenv("CI") != "" || os.Getenv("ENTREPOT_TEST_TOOLS") == "all" {
		t.Fatalf(format, args...)
	}
	t.Skipf("NOT TESTED WITH "+format, args...)
}
