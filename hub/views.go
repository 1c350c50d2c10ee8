package hub

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/entrepot-hub/entrepot/hub/admin"
	"github.com/entrepot-hub/entrepot/hub/catalog"
	"github.com/entrepot-hub/entrepot/hub/replica"
	"github.com/entrepot-hub/entrepot/mirror"
	"github.com/entrepot-hub/entrepot/record"
	"github.com/entrepot-hub/entrepot/stream"
)

// The views show the parts to the admin server, in its words.
type (
	nodeView  struct{ h *Hub }
	meshView  struct{ h *Hub }
	linksView struct{ h *Hub }
	jobsView  struct{ h *Hub }
)

// Ready implements admin.Node.
func (v nodeView) Ready() error {
	if why := v.h.ready.Load(); why != nil {
		return errors.New(*why)
	}
	if err := v.h.store.Disk().Offline; err != nil {
		return err
	}
	return nil
}

// Status implements admin.Node.
func (v nodeView) Status() admin.Status {
	h := v.h
	s := admin.Status{
		Node: h.cfg.Node.ID, Site: h.cfg.Node.Site, Version: h.deps.Version,
		Kafka: h.Kafka(), DataDir: h.cfg.Node.DataDir, Started: h.started, Ready: true, Disk: v.disk(),
	}
	if !h.joined.Load() {
		s.Ready, s.Reason = false, v.Ready().Error()
		return s
	}
	s.ClusterID = h.id.Cluster
	if err := v.Ready(); err != nil {
		s.Ready, s.Reason = false, err.Error()
	} else if bad := h.damaged(); len(bad) > 0 {
		s.Reason = fmt.Sprintf("%d partitions are quarantined, the first is %s", len(bad), bad[0])
	}
	for _, t := range h.meta.State().Topics() {
		s.Topics = append(s.Topics, v.topic(t))
	}
	for _, p := range h.peers.Stats() {
		s.Peers = append(s.Peers, admin.PeerLink{
			Node: p.Name, NodeID: p.Node, Class: p.Class.String(), Since: p.Since, Error: p.Error, Accepted: p.Accepted,
			Version: p.Version, Connects: p.Connects, RoundTripSeconds: p.RoundTrip.Seconds(), QueueBytes: int64(p.QueueBytes), Dropped: p.Dropped,
			SentFrames: p.SentFrames, SentBytes: p.SentBytes, ReceivedFrames: p.ReceivedFrames, ReceivedBytes: p.ReceivedBytes,
		})
	}
	return s
}

func (v nodeView) disk() admin.Disk {
	d := v.h.store.Disk()
	out := admin.Disk{FreeBytes: d.Free, State: "ok"}
	switch {
	case d.Offline != nil:
		out.State, out.Reason = "offline", d.Offline.Error()
	case d.High:
		out.State = "full"
	case d.Low:
		out.State = "low"
	}
	return out
}

func (v nodeView) topic(t *catalog.Topic) admin.Topic {
	out := admin.Topic{Name: t.Name, Internal: catalog.IsInternal(t.Name), MirrorTo: t.Settings().MirrorTo}
	if t.Mirror != nil {
		out.Source = t.Mirror.Source
	}
	for p := range t.Partitions {
		r, ok := v.h.set.Get(record.TopicPartition{Topic: t.Name, Partition: int32(p)})
		if !ok {
			continue
		}
		st := r.Status()
		one := admin.Partition{
			ID: int32(p), LogStart: st.Offsets.Start, HighWatermark: st.Offsets.HighWatermark,
			LeaderEpoch: st.Offsets.LeaderEpoch, Bytes: st.Bytes, Compaction: compaction(r),
		}
		if st.Err != nil {
			one.Damage = st.Err.Error()
		}
		out.Partitions = append(out.Partitions, one)
	}
	return out
}

// compaction is nil for a replica that is not compacted.
func compaction(r *replica.Replica) *admin.Compaction {
	d, on := r.Dirty()
	if !on {
		return nil
	}
	s := r.Compacted()
	return &admin.Compaction{
		CleanBelow: d.CleanBelow, DirtyBytes: d.Bytes, Ratio: d.Ratio, Passes: s.Passes, Errors: s.Errors,
		BeforeBytes: s.Before, AfterBytes: s.After, Last: s.Last, LastError: s.LastError,
	}
}

// Members implements admin.Mesh.
func (v meshView) Members() []admin.Member {
	var all []admin.Member
	for _, m := range v.h.mesh.Members() {
		all = append(all, admin.Member{
			ID: m.ID, Site: m.Site, Kafka: m.Kafka, Peer: m.Peer, Admin: m.Admin, Version: m.Version,
			Addr: m.Addr, Status: m.Status, Pool: m.Pool,
		})
	}
	return all
}

// RTT implements admin.Mesh.
func (v meshView) RTT(a, b string) (time.Duration, error) {
	d, err := v.h.mesh.RTT(a, b)
	if err != nil {
		return 0, fmt.Errorf("%w: %w", admin.ErrNotFound, err)
	}
	return d, nil
}

// Links implements admin.Links.
func (v linksView) Links() []admin.Link {
	var all []admin.Link
	if !v.h.joined.Load() {
		return nil
	}
	for _, l := range v.h.links.Status() {
		one := admin.Link{
			Name: l.Name, Kind: l.Kind, Source: l.Source, State: string(l.State), Reason: l.Reason,
			Records: l.Records, Bytes: l.Bytes, LagRecords: measure(l.LagRecords), LagSeconds: measure(l.LagSeconds), Heard: measure(l.Heard),
		}
		for _, t := range l.Topics {
			for _, p := range t.Partitions {
				one.Partitions = append(one.Partitions, linkPartition(t, p))
			}
		}
		all = append(all, one)
	}
	return all
}

func linkPartition(t mirror.TopicStatus, p mirror.PartitionStatus) admin.LinkPartition {
	return admin.LinkPartition{
		Topic: t.Name, Partition: p.Partition, Next: p.Next, SourceEnd: measure(p.SourceEnd),
		LagRecords: measure(p.LagRecords), LagSeconds: measure(p.LagSeconds), State: string(p.State), Reason: p.Reason,
	}
}

// measure is a number that may not be known.
func measure[N int64 | float64](n *N) admin.Measure {
	if n == nil {
		return admin.Measure{}
	}
	return admin.Known(float64(*n))
}

// Jobs implements admin.Jobs.
func (v jobsView) Jobs() []admin.Job {
	var all []admin.Job
	if !v.h.joined.Load() {
		return nil
	}
	for _, j := range v.h.runner.Status() {
		one := admin.Job{
			Name: j.Name, Kind: j.Kind, Connector: j.Type, Topic: j.Topic, State: string(j.State),
			Reason: j.LastError, Guarantee: j.Guarantee,
			Counters: map[string]int64{"read": j.Read, "filtered": j.Filtered, "dead": j.DeadLetters},
		}
		if v.h.several() {
			one.Node = v.h.cfg.Node.ID
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

// errEarly answers who asks for something before the node belongs to a site.
var errEarly = fmt.Errorf("%w: this node does not belong to a site yet", admin.ErrConflict)

// do asks something of the runner, on a node that has one.
func (v jobsView) do(ask func() error) error {
	if !v.h.joined.Load() {
		return errEarly
	}
	return jobError(ask())
}

// change is do while nobody else changes connectors.
func (v jobsView) change(ctx context.Context, ask func() error) error {
	return v.do(func() error { return v.h.connectors.change(ctx, ask) })
}

// Act implements admin.Jobs.
func (v jobsView) Act(ctx context.Context, job string, action admin.Action) error {
	return v.change(ctx, func() error {
		desired, act := "", v.h.runner.Restart
		switch action {
		case admin.Pause:
			desired, act = catalog.JobPaused, v.h.runner.Pause
		case admin.Resume:
			desired, act = catalog.JobRunning, v.h.runner.Resume
		case admin.Stop:
			desired, act = catalog.JobStopped, v.h.runner.Stop
		case admin.Restart:
		default:
			return fmt.Errorf("%w: action %q", admin.ErrConflict, action)
		}
		return v.h.wish(ctx, job, desired, act)
	})
}

// Offsets implements admin.Jobs.
func (v jobsView) Offsets(ctx context.Context, job string) (out []admin.Offset, err error) {
	err = v.do(func() error {
		all, err := v.h.runner.Offsets(ctx, job)
		out = make([]admin.Offset, 0, len(all))
		for _, o := range all {
			out = append(out, offsetView(o))
		}
		return err
	})
	return out, err
}

// SetOffsets implements admin.Jobs.
func (v jobsView) SetOffsets(ctx context.Context, job string, to []admin.Offset) error {
	all := make([]stream.Offset, 0, len(to))
	for _, o := range to {
		all = append(all, stream.Offset{Split: o.Split, Position: o.Position, Where: o.Where, Topic: o.Topic, Partition: o.Partition, Offset: o.Offset})
	}
	return v.change(ctx, func() error {
		return v.h.whileResting(ctx, job, func() error { return v.h.runner.SetOffsets(ctx, job, all) })
	})
}

// ResetOffsets implements admin.Jobs.
func (v jobsView) ResetOffsets(ctx context.Context, job string) error {
	return v.change(ctx, func() error {
		return v.h.whileResting(ctx, job, func() error { return v.h.runner.ResetOffsets(ctx, job) })
	})
}

// Replay implements admin.Jobs.
func (v jobsView) Replay(ctx context.Context, job string) (out admin.Replayed, err error) {
	err = v.do(func() error {
		done, err := v.h.runner.Replay(ctx, job)
		out = admin.Replayed{
			Read: done.Read, Written: done.Produced + done.Written, Filtered: done.Filtered, Dead: done.DeadLetters, Left: done.Left,
		}
		return err
	})
	return out, err
}

// Rewind implements admin.Jobs.
func (v jobsView) Rewind(ctx context.Context, job string, to admin.RewindTo) (out admin.Rewind, err error) {
	err = v.change(ctx, func() error {
		var done stream.Rewind
		rewind := func() (err error) { done, err = v.h.runner.Rewind(ctx, job, to.Time, to.DryRun); return err }
		if !to.DryRun {
			err = v.h.whileResting(ctx, job, rewind)
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

// kafkaSamples are the Kafka server's counts as metrics.
type kafkaSamples struct{ h *Hub }

// Samples implements admin.Samples.
func (v kafkaSamples) Samples() []admin.Sample {
	if !v.h.joined.Load() {
		return nil
	}
	s := v.h.server.Stats()
	all := []admin.Sample{
		{Name: "kafka_connections", Help: "Open connections of Kafka clients.", Value: float64(s.Connections)},
		{Name: "kafka_connections_refused_total", Help: "Connections beyond a limit, closed at once.", Counter: true, Value: float64(s.Refused)},
		{Name: "kafka_failed_logins_total", Help: "Logins of Kafka clients that failed.", Counter: true, Value: float64(s.FailedLogins)},
		{Name: "kafka_throttled_total", Help: "Answers to clients above their quota.", Counter: true, Value: float64(s.Throttled)},
		{Name: "kafka_request_bytes", Help: "Bytes of requests that are read and not yet answered.", Value: float64(s.RequestBytes)},
		{Name: "kafka_answer_bytes", Help: "Bytes of Fetch answers under way.", Value: float64(s.AnswerBytes)},
	}
	for api, n := range s.Requests {
		all = append(all, admin.Sample{Name: "kafka_requests_total", Help: "Requests by API.", Counter: true, Labels: map[string]string{"api": api}, Value: float64(n)})
	}
	return all
}

// scrubSamples tell how far the check of what is on the disk is, and what it found.
type scrubSamples struct{ h *Hub }

// Samples implements admin.Samples.
func (v scrubSamples) Samples() []admin.Sample {
	if !v.h.joined.Load() || v.h.cfg.Scrub.Rate == 0 {
		return nil
	}
	s := v.h.set.Scrubbed()
	running, last := 0.0, 0.0
	if s.Running {
		running = 1
	}
	if !s.LastPass.IsZero() {
		last = float64(s.LastPass.UnixMilli()) / 1000
	}
	return []admin.Sample{
		{Name: "scrub_running", Help: "1 while what is on the disk is read and checked.", Value: running},
		{Name: "scrub_pass_bytes", Help: "Bytes read in this pass, or the last one.", Value: float64(s.Bytes)},
		{Name: "scrub_last_pass_seconds", Help: "When the last pass over everything ended, seconds since 1970; 0: never.", Value: last},
		{Name: "scrub_damaged_total", Help: "Logs found damaged by the check since the node started.", Counter: true, Value: float64(s.Damaged)},
		{Name: "scrub_bad_indexes_total", Help: "Segments found by the check whose index cannot be used and is made anew from the frames each time.", Counter: true, Value: float64(s.Indexes)},
	}
}

// registrySamples counts what the schema registry has.
type registrySamples struct{ h *Hub }

// Samples implements admin.Samples.
func (v registrySamples) Samples() []admin.Sample {
	if v.h.registryLn == nil || !v.h.joined.Load() {
		return nil
	}
	n, known := v.h.registry.Subjects()
	value := float64(n)
	if !known {
		value = math.NaN()
	}
	return []admin.Sample{
		{Name: "registry_subjects", Help: "Subjects of the schema registry that have a schema.", Value: value},
		{Name: "registry_failed_logins_total", Help: "Logins at the schema registry that failed.", Value: float64(v.h.registry.FailedLogins()), Counter: true},
	}
}

// connectSamples counts what the REST API for connectors has.
type connectSamples struct{ h *Hub }

// Samples implements admin.Samples.
func (v connectSamples) Samples() []admin.Sample {
	if v.h.connectLn == nil || !v.h.joined.Load() {
		return nil
	}
	return []admin.Sample{
		{Name: "connect_failed_logins_total", Help: "Logins at the REST API for connectors that failed.", Value: float64(v.h.connect.FailedLogins()), Counter: true},
	}
}
