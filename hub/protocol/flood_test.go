package protocol

import (
	"bufio"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"log/slog"
	"net"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/entrepot-hub/entrepot/hub/auth"
	"github.com/entrepot-hub/entrepot/hub/auth/authtest"
	"github.com/entrepot-hub/entrepot/hub/catalog"
	"github.com/entrepot-hub/entrepot/record"
)

// memListener hands in-memory connections out, each from an address that the
// test says.
type memListener struct {
	queue chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func newMemListener() *memListener {
	return &memListener{queue: make(chan net.Conn), done: make(chan struct{})}
}

type memConn struct {
	net.Conn
	from string
}

func (c memConn) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.ParseIP(c.from), Port: 1} }
func (c memConn) LocalAddr() net.Addr  { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 9092} }

func (l *memListener) dial(from string) net.Conn {
	client, server := net.Pipe()
	l.queue <- memConn{server, from}
	return client
}

func (l *memListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.queue:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}
func (l *memListener) Close() error   { l.once.Do(func() { close(l.done) }); return nil }
func (l *memListener) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 9092} }

// A client that opens 10,000 connections gets the half of them that one
// address may have, and they hold little; another client notices nothing.
func TestTenThousandConnectionsOfOneClient(t *testing.T) {
	s := startSite(t, guarded(t))
	ln := newMemListener()
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { _ = s.srv.Serve(ctx, Listener{Name: MainListener, Net: ln, SASL: []string{auth.Plain}}) })
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	all := make([]net.Conn, 10_000)
	for i := range all {
		all[i] = ln.dial("10.6.6.6")
	}
	open := s.srv.cfg.Limits.ConnsPerIP
	eventually(t, "half of them are closed", func() bool {
		st := s.srv.Stats()
		return st.Connections == open && st.Refused == int64(len(all)-open)
	})
	runtime.GC()
	runtime.ReadMemStats(&after)
	each := (int64(after.HeapAlloc+after.StackInuse) - int64(before.HeapAlloc+before.StackInuse)) / int64(open)
	t.Logf("%d open, %d refused, %d bytes of heap and stack for each that is open", open, len(all)-open, each)
	if each > 64<<10 {
		t.Errorf("a silent connection holds %d bytes", each)
	}
	c := &rawConn{t: t, nc: ln.dial("10.0.0.1")}
	ask[*kmsg.ApiVersionsResponse](c, &kmsg.ApiVersionsRequest{Version: 3})
	ask[*kmsg.MetadataResponse](s.dial(t), &kmsg.MetadataRequest{Version: 9})
	for _, nc := range append(all, c.nc) {
		_ = nc.Close()
	}
	cancel()
	wg.Wait()
}

// secured is a listener with TLS, and how a client speaks to it.
func secured(t testing.TB) (Listener, *tls.Config) {
	t.Helper()
	a := authtest.NewAuthority(t)
	f := a.Issue("server", pkix.Name{CommonName: "server"}, time.Hour)
	files, err := auth.OpenTLS(auth.TLSFiles{Cert: f.Cert, Key: f.Key}, slog.New(slog.DiscardHandler), nil)
	if err != nil {
		t.Fatal(err)
	}
	client := &tls.Config{RootCAs: x509.NewCertPool(), MinVersion: tls.VersionTLS12}
	client.RootCAs.AppendCertsFromPEM(a.PEM())
	return Listener{TLS: files.Server()}, client
}

// large is a site whose topic has some megabytes in one partition.
func large(t testing.TB, cfg Config) (*site, record.TopicID) {
	t.Helper()
	s := startSite(t, cfg)
	topic := s.topic(t, "t", 1)
	c := s.dial(t)
	value := make([]byte, 700_000)
	_, _ = rand.Read(value)
	for range 6 {
		if got := produced(c, produceRequest(9, "t", topic.ID, batch(t, record.None, string(value)))); got.ErrorCode != 0 {
			t.Fatal(got.ErrorCode)
		}
	}
	return s, topic.ID
}

// Over TLS, a client that reads slowly gets its answer, however long that
// takes, and one that reads nothing is cut.
func TestSlowReadersOverTLS(t *testing.T) {
	cfg := quick()
	cfg.Limits.Write = 1500 * time.Millisecond // a busy machine reads late, and is not slow for that
	s, _ := large(t, cfg)
	door, how := secured(t)
	addr := s.door(t, door)
	dial := func() *rawConn {
		nc, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		_ = nc.(*net.TCPConn).SetReadBuffer(32 << 10)
		cfg := how.Clone()
		cfg.ServerName = "localhost"
		tc := tls.Client(nc, cfg)
		t.Cleanup(func() { _ = nc.Close() })
		return &rawConn{t: t, nc: tc}
	}
	ask4MB := fetchRequest(11, "t", record.TopicID{}, 0)
	ask4MB.MaxBytes, ask4MB.Topics[0].Partitions[0].PartitionMaxBytes = 16<<20, 16<<20
	ask4MB.MinBytes, ask4MB.MaxWaitMillis = 16<<20, 1 // all at once, however short the way is
	slow, stopped := dial(), dial()
	slow.send(ask4MB)
	for range 8 {
		stopped.send(ask4MB)
	}
	begin := time.Now()
	read, buf := 0, make([]byte, 256<<10)
	for read < 4_200_000 {
		pause(t.Context(), 30*time.Millisecond)
		n, err := slow.nc.Read(buf)
		if read += n; err != nil {
			t.Fatalf("after %d bytes: %v", read, err)
		}
	}
	if took := time.Since(begin); took < 2*cfg.Limits.Write {
		t.Errorf("read in %v: that is not slow", took)
	}
	eventually(t, "the one that stopped is cut", func() bool { return s.srv.Stats().Connections <= 2 })
	ask[*kmsg.ApiVersionsResponse](slow, &kmsg.ApiVersionsRequest{Version: 3})
}

// Half-made and nonsensical TLS handshakes are cut in time, and whoever makes
// a proper one is served while they last.
func TestTLSHandshakeFlood(t *testing.T) {
	cfg := quick()
	cfg.Limits.Login = 500 * time.Millisecond
	s := startSite(t, cfg)
	door, how := secured(t)
	addr := s.door(t, door)
	hello := make([]byte, 200)
	copy(hello, []byte{0x16, 0x03, 0x01, 0x40, 0x00, 0x01})
	for i := range 400 {
		nc, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = nc.Close() })
		switch i % 4 {
		case 0:
			_, _ = nc.Write(hello)
		case 1:
			_, _ = nc.Write([]byte("GET / HTTP/1.1\r\n\r\n"))
		case 2:
			old := how.Clone()
			old.ServerName, old.MinVersion, old.MaxVersion = "localhost", tls.VersionTLS10, tls.VersionTLS11
			if err := tls.Client(nc, old).HandshakeContext(t.Context()); err == nil {
				t.Fatal("TLS 1.1 is spoken")
			}
		}
	}
	how.ServerName = "localhost"
	nc, err := tls.Dial("tcp", addr, how)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	c := &rawConn{t: t, nc: nc}
	ask[*kmsg.ApiVersionsResponse](c, &kmsg.ApiVersionsRequest{Version: 3})
	eventually(t, "the others are cut", func() bool { return s.srv.Stats().Connections <= 1 })
	ask[*kmsg.ApiVersionsResponse](c, &kmsg.ApiVersionsRequest{Version: 3})
}

// A flood of failed logins writes few lines.
func TestFailedLoginsDoNotFillTheLog(t *testing.T) {
	cfg := guarded(t)
	cfg.Limits.Refuse = time.Nanosecond
	var said countingWriter
	cfg.Logger = slog.New(slog.NewTextHandler(&said, nil))
	s := startSite(t, cfg)
	addr := s.door(t, Listener{SASL: []string{auth.Plain}})
	begin := time.Now()
	for range 100 {
		c := dialAt(t, addr)
		ask[*kmsg.SASLHandshakeResponse](c, &kmsg.SASLHandshakeRequest{Version: 1, Mechanism: auth.Plain})
		ask[*kmsg.SASLAuthenticateResponse](c, &kmsg.SASLAuthenticateRequest{Version: 1, SASLAuthBytes: []byte("\x00alice\x00wrong")})
	}
	s.stop()
	if most := 2 + int(time.Since(begin).Seconds()); said.lines() > most {
		t.Errorf("%d lines for 100 failed logins, want %d at most", said.lines(), most)
	}
	if strings.Contains(said.String(), "alice") || strings.Contains(said.String(), "wrong password for") {
		t.Errorf("a name stands in the log, which may be a password typed in its place:\n%s", said.String())
	}
}

// countingWriter keeps what is written.
type countingWriter struct {
	mu   sync.Mutex
	text strings.Builder
}

func (w *countingWriter) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.text.Write(b)
}

func (w *countingWriter) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.text.String()
}

func (w *countingWriter) lines() int { return strings.Count(w.String(), "\n") }

// A client above its quota is told for how long to be quiet, and not read for
// as long; other clients are.
func TestQuotasMuteTheConnection(t *testing.T) {
	s := startSite(t, guarded(t))
	topic := s.topic(t, "t", 1)
	door := s.door(t, Listener{Name: MainListener})
	anonymous := "ANONYMOUS"
	if _, err := s.Propose(t.Context(), catalog.AlterQuota{User: &anonymous, Set: map[string]float64{catalog.QuotaProduce: 20_000, catalog.QuotaFetch: 5_000}}); err != nil {
		t.Fatal(err)
	}
	c := dialAt(t, door)
	big := batch(t, record.None, strings.Repeat("v", 28_000))
	resp := ask[*kmsg.ProduceResponse](c, produceRequest(9, "t", topic.ID, big))
	if ms := resp.ThrottleMillis; ms < 300 || ms > 600 || resp.Topics[0].Partitions[0].ErrorCode != 0 {
		t.Errorf("28,000 bytes at 20,000 a second: throttled for %d ms, want about 400", ms)
	}
	begin := time.Now()
	free := s.dial(t)
	free.ask(&kmsg.MetadataRequest{Version: 9})
	others := time.Since(begin)
	c.ask(&kmsg.MetadataRequest{Version: 9})
	if took := time.Since(begin); took < 250*time.Millisecond || others >= took {
		t.Errorf("the connection is read after %v, another one after %v", took, others)
	}
	if r := ask[*kmsg.FetchResponse](c, fetchRequest(11, "t", topic.ID, 0)); r.ThrottleMillis < 4000 {
		t.Errorf("28,000 bytes at 5,000 a second: throttled for %d ms, want more than 4,000", r.ThrottleMillis)
	}
	if s.srv.Stats().Throttled < 2 {
		t.Error("throttled answers are not counted")
	}
}

// What a share group's member fetches is charged to the same quota; what it
// waits for records is not charged.
func TestQuotasOfShareFetches(t *testing.T) {
	s := startSite(t, guarded(t))
	topic := s.topic(t, "t", 1)
	door := s.door(t, Listener{Name: MainListener})
	free := s.dial(t)
	produced(free, produceRequest(9, "t", topic.ID, batch(t, record.None, strings.Repeat("v", 28_000))))
	wantCode(t, "earliest", setGroup(t, free, "s", catalog.GroupShareReset, "earliest"), nil)
	anonymous := "ANONYMOUS"
	limit := func(kind string, rate float64) {
		t.Helper()
		if _, err := s.Propose(t.Context(), catalog.AlterQuota{User: &anonymous, Set: map[string]float64{kind: rate}}); err != nil {
			t.Fatal(err)
		}
	}
	limit(catalog.QuotaRequest, 10) // 100 ms at once
	waits := shareFetchOf("late", "a", 0, topic.ID)
	waits.MaxWaitMillis = 300
	if r := ask[*kmsg.ShareFetchResponse](dialAt(t, door), waits); r.ErrorCode != 0 || r.ThrottleMillis != 0 {
		t.Errorf("300 ms of waiting: error %d, throttled for %d ms, want neither", r.ErrorCode, r.ThrottleMillis)
	}
	limit(catalog.QuotaFetch, 5_000)
	r := ask[*kmsg.ShareFetchResponse](dialAt(t, door), shareFetchOf("s", "a", 0, topic.ID))
	if wantHeld(t, r, "0-0x1"); r.ThrottleMillis < 4000 {
		t.Errorf("28,000 bytes at 5,000 a second: throttled for %d ms, want more than 4,000", r.ThrottleMillis)
	}
}

// A client that has used up its quota of partitions is refused, or throttled
// where it does not know the error (KIP-599).
func TestQuotaOfPartitions(t *testing.T) {
	s := startSite(t, guarded(t))
	door := s.door(t, Listener{Name: MainListener})
	anonymous := "ANONYMOUS"
	limit := func(rate float64) {
		t.Helper()
		if _, err := s.Propose(t.Context(), catalog.AlterQuota{User: &anonymous, Set: map[string]float64{catalog.QuotaMutation: rate}}); err != nil {
			t.Fatal(err)
		}
	}
	limit(0.5) // 5.5 at once
	quota := kerr.ThrottlingQuotaExceeded.Code
	create := func(version int16, validate bool, names ...string) *kmsg.CreateTopicsResponse {
		req := &kmsg.CreateTopicsRequest{Version: version, ValidateOnly: validate, TimeoutMillis: 5000}
		for _, n := range names {
			req.Topics = append(req.Topics, kmsg.CreateTopicsRequestTopic{Topic: n, NumPartitions: 4, ReplicationFactor: 1})
		}
		return ask[*kmsg.CreateTopicsResponse](dialAt(t, door), req)
	}
	if r := create(7, true, "v", "w", "x"); r.ThrottleMillis != 0 || r.Topics[2].ErrorCode != 0 {
		t.Errorf("what only validates: error %d, throttled for %d ms, want neither", r.Topics[2].ErrorCode, r.ThrottleMillis)
	}
	// 4 leave 1.5, 4 more owe 2.5; the third is refused.
	r := create(7, false, "a", "b", "c")
	if r.Topics[0].ErrorCode != 0 || r.Topics[1].ErrorCode != 0 || r.Topics[2].ErrorCode != quota {
		t.Errorf("errors %d, %d, %d, want 0, 0, %d", r.Topics[0].ErrorCode, r.Topics[1].ErrorCode, r.Topics[2].ErrorCode, quota)
	}
	if ms := r.ThrottleMillis; ms < 4000 || ms > 5000 {
		t.Errorf("2.5 partitions owed at 0.5 a second: throttled for %d ms, want about 5,000", ms)
	}
	if _, ok := s.State().Topic("c"); ok {
		t.Error("what was refused is there")
	}
	old := create(5, false, "d")
	if old.Topics[0].ErrorCode != 0 || old.ThrottleMillis < r.ThrottleMillis {
		t.Errorf("an older client: error %d, throttled for %d ms, want none and more than %d", old.Topics[0].ErrorCode, old.ThrottleMillis, r.ThrottleMillis)
	}
	more := func(version int16) *kmsg.CreatePartitionsResponse {
		req := &kmsg.CreatePartitionsRequest{Version: version, TimeoutMillis: 5000, Topics: []kmsg.CreatePartitionsRequestTopic{{Topic: "a", Count: 5 + int32(version)}}}
		return ask[*kmsg.CreatePartitionsResponse](dialAt(t, door), req)
	}
	if r := more(3); r.Topics[0].ErrorCode != quota || r.ThrottleMillis == 0 {
		t.Errorf("more partitions: error %d, throttled for %d ms, want %d and more than 0", r.Topics[0].ErrorCode, r.ThrottleMillis, quota)
	}
	if r := more(2); r.Topics[0].ErrorCode != 0 || r.ThrottleMillis <= old.ThrottleMillis {
		t.Errorf("more partitions by an older client: error %d, throttled for %d ms, want none and more than %d", r.Topics[0].ErrorCode, r.ThrottleMillis, old.ThrottleMillis)
	}
	remove := func(version int16) *kmsg.DeleteTopicsResponse {
		name := "b"
		return ask[*kmsg.DeleteTopicsResponse](dialAt(t, door), &kmsg.DeleteTopicsRequest{
			Version: version, TimeoutMillis: 5000, TopicNames: []string{name}, Topics: []kmsg.DeleteTopicsRequestTopic{{Topic: &name}}})
	}
	if r := remove(6); r.Topics[0].ErrorCode != quota {
		t.Errorf("a topic's end: error %d, want %d", r.Topics[0].ErrorCode, quota)
	}
	if r := remove(4); r.Topics[0].ErrorCode != 0 || r.ThrottleMillis == 0 {
		t.Errorf("a topic's end by an older client: error %d, throttled for %d ms, want none and more than 0", r.Topics[0].ErrorCode, r.ThrottleMillis)
	}
	limit(1e6)
	if r := create(7, false, "c"); r.Topics[0].ErrorCode != 0 || r.ThrottleMillis != 0 {
		t.Errorf("with a higher quota: error %d, throttled for %d ms, want neither", r.Topics[0].ErrorCode, r.ThrottleMillis)
	}
}

// Frames that came together are read without waiting, and not past the budget:
// the second has no room until the first gives its own back, and is refused
// when that takes too long.
func TestFramesThatCameTogetherKeepToTheBudget(t *testing.T) {
	for _, gives := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			client, server := net.Pipe()
			defer client.Close()
			defer server.Close()
			limits := Default().Limits
			r := frameReader{nc: server, br: bufio.NewReader(server), limits: limits, budget: newBudget(12), least: requestHeader}
			two := append([]byte{0, 0, 0, 8}, make([]byte, 8)...)
			two = append(two, two...)
			go func() { _, _ = client.Write(two) }()
			waiting := func() bool { return false }
			first, err := r.next(t.Context(), waiting)
			if err != nil || first.taken != 8 || len(first.bytes) != 8 {
				t.Fatalf("%d bytes, %d taken, %v", len(first.bytes), first.taken, err)
			}
			if gives {
				time.AfterFunc(limits.Frame/2, func() { r.budget.give(first.taken) })
			}
			begin := time.Now()
			second, err := r.next(t.Context(), waiting)
			switch took := time.Since(begin); {
			case gives && (err != nil || second.taken != 8 || took != limits.Frame/2):
				t.Errorf("%d taken after %v, %v", second.taken, took, err)
			case !gives && (err == nil || took != limits.Frame):
				t.Errorf("%v after %v, want no memory after %v", err, took, limits.Frame)
			}
		})
	}
}

// Who takes only what is free now does not go ahead of one who waits.
func TestTakeNowDoesNotOvertake(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBudget(10)
		if !b.takeNow(8) || b.takeNow(3) {
			t.Fatal("8 of 10 are free, 3 more are not")
		}
		got := make(chan int64)
		go func() {
			n, _ := b.take(t.Context(), 5)
			got <- n
		}()
		synctest.Wait()
		if b.takeNow(2) {
			t.Error("2 bytes were taken ahead of one who waits for 5")
		}
		b.give(8)
		if n := <-got; n != 5 || b.used() != 5 {
			t.Errorf("%d bytes, %d used; want 5", n, b.used())
		}
	})
}

// A frame that began together with another one and does not go on is given up
// as any other.
func TestFrameThatStopsBehindAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server := net.Pipe()
		defer client.Close()
		defer server.Close()
		limits := Default().Limits
		r := frameReader{nc: server, br: bufio.NewReader(server), limits: limits, budget: newBudget(100), least: requestHeader}
		go func() { _, _ = client.Write([]byte{0, 0, 0, 8, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0, 8, 1}) }()
		waiting := func() bool { return false }
		first, err := r.next(t.Context(), waiting)
		if err != nil || string(first.bytes) != "\x01\x02\x03\x04\x05\x06\x07\x08" {
			t.Fatalf("%v, %v", first.bytes, err)
		}
		begin := time.Now()
		if _, err := r.next(t.Context(), waiting); err == nil || time.Since(begin) != limits.Frame || r.budget.used() != 8 {
			t.Errorf("%v after %v with %d bytes held, want the end after %v with 8", err, time.Since(begin), r.budget.used(), limits.Frame)
		}
	})
}
