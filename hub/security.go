package hub

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"maps"
	"net"
	"os"
	"slices"

	"github.com/entrepot-hub/entrepot/hub/admin"
	"github.com/entrepot-hub/entrepot/hub/auth"
	"github.com/entrepot-hub/entrepot/hub/catalog"
	"github.com/entrepot-hub/entrepot/hub/protocol"
	"github.com/entrepot-hub/entrepot/mirror"
)

// listen takes the ports of clients and of the admin API.
func (h *Hub) listen(ctx context.Context) error {
	rules, err := auth.ParseNameRules(h.cfg.Security.PrincipalRules)
	if err != nil {
		return err
	}
	var lc net.ListenConfig
	for _, name := range h.cfg.Listeners.names() {
		l := h.cfg.Listeners.named(name)
		door := protocol.Listener{Name: name, SASL: l.SASL, Names: rules, ReceiveBuffer: l.receiveBuffer()}
		if door.TLS, err = h.serverTLS(l.TLS); err != nil {
			return fmt.Errorf("listener %s: %w", name, err)
		}
		if door.Net, err = lc.Listen(ctx, "tcp", l.Addr); err != nil {
			return fmt.Errorf("the addr of listener %s, %s: %w; free the port or choose another", name, l.Addr, err)
		}
		h.doors = append(h.doors, door)
	}
	if h.adminLn, err = admin.Listen(ctx, h.cfg.Listeners.Admin.Addr); err != nil {
		return fmt.Errorf("listeners.admin.addr: %w", err)
	}
	if h.adminLn, err = h.secured(h.adminLn, h.cfg.Listeners.Admin.TLS); err != nil {
		return fmt.Errorf("listeners.admin: %w", err)
	}
	if h.peerLn, err = lc.Listen(ctx, "tcp", h.cfg.Listeners.Peer.Addr); err != nil {
		return fmt.Errorf("listeners.peer.addr %s: %w; free the port or choose another", h.cfg.Listeners.Peer.Addr, err)
	}
	if h.registryLn, err = h.optional(ctx, "registry", h.cfg.Listeners.Registry); err != nil {
		return err
	}
	h.connectLn, err = h.optional(ctx, "connect", h.cfg.Listeners.Connect)
	return err
}

// optional is a listener that a node can do without.
func (h *Hub) optional(ctx context.Context, name string, c LoginListenerConfig) (net.Listener, error) {
	if c.Addr == Off {
		return nil, nil
	}
	var lc net.ListenConfig
	ln, err := lc.Listen(ctx, "tcp", c.Addr)
	if err != nil {
		return nil, fmt.Errorf("listeners.%s.addr %s: %w; free the port, choose another, or run without with \"off\"", name, c.Addr, err)
	}
	secure, err := h.secured(ln, c.TLS)
	if err != nil {
		_ = ln.Close()
		return nil, fmt.Errorf("listeners.%s: %w", name, err)
	}
	return secure, nil
}

// secured puts TLS before a listener of HTTP, if it wants it.
func (h *Hub) secured(ln net.Listener, c *TLSConfig) (net.Listener, error) {
	secure, err := h.serverTLS(c)
	if err != nil || secure == nil {
		return ln, err
	}
	return tls.NewListener(ln, secure), nil
}

func (h *Hub) serverTLS(c *TLSConfig) (*tls.Config, error) {
	if c == nil {
		return nil, nil
	}
	t, err := auth.OpenTLS(c.files(), h.log.With("part", "tls"), nil)
	if err != nil {
		return nil, err
	}
	return t.Server(), nil
}

// address is what clients are told of a listener, once it is bound.
func (h *Hub) address(name string) string {
	for _, d := range h.doors {
		if d.Name == name {
			return h.cfg.Listeners.named(name).advertised(d.Net.Addr())
		}
	}
	return ""
}

// extraAddresses are those of the listeners besides the main one.
func (h *Hub) extraAddresses() map[string]string {
	all := map[string]string{}
	for _, d := range h.doors {
		if d.Name != protocol.MainListener {
			all[d.Name] = h.address(d.Name)
		}
	}
	if len(all) == 0 {
		return nil
	}
	return all
}

// logins is what clients' logins are checked against: the users of the file,
// then those of the catalog.
func (h *Hub) logins() (*auth.SASL, error) {
	users, err := h.cfg.Security.credentials()
	if err != nil {
		return nil, err
	}
	cfg := auth.SASLConfig{MaxSession: h.cfg.Security.MaxReauth}
	cfg.Scram = func(user string, m catalog.ScramMechanism) (catalog.Scram, bool) {
		if both, ok := users[user]; ok {
			return both[m-1], true
		}
		return h.meta.State().Security().FindScram(user, m)
	}
	if o := h.cfg.Security.OAuth; o != nil {
		var roots *tls.Config
		if o.CA != "" {
			pem, err := os.ReadFile(o.CA)
			if err != nil {
				return nil, fmt.Errorf("security.oauth.ca: %w", err)
			}
			roots = &tls.Config{RootCAs: x509.NewCertPool(), MinVersion: tls.VersionTLS12}
			if !roots.RootCAs.AppendCertsFromPEM(pem) {
				return nil, fmt.Errorf("security.oauth.ca: there is no certificate in %s, want PEM", o.CA)
			}
		}
		cfg.Tokens = auth.NewOIDC(auth.OIDCConfig{Issuer: o.Issuer, Audience: o.Audience, Claim: o.PrincipalClaim, TLS: roots})
	}
	return auth.NewSASL(cfg), nil
}

// authorize is how ACLs decide; nil: they do not.
func (c SecurityConfig) authorize() *protocol.Authorize {
	if !c.Authorize {
		return nil
	}
	a := &protocol.Authorize{Open: c.AllowWithoutACL}
	for _, text := range c.SuperUsers {
		if p, err := auth.ParsePrincipal(text); err == nil { // Validate has seen to it
			a.Supers = append(a.Supers, p)
		}
	}
	return a
}

// credentials derives those of the users in the file, by mechanism - 1. They
// begin with a new salt at each start, which is nobody's concern: clients keep
// passwords, not salts.
func (c SecurityConfig) credentials() (map[string][2]catalog.Scram, error) {
	users := map[string][2]catalog.Scram{}
	for _, name := range slices.Sorted(maps.Keys(c.Users)) {
		password, err := c.Users[name].Reveal()
		if err != nil {
			return nil, fmt.Errorf("security.users.%s: %w", name, err)
		}
		var both [2]catalog.Scram
		for i := range both {
			if both[i], err = auth.NewScram(name, password, catalog.ScramMechanism(i+1), catalog.MinScramIterations, rand.Reader); err != nil {
				return nil, fmt.Errorf("security.users.%s: %w", name, err)
			}
		}
		users[name] = both
	}
	return users, nil
}

// linkSecurity is how links reach listeners of other sites that ask for more
// than an address.
func (h *Hub) linkSecurity(c *mirror.Config) error {
	l := h.cfg.Links
	if l.SASL != nil {
		c.Login = &mirror.Login{Mechanism: l.SASL.Mechanism, User: l.SASL.Username, Password: l.SASL.Password.Reveal}
	}
	if l.TLS == nil {
		return nil
	}
	t, err := auth.OpenTLS(auth.TLSFiles{Cert: l.TLS.Cert, Key: l.TLS.Key, CA: l.TLS.CA}, h.log.With("part", "tls"), nil)
	if err != nil {
		return fmt.Errorf("links.tls: %w", err)
	}
	name := l.TLS.ServerName
	c.Dial = func(ctx context.Context, network, addr string) (net.Conn, error) {
		server := name
		if host, _, err := net.SplitHostPort(addr); err == nil && server == "" {
			server = host
		}
		d := tls.Dialer{NetDialer: &net.Dialer{Timeout: dialTime}, Config: t.Client(server)}
		return d.DialContext(ctx, network, addr)
	}
	return nil
}
