package auth

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"time"

	"github.com/entrepot-hub/entrepot/hub/catalog"
)

// The SASL mechanisms, by their registered names.
const (
	Plain       = "PLAIN"
	ScramSHA256 = "SCRAM-SHA-256"
	ScramSHA512 = "SCRAM-SHA-512"
	OAuthBearer = "OAUTHBEARER"
)

// Mechanisms are all there are.
func Mechanisms() []string { return []string{Plain, ScramSHA256, ScramSHA512, OAuthBearer} }

// SASLConfig is what logins are checked against.
type SASLConfig struct {
	// Scram finds a stored credential.
	Scram func(user string, m catalog.ScramMechanism) (catalog.Scram, bool)
	// Tokens verifies bearer tokens; nil: OAUTHBEARER fails.
	Tokens Tokens
	// MaxSession is after how long a client has to prove itself again
	// (KIP-368); 0: as long as its credential lasts.
	MaxSession time.Duration
	Clock      func() time.Time // nil: time.Now
}

// Tokens verifies bearer tokens.
type Tokens interface {
	// Verify returns the principal's name and when the token ends.
	Verify(ctx context.Context, token string) (name string, expires time.Time, err error)
}

// SASL checks logins.
type SASL struct {
	cfg      SASLConfig
	stranger stranger
	// turns bounds how many passwords are hashed at a time: a flood of logins
	// must leave the node some of its processors.
	turns chan struct{}
}

// NewSASL returns a SASL.
func NewSASL(cfg SASLConfig) *SASL {
	if cfg.Clock == nil {
		cfg.Clock = time.Now
	}
	if cfg.Scram == nil {
		cfg.Scram = func(string, catalog.ScramMechanism) (catalog.Scram, bool) { return catalog.Scram{}, false }
	}
	return &SASL{cfg: cfg, stranger: newStranger(), turns: make(chan struct{}, max(1, runtime.GOMAXPROCS(0)/2))}
}

// Exchange is one login under way. Step takes a message of the client and
// returns the answer; the session is there once the client has proved itself.
// Errors wrap ErrFailed, or are those of ctx. An answer beside an error is for the
// client, which is told of the failure after one more message of it.
type Exchange interface {
	Step(ctx context.Context, message []byte) (answer []byte, done *Session, err error)
}

// Begin starts a login with a mechanism; false: it is not one of Mechanisms.
func (s *SASL) Begin(mechanism string) (Exchange, bool) {
	switch mechanism {
	case Plain:
		return plainExchange{s}, true
	case ScramSHA256:
		return &scramExchange{s: s, mechanism: mechanism, kind: catalog.ScramSHA256}, true
	case ScramSHA512:
		return &scramExchange{s: s, mechanism: mechanism, kind: catalog.ScramSHA512}, true
	case OAuthBearer:
		return bearerExchange{s}, true
	}
	return nil, false
}

// Password checks a user and his password where no SASL is spoken.
func (s *SASL) Password(ctx context.Context, user, password string) error {
	x, _ := s.Begin(Plain)
	_, _, err := x.Step(ctx, []byte("\x00"+user+"\x00"+password))
	return err
}

func (s *SASL) session(name, mechanism string, credentialEnd time.Time) *Session {
	end := credentialEnd
	if s.cfg.MaxSession > 0 {
		if most := s.cfg.Clock().Add(s.cfg.MaxSession); end.IsZero() || most.Before(end) {
			end = most
		}
	}
	return &Session{Principal: User(name), Mechanism: mechanism, Expires: end}
}

// plainExchange is RFC 4616 against the credentials of SCRAM.
type plainExchange struct{ s *SASL }

// maxPassword bounds what is hashed, in bytes.
const maxPassword = 4096

func (x plainExchange) Step(ctx context.Context, message []byte) ([]byte, *Session, error) {
	parts := bytes.Split(message, []byte{0})
	if len(parts) != 3 {
		return nil, nil, fmt.Errorf("%w: the PLAIN message has %d parts, want 3", ErrFailed, len(parts))
	}
	authz, user, password := string(parts[0]), string(parts[1]), string(parts[2])
	if len(user) > maxPassword || len(password) > maxPassword {
		return nil, nil, fmt.Errorf("%w: a name or password of more than %d bytes", ErrFailed, maxPassword)
	}
	select {
	case x.s.turns <- struct{}{}:
		defer func() { <-x.s.turns }()
	case <-ctx.Done():
		return nil, nil, ctx.Err()
	}
	c, known := x.s.cfg.Scram(user, catalog.ScramSHA512)
	if !known {
		c, known = x.s.cfg.Scram(user, catalog.ScramSHA256)
	}
	if !known {
		c = x.s.stranger.credential(user, catalog.ScramSHA512)
	}
	fits := passwordFits(password, c) // always, so that all take as long
	switch {
	case !known || user == "":
		return nil, nil, fmt.Errorf("%w: no such user", ErrFailed)
	case !fits:
		return nil, nil, fmt.Errorf("%w: wrong password", ErrFailed)
	case authz != "" && authz != user:
		return nil, nil, fmt.Errorf("%w: the client wants to act as somebody else", ErrFailed)
	}
	return []byte{}, x.s.session(user, Plain, time.Time{}), nil
}

// bearerExchange is RFC 7628. A token that is refused has an answer of its own,
// which says no more than that (section 3.2.2).
type bearerExchange struct{ s *SASL }

const invalidToken = `{"status":"invalid_token"}`

func (x bearerExchange) Step(ctx context.Context, message []byte) ([]byte, *Session, error) {
	token, err := bearerToken(message)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrFailed, err)
	}
	name, expires, err := x.verify(ctx, token)
	if err != nil {
		return []byte(invalidToken), nil, fmt.Errorf("%w: %w", ErrFailed, err)
	}
	return []byte{}, x.s.session(name, OAuthBearer, expires), nil
}

func (x bearerExchange) verify(ctx context.Context, token string) (name string, expires time.Time, err error) {
	if x.s.cfg.Tokens == nil {
		return "", expires, errors.New("no issuer of tokens is configured")
	}
	name, expires, err = x.s.cfg.Tokens.Verify(ctx, token)
	if err == nil && !expires.After(x.s.cfg.Clock()) {
		err = errors.New("the token has expired")
	}
	return name, expires, err
}

// bearerToken reads "n,[a=…],^Aauth=Bearer TOKEN^A…^A^A".
func bearerToken(message []byte) (string, error) {
	parts := bytes.Split(message, []byte{1})
	if len(parts) < 4 || len(parts[len(parts)-1])+len(parts[len(parts)-2]) > 0 || !bytes.HasPrefix(parts[0], []byte("n,")) {
		return "", fmt.Errorf("the OAUTHBEARER message is not of the form of RFC 7628")
	}
	i := slices.IndexFunc(parts, func(p []byte) bool { return bytes.HasPrefix(p, []byte("auth=")) })
	if i < 0 {
		return "", fmt.Errorf("the OAUTHBEARER message has no token")
	}
	scheme, token, ok := bytes.Cut(parts[i][len("auth="):], []byte(" "))
	if !ok || !bytes.EqualFold(scheme, []byte("Bearer")) || len(token) == 0 {
		return "", fmt.Errorf("the OAUTHBEARER message has no bearer token")
	}
	return string(bytes.TrimSpace(token)), nil
}
