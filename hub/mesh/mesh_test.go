package mesh

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// Serf and memberlist start goroutines that nobody can wait for. They end by
// themselves, but a probe of a dead node may go on for some seconds, longer
// than goleak waits of its own accord.
func TestMain(m *testing.M) {
	code := m.Run()
	tick := time.NewTicker(100 * time.Millisecond)
	limit := time.Now().Add(30 * time.Second)
	for goleak.Find() != nil && time.Now().Before(limit) {
		<-tick.C
	}
	tick.Stop()
	if err := goleak.Find(); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// node is a running mesh of a test.
type node struct {
	*Mesh
	t    *testing.T
	logs *logBuffer
	seen *recorder
	stop func() // as a shutdown does: leaves
	kill func() // as kill -9: does not
}

type logBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

type recorder struct {
	mu      sync.Mutex
	reports [][]Member
}

func (r *recorder) Changed(members []Member) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.reports = append(r.reports, members)
}

func (r *recorder) last() []Member {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.reports) == 0 {
		return nil
	}
	return r.reports[len(r.reports)-1]
}

// config of a node on loopback with free ports.
func config(id, site string) Config {
	return Config{
		ID: id, Site: site, Kafka: "127.0.0.1:9092", Peer: "127.0.0.1:7948", Admin: "127.0.0.1:8080", Version: "1.2.3",
		LAN: Pool{Bind: "127.0.0.1:0"}, WAN: Pool{Bind: "127.0.0.1:0"},
		Profile: ProfileLocal,
	}
}

func start(t *testing.T, cfg Config) *node {
	t.Helper()
	n := &node{t: t, logs: new(logBuffer), seen: new(recorder)}
	cfg.Logger = slog.New(slog.NewTextHandler(n.logs, &slog.HandlerOptions{Level: slog.LevelInfo}))
	m, err := Open(cfg, n.seen)
	if err != nil {
		t.Fatal(err)
	}
	n.Mesh = m
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := m.Run(ctx); err != nil {
			t.Errorf("Run of %s: %v", cfg.ID, err)
		}
	}()
	n.stop = func() { cancel(); <-ended }
	n.kill = func() { m.Close(); <-ended; cancel() }
	t.Cleanup(n.kill)
	return n
}

// until waits for a condition; the time is only how long a broken test takes.
func until(t *testing.T, what string, cond func() bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	limit := time.After(60 * time.Second)
	for !cond() {
		select {
		case <-tick.C:
		case <-limit:
			t.Fatalf("%s: not within a minute", what)
		}
	}
}

// sees is true once n reports exactly these members, as "id/status".
func (n *node) sees(want ...string) {
	n.t.Helper()
	var got string
	defer func() {
		if n.t.Failed() {
			n.t.Logf("%s sees %s, want %s\n%s", n.cfg.ID, got, want, n.logs)
		}
	}()
	until(n.t, fmt.Sprintf("%s sees %v", n.cfg.ID, want), func() bool {
		got = statuses(n.Members())
		return got == strings.Join(want, " ")
	})
}

func statuses(members []Member) string {
	list := make([]string, len(members))
	for i, m := range members {
		list[i] = m.ID + "/" + m.Status
	}
	return strings.Join(list, " ")
}

func TestTwoSitesFindEachOtherThroughOneAddress(t *testing.T) {
	e1 := start(t, config("e1", "east"))
	c := config("e2", "east")
	c.LAN.Join = []string{e1.LANAddr()}
	e2 := start(t, c)
	c = config("w1", "west")
	c.WAN.Join = []string{e1.WANAddr()} // knows one node of the other site only
	w1 := start(t, c)

	for _, n := range []*node{e1, e2, w1} {
		n.sees("e1/alive", "e2/alive", "w1/alive")
	}
	m := e2.Members()[2]
	want := Member{ID: "w1", Site: "west", Kafka: "127.0.0.1:9092", Peer: "127.0.0.1:7948", Admin: "127.0.0.1:8080",
		Version: "1.2.3", Addr: w1.WANAddr(), Status: StatusAlive, Pool: "wan"}
	if m != want {
		t.Errorf("e2 sees %+v\nwant %+v", m, want)
	}
	if pool := e2.Members()[0].Pool; pool != "lan" {
		t.Errorf("e2 sees e1 in the %s pool, want lan", pool)
	}
	sites := w1.Sites()
	if len(sites["east"]) != 2 || len(sites["west"]) != 1 {
		t.Errorf("sites %v", sites)
	}
	until(t, "the handler of w1 is told", func() bool { return statuses(w1.seen.last()) == "e1/alive e2/alive w1/alive" })
	for _, n := range []*node{e1, e2, w1} {
		if text := n.logs.String(); text != "" {
			t.Errorf("%s is not quiet in normal operation:\n%s", n.cfg.ID, text)
		}
	}
}

func TestRTT(t *testing.T) {
	e1 := start(t, config("e1", "east"))
	c := config("e2", "east")
	c.LAN.Join = []string{e1.LANAddr()}
	e2 := start(t, c)
	c = config("w1", "west")
	c.WAN.Join = []string{e1.WANAddr()}
	start(t, c)
	e1.sees("e1/alive", "e2/alive", "w1/alive")
	for _, pair := range [][2]string{{"e1", "e2"}, {"e1", "w1"}, {"e2", "w1"}} {
		var rtt time.Duration
		until(t, "a distance for "+pair[0]+" "+pair[1], func() (ok bool) {
			var err error
			rtt, err = e2.RTT(pair[0], pair[1])
			return err == nil
		})
		if rtt <= 0 || rtt > 5*time.Second {
			t.Errorf("RTT of %v is %v", pair, rtt)
		}
	}
	if rtt, err := e1.RTT("e1", "e1"); rtt != 0 || err != nil {
		t.Errorf("RTT to itself: %v %v", rtt, err)
	}
	if _, err := e1.RTT("e1", "nyc-1"); err == nil || !strings.Contains(err.Error(), `"nyc-1" is not known; known are e1, e2, w1`) {
		t.Errorf("RTT to a stranger: %v", err)
	}
}

func TestLeaveAndHardFailure(t *testing.T) {
	e1 := start(t, config("e1", "east"))
	c := config("e2", "east")
	c.LAN.Join = []string{e1.LANAddr()}
	e2 := start(t, c)
	c = config("w1", "west")
	c.WAN.Join = []string{e1.WANAddr()}
	w1 := start(t, c)
	for _, n := range []*node{e1, e2, w1} {
		n.sees("e1/alive", "e2/alive", "w1/alive")
	}
	e2.stop()
	e1.sees("e1/alive", "e2/left", "w1/alive")
	w1.sees("e1/alive", "e2/left", "w1/alive")
	w1.kill()
	e1.sees("e1/alive", "e2/left", "w1/failed")
	until(t, "the handler of e1 is told", func() bool { return statuses(e1.seen.last()) == "e1/alive e2/left w1/failed" })
}

// A site that is started before the other one must find it later.
func TestJoinIsTriedForEver(t *testing.T) {
	holder := start(t, config("x", "west"))
	addr := holder.WANAddr()
	holder.kill() // nobody listens there now

	c := config("e1", "east")
	c.WAN.Join = []string{addr}
	e1 := start(t, c)
	until(t, "e1 complains", func() bool { return strings.Contains(e1.logs.String(), "cannot join yet") })

	c = config("w1", "west")
	c.WAN.Bind = addr
	start(t, c)
	e1.sees("e1/alive", "w1/alive")
	if n := strings.Count(e1.logs.String(), "cannot join yet"); n != 1 {
		t.Errorf("e1 complained %d times, want once:\n%s", n, e1.logs)
	}
}

func TestRestartRejoinsWithoutASeed(t *testing.T) {
	e1 := start(t, config("e1", "east"))
	c := config("w1", "west")
	c.WAN.Join = []string{e1.WANAddr()}
	c.SnapshotDir = t.TempDir()
	w1 := start(t, c)
	w1.sees("e1/alive", "w1/alive")
	for _, end := range []func(*node){func(n *node) { n.kill() }, func(n *node) { n.stop() }} {
		end(w1)
		c.WAN.Join = nil
		c.WAN.Bind = "127.0.0.1:0" // and at another address
		w1 = start(t, c)
		w1.sees("e1/alive", "w1/alive")
		until(t, "e1 sees w1 at its new address", func() bool {
			m := e1.Members()[1]
			return m.Status == StatusAlive && m.Addr == w1.WANAddr()
		})
		if strings.Contains(w1.logs.String()+e1.logs.String(), "node name conflict") {
			t.Errorf("a move is taken for a conflict:\n%s%s", w1.logs, e1.logs)
		}
	}
}

func TestFloodCrossesTheWANOfTheOwnSite(t *testing.T) {
	// w1 knows e1; e2 knows only e1's LAN address, and e1 dies. Then w1 and e2
	// still know each other.
	e1 := start(t, config("e1", "east"))
	c := config("e2", "east")
	c.LAN.Join = []string{e1.LANAddr()}
	e2 := start(t, c)
	c = config("w1", "west")
	c.WAN.Join = []string{e1.WANAddr()}
	w1 := start(t, c)
	w1.sees("e1/alive", "e2/alive", "w1/alive")
	e1.kill()
	w1.sees("e1/failed", "e2/alive", "w1/alive")
	e2.sees("e1/failed", "e2/alive", "w1/alive")
}
