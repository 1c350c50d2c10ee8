package protocol

import (
	"context"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/entrepot-hub/entrepot/hub/auth"
)

// SaslAuthenticate: v0-2
//
// Behaviour:
//   - Carries the messages of the mechanism that SaslHandshake named.
//   - A login that fails is answered with SASL_AUTHENTICATION_FAILED and always
//     the same text, at the same time after it was asked for (Limits.Refuse),
//     and ends the connection. What a mechanism itself says of a failure
//     (OAUTHBEARER, RFC 7628) is told before, without an error; the client answers
//     it with a byte that means nothing.
//   - A session that ends is answered with its remaining time. What comes later
//     than that, other than a renewed login, ends the connection (KIP-368). A
//     renewed login must be that of the same principal.
//
// Version notes:
//   - v1: session lifetime; v2: flexible
const saslAuthenticateKey = 36

var saslAuthenticateAPI = api{
	key: saslAuthenticateKey, name: "SaslAuthenticate", min: 0, max: 2,
	shape:  body(2, blob()),
	needs:  nothing,
	handle: (*Server).saslAuthenticate,
}

func (s *Server) saslAuthenticate(ctx context.Context, r *request) (answer, error) {
	begin := s.cfg.Clock()
	req, err := decode[kmsg.SASLAuthenticateRequest](r)
	if err != nil {
		return answer{}, err
	}
	resp := kmsg.NewPtrSASLAuthenticateResponse()
	resp.SetVersion(r.version)
	resp.SASLAuthBytes = []byte{}
	if r.login != nil && r.login.failed {
		s.tellFailure(r, resp)
		return answer{msg: resp, close: true}, nil
	}
	if r.login == nil || r.login.exchange == nil {
		err := fmt.Errorf("%w: SaslHandshake comes first, on a listener with SASL", errSASLState)
		resp.ErrorCode, resp.ErrorMessage = code(err), message(err)
		return answer{msg: resp, close: true}, nil
	}
	token, err := s.logIn(ctx, r, req.SASLAuthBytes)
	if err != nil {
		s.refuse(ctx, r, begin, err)
		if resp.SASLAuthBytes = token; len(token) > 0 {
			r.login.failed = true
			return answer{msg: resp}, nil
		}
		s.tellFailure(r, resp)
		return answer{msg: resp, close: true}, nil
	}
	resp.SASLAuthBytes = token
	if end := r.login.session; end != nil && !end.Expires.IsZero() {
		resp.SessionLifetimeMillis = max(1, end.Expires.Sub(s.cfg.Clock()).Milliseconds())
	}
	return answer{msg: resp}, nil
}

func (s *Server) tellFailure(r *request, resp *kmsg.SASLAuthenticateResponse) {
	resp.SASLAuthBytes = []byte{}
	resp.ErrorCode = code(auth.ErrFailed)
	resp.ErrorMessage = kmsg.StringPtr("authentication failed: invalid credentials with SASL mechanism " + r.login.mechanism)
}

// logIn takes one message of the login under way.
func (s *Server) logIn(ctx context.Context, r *request, token []byte) ([]byte, error) {
	l := r.login
	reply, done, err := l.exchange.Step(ctx, token)
	if err != nil || done == nil {
		return reply, err
	}
	if l.session != nil && l.session.Principal != done.Principal {
		return nil, fmt.Errorf("%w: a login is renewed by the principal that made it", auth.ErrFailed)
	}
	l.session, l.exchange = done, nil
	return reply, nil
}

// refuse logs a failed login and waits until its answer is due. The wait hides
// how long the check took.
func (s *Server) refuse(ctx context.Context, r *request, begin time.Time, err error) {
	s.refused.Add(1)
	if more, ok := s.loud.now(begin); ok {
		s.log.Warn("a login failed", "client", r.host, "mechanism", r.login.mechanism, "error", err, "more", more)
	}
	r.login.exchange = nil
	pause(ctx, s.cfg.Limits.Refuse-s.cfg.Clock().Sub(begin))
}
