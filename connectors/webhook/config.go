package webhook

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"github.com/entrepot-hub/entrepot/connectors"
	"github.com/entrepot-hub/entrepot/stream/expr"
)

// settings are the fields of the config in the form the writer needs.
type settings struct {
	method, body, contentType string
	json                      bool // values have to be JSON
	success                   *expr.Program
	lanes                     int
	timeout, retryFor         time.Duration
	allowed                   []netip.Prefix
	rate                      float64
	failures                  int
	pause                     time.Duration

	url     *url.URL // these four are revealed by Open
	bearer  string
	headers map[string]string
	secret  []byte
}

func settingsOf(cfg connectors.Config) (settings, error) {
	s := settings{
		method: cfg.String("method"), body: cfg.String("body"), contentType: cfg.String("content_type"),
		lanes: int(cfg.Int("concurrency")), timeout: cfg.Duration("timeout"), retryFor: cfg.Duration("retry_for"), rate: cfg.Float("rate"),
		failures: int(cfg.Object("breaker").Int("failures")), pause: cfg.Object("breaker").Duration("pause"),
	}
	s.json = s.contentType == "" || s.contentType == "application/json"
	switch {
	case s.body == "ndjson":
		s.json, s.contentType, s.lanes = true, "application/x-ndjson", 1
	case s.body == "array":
		s.json, s.contentType, s.lanes = true, "application/json", 1
	case s.contentType == "":
		s.contentType = "application/json"
	}
	for _, text := range cfg.Strings("allow_networks") {
		p, err := connectors.ParseNetwork(text)
		if err != nil {
			return s, err
		}
		s.allowed = append(s.allowed, p)
	}
	if text := cfg.String("success_when"); text != "" {
		var err error
		if s.success, err = expr.Compile(expr.Bool, text); err != nil {
			return s, fmt.Errorf("success_when: %w", err)
		}
	}
	return s, nil
}

// reveal resolves the secrets.
func (s *settings) reveal(cfg connectors.Config) error {
	text, err := cfg.Secret("url").Reveal()
	if err != nil {
		return fmt.Errorf("url: %w", err)
	}
	// The parser's error would show the address.
	if s.url, err = url.Parse(text); err != nil || s.url.Host == "" || s.url.Scheme != "https" && s.url.Scheme != "http" {
		return errors.New("url: it cannot be read, want https://host/path")
	}
	if s.bearer, err = cfg.Secret("bearer").Reveal(); err != nil {
		return fmt.Errorf("bearer: %w", err)
	}
	if !isHeaderValue(s.bearer) {
		return errors.New("bearer: it has characters that a header cannot have, such as a line end")
	}
	s.headers = map[string]string{}
	for name, value := range cfg.SecretMap("headers") {
		if s.headers[name], err = value.Reveal(); err != nil {
			return fmt.Errorf("headers: %s: %w", name, err)
		}
		if !isHeaderValue(s.headers[name]) {
			return fmt.Errorf("headers: the value of %s cannot be that of a header", name)
		}
	}
	secret, err := cfg.Secret("signing_secret").Reveal()
	if err != nil {
		return fmt.Errorf("signing_secret: %w", err)
	}
	s.secret = []byte(secret)
	if coded, ok := strings.CutPrefix(secret, "whsec_"); ok {
		if s.secret, err = base64.StdEncoding.DecodeString(coded); err != nil {
			return errors.New("signing_secret: what follows whsec_ is not base64")
		}
	}
	if cfg.Has("signing_secret") && len(s.secret) == 0 {
		return errors.New("signing_secret: it is empty")
	}
	return nil
}

// reserved are the headers that the sink sets itself.
var reserved = []string{"Idempotency-Key", "Content-Type", "Content-Length", "Host", "Authorization", "Transfer-Encoding", "Webhook-Id", "Webhook-Timestamp", "Webhook-Signature", keyHeader}

func checkHeaders(v any) error {
	for name := range v.(map[string]connectors.Secret) {
		if !isHeaderName(name) {
			return fmt.Errorf("%q cannot be the name of a header", name)
		}
		for _, r := range reserved {
			if strings.EqualFold(name, r) {
				return fmt.Errorf("%s is set by the sink itself (bearer, content_type and signing_secret are fields)", name)
			}
		}
	}
	return nil
}

func checkHeaderValue(v any) error {
	if !isHeaderValue(v.(string)) {
		return fmt.Errorf("%q cannot be the value of a header", v)
	}
	return nil
}

func checkExpression(v any) error {
	_, err := expr.Compile(expr.Bool, v.(string))
	return err
}

func checkRate(v any) error {
	if f := v.(float64); f < 0 || f > 1e6 || f != f {
		return fmt.Errorf("%v is out of range, want 0 to 1000000", v)
	}
	return nil
}

// isHeaderName tells a token of RFC 9110.
func isHeaderName(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool {
		return r <= ' ' || r >= 0x7f || strings.ContainsRune("()<>@,;:\\\"/[]?={}", r)
	})
}

// isHeaderValue tells a text that stays within its line.
func isHeaderValue(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f })
}
