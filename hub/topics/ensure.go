package topics

import (
	"context"
	"crypto/rand"
	"errors"
	"time"

	"github.com/entrepot-hub/entrepot/hub/catalog"
	"github.com/entrepot-hub/entrepot/record"
)

// Spec is a topic as somebody wants it.
type Spec struct {
	Name       string
	Partitions int32 // 0: as it is, and one of a new topic
	Replicas   int32 // of a new topic; 0: as many as Replicas says
	Config     map[string]string
}

// Replicas is how many replicas a topic gets: those asked for, or, for 0, as
// many as the nodes of the site allow, catalog.MostReplicas at most.
func (t *Topics) Replicas(asked int32) int32 {
	if asked > 0 {
		return asked
	}
	return int32(t.meta.State().DefaultReplicas(catalog.MostReplicas))
}

// Ensure makes a topic, or brings the one that is there in line with the spec.
// Partitions are never taken away.
func (t *Topics) Ensure(ctx context.Context, spec Spec) error {
	have, ok := t.meta.State().Topic(spec.Name)
	if !ok {
		id, err := record.NewTopicID(rand.Reader)
		if err != nil {
			return err
		}
		return t.create(ctx, catalog.CreateTopic{
			Name: spec.Name, ID: id, Partitions: max(spec.Partitions, 1), Replicas: t.Replicas(spec.Replicas),
			Config: spec.Config, Created: time.Now().UnixMilli(),
		})
	}
	if have.Mirror != nil {
		t.log.Warn("a topic of the jobs files is a mirror here and stays as its source has it", "topic", spec.Name, "source", have.Mirror.Source)
		return nil
	}
	n := int32(len(have.Partitions))
	if spec.Partitions > n {
		if _, err := t.meta.Propose(ctx, catalog.CreatePartitions{Name: spec.Name, Count: spec.Partitions}); err != nil {
			return err
		}
	} else if spec.Partitions > 0 && spec.Partitions < n {
		t.log.Warn("partitions are never taken away", "topic", spec.Name, "has", n, "config", spec.Partitions)
	}
	set := map[string]string{}
	for k, v := range spec.Config {
		if have.Config[k] != v {
			set[k] = v
		}
	}
	if len(set) == 0 {
		return nil
	}
	_, err := t.meta.Propose(ctx, catalog.AlterTopicConfig{Name: spec.Name, Set: set})
	return err
}

// EnsureInternal makes one of the hub's own topics, with one partition.
func (t *Topics) EnsureInternal(ctx context.Context, name string) error {
	if _, ok := t.meta.State().Topic(name); ok {
		return nil
	}
	id, err := record.NewTopicID(rand.Reader)
	if err != nil {
		return err
	}
	return t.create(ctx, catalog.InternalTopic(name, id, 1, t.Replicas(0), time.Now().UnixMilli()))
}

// create proposes a topic that begins here; one that exists is left alone.
func (t *Topics) create(ctx context.Context, cmd catalog.CreateTopic) error {
	_, err := t.meta.Propose(ctx, cmd)
	if errors.Is(err, record.ErrTopicExists) {
		return nil
	}
	return err
}
