// Package destination is a hub as what links mirror to: topics that follow their
// source's, and replicas that a link writes at the source's offsets.
//
// Goroutines: none.
package destination

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/entrepot-hub/entrepot/hub/catalog"
	"github.com/entrepot-hub/entrepot/hub/replica"
	"github.com/entrepot-hub/entrepot/mirror"
	"github.com/entrepot-hub/entrepot/record"
)

// Catalog is the site's.
type Catalog interface {
	State() *catalog.State
	Propose(ctx context.Context, cmd catalog.Command) (any, error)
}

// Site implements mirror.Site.
type Site struct {
	Catalog Catalog
	Set     *replica.Set
	// Replicas is how many a topic gets that somebody asked for so many of; 0:
	// nobody has.
	Replicas func(asked int32) int32
}

// EnsureTopic implements mirror.Site.
func (s Site) EnsureTopic(ctx context.Context, t mirror.MirroredTopic) error {
	have, ok := s.Catalog.State().Topic(t.Name)
	if !ok {
		_, err := s.Catalog.Propose(ctx, catalog.CreateTopic{
			Name: t.Name, ID: t.ID, Partitions: t.Partitions, Replicas: s.Replicas(0), Config: t.Config, Created: time.Now().UnixMilli(),
			Mirror: &catalog.Mirror{Source: t.SourceSite, Link: t.Link, Epoch: 1, State: catalog.MirrorActive},
		})
		return err
	}
	switch {
	case have.Mirror == nil || have.Mirror.Source != t.SourceSite:
		return fmt.Errorf("%w: %s is not a mirror of site %s here", record.ErrTopicExists, t.Name, t.SourceSite)
	case have.ID != t.ID:
		return fmt.Errorf("%w: %s has ID %s at %s and %s here", mirror.ErrSourceRecreated, t.Name, t.ID, t.SourceSite, have.ID)
	}
	var errs []error
	if n := int32(len(have.Partitions)); t.Partitions > n {
		_, err := s.Catalog.Propose(ctx, catalog.CreatePartitions{Name: t.Name, Count: t.Partitions, Link: t.Link})
		errs = append(errs, err)
	}
	if alter := settingsToFollow(have.Config, t.Config); alter != nil {
		alter.Name = t.Name
		_, err := s.Catalog.Propose(ctx, *alter)
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// settingsToFollow is the change that makes the mirrored settings in have equal
// to want; nil when they are.
func settingsToFollow(have, want map[string]string) *catalog.AlterTopicConfig {
	alter := catalog.AlterTopicConfig{Set: map[string]string{}}
	for k, v := range want {
		if old, ok := have[k]; !ok || old != v {
			alter.Set[k] = v
		}
	}
	for k := range have {
		if _, ok := want[k]; !ok && mirror.MirroredSetting(k) {
			alter.Remove = append(alter.Remove, k)
		}
	}
	if len(alter.Set) == 0 && len(alter.Remove) == 0 {
		return nil
	}
	slices.Sort(alter.Remove)
	return &alter
}

// Mirrors implements mirror.Site.
func (s Site) Mirrors() []mirror.MirroredTopic {
	var all []mirror.MirroredTopic
	for _, t := range s.Catalog.State().Topics() {
		if t.Mirror == nil || t.Mirror.State != catalog.MirrorActive {
			continue
		}
		config := map[string]string{}
		for k, v := range t.Config {
			if mirror.MirroredSetting(k) {
				config[k] = v
			}
		}
		all = append(all, mirror.MirroredTopic{
			Name: t.Name, ID: t.ID, Partitions: int32(len(t.Partitions)), Config: config,
			SourceSite: t.Mirror.Source, Link: t.Mirror.Link,
		})
	}
	return all
}

// Target implements mirror.Site.
func (s Site) Target(tp record.TopicPartition) (mirror.Target, error) {
	t, ok := s.Catalog.State().Topic(tp.Topic)
	if !ok || t.Mirror == nil {
		return nil, fmt.Errorf("%s: %w: no mirror of this name here", tp, record.ErrUnknownTopic)
	}
	r, ok := s.Set.Get(tp)
	if !ok {
		return nil, fmt.Errorf("%s: %w", tp, record.ErrNotLeader)
	}
	if err := r.Serving(); errors.Is(err, record.ErrNotLeader) {
		return nil, err
	}
	return &target{Replica: r, mirror: *t.Mirror}, nil
}

// target is one replica as its link writes it. The first append hands the
// partition to the link, with a control entry that the log keeps.
type target struct {
	*replica.Replica
	mirror  catalog.Mirror
	started bool
}

// Append implements mirror.Target.
func (t *target) Append(ctx context.Context, link string, next int64, batches []record.Batch) error {
	if err := t.start(ctx); err != nil {
		return err
	}
	done := make(chan error, 1)
	t.AppendMirrored(replica.MirrorGuard{Link: link, Epoch: t.mirror.Epoch, Next: next}, batches, func(err error) { done <- err })
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// SetLogStart implements mirror.Target.
func (t *target) SetLogStart(ctx context.Context, offset int64) error {
	if err := t.start(ctx); err != nil {
		return err
	}
	return t.Replica.SetLogStart(ctx, offset)
}

func (t *target) start(ctx context.Context) error {
	if t.started {
		return nil
	}
	err := t.Control(ctx, replica.MirrorStart{Link: t.mirror.Link, Source: t.mirror.Source, Epoch: t.mirror.Epoch})
	t.started = err == nil
	return err
}
