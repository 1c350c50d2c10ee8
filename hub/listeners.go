package hub

import (
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/entrepot-hub/entrepot/connectors/strict"
	"github.com/entrepot-hub/entrepot/hub/auth"
	"github.com/entrepot-hub/entrepot/hub/protocol"
)

// dialTime is how long a connection to another site may take to come about.
const dialTime = 5 * time.Second

// ListenersConfig are the ports.
type ListenersConfig struct {
	Kafka KafkaListenerConfig `yaml:"kafka"`
	// Extra are more listeners of the Kafka protocol, by name, each with its
	// own security. Clients are told the addresses that nodes have for the
	// listener they came in on.
	Extra map[string]KafkaListenerConfig `yaml:"extra"`
	Admin AdminListenerConfig            `yaml:"admin"`
	// Peer is the port for the other nodes of the site. With TLS each node
	// shows the others its certificate, and client_ca verifies theirs.
	Peer AdminListenerConfig `yaml:"peer"`
	// Registry is the schema registry's port; addr "off" runs none.
	Registry LoginListenerConfig `yaml:"registry"`
	// Connect is the port of the Kafka-Connect-compatible REST API; addr "off"
	// runs none.
	Connect LoginListenerConfig `yaml:"connect"`
}

// ListenerConfig is one port: where to listen and what others are told.
type ListenerConfig struct {
	Addr      string `yaml:"addr"`      // host:port; an empty host is every interface
	Advertise string `yaml:"advertise"` // host:port; default: Addr, with the machine's name for an empty host
}

// KafkaListenerConfig is a port of the Kafka protocol with its security.
type KafkaListenerConfig struct {
	ListenerConfig `yaml:",inline"`
	TLS            *TLSConfig `yaml:"tls"`  // nil: in clear
	SASL           []string   `yaml:"sasl"` // mechanisms of which a client must use one; none: no login
	// ReceiveBuffer is how much of a connection the system keeps for the node
	// to read (Kafka's socket.receive.buffer.bytes, 100 KiB there). Default: 256KiB.
	// 0 lets the system choose, which suits few clients that are far away.
	ReceiveBuffer *strict.Size `yaml:"receive_buffer"`
}

// defaultReceiveBuffer is ReceiveBuffer when the file does not say it.
const defaultReceiveBuffer = 256 << 10

func (c KafkaListenerConfig) receiveBuffer() int {
	if c.ReceiveBuffer == nil {
		return defaultReceiveBuffer
	}
	return int(*c.ReceiveBuffer)
}

// LoginListenerConfig is a port of HTTP that can ask for a login: the schema
// registry, or the REST API for connectors.
type LoginListenerConfig struct {
	AdminListenerConfig `yaml:",inline"`
	// Login asks each request for a user and his password (HTTP Basic).
	// Default: nobody is asked.
	Login bool `yaml:"login"`
}

// AdminListenerConfig is a port of HTTP, such as the admin API with its console.
type AdminListenerConfig struct {
	ListenerConfig `yaml:",inline"`
	TLS            *TLSConfig `yaml:"tls"`
}

// TLSConfig are the files of a listener, in PEM. They are read again when they
// change.
type TLSConfig struct {
	Cert       string `yaml:"cert"`
	Key        string `yaml:"key"`
	ClientCA   string `yaml:"client_ca"`   // roots by which clients are verified
	ClientAuth string `yaml:"client_auth"` // none, request or require; default: require with client_ca, else none
}

func (c *TLSConfig) files() auth.TLSFiles {
	want := c.ClientAuth
	if want == "" && c.ClientCA != "" {
		want = auth.ClientRequire
	}
	return auth.TLSFiles{Cert: c.Cert, Key: c.Key, CA: c.ClientCA, ClientAuth: want}
}

// SecurityConfig says who may come in and do what.
type SecurityConfig struct {
	// Authorize has ACLs decide what clients may do. Default: everybody may do
	// everything.
	Authorize bool `yaml:"authorize"`
	// SuperUsers may do everything, as TYPE:NAME. The site's own jobs are
	// always among them.
	SuperUsers []string `yaml:"super_users"`
	// AllowWithoutACL opens what has no ACL at all to everyone (Kafka's
	// allow.everyone.if.no.acl.found). Default: false.
	AllowWithoutACL bool `yaml:"allow_without_acl"`
	// Users can log in with PLAIN and SCRAM beside those of the catalog.
	Users map[string]strict.Secret `yaml:"users"`
	OAuth *OAuthConfig             `yaml:"oauth"`
	// MaxReauth is after how long a client has to log in again (Kafka's
	// connections.max.reauth.ms). Default: as long as its credential lasts.
	MaxReauth time.Duration `yaml:"max_reauth"`
	// PrincipalRules make names of the subjects of client certificates
	// (Kafka's ssl.principal.mapping.rules). Default: the whole subject.
	PrincipalRules []string `yaml:"principal_rules"`
}

// OAuthConfig says whose bearer tokens are taken.
type OAuthConfig struct {
	Issuer         string `yaml:"issuer"`          // URL; its keys are found by OpenID Connect discovery
	Audience       string `yaml:"audience"`        // that a token must name
	PrincipalClaim string `yaml:"principal_claim"` // default: sub
	CA             string `yaml:"ca"`              // roots of the issuer's certificate; default: the system's
}

// LinksConfig is how this site's links reach the listeners of other sites, and
// which of its own listeners theirs are told.
type LinksConfig struct {
	// Listener is the name of the listener whose address the mesh tells other
	// sites. Default: kafka.
	Listener string           `yaml:"listener"`
	TLS      *ClientTLSConfig `yaml:"tls"`
	SASL     *ClientSASL      `yaml:"sasl"`
}

// ClientTLSConfig are the files of a client.
type ClientTLSConfig struct {
	CA         string `yaml:"ca"`   // default: the system's roots
	Cert       string `yaml:"cert"` // for listeners that want one
	Key        string `yaml:"key"`
	ServerName string `yaml:"server_name"` // in the server's certificate; default: the host that is dialled
}

// ClientSASL is a login at another site.
type ClientSASL struct {
	Mechanism string        `yaml:"mechanism"` // PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512
	Username  string        `yaml:"username"`
	Password  strict.Secret `yaml:"password"`
}

// names of the listeners of the Kafka protocol, the main one first.
func (c ListenersConfig) names() []string {
	return append([]string{protocol.MainListener}, slices.Sorted(maps.Keys(c.Extra))...)
}

func (c ListenersConfig) named(name string) KafkaListenerConfig {
	if name == protocol.MainListener {
		return c.Kafka
	}
	return c.Extra[name]
}

// path leads to a listener in the file.
func listenerPath(name string) []string {
	if name == protocol.MainListener {
		return []string{"listeners", name}
	}
	return []string{"listeners", "extra", name}
}

func (c Config) validateListeners() error {
	for _, name := range c.Listeners.names() {
		path := listenerPath(name)
		at := strings.Join(path, ".")
		l := c.Listeners.named(name)
		if _, extra := c.Listeners.Extra[protocol.MainListener]; extra || !nameForm.MatchString(name) {
			return wrong(fmt.Sprintf("listeners.extra.%s: want a name other than kafka in 1 to 63 letters, digits, '.', '_' or '-'", name), path...)
		}
		if _, _, err := net.SplitHostPort(l.Addr); err != nil {
			return wrong(fmt.Sprintf("%s.addr is %q: want host:port or :port", at, l.Addr), append(path, "addr")...)
		}
		if err := l.TLS.validate(at, path); err != nil {
			return err
		}
		if n := l.receiveBuffer(); n != 0 && (n < 16<<10 || n > 1<<30) {
			return wrong(fmt.Sprintf("%s.receive_buffer is %d bytes: want 16KiB to 1GiB, or 0", at, n), append(path, "receive_buffer")...)
		}
		for _, m := range l.SASL {
			if !slices.Contains(auth.Mechanisms(), m) {
				return wrong(fmt.Sprintf("%s.sasl has %q: want some of %s", at, m, strings.Join(auth.Mechanisms(), ", ")), append(path, "sasl")...)
			}
			if m == auth.OAuthBearer && c.Security.OAuth == nil {
				return wrong(fmt.Sprintf("%s.sasl has OAUTHBEARER: then security.oauth must say whose tokens are taken", at), append(path, "sasl")...)
			}
		}
	}
	if err := c.Listeners.Registry.TLS.validate("listeners.registry", []string{"listeners", "registry"}); err != nil {
		return err
	}
	if err := c.Listeners.Connect.TLS.validate("listeners.connect", []string{"listeners", "connect"}); err != nil {
		return err
	}
	if t := c.Listeners.Peer.TLS; t != nil && (t.ClientCA == "" || t.ClientAuth != "" && t.ClientAuth != auth.ClientRequire) {
		return wrong("listeners.peer.tls: nodes verify each other, so want client_ca, and no client_auth but require", "listeners", "peer", "tls")
	}
	if err := c.Listeners.Peer.TLS.validate("listeners.peer", []string{"listeners", "peer"}); err != nil {
		return err
	}
	return c.Listeners.Admin.TLS.validate("listeners.admin", []string{"listeners", "admin"})
}

func (c *TLSConfig) validate(at string, path []string) error {
	if c == nil {
		return nil
	}
	if err := c.files().Validate(); err != nil {
		return wrong(at+".tls: "+err.Error(), append(path, "tls")...)
	}
	return nil
}

func (c Config) validateSecurity() error {
	s, l := c.Security, c.Links
	if o := s.OAuth; o != nil && (o.Issuer == "" || o.Audience == "") {
		return wrong("security.oauth: want issuer (its URL) and audience (what a token must name)", "security", "oauth")
	}
	if s.MaxReauth < 0 || s.MaxReauth > 0 && s.MaxReauth < time.Second {
		return wrong(fmt.Sprintf("security.max_reauth is %s: want 1s or more, or nothing", s.MaxReauth), "security", "max_reauth")
	}
	for _, p := range s.SuperUsers {
		if _, err := auth.ParsePrincipal(p); err != nil {
			return wrong("security.super_users: "+err.Error(), "security", "super_users")
		}
	}
	if !s.Authorize && (len(s.SuperUsers) > 0 || s.AllowWithoutACL) {
		return wrong("security: super_users and allow_without_acl mean something with authorize: true only", "security")
	}
	if _, err := auth.ParseNameRules(s.PrincipalRules); err != nil {
		return wrong("security.principal_rules: "+err.Error(), "security", "principal_rules")
	}
	if l.Listener != "" && !slices.Contains(c.Listeners.names(), l.Listener) {
		return wrong(fmt.Sprintf("links.listener is %q: want one of the listeners, %s", l.Listener, strings.Join(c.Listeners.names(), ", ")), "links", "listener")
	}
	if l.TLS != nil && (l.TLS.Cert == "") != (l.TLS.Key == "") {
		return wrong("links.tls: cert and key go together", "links", "tls")
	}
	if l.SASL != nil && (!slices.Contains(auth.Mechanisms()[:3], l.SASL.Mechanism) || l.SASL.Username == "") {
		return wrong(fmt.Sprintf("links.sasl: want a username, and as mechanism one of %s", strings.Join(auth.Mechanisms()[:3], ", ")), "links", "sasl")
	}
	return nil
}
