package protocol

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/entrepot-hub/entrepot/hub/catalog"
	"github.com/entrepot-hub/entrepot/record"
)

// Frames that are none, and requests that were never offered, end the
// connection without an answer, and nobody else notices.
func TestGarbageEndsTheConnection(t *testing.T) {
	s := startSite(t, quick())
	header := func(key, version int16, rest ...byte) []byte {
		b := binary.BigEndian.AppendUint32(nil, uint32(10+len(rest)))
		b = binary.BigEndian.AppendUint16(b, uint16(key))
		b = binary.BigEndian.AppendUint16(b, uint16(version))
		return append(append(b, 0, 0, 0, 1, 0xff, 0xff), rest...)
	}
	for what, bytes := range map[string][]byte{
		"a web browser":         []byte("GET / HTTP/1.1\r\nHost: kafka\r\n\r\n"),
		"a TLS client":          {0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00, 0x01, 0xfc, 0x03, 0x03},
		"a 2 GB length":         {0x7f, 0xff, 0xff, 0xff},
		"a negative length":     {0xff, 0xff, 0xff, 0xff},
		"a length of nothing":   {0, 0, 0, 0},
		"a length of a stump":   {0, 0, 0, 3, 0, 0, 0},
		"an unknown API":        header(99, 0),
		"a negative API":        header(-1, 0),
		"SASL from the future":  header(17, 2, 0, 5, 'P', 'L', 'A', 'I', 'N'),
		"transactions":          header(24, 0, 0, 0),
		"Produce v2":            header(0, 2, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0),
		"Fetch from the future": header(1, 19),
		"a body cut short":      header(3, 1, 0, 0, 0, 9),
		"a lying array":         header(3, 1, 0x7f, 0xff, 0xff, 0xff),
		"a lying string":        header(3, 1, 0, 0, 0, 1, 0x7f, 0xff),
		"a group that is null":  header(12, 0, 0xff, 0xff, 0, 0, 0, 1, 0, 1, 'm'),
		"four billion tags":     header(3, 12, 0xff, 0xff, 0xff, 0xff, 0x0f),
		"a client ID too long":  {0, 0, 0, 10, 0, 3, 0, 1, 0, 0, 0, 1, 0x7f, 0xff},
	} {
		t.Run(what, func(t *testing.T) {
			c := s.dial(t)
			c.write(bytes)
			if n := c.closed(); n != 0 {
				t.Errorf("%d answers", n)
			}
		})
	}
	ask[*kmsg.ApiVersionsResponse](s.dial(t), &kmsg.ApiVersionsRequest{Version: 3})
}

// sizedListener notes the receive buffers that its connections are given.
type sizedListener struct {
	net.Listener
	sizes chan int
}

type sizedConn struct {
	*net.TCPConn
	sizes chan int
}

func (l sizedListener) Accept() (net.Conn, error) {
	nc, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return sizedConn{nc.(*net.TCPConn), l.sizes}, nil
}

func (c sizedConn) SetReadBuffer(bytes int) error {
	c.sizes <- bytes
	return c.TCPConn.SetReadBuffer(bytes)
}

// The system may hold as much of a connection unread as its listener says: a
// client whose whole queue fits in there never makes larger batches.
func TestListenerBoundsWhatWaitsUnread(t *testing.T) {
	s := startSite(t, quick())
	for _, size := range []int{256 << 10, 0} {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		sized := sizedListener{ln, make(chan int, 1)}
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { _ = s.srv.Serve(ctx, Listener{Name: MainListener, Net: sized, ReceiveBuffer: size}) })
		c := dialAt(t, ln.Addr().String())
		ask[*kmsg.ApiVersionsResponse](c, &kmsg.ApiVersionsRequest{Version: 3})
		select {
		case got := <-sized.sizes:
			if got != size || size == 0 {
				t.Errorf("a buffer of %d bytes, want %d", got, size)
			}
		default:
			if size != 0 {
				t.Errorf("no size was set, want %d", size)
			}
		}
		_ = c.nc.Close()
		cancel()
		wg.Wait()
	}
}

// What lies about its contents is refused before anything is built of it.
func TestLiesAreFoundBeforeDecoding(t *testing.T) {
	head := []byte{0, 3, 0, 12, 0, 0, 0, 1, 0xff, 0xff, 0}
	for what, body := range map[string][]byte{
		"four billion tags":     {2, 0xff, 0xff, 0xff, 0xff, 0x0f},
		"a hundred topics":      {101, 0, 0},
		"a topic name too long": append(append([]byte{2}, make([]byte, 16)...), 0xff, 0xff, 0x7f),
	} {
		_, err := parseRequest(frame{bytes: append(slices.Clone(head), body...)})
		if !errors.Is(err, errMalformed) || !strings.Contains(err.Error(), "Metadata v12") {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// A length is only a claim: a client that announces the largest request and
// sends little of it makes the server hold little.
func TestAClaimedLengthHoldsNoMemory(t *testing.T) {
	s := startSite(t, quick())
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	const clients = 50
	for range clients {
		c := s.dial(t)
		c.write(binary.BigEndian.AppendUint32(nil, uint32(quick().Limits.Request)))
		c.write(make([]byte, 1000))
	}
	eventually(t, "all have begun", func() bool { return s.srv.Stats().RequestBytes >= clients*int64(frameSteps[0]) })
	runtime.GC()
	runtime.ReadMemStats(&after)
	if got := s.srv.Stats().RequestBytes; got > clients*int64(frameSteps[0]) {
		t.Errorf("%d bytes are held for %d clients", got, clients)
	}
	if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 16<<20 {
		t.Errorf("the heap has grown by %d MiB", grown>>20)
	}
}

// The memory of all requests together is bounded, and a client that waits for
// its share gets it.
func TestRequestsInFlightAreBounded(t *testing.T) {
	cfg := quick()
	cfg.Limits.Request, cfg.Limits.InFlight = 1<<20, 2<<20
	s := startSite(t, cfg)
	topic := s.topic(t, "t", 1, "max.message.bytes", "1048588")
	log := s.memLog(t, "t", 0)
	log.hold()
	defer log.release()
	r := produceRequest(9, "t", topic.ID, batch(t, record.None, string(make([]byte, 900<<10))))
	var conns []*rawConn
	var wg sync.WaitGroup
	for range 6 {
		c := s.dial(t)
		conns = append(conns, c)
		wg.Go(func() { c.send(r) })
	}
	eventually(t, "two are in the log", func() bool { return log.heldAppends() == 2 })
	if got := s.srv.Stats().RequestBytes; got > cfg.Limits.InFlight {
		t.Errorf("%d bytes are held, the most is %d", got, cfg.Limits.InFlight)
	}
	eventually(t, "as many as fit, again and again", func() bool {
		log.release()
		log.hold()
		return log.Offsets().HighWatermark == 6
	})
	log.release()
	wg.Wait()
	for _, c := range conns {
		c.receive(r, 1)
	}
	eventually(t, "all is given back", func() bool { return s.srv.Stats().RequestBytes == 0 })
}

// One connection's share is bounded by number: what is beyond stays in the
// socket.
func TestPipelineIsBounded(t *testing.T) {
	cfg := quick()
	cfg.Limits.Pipeline = 4
	s := startSite(t, cfg)
	topic := s.topic(t, "t", 1)
	log := s.memLog(t, "t", 0)
	log.hold()
	defer log.release()
	c := s.dial(t)
	r := produceRequest(9, "t", topic.ID, batch(t, record.None, "v"))
	for range 10 {
		c.send(r)
	}
	eventually(t, "four are in the log", func() bool { return log.heldAppends() == 4 })
	if n := s.srv.counts[0].Load(); n != 4 {
		t.Errorf("%d are handled", n)
	}
	log.release()
	for i := range int32(10) {
		c.receive(r, i+1)
	}
}

func TestConnectionLimits(t *testing.T) {
	cfg := quick()
	cfg.Limits.ConnsPerIP = 2
	s := startSite(t, cfg)
	a, b := s.dial(t), s.dial(t)
	for _, c := range []*rawConn{a, b} {
		ask[*kmsg.ApiVersionsResponse](c, &kmsg.ApiVersionsRequest{Version: 3})
	}
	s.dial(t).closed()
	if st := s.srv.Stats(); st.Refused != 1 || st.Connections != 2 {
		t.Errorf("%+v", st)
	}
	_ = a.nc.Close()
	eventually(t, "there is room again", func() bool { return s.srv.Stats().Connections == 1 })
	ask[*kmsg.ApiVersionsResponse](s.dial(t), &kmsg.ApiVersionsRequest{Version: 3})
}

// Time limits, in a bubble where time passes by itself.

// bubble serves one end of a pipe; the other one is returned.
func bubble(t *testing.T, cfg Config, ctx context.Context) (net.Conn, *Server, *memSite, func()) {
	t.Helper()
	m := newMemSite()
	for _, cmd := range []catalog.Command{
		catalog.SiteInit{Site: "here", SiteID: 3},
		catalog.RegisterNode{Name: "n1", Site: "here", Kafka: "h:1"},
		catalog.CreateTopic{Name: "t", ID: record.TopicID{1}, Partitions: 1, Replicas: 1},
	} {
		if _, err := m.Propose(ctx, cmd); err != nil {
			t.Fatal(err)
		}
	}
	srv := New(cfg, m, m)
	client, server := net.Pipe()
	var wg sync.WaitGroup
	wg.Go(func() { srv.ServeConn(ctx, server) })
	return client, srv, m, func() {
		_ = client.Close()
		wg.Wait()
		m.close()
	}
}

func readAll(nc net.Conn) (n int, after time.Duration) {
	start := time.Now()
	b, _ := io.ReadAll(nc)
	return len(b), time.Since(start)
}

func TestIdleConnectionsAreClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nc, _, _, stop := bubble(t, quick(), t.Context())
		defer stop()
		if n, after := readAll(nc); n != 0 || after != quick().Limits.Idle {
			t.Errorf("closed after %v with %d bytes, want %v", after, n, quick().Limits.Idle)
		}
	})
}

func TestHalfARequestIsNotWaitedForLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nc, srv, _, stop := bubble(t, quick(), t.Context())
		defer stop()
		if _, err := nc.Write([]byte{0, 0, 1, 0, 0, 3, 0, 1}); err != nil {
			t.Fatal(err)
		}
		if n, after := readAll(nc); n != 0 || after != quick().Limits.Frame {
			t.Errorf("closed after %v with %d bytes, want %v", after, n, quick().Limits.Frame)
		}
		synctest.Wait()
		if n := srv.Stats().RequestBytes; n != 0 {
			t.Errorf("%d bytes are still held", n)
		}
	})
}

// A connection with a request under way is not idle.
func TestAWaitingClientIsNotIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := quick()
		cfg.Limits.Idle, cfg.Limits.FetchWait = time.Second, time.Minute
		nc, _, _, stop := bubble(t, cfg, t.Context())
		defer stop()
		f := fetchRequest(12, "t", record.TopicID{}, 0)
		f.MaxWaitMillis = 1 << 30
		start := time.Now()
		if _, err := nc.Write(kmsg.NewRequestFormatter().AppendRequest(nil, f, 1)); err != nil {
			t.Fatal(err)
		}
		var head [4]byte
		if _, err := io.ReadFull(nc, head[:]); err != nil {
			t.Fatal(err)
		}
		if after := time.Since(start); after != time.Minute {
			t.Errorf("answered after %v, want the longest wait of a minute", after)
		}
	})
}

// A client that does not read its answers is cut off.
func TestAClientThatDoesNotReadIsCutOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nc, srv, _, stop := bubble(t, quick(), t.Context())
		defer stop()
		if _, err := nc.Write(kmsg.NewRequestFormatter().AppendRequest(nil, &kmsg.MetadataRequest{Version: 9}, 1)); err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		for srv.Stats().Connections > 0 {
			pause(t.Context(), time.Second)
		}
		if after := time.Since(start); after < quick().Limits.Write || after > quick().Limits.Write+2*time.Second {
			t.Errorf("cut off after %v, want %v", after, quick().Limits.Write)
		}
	})
}

// At the end of the context, what is under way is answered, parked requests at
// once, and what will never be answered does not hold up the end for long.
func TestDrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		nc, _, m, stop := bubble(t, quick(), ctx)
		defer stop()
		log, err := m.log("t", 0)
		if err != nil {
			t.Fatal(err)
		}
		log.hold()
		send := func(r kmsg.Request) {
			if _, err := nc.Write(kmsg.NewRequestFormatter().AppendRequest(nil, r, 1)); err != nil {
				t.Fatal(err)
			}
		}
		send(produceRequest(9, "t", record.TopicID{}, batch(t, record.None, "v")))
		f := fetchRequest(12, "t", record.TopicID{}, 0)
		f.MaxWaitMillis = 1 << 30
		send(f)
		synctest.Wait()
		cancel()
		synctest.Wait()
		log.release()
		if n, after := readAll(nc); n < 100 || after > time.Second {
			t.Errorf("%d bytes of answers after %v", n, after)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		nc, _, m, stop := bubble(t, quick(), ctx)
		defer stop()
		log, err := m.log("t", 0)
		if err != nil {
			t.Fatal(err)
		}
		log.hold()
		r := produceRequest(9, "t", record.TopicID{}, batch(t, record.None, "v"))
		if _, err := nc.Write(kmsg.NewRequestFormatter().AppendRequest(nil, r, 1)); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		cancel()
		if n, after := readAll(nc); n != 0 || after != quick().Limits.Drain {
			t.Errorf("%d bytes after %v, want none after %v", n, after, quick().Limits.Drain)
		}
		log.release()
		synctest.Wait()
	})
}

func TestServeEndsWithItsListener(t *testing.T) {
	m := newMemSite()
	defer m.close()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = ln.Close()
	if err := New(quick(), m, m).Serve(t.Context(), Listener{Name: MainListener, Net: ln}); err == nil || !strings.Contains(err.Error(), ln.Addr().String()) {
		t.Errorf("got %v", err)
	}
}

func TestBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBudget(10)
		mustTake := func(n int64) {
			if _, err := b.take(t.Context(), n); err != nil {
				t.Error(err)
			}
		}
		mustTake(8)
		var wg sync.WaitGroup
		var small atomic.Bool
		wg.Go(func() { mustTake(9) })
		synctest.Wait()
		wg.Go(func() { mustTake(1); small.Store(true) }) // would fit, but is not first
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		synctest.Wait()
		if _, err := b.take(ctx, 1); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		if small.Load() {
			t.Error("the small one went first")
		}
		b.give(8)
		wg.Wait()
		if b.used() != 10 {
			t.Errorf("used %d", b.used())
		}
		b.give(10)
		if n, err := b.take(t.Context(), 1000); err != nil || n != 10 {
			t.Errorf("more than all: %d, %v", n, err)
		}
	})
}

func TestConfigIsChecked(t *testing.T) {
	c := Default()
	c.Node = 1
	if err := c.Validate(); err != nil {
		t.Fatal(err)
	}
	c.Limits.Request, c.Limits.Idle, c.Logger = 1<<40, 0, nil
	err := c.Validate()
	for _, want := range []string{"Limits.Request", "Limits.Idle", "Logger"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not speak of %s", err, want)
		}
	}
}

// Answers that become due together go out together, in the order of their
// requests and each to its own.
func TestAnswersDueTogether(t *testing.T) {
	s := startSite(t, quick())
	topic := s.topic(t, "t", 1)
	log := s.memLog(t, "t", 0)
	log.hold()
	defer log.release()
	c := s.dial(t)
	var ids []int32
	r := produceRequest(9, "t", topic.ID, batch(t, record.None, "v"))
	for range 100 {
		ids = append(ids, c.send(r))
	}
	f := fetchRequest(12, "t", topic.ID, 0) // with pieces of its own, in the middle
	fetchID := c.send(f)
	for range 100 {
		ids = append(ids, c.send(r))
	}
	eventually(t, "all are handled", func() bool { return s.srv.counts[0].Load() == 200 })
	log.release()
	for i, id := range ids {
		if i == 100 {
			c.receive(f, fetchID)
		}
		got := c.receive(r, id).(*kmsg.ProduceResponse).Topics[0].Partitions[0]
		if got.ErrorCode != 0 || got.BaseOffset != int64(i) {
			t.Fatalf("answer %d: offset %d, error %d", i, got.BaseOffset, got.ErrorCode)
		}
	}
	eventually(t, "all is given back", func() bool { return s.srv.Stats().RequestBytes == 0 })
}

// Of answers that could go out together none follows the one that ends the
// connection.
func TestNothingFollowsTheLastAnswer(t *testing.T) {
	s := startSite(t, quick())
	topic := s.topic(t, "t", 1)
	log := s.memLog(t, "t", 0)
	log.hold()
	defer log.release()
	c := s.dial(t)
	good := produceRequest(9, "t", topic.ID, batch(t, record.None, "v"))
	bad := produceRequest(9, "none", record.TopicID{}, batch(t, record.None, "v"))
	bad.Acks = 0
	c.send(good)
	c.send(bad)
	c.send(good)
	eventually(t, "all are handled", func() bool { return s.srv.counts[0].Load() == 3 })
	log.release()
	if n := c.closed(); n != 1 {
		t.Errorf("%d answers, want the one before the end", n)
	}
	eventually(t, "all is given back", func() bool { return s.srv.Stats().RequestBytes == 0 })
}
