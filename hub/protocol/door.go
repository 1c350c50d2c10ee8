package protocol

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"sync/atomic"
	"time"

	"github.com/entrepot-hub/entrepot/hub/auth"
)

// Listener is one way in to the server, with its own security.
type Listener struct {
	// Name: clients are told the addresses that nodes have for it.
	Name string
	Net  net.Listener
	TLS  *tls.Config // nil: in clear
	SASL []string    // mechanisms of which one must be used; none: no login
	// Names make principals of client certificates.
	Names auth.NameRules
	// ReceiveBuffer is how many bytes the system keeps of a connection that the
	// server has not read yet; 0: as many as the system likes. What waits there
	// is what the client has sent already: with room for its whole queue, a
	// client that writes to many partitions sends records one by one, each a
	// request of its own, rather than gathering them into batches.
	ReceiveBuffer int
}

// prepare sets up a connection that has come in. A system that refuses keeps
// its own size.
func (d *Listener) prepare(nc net.Conn) {
	if c, ok := nc.(interface{ SetReadBuffer(bytes int) error }); ok && d.ReceiveBuffer > 0 {
		_ = c.SetReadBuffer(d.ReceiveBuffer)
	}
}

// MainListener is the name of the listener whose address is Node.Kafka.
const MainListener = "kafka"

// login is what a connection has proved so far.
type login struct {
	door      *Listener
	mechanism string        // chosen by SaslHandshake
	exchange  auth.Exchange // under way; nil: none
	bare      bool          // its tokens come without a request around them
	failed    bool          // the mechanism has said so; the error comes with the next answer
	session   *auth.Session // the last that succeeded
}

// strangerRequest is the largest request before a login, as Kafka's
// sasl.server.max.receive.size.
const strangerRequest = 512 << 10

// enter makes the TLS handshake and the login of a connection. Until it
// returns, nothing but ApiVersions and SASL's two APIs is answered, and
// nothing is held of the client but one request. All of it must be done within
// Limits.Login.
func (c *conn) enter(ctx context.Context) error {
	l := c.s.cfg.Limits
	if c.door == nil {
		c.who = auth.Internal()
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, l.Login)
	defer cancel()
	c.who = auth.Anonymous()
	if err := c.shakeHands(ctx); err != nil {
		return err
	}
	if len(c.door.SASL) == 0 {
		return nil
	}
	c.login = &login{door: c.door}
	frames := c.frames
	frames.budget, frames.limits.Request = c.s.strangers, strangerRequest
	frames.limits.Idle, frames.limits.Frame = l.Login, l.Login
	end, _ := ctx.Deadline()
	frames.end = end
	for c.login.session == nil {
		if err := c.loginStep(ctx, &frames); err != nil {
			return err
		}
	}
	c.who = c.login.session.Principal
	return nil
}

// shakeHands makes the TLS handshake, if the listener wants one.
func (c *conn) shakeHands(ctx context.Context) error {
	if c.door.TLS == nil {
		return nil
	}
	tc := tls.Server(&patientConn{Conn: c.nc}, c.door.TLS)
	c.nc, c.frames.nc = tc, tc
	c.frames.br.Reset(tc)
	if err := tc.HandshakeContext(ctx); err != nil {
		return fmt.Errorf("%w: TLS: %w", errNoEntry, err)
	}
	certs := tc.ConnectionState().PeerCertificates
	if len(certs) == 0 {
		return nil
	}
	who, err := c.door.Names.OfCertificate(certs[0])
	if err != nil {
		return err
	}
	c.who = who
	return nil
}

// errNoEntry ends a connection before its login.
var errNoEntry = errors.New("not let in")

// loginStep reads one request of a stranger and answers it.
func (c *conn) loginStep(ctx context.Context, frames *frameReader) error {
	bare := c.login.bare && (c.login.exchange != nil || c.login.failed)
	frames.least = requestHeader
	if bare {
		frames.least = 0
	}
	f, err := frames.next(ctx, func() bool { return false })
	if err != nil {
		return err
	}
	defer frames.budget.give(f.taken)
	if bare {
		return c.bareToken(ctx, f.bytes)
	}
	r, err := c.strangerRequest(f)
	if err != nil {
		return err
	}
	c.s.counts[r.api.key].Add(1)
	a, err := r.api.handle(c.s, ctx, r)
	if err != nil {
		return err
	}
	if err := c.send([]buffer{{b: appendResponse(nil, r, a.msg)}}); err != nil {
		return err
	}
	if a.close {
		return errLoginEnded
	}
	return nil
}

// errLoginEnded ends a connection whose client has been told why.
var errLoginEnded = fmt.Errorf("%w: no login", io.EOF)

// strangerRequest reads a request that may come before a login.
func (c *conn) strangerRequest(f frame) (*request, error) {
	key := int16(f.bytes[0])<<8 | int16(f.bytes[1])
	if key != apiVersionsKey && key != saslHandshakeKey && key != saslAuthenticateKey {
		return nil, fmt.Errorf("%w: API key %d before the login", errNoEntry, key)
	}
	if c.login.failed && key != saslAuthenticateKey {
		return nil, fmt.Errorf("%w: API key %d after a login that failed", errNoEntry, key)
	}
	r, err := parseRequest(f)
	if err != nil {
		return nil, err
	}
	c.introduce(r)
	return r, nil
}

// introduce writes on a request where it comes from.
func (c *conn) introduce(r *request) {
	r.local, r.host, r.who, r.login = c.nc.LocalAddr(), c.host, c.who, c.login
	r.fetches, r.shares = &c.fetches, &c.shares
	r.listener = MainListener
	if c.door != nil {
		r.listener = c.door.Name
	}
}

// bareToken takes a token of the flow of SaslHandshake v0. A failure has no
// answer but the mechanism's own, if it has one, and the end of the connection.
func (c *conn) bareToken(ctx context.Context, token []byte) error {
	if c.login.failed {
		return errLoginEnded
	}
	begin := c.s.cfg.Clock()
	r := &request{host: c.host, login: c.login}
	reply, err := c.s.logIn(ctx, r, token)
	if err != nil {
		c.s.refuse(ctx, r, begin, err)
		if c.login.failed = len(reply) > 0; !c.login.failed {
			return errLoginEnded
		}
	}
	n := len(reply)
	return c.send([]buffer{{b: append([]byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)}, reply...)}})
}

// admit decides on a request of a connection that was let in: a session that
// has ended allows nothing but to renew it.
func (c *conn) admit(r *request) error {
	if c.login == nil {
		return nil
	}
	if c.login.failed && r.api.key != saslAuthenticateKey {
		return fmt.Errorf("%w: the login was not renewed", errNoEntry)
	}
	r.who = c.login.session.Principal
	end := c.login.session.Expires
	if end.IsZero() || c.s.cfg.Clock().Before(end) || r.api.key == saslHandshakeKey || r.api.key == saslAuthenticateKey || r.api.key == apiVersionsKey {
		return nil
	}
	return fmt.Errorf("%w: the session ended at %v and was not renewed", errNoEntry, end)
}

// pacedLog lets one line a second through, so that strangers cannot fill the
// log.
type pacedLog struct{ last, held atomic.Int64 }

// now reports whether to write, and how many lines were held back since the
// last one.
func (p *pacedLog) now(at time.Time) (held int64, ok bool) {
	last := p.last.Load()
	if at.UnixNano()-last < int64(time.Second) || !p.last.CompareAndSwap(last, at.UnixNano()) {
		p.held.Add(1)
		return 0, false
	}
	return p.held.Swap(0), true
}

// patientConn is what TLS writes to. TLS does not survive a write that timed
// out; this one goes on, as the server does without TLS, as long as the client
// takes something within each deadline.
type patientConn struct {
	net.Conn
	patience atomic.Int64 // nanoseconds; 0: no deadline was set yet
}

func (c *patientConn) SetWriteDeadline(t time.Time) error {
	c.patience.Store(int64(time.Until(t)))
	return c.Conn.SetWriteDeadline(t)
}

func (c *patientConn) Write(b []byte) (n int, err error) {
	for {
		if d := time.Duration(c.patience.Load()); d > 0 {
			if err := c.Conn.SetWriteDeadline(time.Now().Add(d)); err != nil {
				return n, err
			}
		}
		m, err := c.Conn.Write(b[n:])
		if n += m; err == nil || m == 0 || !isTimeout(err) {
			return n, err
		}
	}
}
