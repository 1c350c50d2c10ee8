package docs

import (
	"context"
	"crypto/x509/pkix"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/entrepot-hub/entrepot/connectors/all"
	"github.com/entrepot-hub/entrepot/connectors/strict"
	"github.com/entrepot-hub/entrepot/hub"
	"github.com/entrepot-hub/entrepot/hub/auth/authtest"
	"github.com/entrepot-hub/entrepot/hub/ctl"
)

// TestSecurityPage starts the node of configs/security and runs the commands
// of docs/security.md against it, in their order.
func TestSecurityPage(t *testing.T) {
	a := authtest.NewAuthority(t)
	a.Issue("server", pkix.Name{CommonName: "server"}, time.Hour)
	for name, text := range map[string]string{"admin.password": "admin's\n", "alice.password": "hers\n"} {
		if err := os.WriteFile(filepath.Join(a.Dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	env := map[string]string{"ADMIN_PASSWORD": "admin's", "LINK_PASSWORD": "link's", "MESH_KEY": "MTIzNDU2Nzg5MDEyMzQ1Ng=="}
	addr := startSecured(t, a.Dir, env)
	page, err := os.ReadFile(filepath.Join(root, "docs", "security.md"))
	if err != nil {
		t.Fatal(err)
	}
	env["ENTREPOT_BROKERS"] = addr
	ran := 0
	for _, block := range regexp.MustCompile("(?s)```sh\n(.*?)```").FindAllStringSubmatch(string(page), -1) {
		for line := range strings.Lines(block[1]) {
			line = regexp.MustCompile(`([a-z]+\.(pem|password))`).ReplaceAllString(strings.TrimSpace(line), a.Dir+"/$1")
			if name, value, ok := strings.Cut(strings.TrimPrefix(line, "export "), "="); ok && strings.HasPrefix(line, "export ") {
				env[name] = value
				continue
			}
			if out, status := entrepot(t, env, strings.Fields(line)[1:]...); status != ctl.Done {
				t.Errorf("%s: status %d\n%s", line, status, out)
			}
			ran++
		}
	}
	if ran < 10 {
		t.Errorf("%d commands of the page were run", ran)
	}
	// What the page has set up holds.
	env["ENTREPOT_USERNAME"], env["ENTREPOT_PASSWORD_FILE"] = "alice", filepath.Join(a.Dir, "alice.password")
	if out, status := entrepot(t, env, "topic", "list", "--json"); status != ctl.Done || !strings.Contains(out, "orders.paid") {
		t.Errorf("alice lists her topics: status %d\n%s", status, out)
	}
	if out, status := entrepot(t, env, "topic", "delete", "orders.paid"); status != ctl.Failed || !strings.Contains(out, "TOPIC_AUTHORIZATION_FAILED") {
		t.Errorf("alice deletes a topic that she may only use: status %d\n%s", status, out)
	}
	env["ENTREPOT_PASSWORD_FILE"] = filepath.Join(a.Dir, "admin.password")
	if out, status := entrepot(t, env, "topic", "list"); status != ctl.Failed || !strings.Contains(out, "refuses the login of alice") {
		t.Errorf("a wrong password: status %d\n%s", status, out)
	}
}

// startSecured runs the node with its files in dir, on ports of its own.
func startSecured(t *testing.T, dir string, env map[string]string) (addr string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, "configs", "security", "node.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	local := strings.ReplaceAll(string(text), "/etc/entrepot", dir)
	refs := strict.Options{Env: func(name string) (string, bool) { v, ok := env[name]; return v, ok }}
	c, errs := hub.Parse("node.yaml", []byte(local), hub.Dev(), refs)
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	c.Node.DataDir = t.TempDir()
	certs := c.Listeners.Extra["certs"]
	for _, l := range []*hub.ListenerConfig{&c.Listeners.Kafka.ListenerConfig, &certs.ListenerConfig, &c.Listeners.Admin.ListenerConfig, &c.Listeners.Peer.ListenerConfig} {
		l.Addr, l.Advertise = "127.0.0.1:0", ""
	}
	c.Listeners.Extra["certs"] = certs
	c.Mesh.LAN.Addr, c.Mesh.WAN.Addr = "127.0.0.1:0", "127.0.0.1:0"
	h, err := hub.Open(t.Context(), c, hub.Deps{Registry: all.Builtin()})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- h.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return h.Kafka()
}

// entrepot runs one command.
func entrepot(t *testing.T, env map[string]string, args ...string) (out string, status int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 40*time.Second)
	defer cancel()
	var text strings.Builder
	status = ctl.Main(ctx, args, strings.NewReader(""), &text, &text, ctl.Deps{
		Registry: all.Builtin(), Getenv: func(name string) (string, bool) { v, ok := env[name]; return v, ok },
	})
	return text.String(), status
}
