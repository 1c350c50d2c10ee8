package hub

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/entrepot-hub/entrepot/hub/catalog"
	"github.com/entrepot-hub/entrepot/record"
	"github.com/entrepot-hub/entrepot/stream"
)

// jobsFiles reads every file that the globs of the config name, each once.
func (h *Hub) jobsFiles() ([]stream.File, error) {
	var files []stream.File
	seen := map[string]bool{}
	for _, glob := range h.cfg.Jobs {
		names, err := filepath.Glob(glob)
		if err != nil {
			return nil, fmt.Errorf("jobs: %q: %w", glob, err)
		}
		if len(names) == 0 && !strings.ContainsAny(glob, "*?[") {
			return nil, fmt.Errorf("jobs: there is no file %s", glob)
		}
		for _, name := range names {
			if seen[name] {
				continue
			}
			seen[name] = true
			text, err := os.ReadFile(name)
			if err != nil {
				return nil, fmt.Errorf("jobs: %w", err)
			}
			files = append(files, stream.File{Name: name, Text: text})
		}
	}
	for _, name := range slices.Sorted(maps.Keys(h.deps.JobsText)) {
		files = append(files, stream.File{Name: name, Text: h.deps.JobsText[name]})
	}
	return files, nil
}

// startJobs makes the topics that the jobs files name, then hands the
// connectors, theirs and the catalog's, to the runner with what the operator last wanted of each.
func (h *Hub) startJobs(ctx context.Context) error {
	for _, spec := range h.jobs.Topics {
		if err := h.ensureTopic(ctx, spec); err != nil {
			return fmt.Errorf("%s:%d:%d: topic %s: %w", spec.File, spec.Pos.Line, spec.Pos.Col, spec.Name, err)
		}
	}
	wanted := map[string]stream.Desired{}
	for name, desired := range h.meta.State().Jobs() {
		wanted[name] = stream.Desired(desired)
	}
	return h.connectors.change(ctx, func() error { return h.connectors.run(ctx, wanted) })
}

// ensureTopic makes a topic of the jobs files, or brings the one that is there
// in line with them. Partitions are never taken away.
func (h *Hub) ensureTopic(ctx context.Context, spec stream.TopicSpec) error {
	have, ok := h.meta.State().Topic(spec.Name)
	if !ok {
		id, err := newTopicID()
		if err != nil {
			return err
		}
		return h.meta.createTopic(ctx, catalog.CreateTopic{
			Name: spec.Name, ID: id, Partitions: max(spec.Partitions, 1), Replicas: h.replicas(int32(spec.Replicas)),
			Config: spec.Configs, Created: now(),
		})
	}
	if have.Mirror != nil {
		h.log.Warn("a topic of the jobs files is a mirror here and stays as its source has it", "topic", spec.Name, "source", have.Mirror.Source)
		return nil
	}
	n := int32(len(have.Partitions))
	if spec.Partitions > n {
		if _, err := h.meta.Propose(ctx, catalog.CreatePartitions{Name: spec.Name, Count: spec.Partitions}); err != nil {
			return err
		}
	} else if spec.Partitions > 0 && spec.Partitions < n {
		h.log.Warn("partitions are never taken away", "topic", spec.Name, "has", n, "config", spec.Partitions)
	}
	set := map[string]string{}
	for k, v := range spec.Configs {
		if have.Config[k] != v {
			set[k] = v
		}
	}
	if len(set) == 0 {
		return nil
	}
	_, err := h.meta.Propose(ctx, catalog.AlterTopicConfig{Name: spec.Name, Set: set})
	return err
}

// ensureCheckpoints makes the topic of the connectors' checkpoints.
func (h *Hub) ensureCheckpoints(ctx context.Context) error {
	if _, ok := h.meta.State().Topic(catalog.CheckpointsTopic); ok {
		return nil
	}
	id, err := newTopicID()
	if err != nil {
		return err
	}
	return h.meta.createTopic(ctx, catalog.InternalTopic(catalog.CheckpointsTopic, id, 1, h.replicas(0), now()))
}

// claimJob grants this node the leases of tasks of a job. The newest epoch holds
// for all of them: none was granted anew since, so each later owner of one has a
// higher one. Another grant may come in between: a replay of the job's dead
// letters claims them, too.
func (h *Hub) claimJob(ctx context.Context, job string, tasks stream.Share, floor int64) (int64, error) {
	names := []string{job}
	if tasks.Of > 1 {
		names = names[:0]
		for _, part := range tasks.Mine {
			names = append(names, catalog.TaskName(job, part, tasks.Of))
		}
	}
	for {
		granted := map[string]catalog.Lease{}
		newest := int64(0)
		for _, name := range names {
			l, err := h.claimTask(ctx, name, floor)
			if err != nil {
				return 0, err
			}
			granted[name], newest = l, max(newest, l.Epoch)
		}
		s, still := h.meta.State(), true
		for name, l := range granted {
			still = still && s.Lease(name) == l
		}
		if still {
			return newest, nil
		}
	}
}

func (h *Hub) claimTask(ctx context.Context, task string, floor int64) (catalog.Lease, error) {
	for {
		now := h.meta.State().Lease(task)
		if h.several() && now.Node != h.id.ID {
			return now, fmt.Errorf("connector %s: %w: node %d is to run it", task, record.ErrInvalidRequest, now.Node)
		}
		out, err := h.meta.Propose(ctx, catalog.GrantLease{Task: task, Node: h.id.ID, After: now.Epoch, Floor: floor})
		if err == nil {
			return out.(catalog.Lease), nil
		}
		if ctx.Err() != nil || h.meta.State().Lease(task).Epoch == now.Epoch {
			return now, err
		}
	}
}

// wish keeps what the operator wants of a job, so that it holds after a
// restart, and then does it. Its caller holds connectorsView.change: otherwise
// a change of the connector could come in between the two, and undo it.
func (h *Hub) wish(ctx context.Context, job, desired string, act func(string) error) error {
	if !slices.ContainsFunc(h.runner.Status(), func(s stream.JobStatus) bool { return s.Name == job }) {
		return fmt.Errorf("job %q: %w", job, errNoJob)
	}
	if desired != "" {
		if _, err := h.meta.Propose(ctx, catalog.SetJob{Name: job, Desired: desired}); err != nil {
			return err
		}
	}
	if err := act(job); err != nil || desired != "" && desired != catalog.JobRunning {
		return err // the others see in the catalog what is wanted
	}
	return h.steerOthers(ctx, steer{Job: job, Restart: desired == ""})
}

var errNoJob = errors.New("there is no such job at this node")

// damaged lists the partitions that are quarantined, for health checks.
func (h *Hub) damaged() []record.TopicPartition {
	var all []record.TopicPartition
	for _, r := range h.set.All() {
		if r.Status().Quarantined {
			all = append(all, record.TopicPartition{Topic: r.ID().Topic, Partition: r.ID().Partition})
		}
	}
	return all
}
