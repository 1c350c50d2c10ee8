package hubtest

import (
	"crypto/x509/pkix"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/entrepot-hub/entrepot/hub/admin"
	"github.com/entrepot-hub/entrepot/hub/auth/authtest"
)

// securePeers gives a node a certificate for the other nodes.
func securePeers(t *testing.T, n *Node, a *authtest.Authority, ca string) {
	t.Helper()
	f := a.Issue(n.ID, pkix.Name{CommonName: n.ID}, time.Hour)
	text, err := os.ReadFile(n.file)
	if err != nil {
		t.Fatal(err)
	}
	plain := fmt.Sprintf("peer: {addr: %q}", n.Peer)
	if !strings.Contains(string(text), plain) {
		t.Fatalf("%s has no %s", n.file, plain)
	}
	secured := fmt.Sprintf("peer: {addr: %q, tls: {cert: %q, key: %q, client_ca: %q}}", n.Peer, f.Cert, f.Key, ca)
	if err := os.WriteFile(n.file, []byte(strings.Replace(string(text), plain, secured, 1)), 0o600); err != nil {
		t.Fatal(err)
	}
}

// peersOf are the connections that a node says it has.
func peersOf(n *Node) ([]admin.PeerLink, error) {
	var st admin.Status
	err := n.get("/v1/status", &st)
	return st.Peers, err
}

// TestThreeNodesTLS: nodes that verify each other begin a site, and go on when
// one of them is killed; one with a certificate of somebody else stays out.
func TestThreeNodesTLS(t *testing.T) {
	t.Parallel() // it waits more than it works
	s := NewSite(t, "secure", 3)
	ours, theirs := authtest.NewAuthority(t), authtest.NewAuthority(t)
	for _, n := range s.Nodes {
		securePeers(t, n, ours, ours.CA)
	}
	adm := s.begin(t, 3, 3)
	w := writeTo(t, s, "t", 3)
	w.until(t, 300)
	for _, n := range s.Nodes {
		Until(t, time.Minute, n.ID+" is connected with two others in four classes", func() error {
			peers, err := peersOf(n)
			up := 0
			for _, p := range peers {
				if !p.Since.IsZero() && !p.Accepted.IsZero() {
					up++
				}
			}
			if err != nil || up != 8 {
				return fmt.Errorf("%d are up: %+v, %w", up, peers, err)
			}
			return nil
		})
	}
	leader := s.Leader(adm, "t", 0)
	leader.Kill()
	w.until(t, w.count()+300)
	acked := w.stop(t)
	allThere(t, s.without(leader), acked)

	stranger := s.Add()
	securePeers(t, stranger, theirs, ours.CA)
	stranger.launch()
	for _, n := range s.Nodes[:3] {
		if n == leader {
			continue
		}
		Until(t, time.Minute, n.ID+" refuses the stranger", func() error {
			if !strings.Contains(n.Process().Output(), "a connection of another node was not taken") {
				return fmt.Errorf("nothing of it in the log")
			}
			return nil
		})
	}
	m, err := adm.Metadata(t.Context(), "t")
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range m.Brokers {
		if fmt.Sprintf("%s:%d", b.Host, b.Port) == stranger.Kafka {
			t.Error("the stranger is a node of the site")
		}
	}
}
