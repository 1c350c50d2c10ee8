package auth

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync/atomic"
	"time"
)

// TLSFiles are the files of one end of TLS connections, in PEM.
type TLSFiles struct {
	Cert string // own certificate, with those between it and the root
	Key  string
	CA   string // roots by which the other end is verified
	// ClientAuth: what a server wants of clients, one of the constants below.
	ClientAuth string
}

// What a server wants of its clients' certificates.
const (
	ClientNone    = "none"
	ClientRequest = "request" // one that is shown is verified
	ClientRequire = "require"
)

// checkEvery is how often, at most, the files are looked at; only when somebody
// connects.
const checkEvery = time.Second

// TLS is one end's certificates as its files have them: a change of the files
// holds for the next connection. Files that cannot be used leave what was there
// in force.
type TLS struct {
	files   TLSFiles
	log     *slog.Logger
	clock   func() time.Time
	current atomic.Pointer[loaded]
	looking atomic.Bool
	looked  atomic.Int64 // nanoseconds
}

// loaded is what the files held.
type loaded struct {
	config *tls.Config // of a server
	cert   *tls.Certificate
	roots  *x509.CertPool
	text   [3][]byte
}

// OpenTLS reads the files. A nil clock is time.Now.
func OpenTLS(files TLSFiles, log *slog.Logger, clock func() time.Time) (*TLS, error) {
	if clock == nil {
		clock = time.Now
	}
	t := &TLS{files: files, log: log, clock: clock}
	l, err := t.load()
	if err != nil {
		return nil, err
	}
	t.current.Store(l)
	t.looked.Store(clock().UnixNano())
	t.tellEnd(l)
	return t, nil
}

// Server is the configuration of a listener.
func (t *TLS) Server() *tls.Config {
	return &tls.Config{
		MinVersion:         tls.VersionTLS12,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return t.now().config, nil },
		// Not used, but a listener wants one.
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return t.now().cert, nil },
	}
}

// Client is the configuration of a connection to a server of that name.
func (t *TLS) Client(server string) *tls.Config {
	l := t.now()
	c := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: server, RootCAs: l.roots, Time: t.clock}
	if l.cert != nil {
		c.Certificates = []tls.Certificate{*l.cert}
	}
	return c
}

// now is what the files hold, looked at if it is time. One connection looks,
// the others take what is there.
func (t *TLS) now() *loaded {
	at := t.clock().UnixNano()
	if at-t.looked.Load() < int64(checkEvery) || !t.looking.CompareAndSwap(false, true) {
		return t.current.Load()
	}
	defer t.looking.Store(false)
	defer t.looked.Store(at)
	old := t.current.Load()
	text, err := t.read()
	if err == nil && same(text, old.text) {
		return old
	}
	var next *loaded
	if err == nil {
		next, err = t.parse(text)
	}
	if err != nil {
		t.log.Error("the new TLS files cannot be used, the ones before stay in force", "error", err)
		return old
	}
	t.current.Store(next)
	t.log.Info("TLS files were read anew", "cert", t.files.Cert, "ends", end(next))
	t.tellEnd(next)
	return next
}

func same(a, b [3][]byte) bool {
	return bytes.Equal(a[0], b[0]) && bytes.Equal(a[1], b[1]) && bytes.Equal(a[2], b[2])
}

func (t *TLS) load() (*loaded, error) {
	text, err := t.read()
	if err != nil {
		return nil, err
	}
	return t.parse(text)
}

func (t *TLS) read() (text [3][]byte, err error) {
	for i, name := range []string{t.files.Cert, t.files.Key, t.files.CA} {
		if name == "" {
			continue
		}
		if text[i], err = os.ReadFile(name); err != nil {
			return text, fmt.Errorf("TLS: %w", err)
		}
	}
	return text, nil
}

func (t *TLS) parse(text [3][]byte) (*loaded, error) {
	l := &loaded{text: text}
	if t.files.Cert != "" {
		cert, err := tls.X509KeyPair(text[0], text[1])
		if err != nil {
			return nil, fmt.Errorf("TLS: %s with the key %s: %w", t.files.Cert, t.files.Key, err)
		}
		l.cert = &cert
	}
	if t.files.CA != "" {
		l.roots = x509.NewCertPool()
		if !l.roots.AppendCertsFromPEM(text[2]) {
			return nil, fmt.Errorf("TLS: there is no certificate in %s, want PEM", t.files.CA)
		}
	}
	l.config = &tls.Config{
		MinVersion: tls.VersionTLS12, ClientCAs: l.roots, ClientAuth: clientAuth(t.files.ClientAuth), Time: t.clock,
		// A session that is taken up again would not be verified against the
		// roots of now.
		SessionTicketsDisabled: true,
	}
	if l.cert != nil {
		l.config.Certificates = []tls.Certificate{*l.cert}
	}
	return l, nil
}

func clientAuth(want string) tls.ClientAuthType {
	switch want {
	case ClientRequest:
		return tls.VerifyClientCertIfGiven
	case ClientRequire:
		return tls.RequireAndVerifyClientCert
	}
	return tls.NoClientCert
}

// tellEnd warns of a certificate that clients will refuse.
func (t *TLS) tellEnd(l *loaded) {
	if l.cert != nil && l.cert.Leaf != nil && t.clock().After(l.cert.Leaf.NotAfter) {
		t.log.Error("the certificate has expired: the other end will refuse it", "cert", t.files.Cert, "ended", l.cert.Leaf.NotAfter)
	}
}

func end(l *loaded) time.Time {
	if l.cert == nil || l.cert.Leaf == nil {
		return time.Time{}
	}
	return l.cert.Leaf.NotAfter
}

// Validate says what is wrong with a server's files without opening them.
func (f TLSFiles) Validate() error {
	switch f.ClientAuth {
	case "", ClientNone:
	case ClientRequest, ClientRequire:
		if f.CA == "" {
			return fmt.Errorf("client_auth %s needs client_ca, the roots to verify clients by", f.ClientAuth)
		}
	default:
		return fmt.Errorf("client_auth is %q: want none, request or require", f.ClientAuth)
	}
	if f.Cert == "" || f.Key == "" {
		return errors.New("TLS needs cert and key, two files in PEM")
	}
	return nil
}
