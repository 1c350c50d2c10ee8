package jobs

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/entrepot-hub/entrepot/hub/admin"
	"github.com/entrepot-hub/entrepot/hub/catalog"
	"github.com/entrepot-hub/entrepot/hub/reach"
	"github.com/entrepot-hub/entrepot/record"
	"github.com/entrepot-hub/entrepot/stream"
)

// MethodJobs is how a node is asked for the connectors that it runs.
const MethodJobs = "jobs"

// Admin shows the connectors that this node runs to the admin server, in its
// words.
func (j *Jobs) Admin() admin.Jobs { return view{j} }

type view struct{ j *Jobs }

// Jobs implements admin.Jobs.
func (v view) Jobs() []admin.Job {
	var all []admin.Job
	if !v.j.there.Load() {
		return nil
	}
	for _, j := range v.j.parts.Runner.Status() {
		one := admin.Job{
			Name: j.Name, Kind: j.Kind, Connector: j.Type, Topic: j.Topic, State: string(j.State),
			Reason: j.LastError, Guarantee: j.Guarantee,
			Counters: map[string]int64{"read": j.Read, "filtered": j.Filtered, "dead": j.DeadLetters},
		}
		if v.j.parts.Several() {
			one.Node = v.j.parts.Name
		}
		if j.Kind == "source" {
			one.Counters["written"] = j.Produced
		} else {
			one.Counters["written"] = j.Written
		}
		if r := j.Retrying; r != nil {
			one.Reason = r.Reason
			one.Retrying = &admin.Retrying{Since: r.Since, Seconds: time.Since(r.Since).Seconds(), Attempts: r.Attempts}
		}
		if j.Lag >= 0 {
			one.Lag = admin.Known(float64(j.Lag))
		}
		for _, p := range j.Parts {
			state := string(j.State)
			if p.Done {
				state = string(stream.Completed)
			}
			one.Tasks = append(one.Tasks, admin.Task{ID: p.Name, State: state, Reason: p.Error, Position: p.Position})
		}
		all = append(all, one)
	}
	return all
}

// do asks something of the runner, on a node that has one.
func (v view) do(ask func() error) error {
	if !v.j.there.Load() {
		return admin.ErrEarly
	}
	return jobError(ask())
}

// change is do while nobody else changes connectors.
func (v view) change(ctx context.Context, ask func() error) error {
	return v.do(func() error { return v.j.change(ctx, ask) })
}

// Act implements admin.Jobs.
func (v view) Act(ctx context.Context, job string, action admin.Action) error {
	return v.change(ctx, func() error {
		desired, act := "", v.j.parts.Runner.Restart
		switch action {
		case admin.Pause:
			desired, act = catalog.JobPaused, v.j.parts.Runner.Pause
		case admin.Resume:
			desired, act = catalog.JobRunning, v.j.parts.Runner.Resume
		case admin.Stop:
			desired, act = catalog.JobStopped, v.j.parts.Runner.Stop
		case admin.Restart:
		default:
			return fmt.Errorf("%w: action %q", admin.ErrConflict, action)
		}
		return v.j.wish(ctx, job, desired, act)
	})
}

// Offsets implements admin.Jobs.
func (v view) Offsets(ctx context.Context, job string) (out []admin.Offset, err error) {
	err = v.do(func() error {
		all, err := v.j.parts.Runner.Offsets(ctx, job)
		out = make([]admin.Offset, 0, len(all))
		for _, o := range all {
			out = append(out, offsetView(o))
		}
		return err
	})
	return out, err
}

// SetOffsets implements admin.Jobs.
func (v view) SetOffsets(ctx context.Context, job string, to []admin.Offset) error {
	all := make([]stream.Offset, 0, len(to))
	for _, o := range to {
		all = append(all, stream.Offset{Split: o.Split, Position: o.Position, Where: o.Where, Topic: o.Topic, Partition: o.Partition, Offset: o.Offset})
	}
	return v.change(ctx, func() error {
		return v.j.whileResting(ctx, job, func() error { return v.j.parts.Runner.SetOffsets(ctx, job, all) })
	})
}

// ResetOffsets implements admin.Jobs.
func (v view) ResetOffsets(ctx context.Context, job string) error {
	return v.change(ctx, func() error {
		return v.j.whileResting(ctx, job, func() error { return v.j.parts.Runner.ResetOffsets(ctx, job) })
	})
}

// Replay implements admin.Jobs.
func (v view) Replay(ctx context.Context, job string) (out admin.Replayed, err error) {
	err = v.do(func() error {
		done, err := v.j.parts.Runner.Replay(ctx, job)
		out = admin.Replayed{
			Read: done.Read, Written: done.Produced + done.Written, Filtered: done.Filtered, Dead: done.DeadLetters, Left: done.Left,
		}
		return err
	})
	return out, err
}

// Rewind implements admin.Jobs.
func (v view) Rewind(ctx context.Context, job string, to admin.RewindTo) (out admin.Rewind, err error) {
	err = v.change(ctx, func() error {
		var done stream.Rewind
		rewind := func() (err error) {
			done, err = v.j.parts.Runner.Rewind(ctx, job, to.Time, to.DryRun)
			return err
		}
		if !to.DryRun {
			err = v.j.whileResting(ctx, job, rewind)
		} else {
			err = rewind()
		}
		out = admin.Rewind{Job: done.Job, Kind: done.Kind, Time: done.Time, Moved: done.Moved, Then: done.Then}
		for _, p := range done.Parts {
			out.Parts = append(out.Parts, admin.RewindPart{From: offsetView(p.From), To: offsetView(p.To), Stays: p.Stays, Records: p.Records})
		}
		return err
	})
	return out, err
}

func offsetView(o stream.Offset) admin.Offset {
	return admin.Offset{Split: o.Split, Position: o.Position, Where: o.Where, Topic: o.Topic, Partition: o.Partition, Offset: o.Offset}
}

// jobError says in the admin server's words what kind of error it is.
func jobError(err error) error {
	switch {
	case errors.Is(err, errNoJob), errors.Is(err, stream.ErrUnknownJob):
		return fmt.Errorf("%w: %w", admin.ErrNotFound, err)
	case errors.Is(err, stream.ErrBusy), errors.Is(err, stream.ErrNotRunning):
		return fmt.Errorf("%w: %w", admin.ErrConflict, err)
	case errors.Is(err, record.ErrInvalidRequest):
		return fmt.Errorf("%w: %w", admin.ErrInvalid, err)
	}
	return err
}

// Others are the connectors that other nodes run: all, or what they have of the
// one of a name.
func (j *Jobs) Others(ctx context.Context, name string) (all []admin.Job) {
	if !j.there.Load() || !j.parts.Several() {
		return nil
	}
	var only []int32
	if name != "" {
		if only = j.parts.Placing.Holders(name); len(only) == 0 {
			return nil
		}
	}
	s := j.parts.Catalog.State()
	known := j.parts.Placing.Divided(s)
	reach.Ask(ctx, j.parts.Reach, MethodJobs, only, func(node int32, jobs []admin.Job) {
		for _, one := range jobs {
			if (name == "" || one.Name == name) && slices.Contains(known[one.Name].At(s, one.Name), node) {
				all = append(all, one)
			}
		}
	})
	return all
}
