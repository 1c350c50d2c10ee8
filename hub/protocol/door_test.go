package protocol

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/sasl"
	"github.com/twmb/franz-go/pkg/sasl/oauth"
	saslplain "github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"

	"github.com/entrepot-hub/entrepot/hub/auth"
	"github.com/entrepot-hub/entrepot/hub/catalog"
)

// door opens one more listener of a site and returns its address.
func (s *site) door(t testing.TB, l Listener) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Net = ln
	if l.Name == "" {
		l.Name = "door-" + ln.Addr().String()
		n, _ := s.State().Node(1)
		all := map[string]string{l.Name: ln.Addr().String()}
		for k, v := range n.Listeners {
			all[k] = v
		}
		if _, err := s.Propose(t.Context(), catalog.RegisterNode{Name: n.Name, Site: n.Site, Kafka: n.Kafka, Rack: n.Rack, Listeners: all}); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := s.srv.Serve(ctx, l); err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	t.Cleanup(func() { cancel(); wg.Wait() })
	return ln.Addr().String()
}

// enter opens a listener and connects to it.
func (s *site) enter(t testing.TB, l Listener) *rawConn { return dialAt(t, s.door(t, l)) }

func dialAt(t testing.TB, addr string) *rawConn {
	t.Helper()
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = nc.Close() })
	return &rawConn{t: t, nc: nc}
}

// tokens takes one bearer token.
type tokens struct{ ends time.Time }

func (k tokens) Verify(_ context.Context, token string) (string, time.Time, error) {
	if token != "right" {
		return "", time.Time{}, auth.ErrFailed
	}
	return "oscar", k.ends, nil
}

// guarded is a config with a user alice, password secret, and a token.
func guarded(t testing.TB) Config {
	t.Helper()
	creds := map[catalog.ScramMechanism]catalog.Scram{}
	for _, m := range []catalog.ScramMechanism{catalog.ScramSHA256, catalog.ScramSHA512} {
		c, err := auth.NewScram("alice", "secret", m, 4096, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		creds[m] = c
	}
	cfg := quick()
	cfg.Limits.Refuse = 20 * time.Millisecond
	cfg.SASL = auth.NewSASL(auth.SASLConfig{
		Scram: func(user string, m catalog.ScramMechanism) (catalog.Scram, bool) {
			c, ok := creds[m]
			return c, ok && user == "alice"
		},
		Tokens: tokens{time.Now().Add(time.Hour)},
	})
	return cfg
}

func mechanisms(user, password, token string) map[string]sasl.Mechanism {
	return map[string]sasl.Mechanism{
		auth.Plain:       saslplain.Auth{User: user, Pass: password}.AsMechanism(),
		auth.ScramSHA256: scram.Auth{User: user, Pass: password}.AsSha256Mechanism(),
		auth.ScramSHA512: scram.Auth{User: user, Pass: password}.AsSha512Mechanism(),
		auth.OAuthBearer: oauth.Auth{Token: token}.AsMechanism(),
	}
}

func TestEveryMechanismLetsItsUserIn(t *testing.T) {
	s := startSite(t, guarded(t))
	s.topic(t, "t", 1)
	addr := s.door(t, Listener{SASL: auth.Mechanisms()})
	for name, m := range mechanisms("alice", "secret", "right") {
		t.Run(name, func(t *testing.T) {
			cl := s.client(t, kgo.SeedBrokers(addr), kgo.SASL(m))
			if err := cl.ProduceSync(testContext(t), &kgo.Record{Topic: "t", Value: []byte("v")}).FirstErr(); err != nil {
				t.Fatal(err)
			}
		})
	}
	wrong := mechanisms("alice", "Secret", "wrong")
	for name, m := range wrong {
		t.Run("wrong "+name, func(t *testing.T) {
			cl := s.client(t, kgo.SeedBrokers(addr), kgo.SASL(m), kgo.RequestRetries(0))
			err := cl.Ping(testContext(t))
			want := kerr.SaslAuthenticationFailed.Message
			if name == auth.OAuthBearer {
				want = "oauth response" // this client stops at the mechanism's own answer
			}
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("got %v, want %s", err, want)
			}
		})
	}
	if n := s.srv.Stats().FailedLogins; n < 4 {
		t.Errorf("%d failed logins are counted, want 4 or more", n)
	}
}

// Whatever is wrong with a login, its answer is the same to the byte and comes
// no earlier than Limits.Refuse.
func TestAFailedLoginGivesNoHint(t *testing.T) {
	cfg := guarded(t)
	cfg.Limits.Refuse = 150 * time.Millisecond
	s := startSite(t, cfg)
	addr := s.door(t, Listener{SASL: auth.Mechanisms()})
	var first []byte
	for _, token := range []string{"\x00alice\x00wrong", "\x00nobody\x00secret", "\x00\x00", "alice", "\x00alice\x00", "bob\x00alice\x00secret", "\x00alice\x00secret\x00"} {
		c := dialAt(t, addr)
		if r := ask[*kmsg.SASLHandshakeResponse](c, &kmsg.SASLHandshakeRequest{Version: 1, Mechanism: auth.Plain}); r.ErrorCode != 0 || len(r.SupportedMechanisms) != 4 {
			t.Fatalf("%+v", r)
		}
		begin := time.Now()
		got := ask[*kmsg.SASLAuthenticateResponse](c, &kmsg.SASLAuthenticateRequest{Version: 2, SASLAuthBytes: []byte(token)})
		if took := time.Since(begin); took < 140*time.Millisecond {
			t.Errorf("%q is refused after %v", token, took)
		}
		wantCode(t, token, got.ErrorCode, kerr.SaslAuthenticationFailed)
		if b := got.AppendTo(nil); first == nil {
			first = b
		} else if string(b) != string(first) {
			t.Errorf("%q: the answer differs: %q", token, b)
		}
		c.closed()
	}
}

// A bearer token that is refused is answered by the mechanism (RFC 7628), then
// by the protocol, and nothing else is served in between.
func TestARefusedTokenIsToldTwice(t *testing.T) {
	s := startSite(t, guarded(t))
	addr := s.door(t, Listener{SASL: []string{auth.OAuthBearer}})
	token := []byte("n,,\x01auth=Bearer wrong\x01\x01")
	const told = `{"status":"invalid_token"}`
	begin := func() *rawConn {
		c := dialAt(t, addr)
		ask[*kmsg.SASLHandshakeResponse](c, &kmsg.SASLHandshakeRequest{Version: 1, Mechanism: auth.OAuthBearer})
		got := ask[*kmsg.SASLAuthenticateResponse](c, &kmsg.SASLAuthenticateRequest{Version: 2, SASLAuthBytes: token})
		if got.ErrorCode != 0 || string(got.SASLAuthBytes) != told {
			t.Fatalf("error %d and %q, want none and %q", got.ErrorCode, got.SASLAuthBytes, told)
		}
		return c
	}
	for _, next := range []string{"\x01", "n,,\x01auth=Bearer right\x01\x01", ""} {
		c := begin()
		got := ask[*kmsg.SASLAuthenticateResponse](c, &kmsg.SASLAuthenticateRequest{Version: 2, SASLAuthBytes: []byte(next)})
		wantCode(t, fmt.Sprintf("then %q", next), got.ErrorCode, kerr.SaslAuthenticationFailed)
		if n := c.closed(); n != 0 || len(got.SASLAuthBytes) > 0 {
			t.Errorf("then %q: %d more answers, %q in the last", next, n, got.SASLAuthBytes)
		}
	}
	for _, req := range []kmsg.Request{&kmsg.SASLHandshakeRequest{Version: 1, Mechanism: auth.OAuthBearer}, &kmsg.ApiVersionsRequest{Version: 3}, &kmsg.MetadataRequest{Version: 9}} {
		c := begin()
		c.send(req)
		if n := c.closed(); n != 0 {
			t.Errorf("%T was answered after a login that failed", req)
		}
	}
	if n := s.srv.Stats().FailedLogins; n != 6 {
		t.Errorf("%d failed logins are counted, want 6", n)
	}
	c := dialAt(t, addr)
	ask[*kmsg.SASLHandshakeResponse](c, &kmsg.SASLHandshakeRequest{Version: 0, Mechanism: auth.OAuthBearer})
	c.write(append([]byte{0, 0, 0, byte(len(token))}, token...))
	if b, err := c.frame(); err != nil || string(b) != told {
		t.Fatalf("a bare token is answered with %q, %v", b, err)
	}
	c.write([]byte{0, 0, 0, 1, 1})
	if n := c.closed(); n != 0 {
		t.Errorf("%d more answers to a bare token", n)
	}
}

// Before a login there is nothing but the three APIs that lead to it.
func TestAStrangerIsServedNothing(t *testing.T) {
	s := startSite(t, guarded(t))
	s.topic(t, "t", 1)
	addr := s.door(t, Listener{SASL: []string{auth.Plain}})
	everyVersion(func(a *api, req kmsg.Request) {
		if a.key == apiVersionsKey || a.key == saslHandshakeKey || a.key == saslAuthenticateKey {
			return
		}
		c := dialAt(t, addr)
		c.send(req)
		if n := c.closed(); n != 0 {
			t.Errorf("%s v%d was answered", a.name, req.GetVersion())
		}
	})
	c := dialAt(t, addr)
	ask[*kmsg.ApiVersionsResponse](c, &kmsg.ApiVersionsRequest{Version: 3})
	ask[*kmsg.SASLHandshakeResponse](c, &kmsg.SASLHandshakeRequest{Version: 1, Mechanism: auth.Plain})
	c.send(&kmsg.MetadataRequest{Version: 9})
	if n := c.closed(); n != 0 {
		t.Error("Metadata was answered in the middle of a login")
	}
	// What comes behind a login in one packet is not answered if it fails.
	c = dialAt(t, addr)
	f := kmsg.NewRequestFormatter()
	b := f.AppendRequest(nil, &kmsg.SASLHandshakeRequest{Version: 1, Mechanism: auth.Plain}, 1)
	b = append(b, f.AppendRequest(nil, &kmsg.SASLAuthenticateRequest{Version: 1, SASLAuthBytes: []byte("\x00alice\x00wrong")}, 2)...)
	b = append(b, f.AppendRequest(nil, &kmsg.MetadataRequest{Version: 9}, 3)...)
	c.write(b)
	if n := c.closed(); n != 2 {
		t.Errorf("%d answers, want the two of the login", n)
	}
	c = dialAt(t, addr)
	c.write(f.AppendRequest(nil, &kmsg.SASLHandshakeRequest{Version: 1, Mechanism: "GSSAPI"}, 1))
	if n := c.closed(); n != 1 {
		t.Errorf("%d answers to a mechanism that is not offered", n)
	}
	c = dialAt(t, addr)
	got := ask[*kmsg.SASLAuthenticateResponse](c, &kmsg.SASLAuthenticateRequest{Version: 1, SASLAuthBytes: []byte("\x00alice\x00secret")})
	wantCode(t, "without a handshake", got.ErrorCode, kerr.IllegalSaslState)
	c.closed()
	if got := ask[*kmsg.SASLHandshakeResponse](s.dial(t), &kmsg.SASLHandshakeRequest{Version: 1, Mechanism: auth.Plain}); got.ErrorCode != kerr.IllegalSaslState.Code {
		t.Errorf("a listener without SASL answers %d", got.ErrorCode)
	}
}

// The flow of SaslHandshake v0: tokens come bare.
func TestBareTokens(t *testing.T) {
	s := startSite(t, guarded(t))
	addr := s.door(t, Listener{SASL: []string{auth.Plain}})
	c := dialAt(t, addr)
	ask[*kmsg.SASLHandshakeResponse](c, &kmsg.SASLHandshakeRequest{Version: 0, Mechanism: auth.Plain})
	c.write([]byte("\x00\x00\x00\x0d\x00alice\x00secret"))
	if b, err := c.frame(); err != nil || len(b) != 0 {
		t.Fatalf("%q, %v", b, err)
	}
	ask[*kmsg.MetadataResponse](c, &kmsg.MetadataRequest{Version: 9})
	c = dialAt(t, addr)
	ask[*kmsg.SASLHandshakeResponse](c, &kmsg.SASLHandshakeRequest{Version: 0, Mechanism: auth.Plain})
	c.write([]byte("\x00\x00\x00\x04\x00a\x00b"))
	if n := c.closed(); n != 0 {
		t.Errorf("%d answers to a wrong password", n)
	}
}

// A session that ends is renewed on the same connection, by the same principal
// and mechanism, or ends the connection (KIP-368).
func TestSessionsEndAndAreRenewed(t *testing.T) {
	cfg := guarded(t)
	var now struct {
		sync.Mutex
		at time.Time
	}
	now.at = time.Now()
	clock := func() time.Time {
		now.Lock()
		defer now.Unlock()
		return now.at
	}
	pass := func(d time.Duration) {
		now.Lock()
		defer now.Unlock()
		now.at = now.at.Add(d)
	}
	alice, err := auth.NewScram("alice", "secret", catalog.ScramSHA512, 4096, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	bob := alice
	cfg.Clock = clock
	cfg.SASL = auth.NewSASL(auth.SASLConfig{MaxSession: time.Minute, Clock: clock, Scram: func(user string, m catalog.ScramMechanism) (catalog.Scram, bool) {
		if user == "bob" {
			return bob, m == catalog.ScramSHA512
		}
		return alice, user == "alice" && m == catalog.ScramSHA512
	}})
	s := startSite(t, cfg)
	addr := s.door(t, Listener{SASL: []string{auth.Plain, auth.ScramSHA512}})
	logIn := func(c *rawConn, user string) *kmsg.SASLAuthenticateResponse {
		t.Helper()
		r := ask[*kmsg.SASLHandshakeResponse](c, &kmsg.SASLHandshakeRequest{Version: 1, Mechanism: auth.Plain})
		wantCode(t, "handshake", r.ErrorCode, nil)
		return ask[*kmsg.SASLAuthenticateResponse](c, &kmsg.SASLAuthenticateRequest{Version: 1, SASLAuthBytes: []byte("\x00" + user + "\x00secret")})
	}
	c := dialAt(t, addr)
	if r := logIn(c, "alice"); r.SessionLifetimeMillis != 60_000 {
		t.Errorf("a session of %d ms, want 60,000", r.SessionLifetimeMillis)
	}
	pass(30 * time.Second)
	ask[*kmsg.MetadataResponse](c, &kmsg.MetadataRequest{Version: 9})
	pass(31 * time.Second) // over, but it may still be renewed
	wantCode(t, "renewed", logIn(c, "alice").ErrorCode, nil)
	ask[*kmsg.MetadataResponse](c, &kmsg.MetadataRequest{Version: 9})
	pass(61 * time.Second)
	c.send(&kmsg.MetadataRequest{Version: 9})
	if n := c.closed(); n != 0 {
		t.Error("a session that ended was served")
	}
	c = dialAt(t, addr)
	logIn(c, "alice")
	wantCode(t, "renewed by another", logIn(c, "bob").ErrorCode, kerr.SaslAuthenticationFailed)
	c.closed()
	c = dialAt(t, addr)
	logIn(c, "alice")
	r := ask[*kmsg.SASLHandshakeResponse](c, &kmsg.SASLHandshakeRequest{Version: 1, Mechanism: auth.ScramSHA512})
	wantCode(t, "another mechanism", r.ErrorCode, kerr.IllegalSaslState)
	c.closed()
}

// A handshake or login that does not come to its end is cut, and nobody else
// notices.
func TestUnfinishedLoginsAreCut(t *testing.T) {
	cfg := guarded(t)
	cfg.Limits.Login = 300 * time.Millisecond
	s := startSite(t, cfg)
	sasl := s.door(t, Listener{SASL: []string{auth.Plain}})
	secure := s.door(t, Listener{TLS: &tls.Config{GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return nil, nil }}})
	var all []*rawConn
	for range 100 {
		for _, addr := range []string{sasl, secure} {
			c := dialAt(t, addr)
			c.write([]byte{0x16, 0x03, 0x01, 0x00, 0xf0, 0x01})
			all = append(all, c)
		}
		dialAt(t, sasl) // says nothing at all
	}
	ask[*kmsg.ApiVersionsResponse](s.dial(t), &kmsg.ApiVersionsRequest{Version: 3})
	for _, c := range all {
		c.closed()
	}
	eventually(t, "all are cut", func() bool { return s.srv.Stats().Connections <= 1 })
}
