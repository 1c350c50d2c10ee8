package jobs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/entrepot-hub/entrepot/hub/admin"
	"github.com/entrepot-hub/entrepot/hub/catalog"
	"github.com/entrepot-hub/entrepot/hub/reach"
	"github.com/entrepot-hub/entrepot/stream"
)

// MethodSteer is how a node is asked to restart or resume its tasks of a
// connector.
const MethodSteer = "steer"

// steer asks a node to do something with its tasks of a connector.
type steer struct {
	Job     string `json:"job"`
	Restart bool   `json:"restart"` // else: resume
}

// steerOthers has the other nodes that have tasks of a connector do what this
// one did.
func (j *Jobs) steerOthers(ctx context.Context, what steer) error {
	body, err := json.Marshal(what)
	if err != nil {
		return err
	}
	for _, n := range j.parts.Placing.Holders(what.Job) {
		if _, failed := j.parts.Call(ctx, n, MethodSteer, body); failed != nil {
			err = errors.Join(err, fmt.Errorf("the tasks of %s at node %d: %w", what.Job, n, failed))
		}
	}
	return err
}

// Steered does what another node asks for.
func (j *Jobs) Steered(body []byte) error {
	var what steer
	if err := json.Unmarshal(body, &what); err != nil {
		return fmt.Errorf("a request to steer a connector: %w", err)
	}
	if what.Restart {
		return j.parts.Runner.Restart(what.Job)
	}
	return j.parts.Runner.Resume(what.Job)
}

const (
	// restEvery is how often the nodes are asked whether they have come to rest.
	restEvery = 200 * time.Millisecond
	// restWait is how long they may take, a little more than a job to drain.
	restWait = 15 * time.Second
)

// whileResting runs fn, which moves a connector's offsets, while no other node has a
// task of it at work. The runner itself sees to those of this node.
func (j *Jobs) whileResting(ctx context.Context, job string, fn func() error) error {
	if len(j.parts.Placing.Holders(job)) == 0 {
		return fn()
	}
	if want := j.parts.Catalog.State().Job(job); want != catalog.JobStopped && want != catalog.JobPaused {
		return fmt.Errorf("%w: job %q is at several nodes; stop it first", stream.ErrBusy, job)
	}
	resting, cancel := context.WithTimeout(ctx, restWait)
	defer cancel()
	tick := time.NewTicker(restEvery)
	defer tick.Stop()
	for {
		at := j.atWork(resting, job)
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
func (j *Jobs) atWork(ctx context.Context, job string) []int32 {
	at := j.parts.Placing.Holders(job)
	if len(at) == 0 {
		return nil
	}
	reach.Ask(ctx, j.parts.Reach, MethodJobs, slices.Clone(at), func(node int32, jobs []admin.Job) {
		for _, one := range jobs {
			if one.Name == job && slices.Contains([]string{string(stream.Paused), string(stream.Stopped)}, one.State) {
				at = slices.DeleteFunc(at, func(n int32) bool { return n == node })
			}
		}
	})
	return at
}
