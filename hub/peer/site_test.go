package peer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"slices"
	"sync"
	"testing"
	"time"
)

// cluster is the one that the nodes of tests belong to.
var cluster = ClusterID{1, 2, 3}

// testNode is a node on loopback.
type testNode struct {
	*Peers
	t    testing.TB
	id   Identity
	addr string
	stop func() // ends Run and waits for it
	log  *logText

	// What the handler does; nil: nothing of it.
	onCall   func(ctx context.Context, from Peer, method string, body []byte) ([]byte, error)
	onStream func(ctx context.Context, from Peer, method string, body []byte, w io.Writer) error
	onFrame  func(from Peer, class Class, frame []byte)
	onLink   func(to Peer, class Class, up bool)
	forget   bool // frames are not kept

	mu     sync.Mutex
	frames map[string][][]byte // by node and class
	links  []string
	news   chan struct{} // closed and made anew at each change
}

// testHandler is what a node does with what others send.
type testHandler struct{ n *testNode }

func key(node string, class Class) string { return fmt.Sprintf("%s %v", node, class) }

func (h testHandler) Message(from Peer, class Class, frame []byte) {
	n := h.n
	if n.onFrame != nil {
		n.onFrame(from, class, frame)
	}
	if n.forget {
		return
	}
	n.note(func() { n.frames[key(from.Name, class)] = append(n.frames[key(from.Name, class)], frame) })
}

func (h testHandler) Call(ctx context.Context, from Peer, method string, body []byte) ([]byte, error) {
	n := h.n
	if n.onCall == nil {
		return nil, errors.New("no such method")
	}
	return n.onCall(ctx, from, method, body)
}

func (h testHandler) Stream(ctx context.Context, from Peer, method string, body []byte, w io.Writer) error {
	n := h.n
	if n.onStream == nil {
		return errors.New("no such stream")
	}
	return n.onStream(ctx, from, method, body, w)
}

func (h testHandler) Link(to Peer, class Class, up bool) {
	n := h.n
	if n.onLink != nil {
		n.onLink(to, class, up)
	}
	n.note(func() { n.links = append(n.links, fmt.Sprintf("%s %v", key(to.Name, class), up)) })
}

func (n *testNode) note(change func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	change()
	close(n.news)
	n.news = make(chan struct{})
}

// wait waits until the condition holds, which is looked at after every frame
// and link, under the node's lock.
func (n *testNode) wait(what string, holds func() bool) {
	n.t.Helper()
	limit := time.After(time.Minute)
	for {
		n.mu.Lock()
		ok, news := holds(), n.news
		n.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-news:
		case <-limit:
			n.t.Fatalf("node %s: %s: not within a minute\n%s", n.id.Name, what, n.log)
		}
	}
}

// received are the frames of a node and class.
func (n *testNode) received(node string, class Class) [][]byte {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.frames[key(node, class)])
}

// waitFrames waits for so many frames of a node and class.
func (n *testNode) waitFrames(node string, class Class, want int) {
	n.t.Helper()
	n.wait(fmt.Sprintf("%d frames of %s", want, key(node, class)), func() bool { return len(n.frames[key(node, class)]) >= want })
}

// connected waits until all classes to a node are up.
func (n *testNode) connected(to string) {
	n.t.Helper()
	n.wait("connected to "+to, func() bool { return n.up(to) == Classes })
}

// up counts the classes that are up. The lock is held.
func (n *testNode) up(to string) (up int) {
	for class := range Class(Classes) {
		last := ""
		for _, l := range n.links {
			if s := key(to, class); l == s+" true" || l == s+" false" {
				last = l
			}
		}
		if last == key(to, class)+" true" {
			up++
		}
	}
	return up
}

// logText is what a node logged.
type logText struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logText) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logText) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// patient is for tests on a machine that is busy with other things.
func patient() Config {
	cfg := Default()
	cfg.Dead, cfg.Stalled = 20*time.Second, 40*time.Second
	cfg.DialTimeout, cfg.HandshakeTimeout = 20*time.Second, 20*time.Second
	return cfg
}

// identity is of node ID n<id> in the cluster.
func identity(id int32) Identity {
	return Identity{Cluster: cluster, Node: id, Name: fmt.Sprintf("n%d", id)}
}

// newNode makes a node that does not run.
func newNode(t testing.TB, cfg Config, id Identity) *testNode {
	t.Helper()
	n := &testNode{t: t, id: id, frames: map[string][][]byte{}, news: make(chan struct{}), log: new(logText)}
	cfg.Logger = slog.New(slog.NewTextHandler(n.log, nil))
	var err error
	if n.Peers, err = New(cfg, id, testHandler{n}); err != nil {
		t.Fatal(err)
	}
	return n
}

// start runs a node on a listener of loopback until the test ends.
func start(t *testing.T, cfg Config, id Identity) *testNode {
	t.Helper()
	n := newNode(t, cfg, id)
	n.serve(listen(t, "127.0.0.1:0"))
	return n
}

func listen(t testing.TB, addr string) net.Listener {
	t.Helper()
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	return ln
}

// serve runs the node until stop or the end of the test.
func (n *testNode) serve(ln net.Listener) {
	n.addr = ln.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := n.Run(ctx, ln); err != nil {
			n.t.Errorf("node %s: Run: %v", n.id.Name, err)
		}
	})
	n.stop = func() { cancel(); wg.Wait() }
	n.t.Cleanup(n.stop)
}

// join tells nodes of each other and waits until all are connected.
func join(nodes ...*testNode) {
	all := map[int32]Node{}
	for _, n := range nodes {
		all[n.id.Node] = Node{Addr: n.addr, Incarnation: n.id.Incarnation}
	}
	for _, n := range nodes {
		n.SetNodes(all)
	}
	for _, n := range nodes {
		for _, to := range nodes {
			if to != n {
				n.connected(to.id.Name)
			}
		}
	}
}
