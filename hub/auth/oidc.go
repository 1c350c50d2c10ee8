package auth

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
)

// OIDCConfig says whose tokens are taken.
type OIDCConfig struct {
	Issuer   string // URL; its keys are found by OpenID Connect discovery
	Audience string // that a token must name
	Claim    string // the principal's name; empty: sub
	// TLS of the connections to the issuer; nil: the system's roots.
	TLS   *tls.Config
	Clock func() time.Time // nil: time.Now
}

// OIDC verifies tokens of one issuer by its published keys. It asks the issuer
// when the first token comes, and again when a key is not known.
type OIDC struct {
	cfg    OIDCConfig
	client *http.Client
	asking chan struct{} // has room for the one who asks the issuer
	mu     struct {
		sync.Mutex
		verifier *oidc.IDTokenVerifier
		failed   time.Time // when the issuer did not answer
	}
}

// Times of an issuer: how long it may take, and how long it is left alone
// after it failed.
const (
	issuerTime  = 5 * time.Second
	issuerPause = time.Second
)

// NewOIDC returns an OIDC; it does not ask the issuer yet.
func NewOIDC(cfg OIDCConfig) *OIDC {
	if cfg.Clock == nil {
		cfg.Clock = time.Now
	}
	if cfg.Claim == "" {
		cfg.Claim = "sub"
	}
	transport := &http.Transport{TLSClientConfig: cfg.TLS, Proxy: http.ProxyFromEnvironment, DisableKeepAlives: true}
	return &OIDC{cfg: cfg, client: &http.Client{Timeout: issuerTime, Transport: transport}, asking: make(chan struct{}, 1)}
}

// Verify implements Tokens. Signature, issuer, audience, end and beginning of
// the token are verified; tokens without a signature have no algorithm that
// the issuer names and are refused.
func (o *OIDC) Verify(ctx context.Context, token string) (string, time.Time, error) {
	v, err := o.verifier(ctx)
	if err != nil {
		return "", time.Time{}, err
	}
	t, err := v.Verify(ctx, token)
	if err != nil {
		return "", time.Time{}, err
	}
	var claims map[string]any
	if err := t.Claims(&claims); err != nil {
		return "", time.Time{}, err
	}
	name, ok := claims[o.cfg.Claim].(string)
	if !ok || name == "" {
		return "", time.Time{}, fmt.Errorf("the token has no text in claim %s", o.cfg.Claim)
	}
	return name, t.Expiry, nil
}

var errIssuer = errors.New("the issuer of tokens did not answer a moment ago")

func (o *OIDC) verifier(ctx context.Context) (*oidc.IDTokenVerifier, error) {
	if v, err := o.known(); v != nil || err != nil {
		return v, err
	}
	select {
	case o.asking <- struct{}{}:
		defer func() { <-o.asking }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if v, err := o.known(); v != nil || err != nil {
		return v, err
	}
	// The provider keeps this context for fetching keys later on.
	keep := oidc.ClientContext(context.WithoutCancel(ctx), o.client)
	p, err := oidc.NewProvider(keep, o.cfg.Issuer)
	o.mu.Lock()
	defer o.mu.Unlock()
	if err != nil {
		o.mu.failed = o.cfg.Clock()
		return nil, fmt.Errorf("ask the issuer %s for its keys: %w", o.cfg.Issuer, err)
	}
	o.mu.verifier = p.VerifierContext(keep, &oidc.Config{ClientID: o.cfg.Audience, Now: o.cfg.Clock})
	return o.mu.verifier, nil
}

func (o *OIDC) known() (*oidc.IDTokenVerifier, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.mu.verifier == nil && o.cfg.Clock().Sub(o.mu.failed) < issuerPause {
		return nil, errIssuer
	}
	return o.mu.verifier, nil
}
