package stream

import (
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/entrepot-hub/entrepot/connectors"
)

// State is where a job stands.
type State string

// The states of a job.
const (
	Starting   State = "starting"
	Running    State = "running"
	Paused     State = "paused"
	Completed  State = "completed" // a source that has come to its end
	BackingOff State = "backing-off"
	Stuck      State = "stuck"  // running, starting or backing off, and for a while nothing comes of it
	Failed     State = "failed" // parked with a reason; waits for a restart
	Stopped    State = "stopped"
)

// JobStatus is what a job shows of itself.
type JobStatus struct {
	Name      string `json:"name"`
	Kind      string `json:"kind"` // source or sink
	Type      string `json:"type"`
	Topic     string `json:"topic"`
	DLQ       string `json:"dlq"`
	Guarantee string `json:"guarantee"`

	State     State      `json:"state"`
	Since     time.Time  `json:"since"`
	NextTry   *time.Time `json:"next_try,omitempty"`
	Restarts  int        `json:"restarts"`
	LastError string     `json:"last_error,omitempty"`
	ErrorAt   *time.Time `json:"error_at,omitempty"`
	// Retrying says since when the job, or the part of it that waits longest,
	// makes no progress; nil when it does, or has nothing to do.
	Retrying *Trouble `json:"retrying,omitempty"`

	Counters
	Rate float64 `json:"rate"` // records a second, over the last ten seconds
	// Lag is what a sink has still to write, in records; -1 is unknown. A
	// source does not know what is left to read.
	Lag   int64        `json:"lag"`
	Parts []PartStatus `json:"parts"`
}

// PartStatus is one split or partition of a job.
type PartStatus struct {
	Name     string `json:"name"`
	Position string `json:"position"`
	Lag      int64  `json:"lag"` // -1: unknown
	Done     bool   `json:"done,omitempty"`
	Error    string `json:"error,omitempty"` // why it is waiting
	Counters

	reached int64 // of a sink: nothing below is outstanding
}

// monitor is the live status of one job, and what outlives its sessions.
type monitor struct {
	name    string
	logger  *slog.Logger
	breaker breaker
	hide    connectors.Redactor // of the errors that are shown
	mu      struct {
		sync.Mutex
		floor    int64 // the highest epoch that a destination has shown
		status   JobStatus
		parts    map[string]PartStatus
		ends     map[string]int64 // of partitions, by the names of the parts
		troubles troubles
		meter    meter
	}
}

func newMonitor(spec ConnectorSpec, logger *slog.Logger) *monitor {
	m := &monitor{name: spec.Name, logger: logger, hide: spec.Config.Redactor()}
	m.mu.troubles = troubles{}
	m.mu.status = JobStatus{
		Name: spec.Name, Kind: spec.Kind(), Type: spec.Type, Topic: spec.Topic, DLQ: spec.DLQ(),
		Guarantee: spec.spec().Guarantee, State: Starting, Since: time.Now(), Lag: -1,
	}
	m.mu.parts = map[string]PartStatus{}
	m.mu.ends = map[string]int64{}
	return m
}

func (m *monitor) state(s State) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.mu.status.State != s {
		m.mu.status.State, m.mu.status.Since = s, time.Now()
	}
	m.mu.status.NextTry = nil
	switch s {
	case Paused, Stopped, Failed, Completed:
		clear(m.mu.troubles)
	}
}

// fault remembers an error; the job may go on.
func (m *monitor) fault(err error) {
	now, text := time.Now(), m.hide.Text(err.Error())
	m.mu.Lock()
	defer m.mu.Unlock()
	m.mu.status.LastError, m.mu.status.ErrorAt = text, &now
}

// raise takes over the epoch of an owner that a destination knows.
func (m *monitor) raise(epoch int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.mu.floor = max(m.mu.floor, epoch)
}

// floor is an epoch above which the next one has to be.
func (m *monitor) floor() int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.mu.floor
}

// retry says that the job waits for its next run.
func (m *monitor) retry(at time.Time) {
	m.state(BackingOff)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.mu.status.NextTry = &at
	m.mu.status.Restarts++
}

// part takes over the newest state of one split or partition.
func (m *monitor) part(p PartStatus) {
	if p.Error != "" {
		p.Error = m.hide.Text(p.Error)
	}
	if m.replace(p) {
		m.well(p.Name)
	}
}

// replace reports whether the part has come on.
func (m *monitor) replace(p PartStatus) (moved bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	old, known := m.mu.parts[p.Name]
	m.mu.parts[p.Name] = p
	if grown := p.Read - old.Read; grown > 0 && known {
		m.mu.meter.add(time.Now(), grown)
	}
	return known && p.Position != old.Position
}

// end takes over how far a partition goes, whether or not the job reads it.
func (m *monitor) end(name string, offset int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.mu.ends[name] = offset
}

func (m *monitor) status() JobStatus {
	now := time.Now()
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.mu.status
	s.Rate = m.mu.meter.rate(now)
	m.showTrouble(&s, now)
	s.Lag = -1
	if s.Kind == "sink" && len(m.mu.parts) > 0 {
		s.Lag = 0
	}
	for name, p := range m.mu.parts {
		if why, is := m.mu.troubles[name]; is && p.Error == "" {
			p.Error = why.Reason
		}
		if end, heard := m.mu.ends[name]; heard && s.Kind == "sink" {
			p.Lag = max(p.Lag, end-p.reached)
		}
		s.Parts = append(s.Parts, p)
		s.Counters = s.Counters.plus(p.Counters)
		if p.Lag < 0 || s.Lag < 0 {
			s.Lag = -1
			continue
		}
		s.Lag += p.Lag
	}
	slices.SortFunc(s.Parts, func(a, b PartStatus) int { return strings.Compare(a.Name, b.Name) })
	return s
}

// meterSeconds is the span of a rate.
const meterSeconds = 10

// meter counts records in buckets of a second. It is a pure value.
type meter struct {
	counts [meterSeconds + 1]int64
	second int64 // Unix time of the newest bucket
	first  int64 // Unix time of the first record
}

func (m *meter) at(now time.Time) {
	s := now.Unix()
	for m.second < s {
		if s-m.second > int64(len(m.counts)) {
			m.second = s - int64(len(m.counts))
		}
		m.second++
		m.counts[m.second%int64(len(m.counts))] = 0
	}
}

func (m *meter) add(now time.Time, n int64) {
	m.at(now)
	m.counts[m.second%int64(len(m.counts))] += n
	if m.first == 0 {
		m.first = m.second
	}
}

// rate is the mean of the whole seconds before now, or of the present one
// when it is the first.
func (m *meter) rate(now time.Time) float64 {
	m.at(now)
	var sum int64
	for s := m.second - meterSeconds; s < m.second; s++ {
		if s >= 0 {
			sum += m.counts[s%int64(len(m.counts))]
		}
	}
	if m.second == m.first {
		return float64(m.counts[m.second%int64(len(m.counts))])
	}
	return float64(sum) / float64(min(m.second-m.first, meterSeconds))
}
