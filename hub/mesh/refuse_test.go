package mesh

import (
	"crypto/rand"
	"encoding/base64"
	"log/slog"
	"strings"
	"testing"

	"github.com/hashicorp/serf/serf"
)

func key(t *testing.T, n int) string {
	t.Helper()
	b := make([]byte, n)
	if _, err := rand.Read(b); err != nil {
		t.Fatal(err)
	}
	return base64.StdEncoding.EncodeToString(b)
}

func TestEncryption(t *testing.T) {
	secret := key(t, 32)
	c := config("e1", "east")
	c.Key = secret
	e1 := start(t, c)
	c = config("w1", "west")
	c.Key, c.WAN.Join = secret, []string{e1.WANAddr()}
	w1 := start(t, c)
	w1.sees("e1/alive", "w1/alive")

	for _, stranger := range []struct{ name, key, want string }{
		{"wrong", key(t, 32), "has another mesh key than this node"},
		{"short", key(t, 16), "has another mesh key than this node"},
		{"none", "", "this node has no mesh key"},
	} {
		c := config("s-"+stranger.name, "north")
		c.Key, c.WAN.Join = stranger.key, []string{e1.WANAddr()}
		s := start(t, c)
		until(t, "the stranger "+stranger.name+" is told why", func() bool { return strings.Contains(s.logs.String(), stranger.want) })
		s.sees(c.ID + "/alive")
		if strings.Contains(s.logs.String(), secret) || stranger.key != "" && strings.Contains(s.logs.String(), stranger.key) {
			t.Error("a key is in the log")
		}
	}

	plain := start(t, config("p1", "plain"))
	c = config("k1", "keyed")
	c.Key, c.WAN.Join = secret, []string{plain.WANAddr()}
	k := start(t, c)
	until(t, "the node with a key is told why", func() bool {
		return strings.Contains(k.logs.String(), "this node has a mesh key") || strings.Contains(k.logs.String(), "another mesh key")
	})
	e1.sees("e1/alive", "w1/alive")
}

func TestAPoolRefusesWhoDoesNotBelong(t *testing.T) {
	e1 := start(t, config("e1", "east"))
	c := config("w1", "west")
	c.LAN.Join = []string{e1.LANAddr()}
	w1 := start(t, c)
	until(t, "a node of another site is told", func() bool {
		return strings.Contains(w1.logs.String(), `belongs to site \"east\", this LAN pool to site \"west\"`)
	})
	c = config("e2", "east")
	c.LAN.Join = []string{e1.WANAddr()}
	e2 := start(t, c)
	until(t, "a node that mixes up the pools is told", func() bool {
		return strings.Contains(e2.logs.String(), "is in the wan pool, this is the lan pool: join its lan address")
	})
	e1.sees("e1/alive")
}

func TestTwoNodesOfOneName(t *testing.T) {
	e1 := start(t, config("n1", "east"))
	c := config("n1", "west")
	c.WAN.Join = []string{e1.WANAddr()}
	w1 := start(t, c)
	for _, n := range []*node{e1, w1} {
		until(t, "both are told", func() bool { return len(n.Conflicts()) > 0 && strings.Contains(n.logs.String(), "node name conflict") })
		text := n.Conflicts()[0].String()
		if !strings.Contains(text, `two nodes have the id "n1": this one at `+n.WANAddr()) {
			t.Errorf("conflict: %s", text)
		}
	}
	e1.sees("n1/alive")
}

func TestBadConfig(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*Config)
		want   string
	}{
		{"no id", func(c *Config) { c.ID = "" }, `node id "" has 0 characters, want 1 to 63`},
		{"bad site", func(c *Config) { c.Site = "new york" }, `site "new york": the character at position 4`},
		{"short key", func(c *Config) { c.Key = key(t, 15) }, "key: 15 bytes, want 16, 24 or 32"},
		{"key not base64", func(c *Config) { c.Key = "?" }, "key: not base64"},
		{"no port", func(c *Config) { c.LAN.Bind = "127.0.0.1" }, `lan.addr "127.0.0.1": want host:port`},
		{"bad port", func(c *Config) { c.WAN.Bind = "127.0.0.1:70000" }, `wan.addr "127.0.0.1:70000": the port must be`},
		{"seed port 0", func(c *Config) { c.WAN.Join = []string{"a:0"} }, `wan.join "a:0": the port must be`},
		{"profile", func(c *Config) { c.Profile = "moon" }, `profile "moon"`},
		{"foreign address", func(c *Config) { c.WAN.Bind = "192.0.2.1:0" }, "WAN pool: listen on 192.0.2.1:0 (TCP and UDP)"},
		{"tags", func(c *Config) { c.Kafka = strings.Repeat("k", 400) + ":9092"; c.Peer = strings.Repeat("p", 100) },
			"the most is 512: admin has 14, kafka has 405, peer has 100"},
	} {
		cfg := config("e1", "east")
		c.change(&cfg)
		m, err := Open(cfg, nil)
		if err == nil {
			m.Close()
			t.Errorf("%s: no error", c.name)
		} else if !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v\nwant %q in it", c.name, err, c.want)
		}
	}
}

func TestPortTaken(t *testing.T) {
	e1 := start(t, config("e1", "east"))
	c := config("e2", "east")
	c.LAN.Bind = e1.LANAddr()
	if _, err := Open(c, nil); err == nil || !strings.Contains(err.Error(), "LAN pool: listen on "+e1.LANAddr()) {
		t.Errorf("Open on a taken port: %v", err)
	}
}

// The limit must be the one that Serf itself applies, to the byte: what our
// check lets through Serf must take, or its error would be the one shown.
func TestTagLimitIsSerfs(t *testing.T) {
	cfg := config("e1", "east")
	cfg.Logger = slog.New(slog.DiscardHandler)
	room := 512 - tagsSize(cfg.tags(poolWAN, "")) + len(cfg.Version)
	for _, over := range []int{-1, 0, 1} {
		// The WAN pool has no address tag, so its size does not depend on the
		// port that the system picks.
		cfg.Version = strings.Repeat("v", room-2+over) // 2: the longer header of a long string
		if size := tagsSize(cfg.tags(poolWAN, "")); size != 512+over {
			t.Fatalf("the test is wrong: %d bytes", size)
		}
		p, err := openPool(cfg, poolWAN, "", make(chan serf.Event, 1))
		if (err == nil) != (over <= 0) {
			t.Errorf("%d bytes over the limit: %v", over, err)
		}
		if err == nil {
			if n := len(p.serf.Memberlist().LocalNode().Meta); n != 512+over {
				t.Errorf("Serf made %d bytes of what is reckoned as %d", n, 512+over)
			}
			p.shutdown()
		}
	}
}
