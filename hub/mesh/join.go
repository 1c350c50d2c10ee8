package mesh

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/serf/serf"
)

// keepJoined joins the seeds and what more says, and goes on trying those at
// which no living member is, for as long as the pool is open: a site may be
// started a day before the other one. The pause between attempts doubles while
// nothing is found.
func (p *pool) keepJoined(ctx context.Context, quit <-chan struct{}, more func() []string) {
	pause := p.t.joinFirst
	failing := map[string]string{} // seed → last error told
	for {
		wanted := append(slices.Clone(p.seeds), more()...)
		found := p.join(ctx, p.missing(ctx, wanted), failing)
		if found {
			pause = p.t.joinFirst
		}
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-quit:
			timer.Stop()
			return
		case <-timer.C:
		}
		pause = min(2*pause, p.t.joinMost)
	}
}

// join tries each address; it reports whether one that failed before, or was
// never tried, answered. Each new kind of failure is told once.
func (p *pool) join(ctx context.Context, addrs []string, failing map[string]string) (found bool) {
	for _, addr := range addrs {
		if ctx.Err() != nil || p.serf.State() != serf.SerfAlive {
			return found
		}
		_, err := p.serf.Join([]string{addr}, true)
		if err == nil {
			found = true
			delete(failing, addr)
			continue
		}
		err = p.explain(addr, err)
		if kind := kindOf(err.Error()); failing[addr] != kind {
			failing[addr] = kind
			p.log.Warn("mesh: cannot join yet; it is tried again", "pool", p.kind, "address", addr, "error", err)
		}
	}
	return found
}

// explain puts into words what memberlist says when keys differ: it cannot
// know more than that bytes did not decrypt.
func (p *pool) explain(addr string, err error) error {
	text := err.Error()
	switch {
	case strings.Contains(text, "could decrypt"):
		return fmt.Errorf("%s has another mesh key than this node: set the same key at both (%w)", addr, err)
	case strings.Contains(text, "encryption is not configured"), strings.Contains(text, "is encrypted and"):
		return fmt.Errorf("%s encrypts its gossip, this node has no mesh key: set the same key here (%w)", addr, err)
	case strings.Contains(text, "is not encrypted"):
		return fmt.Errorf("%s does not encrypt its gossip, this node has a mesh key: set the same key there (%w)", addr, err)
	}
	return fmt.Errorf("join %s: %w", addr, err)
}

// kindOf is the text without numbers, which change with every attempt (source
// ports).
func kindOf(text string) string {
	return strings.Map(func(r rune) rune {
		if r >= '0' && r <= '9' {
			return -1
		}
		return r
	}, text)
}
