package protocol

import (
	"context"
	"fmt"
	"slices"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// SaslHandshake: v0-1
//
// Behaviour:
//   - Names the mechanism of the login that follows; the answer lists what the
//     listener offers. One that it does not offer ends the connection.
//   - After v0 the tokens come bare, each behind its length; after v1 as
//     SaslAuthenticate (KIP-152).
//   - On a connection that is logged in it begins a re-authentication (KIP-368),
//     with the mechanism of before.
//   - A listener without SASL answers ILLEGAL_SASL_STATE.
const saslHandshakeKey = 17

var saslHandshakeAPI = api{
	key: saslHandshakeKey, name: "SaslHandshake", min: 0, max: 1,
	shape:  body(lastVersion, str()),
	needs:  nothing,
	handle: (*Server).saslHandshake,
}

func (s *Server) saslHandshake(_ context.Context, r *request) (answer, error) {
	req, err := decode[kmsg.SASLHandshakeRequest](r)
	if err != nil {
		return answer{}, err
	}
	resp := kmsg.NewPtrSASLHandshakeResponse()
	resp.SetVersion(r.version)
	err = s.chooseMechanism(r, req.Mechanism)
	if r.login != nil {
		resp.SupportedMechanisms = r.login.door.SASL
	}
	resp.ErrorCode = code(err)
	return answer{msg: resp, close: err != nil}, nil
}

func (s *Server) chooseMechanism(r *request, mechanism string) error {
	l := r.login
	switch {
	case l == nil:
		return fmt.Errorf("%w: this listener asks for no login", errSASLState)
	case l.exchange != nil:
		return fmt.Errorf("%w: a login is under way", errSASLState)
	case l.session != nil && r.version == 0:
		return fmt.Errorf("%w: a login is renewed with SaslHandshake v1", errSASLState)
	case l.session != nil && mechanism != l.session.Mechanism:
		return fmt.Errorf("%w: a login is renewed with the mechanism that it was made with", errSASLState)
	case !slices.Contains(l.door.SASL, mechanism):
		return fmt.Errorf("%w: want one of %v", errMechanism, l.door.SASL)
	}
	l.exchange, _ = s.cfg.SASL.Begin(mechanism)
	l.mechanism, l.bare = mechanism, r.version == 0
	if l.exchange == nil {
		return fmt.Errorf("%w: want one of %v", errMechanism, l.door.SASL)
	}
	return nil
}
