package hub

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/entrepot-hub/entrepot/hub/admin"
	"github.com/entrepot-hub/entrepot/hub/catalog"
	"github.com/entrepot-hub/entrepot/stream"
)

// steer asks a node to do something with its tasks of a connector.
type steer struct {
	Job     string `json:"job"`
	Restart bool   `json:"restart"` // else: resume
}

// holders are the other nodes that have tasks of a connector.
func (h *Hub) holders(job string) (nodes []int32) {
	if !h.several() {
		return nil
	}
	s := h.meta.State()
	for _, n := range h.divided(s)[job].at(s, job) {
		if n != 0 && n != h.id.ID && !slices.Contains(nodes, n) {
			nodes = append(nodes, n)
		}
	}
	return nodes
}

// steerOthers has the other nodes that have tasks of a connector do what this
// one did.
func (h *Hub) steerOthers(ctx context.Context, what steer) error {
	body, err := json.Marshal(what)
	if err != nil {
		return err
	}
	for _, n := range h.holders(what.Job) {
		if _, failed := h.peers.Call(ctx, n, callSteer, body); failed != nil {
			err = errors.Join(err, fmt.Errorf("the tasks of %s at node %d: %w", what.Job, n, failed))
		}
	}
	return err
}

// steered does what another node asks for.
func (h *Hub) steered(body []byte) error {
	var what steer
	if err := json.Unmarshal(body, &what); err != nil {
		return fmt.Errorf("a request to steer a connector: %w", err)
	}
	if what.Restart {
		return h.runner.Restart(what.Job)
	}
	return h.runner.Resume(what.Job)
}

const (
	// restEvery is how often the nodes are asked whether they have come to rest.
	restEvery = 200 * time.Millisecond
	// restWait is how long they may take, a little more than a job to drain.
	restWait = 15 * time.Second
)

// whileResting runs fn, which moves a connector's offsets, while no other node has a
// task of it at work. The runner itself sees to those of this node.
func (h *Hub) whileResting(ctx context.Context, job string, fn func() error) error {
	if len(h.holders(job)) == 0 {
		return fn()
	}
	if want := h.meta.State().Job(job); want != catalog.JobStopped && want != catalog.JobPaused {
		return fmt.Errorf("%w: job %q is at several nodes; stop it first", stream.ErrBusy, job)
	}
	resting, cancel := context.WithTimeout(ctx, restWait)
	defer cancel()
	tick := time.NewTicker(restEvery)
	defer tick.Stop()
	for {
		at := h.atWork(resting, job)
		if len(at) == 0 {
			return fn()
		}
		select {
		case <-tick.C:
		case <-resting.Done():
			return fmt.Errorf("%w: nodes %v have not said that their tasks of job %q are at rest", stream.ErrBusy, at, job)
		}
	}
}

// atWork are the other nodes with tasks of a connector that do not say that
// these are at rest.
func (h *Hub) atWork(ctx context.Context, job string) []int32 {
	at := h.holders(job)
	if len(at) == 0 {
		return nil
	}
	fromOthers(ctx, h, callJobs, slices.Clone(at), func(node int32, jobs []admin.Job) {
		for _, j := range jobs {
			if j.Name == job && slices.Contains([]string{string(stream.Paused), string(stream.Stopped)}, j.State) {
				at = slices.DeleteFunc(at, func(n int32) bool { return n == node })
			}
		}
	})
	return at
}
