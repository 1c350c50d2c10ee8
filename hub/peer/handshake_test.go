package peer

import (
	"context"
	"crypto/x509/pkix"
	"errors"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/entrepot-hub/entrepot/hub/auth"
	"github.com/entrepot-hub/entrepot/hub/auth/authtest"
)

// What two ends think of each other.
func TestJudge(t *testing.T) {
	own := hello{min: 2, max: 4, class: Append, Identity: identity(1)}
	other := func(change func(*hello)) hello {
		h := hello{min: 2, max: 4, class: Append, Identity: identity(2)}
		change(&h)
		return h
	}
	call := func(h *hello) { h.class, h.callOnly = Control, true }
	for name, test := range map[string]struct {
		own     func(*hello)
		other   func(*hello)
		want    int32
		version uint16
		code    Refusal
	}{
		"same versions":            {other: func(*hello) {}, version: 4},
		"the node that was dialed": {other: func(*hello) {}, want: 2, version: 4},
		"newer":                    {other: func(h *hello) { h.min, h.max = 3, 9 }, version: 4},
		"older":                    {other: func(h *hello) { h.min, h.max = 1, 2 }, version: 2},
		"one in common":            {other: func(h *hello) { h.min, h.max = 4, 5 }, version: 4},
		"too new":                  {other: func(h *hello) { h.min, h.max = 5, 9 }, code: RefusedVersion},
		"too old":                  {other: func(h *hello) { h.min, h.max = 1, 1 }, code: RefusedVersion},
		"other cluster":            {other: func(h *hello) { h.Cluster[15]++ }, code: RefusedCluster},
		"other cluster, a call":    {own: call, other: func(h *hello) { call(h); h.Cluster[15]++ }, code: RefusedCluster},
		"own name":                 {other: func(h *hello) { h.Name = "n1" }, code: RefusedSelf},
		"own ID":                   {other: func(h *hello) { h.Node = 1 }, code: RefusedSelf},
		"another than dialed":      {other: func(*hello) {}, want: 3, code: RefusedNode},
		"known incarnation":        {other: func(h *hello) { h.Incarnation = 3 }, version: 4},
		"newer incarnation":        {other: func(h *hello) { h.Incarnation = 4 }, version: 4},
		"older incarnation":        {other: func(h *hello) { h.Node, h.Name = 3, "n3" }, code: RefusedIncarnation},
		"unregistered":             {other: func(h *hello) { h.Identity = Identity{Name: "new"} }, code: RefusedUnregistered},
		"unregistered, dialed":     {other: func(h *hello) { h.Identity = Identity{Name: "new"} }, want: 2, code: RefusedUnregistered},
		"unregistered itself":      {own: func(h *hello) { h.Identity = Identity{Name: "new"} }, other: func(*hello) {}, code: RefusedUnregistered},
		"unregistered calls":       {own: call, other: func(h *hello) { call(h); h.Identity = Identity{Name: "new"} }, version: 4},
		"two unregistered":         {own: func(h *hello) { call(h); h.Identity = Identity{Name: "new"} }, other: func(h *hello) { call(h); h.Identity = Identity{Name: "new2"} }, version: 4},
		"call in another class":    {own: func(h *hello) { h.callOnly = true }, other: func(h *hello) { h.callOnly = true }, code: RefusedHello},
		"another class":            {other: func(h *hello) { h.class = Bulk }, code: RefusedHello},
		"no such class":            {own: func(h *hello) { h.class = Classes }, other: func(h *hello) { h.class = Classes }, code: RefusedHello},
		"no name":                  {other: func(h *hello) { h.Name = "" }, code: RefusedHello},
		"an ID and no cluster":     {other: func(h *hello) { h.Cluster = ClusterID{} }, code: RefusedHello},
		"a cluster and no ID":      {other: func(h *hello) { h.Node = 0 }, code: RefusedHello},
		"negative ID":              {other: func(h *hello) { h.Node = -2 }, code: RefusedHello},
	} {
		t.Run(name, func(t *testing.T) {
			own := own
			if test.own != nil {
				test.own(&own)
			}
			version, refused := judge(own, other(test.other), test.want, func(node int32) uint32 {
				return map[int32]uint32{2: 0, 3: 1}[node]
			})
			code := Refusal(0)
			if refused != nil {
				code = refused.Code
			}
			if version != test.version || code != test.code {
				t.Errorf("version %d, refusal %d (%v); want %d and %d", version, code, refused, test.version, test.code)
			}
		})
	}
}

// shakeRaw is a dialing end by hand: it says hello and reads what the other
// end thinks; the last word is not said.
func shakeRaw(t *testing.T, m *memNet, addr string, h hello) net.Conn {
	t.Helper()
	nc, err := m.dial(t.Context(), "n2", addr)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := nc.Write(appendEnvelope(nil, h.text())); err != nil {
		t.Fatal(err)
	}
	if _, err := readHello(nc); err != nil {
		t.Fatal(err)
	}
	if refused, err := readVerdict(nc); err != nil || refused != nil {
		t.Fatalf("refused: %v, %v", refused, err)
	}
	return nc
}

// A connection whose last word comes after that of a newer one brings nothing.
func TestLateHandshake(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemNet()
		t.Cleanup(m.wg.Wait)
		a := newNode(t, m.config("n1", nil), identity(1))
		a.serve(m.listen("n1:1"))
		h := hello{min: 1, max: 1, class: Append, Identity: identity(2)}
		first, second := shakeRaw(t, m, "n1:1", h), shakeRaw(t, m, "n1:1", h)
		say := func(nc net.Conn, text string) {
			payload := net.Buffers{[]byte(text)}
			b := appendHeader(appendEnvelope(nil, verdictText(nil)), frame{kind: kindMessage, payload: payload})
			_, _ = nc.Write(append(b, text...))
		}
		say(second, "second")
		a.waitFrames("n2", Append, 1)
		say(first, "first")
		step(time.Second)
		synctest.Wait()
		if got := a.received("n2", Append); len(got) != 1 || string(got[0]) != "second" {
			t.Errorf("received %q, want only the second", got)
		}
		// A newer one takes the place.
		third := shakeRaw(t, m, "n1:1", h)
		say(third, "third")
		a.waitFrames("n2", Append, 2)
		if n, err := second.Read(make([]byte, 1)); err == nil {
			t.Errorf("the connection before goes on: %d bytes", n)
		}
		for _, nc := range []net.Conn{first, second, third} {
			_ = nc.Close()
		}
	})
}

// An end that says nothing does not stay.
func TestSilentHandshake(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemNet()
		t.Cleanup(m.wg.Wait)
		a := newNode(t, m.config("n1", nil), identity(1))
		a.serve(m.listen("n1:1"))
		nc, err := m.dial(t.Context(), "n2", "n1:1")
		if err != nil {
			t.Fatal(err)
		}
		at := time.Now()
		if _, err := nc.Read(make([]byte, 1)); err == nil {
			t.Error("an answer to nothing")
		}
		if took := time.Since(at); took != a.cfg.HandshakeTimeout {
			t.Errorf("cut after %v, want %v", took, a.cfg.HandshakeTimeout)
		}
		// Who is not a node is told from one.
		nc, err = m.dial(t.Context(), "n2", "n1:1")
		if err != nil {
			t.Fatal(err)
		}
		_, _ = nc.Write([]byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n"))
		if _, err := nc.Read(make([]byte, 1)); err == nil {
			t.Error("an answer to a browser")
		}
		if s := a.log.String(); !strings.Contains(s, "not as a peer port does") {
			t.Errorf("log: %s", s)
		}
	})
}

// secure is the configuration of a node with a certificate, and what the other
// end's is verified by.
func secure(t testing.TB, own authtest.Files, ca string) Config {
	t.Helper()
	tls, err := auth.OpenTLS(auth.TLSFiles{Cert: own.Cert, Key: own.Key, CA: ca, ClientAuth: auth.ClientRequire}, slog.New(slog.DiscardHandler), nil)
	if err != nil {
		t.Fatal(err)
	}
	cfg := patient()
	cfg.ServerTLS, cfg.ClientTLS = tls.Server(), tls.Client
	return cfg
}

// With certificates everything works as without, large frames and streams
// included; who has none of the right authority is refused, at both ends.
func TestTLS(t *testing.T) {
	ours, theirs := authtest.NewAuthority(t), authtest.NewAuthority(t)
	issue := func(a *authtest.Authority, name string) authtest.Files {
		return a.Issue(name, pkix.Name{CommonName: name}, time.Hour)
	}
	a := start(t, secure(t, issue(ours, "a"), ours.CA), identity(1))
	b := newNode(t, secure(t, issue(ours, "b"), ours.CA), identity(2))
	b.onStream = sender
	b.serve(listen(t, "127.0.0.1:0"))
	join(a, b)
	big := content("big", 5<<20)
	if !a.Send(2, Append, net.Buffers{big[:1], big[1:1000], big[1000:]}) {
		t.Fatal("not sent")
	}
	b.waitFrames("n1", Append, 1)
	if got := b.received("n1", Append)[0]; string(got) != string(big) {
		t.Errorf("a frame of %d bytes came as %d others", len(big), len(got))
	}
	if got, err := readStream(a, 2, "file", 3<<20); err != nil || string(got) != string(content("file", 3<<20)) {
		t.Errorf("a stream: %d bytes, %v", len(got), err)
	}

	for name, cfg := range map[string]Config{
		"other authority":         secure(t, issue(theirs, "x"), ours.CA),
		"trusts other authority":  secure(t, issue(ours, "y"), theirs.CA),
		"no TLS":                  patient(),
		"no TLS at the other end": patient(),
	} {
		x := newNode(t, cfg, Identity{Name: "x"})
		var err error
		if name == "no TLS at the other end" {
			x.serve(listen(t, "127.0.0.1:0"))
			_, err = a.CallAddr(t.Context(), x.addr, "join", nil)
		} else {
			_, err = x.CallAddr(t.Context(), a.addr, "join", nil)
		}
		var remote *RemoteError
		if err == nil || errors.As(err, &remote) {
			t.Errorf("%s: %v", name, err)
		}
		t.Logf("%s: %v", name, err)
	}
}

// A refusal of the other end is known as such; so is a context that ends.
func TestCallAddrErrors(t *testing.T) {
	a := start(t, patient(), identity(1))
	cfg := patient()
	cfg.MinVersion, cfg.MaxVersion = 7, 8
	b := newNode(t, cfg, Identity{Name: "new"})
	_, err := b.CallAddr(t.Context(), a.addr, "join", nil)
	var refused *RefusedError
	if !errors.As(err, &refused) || refused.Code != RefusedVersion || !strings.Contains(err.Error(), "7 to 8") {
		t.Errorf("versions: %v", err)
	}
	// A listener that never answers.
	ln := listen(t, "127.0.0.1:0")
	defer func() { _ = ln.Close() }()
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		nc, err := ln.Accept()
		cancel()
		if err == nil {
			_ = nc.Close()
		}
	})
	if _, err := newNode(t, patient(), Identity{Name: "new"}).CallAddr(ctx, ln.Addr().String(), "join", nil); err == nil {
		t.Error("an answer of who says nothing")
	}
	wg.Wait()
}
