package hub

import (
	"strings"
	"testing"
	"time"

	"github.com/entrepot-hub/entrepot/connectors/strict"
)

func noReferences() strict.Options {
	return strict.Options{Env: func(name string) (string, bool) {
		return map[string]string{"MESH_KEY": "MTIzNDU2Nzg5MDEyMzQ1Ng=="}[name], name == "MESH_KEY"
	}}
}

// TestParseTheContract reads the file of the overview, for a site of one node.
func TestParseTheContract(t *testing.T) {
	c, errs := Parse("etc/node.yaml", []byte(`
node:      {id: fra-1, site: fra, data_dir: /var/lib/entrepot}
listeners: {kafka: {addr: ":9092", advertise: "fra-1.example:9092"}, admin: {addr: ":8080"}, peer: {addr: ":7948"}, registry: {addr: ":8081"}, connect: {addr: ":8083"}}
mesh:      {lan: {addr: ":7946", join: ["fra-2:7946"]}, wan: {addr: ":7947", join: ["nyc-1:7947"]}, key: "${env:MESH_KEY}"}
cluster:   {bootstrap_expect: 1, fetch_rate: 10MiB}
scrub:     {rate: 1MiB, every: 24h}
jobs:      [configs/*.yaml, /abs/one.yaml]
plugins:   [{name: one, path: bin/one, sha256: "`+strings.Repeat("0", 64)+`"}]
`), Default(), noReferences())
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	if c.Node.ID != "fra-1" || c.Listeners.Kafka.Advertise != "fra-1.example:9092" || c.Mesh.WAN.Join[0] != "nyc-1:7947" {
		t.Errorf("%+v", c)
	}
	if c.Cluster.FetchRate != 10<<20 || Default().Cluster.FetchRate != 64<<20 {
		t.Errorf("fetch_rate %d, without it %d", c.Cluster.FetchRate, Default().Cluster.FetchRate)
	}
	if c.Scrub != (ScrubConfig{1 << 20, 24 * time.Hour}) || Default().Scrub != (ScrubConfig{8 << 20, 168 * time.Hour}) {
		t.Errorf("scrub %+v, without it %+v", c.Scrub, Default().Scrub)
	}
	if c.Jobs[0] != "etc/configs/*.yaml" || c.Jobs[1] != "/abs/one.yaml" {
		t.Errorf("jobs %q, want them relative to the file", c.Jobs)
	}
	if c.Plugins[0].Path != "etc/bin/one" {
		t.Errorf("plugin %q, want it relative to the file", c.Plugins[0].Path)
	}
	if id := c.siteID(); id < 1 || id > 32767 {
		t.Errorf("site ID %d", id)
	}
}

func TestParseRefuses(t *testing.T) {
	const head = "node: {id: a-1, site: a}\n"
	for text, want := range map[string]string{
		"":                                     `n.yaml:1:1: node.id is ""`,
		"node: {id: a-1, site: a b}\n":         `n.yaml:1:23: node.site is "a b"`,
		"node: {id: a-1, sit: a}\n":            `n.yaml:1:17: unknown key "sit"; did you mean "site"?`,
		head + "listners: {}\n":                `n.yaml:2:1: unknown key "listners"; did you mean "listeners"?`,
		head + "listeners: {kafka: {addr: 9}}": `n.yaml:2:`,
		head + "plugins: [{name: a b, path: p, sha256: x}]":                                                                                              `n.yaml:2:18: plugin name "a b": want lower case letters`,
		head + "plugins: [{name: a, path: p, sha256: abc}]":                                                                                              `n.yaml:2:38: plugin a: sha256 is "abc", want the 64 digits`,
		head + "plugins: [{name: a, path: p, sha256: '" + strings.Repeat("0", 64) + "', timeout: 1ms}]":                                                  `plugin a: timeout is 1ms, want 1s or more`,
		head + "plugins: [{name: a, path: p, sha256: '" + strings.Repeat("0", 64) + "'}, {name: a, path: q, sha256: '" + strings.Repeat("0", 64) + "'}]": `there are two plugins "a"`,
		head + "listeners: {kafka: {addr: localhost}}":                                                                                                   `n.yaml:2:27: listeners.kafka.addr is "localhost": want host:port or :port`,
		head + "listeners: {registry: {addr: on}}":                                                                                                       `n.yaml:2:30: listeners.registry.addr is "on": want host:port or :port`,
		head + "listeners: {connect: {addr: on}}":                                                                                                        `n.yaml:2:29: listeners.connect.addr is "on": want host:port or :port`,
		head + "listeners: {extra: {kafka: {addr: \":1\"}}}":                                                                                             `listeners.extra.kafka: want a name other than kafka`,
		head + "listeners: {extra: {in: {addr: here}}}":                                                                                                  `n.yaml:2:32: listeners.extra.in.addr is "here"`,
		head + "listeners: {kafka: {receive_buffer: 1KiB}}":                                                                                              `n.yaml:2:37: listeners.kafka.receive_buffer is 1024 bytes: want 16KiB to 1GiB, or 0`,
		head + "listeners: {kafka: {sasl: [GSSAPI]}}":                                                                                                    `listeners.kafka.sasl has "GSSAPI"`,
		head + "listeners: {kafka: {sasl: [OAUTHBEARER]}}":                                                                                               `security.oauth must say whose tokens`,
		head + "listeners: {kafka: {tls: {cert: c}}}":                                                                                                    `listeners.kafka.tls: TLS needs cert and key`,
		head + "listeners: {kafka: {tls: {cert: c, key: k, client_auth: require}}}":                                                                      `needs client_ca`,
		head + "listeners: {admin: {tls: {certs: c}}}":                                                                                                   `unknown key "certs"; did you mean "cert"?`,
		head + "security: {super_users: [\"User:a\"]}":                                                                                                   `with authorize: true only`,
		head + "security: {authorize: true, super_users: [admin]}":                                                                                       `principal "admin": want TYPE:NAME`,
		head + "security: {principal_rules: [x]}":                                                                                                        `principal rule "x"`,
		head + "security: {max_reauth: 1ms}":                                                                                                             `security.max_reauth is 1ms`,
		head + "security: {oauth: {issuer: x}}":                                                                                                          `security.oauth: want issuer`,
		head + "links: {listener: nowhere}":                                                                                                              `links.listener is "nowhere": want one of the listeners, kafka`,
		head + "links: {sasl: {mechanism: OAUTHBEARER, username: u, password: p}}":                                                                       `links.sasl: want a username`,
		head + "links: {tls: {cert: c}}":                                                                                                                 `links.tls: cert and key go together`,
		head + "mesh: {profile: wan}":                                                                                                                    `n.yaml:2:17: mesh.profile is "wan"`,
		head + "mesh: {key: \"${env:NO}\"}":                                                                                                              `NO`,
		head + "cluster: {bootstrap_expect: 10}":                                                                                                         `n.yaml:2:29: cluster.bootstrap_expect is 10`,
		head + "cluster: {bootstrap_expect: 3}":                                                                                                          `n.yaml:2:29: cluster.bootstrap_expect is 3 and mesh.lan.join names nobody`,
		head + "cluster: {fetch_rate: fast}":                                                                                                             `n.yaml:2:23: `,
		head + "scrub: {every: 1s}":                                                                                                                      `n.yaml:2:16: scrub.every is 1s: want 1m to 8784h`,
		head + "listeners: {peer: {tls: {cert: a, key: b}}}":                                                                                             `n.yaml:2:25: listeners.peer.tls: nodes verify each other`,
		head + "consumer_groups: {session: 10s}":                                                                                                         `n.yaml:2:18: consumer_groups: invalid config: the session timeout of members is 10s, want 45s to 1m0s`,
		head + "consumer_groups: {min_session: 2m}":                                                                                                      `consumer_groups.min_session is 2m0s and its maximum is 1m0s`,
		head + "consumer_groups: {min_heartbeat: 0s}":                                                                                                    `consumer_groups.min_heartbeat is 0s`,
		head + "consumer_groups: {max_heartbeat: 48h}":                                                                                                   `consumer_groups.min_heartbeat is 5s and its maximum is 48h0m0s: want 100ms to 24h0m0s`,
		head + "consumer_groups: {max_heartbeat: 1m, heartbeat: 45s}":                                                                                    `the session timeout of members is 45s, want more than the heartbeat interval, 45s`,
		head + "node: {id: b}\n":                                                                                                                         `n.yaml:2:1`,
		"node: {id: a-1, site: a, site_id: 40000}":                                                                                                       `n.yaml:1:35: node.site_id is 40000: want 1 to 32767`,
	} {
		_, errs := Parse("n.yaml", []byte(text), Default(), noReferences())
		if err := errs.Err(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q:\n got %v\nwant %s", text, err, want)
		}
	}
}

func TestReceiveBuffer(t *testing.T) {
	const head = "node: {id: a-1, site: a}\n"
	for text, want := range map[string]int{
		"":                                256 << 10,
		"listeners: {kafka: {tls: null}}": 256 << 10,
		"listeners: {kafka: {receive_buffer: 0}}":    0,
		"listeners: {kafka: {receive_buffer: 4MiB}}": 4 << 20,
	} {
		c, errs := Parse("n.yaml", []byte(head+text), Default(), noReferences())
		if got := c.Listeners.named("kafka").receiveBuffer(); errs.Err() != nil || got != want {
			t.Errorf("%q: %d bytes (%v), want %d", text, got, errs.Err(), want)
		}
	}
	h, _ := start(t, config(t, "here"), Deps{})
	if got := h.doors[0].ReceiveBuffer; got != defaultReceiveBuffer {
		t.Errorf("the listener has a buffer of %d bytes, want %d", got, defaultReceiveBuffer)
	}
}

func TestDevStaysOnLoopback(t *testing.T) {
	c := Dev()
	if err := c.Validate(); err != nil {
		t.Fatal(err)
	}
	for _, addr := range []string{c.Listeners.Kafka.Addr, c.Listeners.Admin.Addr, c.Listeners.Peer.Addr, c.Listeners.Registry.Addr, c.Listeners.Connect.Addr, c.Mesh.LAN.Addr, c.Mesh.WAN.Addr} {
		if !strings.HasPrefix(addr, "127.0.0.1:") {
			t.Errorf("%s is not on the loopback interface", addr)
		}
	}
}
