package auth

import (
	"bytes"
	"crypto/tls"
	"crypto/x509/pkix"
	"io"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/entrepot-hub/entrepot/hub/auth/authtest"
)

// issue makes a certificate in the form of this package.
func issue(a *authtest.Authority, name, cn string, ends time.Duration) TLSFiles {
	f := a.Issue(name, pkix.Name{CommonName: cn}, ends)
	return TLSFiles{Cert: f.Cert, Key: f.Key, CA: a.CA}
}

func write(t testing.TB, name string, b []byte) {
	t.Helper()
	if err := os.WriteFile(name, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// stepped is a clock that a test moves.
type stepped struct {
	mu sync.Mutex
	at time.Time
}

func (c *stepped) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *stepped) pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

// shake makes a TLS handshake over loopback; it returns the server's error, the
// client's, and the name of the certificate that the server showed.
func shake(t *testing.T, server, client *tls.Config) (name string, serverErr, clientErr error) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ln.Close() }()
	b, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	a, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	for _, nc := range []net.Conn{a, b} {
		_ = nc.SetDeadline(time.Now().Add(10 * time.Second))
	}
	defer func() { _ = a.Close(); _ = b.Close() }()
	s, c := tls.Server(a, server), tls.Client(b, client)
	var wg sync.WaitGroup
	wg.Go(func() {
		serverErr = s.HandshakeContext(t.Context())
		if serverErr != nil {
			_ = a.Close()
			return
		}
		_, _ = s.Write([]byte{1})
	})
	clientErr = c.HandshakeContext(t.Context())
	if clientErr == nil {
		name = c.ConnectionState().PeerCertificates[0].Subject.CommonName
		_, clientErr = io.ReadFull(c, make([]byte, 1)) // a refused client learns of it here
	}
	_ = b.Close()
	wg.Wait()
	return name, serverErr, clientErr
}

func open(t *testing.T, f TLSFiles, log *slog.Logger, clock func() time.Time) *TLS {
	t.Helper()
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	x, err := OpenTLS(f, log, clock)
	if err != nil {
		t.Fatal(err)
	}
	return x
}

// A certificate that is changed on disk is the next connection's; a broken one
// is nobody's, and the log says so.
func TestTLSFollowsItsFiles(t *testing.T) {
	a := authtest.NewAuthority(t)
	f := issue(a, "server", "first", time.Hour)
	clock := &stepped{at: time.Now()}
	var said bytes.Buffer
	server := open(t, f, slog.New(slog.NewTextHandler(&said, nil)), clock.now)
	client := open(t, TLSFiles{CA: f.CA}, nil, nil)
	expect := func(want string) {
		t.Helper()
		clock.pass(2 * time.Second)
		name, sErr, cErr := shake(t, server.Server(), client.Client("localhost"))
		if name != want || sErr != nil || cErr != nil {
			t.Errorf("the certificate of %q (%v, %v), want %q", name, sErr, cErr, want)
		}
	}
	expect("first")
	issue(a, "server", "second", time.Hour)
	expect("second")
	write(t, f.Cert, []byte("half a certifi"))
	expect("second")
	if !strings.Contains(said.String(), "stay in force") || !strings.Contains(said.String(), f.Cert) {
		t.Errorf("the log says nothing of the broken file: %s", &said)
	}
	if err := os.Remove(f.Key); err != nil {
		t.Fatal(err)
	}
	expect("second")
	issue(a, "server", "third", time.Hour)
	expect("third")
	// Another authority for the clients takes effect at once, too.
	required := f
	required.ClientAuth = ClientRequire
	server = open(t, required, slog.New(slog.DiscardHandler), clock.now)
	me := issue(a, "me", "me", time.Hour)
	mine := open(t, me, nil, nil).Client("localhost")
	mine.ClientSessionCache = tls.NewLRUClientSessionCache(4)
	for range 2 {
		if _, sErr, cErr := shake(t, server.Server(), mine); sErr != nil || cErr != nil {
			t.Fatal(sErr, cErr)
		}
	}
	write(t, f.CA, authtest.NewAuthority(t).PEM())
	clock.pass(2 * time.Second)
	if _, sErr, _ := shake(t, server.Server(), mine); sErr == nil {
		t.Error("a client of the authority that was taken away is let in")
	}
}

func TestClientCertificates(t *testing.T) {
	a := authtest.NewAuthority(t)
	f := issue(a, "server", "server", time.Hour)
	good := open(t, issue(a, "alice", "alice", time.Hour), nil, nil)
	late := open(t, issue(a, "late", "late", -time.Minute), nil, nil)
	none := open(t, TLSFiles{CA: f.CA}, nil, nil)
	foreign := open(t, issue(authtest.NewAuthority(t), "alice", "alice", time.Hour), nil, nil).Client("localhost")
	foreign.RootCAs = none.Client("").RootCAs
	for _, c := range []struct {
		auth, what string
		client     *tls.Config
		in         bool
	}{
		{ClientNone, "none", none.Client("localhost"), true},
		{ClientRequest, "none", none.Client("localhost"), true},
		{ClientRequest, "good", good.Client("localhost"), true},
		{ClientRequest, "expired", late.Client("localhost"), false},
		{ClientRequest, "foreign", foreign, false},
		{ClientRequire, "none", none.Client("localhost"), false},
		{ClientRequire, "good", good.Client("localhost"), true},
		{ClientRequire, "expired", late.Client("localhost"), false},
		{ClientRequire, "foreign", foreign, false},
		{ClientRequire, "the server has another name", good.Client("example.org"), false},
	} {
		f.ClientAuth = c.auth
		_, sErr, cErr := shake(t, open(t, f, nil, nil).Server(), c.client)
		if in := sErr == nil && cErr == nil; in != c.in {
			t.Errorf("%s, %s: let in %v (%v, %v), want %v", c.auth, c.what, in, sErr, cErr, c.in)
		}
	}
	old := issue(a, "old", "old", -time.Minute)
	if _, _, cErr := shake(t, open(t, old, nil, nil).Server(), none.Client("localhost")); cErr == nil {
		t.Error("a server with an expired certificate is believed")
	}
}

func TestTLSFilesAreJudged(t *testing.T) {
	for want, f := range map[string]TLSFiles{
		"two files in PEM":      {Cert: "c"},
		"needs client_ca":       {Cert: "c", Key: "k", ClientAuth: ClientRequire},
		`client_auth is "ever"`: {Cert: "c", Key: "k", ClientAuth: "ever"},
	} {
		if err := f.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want %s", f, err, want)
		}
	}
	if _, err := OpenTLS(TLSFiles{Cert: "nowhere", Key: "nowhere"}, nil, nil); err == nil {
		t.Error("files that are not there are opened")
	}
}
