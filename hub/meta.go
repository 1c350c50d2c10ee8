package hub

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"time"

	"github.com/entrepot-hub/entrepot/hub/catalog"
	"github.com/entrepot-hub/entrepot/hub/replica"
	"github.com/entrepot-hub/entrepot/record"
)

// meta joins the catalog, a pure state machine, with the Raft group that
// orders its commands.
type meta struct {
	machine *catalog.Machine
	group   *replica.Replica
	applied func() error // brings the node in line with the present state
}

// State is the present catalog.
func (m *meta) State() *catalog.State { return m.machine.State() }

// Propose commits a command and returns its result once this node is in line
// with it: a topic that was created can be written to.
func (m *meta) Propose(ctx context.Context, cmd catalog.Command) (any, error) {
	b, err := catalog.Encode(cmd)
	if err != nil {
		return nil, err
	}
	out, err := m.group.Propose(ctx, b)
	if err != nil {
		return nil, err
	}
	result, ok := out.(catalog.Result)
	if !ok {
		panic(fmt.Sprintf("hub: the catalog answered %T, want catalog.Result", out))
	}
	if result.Err != nil {
		return nil, result.Err
	}
	return result.Value, m.applied()
}

// introduce names the site and registers this node with its present addresses.
func (m *meta) introduce(ctx context.Context, cfg Config, kafka, admin string, extra map[string]string) error {
	for _, cmd := range []catalog.Command{
		catalog.SiteInit{Site: cfg.Node.Site, SiteID: cfg.siteID()},
		catalog.RegisterNode{Name: cfg.Node.ID, Site: cfg.Node.Site, Kafka: kafka, Admin: admin, Rack: cfg.Node.Zone, Listeners: extra},
	} {
		out, err := m.Propose(ctx, cmd)
		if err != nil {
			return fmt.Errorf("register node %s at site %s: %w", cfg.Node.ID, cfg.Node.Site, err)
		}
		if r, ok := out.(catalog.Registered); ok && r.ID != nodeID {
			return fmt.Errorf("the data directory %s belongs to another node of this site; this one is %s: set node.id to the name it had", cfg.Node.DataDir, cfg.Node.ID)
		}
	}
	return nil
}

// createTopic proposes a topic that begins here; one that exists is left alone.
func (m *meta) createTopic(ctx context.Context, cmd catalog.CreateTopic) error {
	_, err := m.Propose(ctx, cmd)
	if errors.Is(err, record.ErrTopicExists) {
		return nil
	}
	return err
}

// clusterID is the site's name in the form that Kafka's clients show.
func clusterID(cfg Config) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "entrepot site %s %d", cfg.Node.Site, cfg.siteID()))
	return base64.RawURLEncoding.EncodeToString(sum[:16])
}

func now() int64 { return time.Now().UnixMilli() }
