package mirror

import (
	"fmt"
	"slices"
	"time"
)

// State of a link, a topic or a partition; of the first two it is the one of
// their partitions that needs attention most.
type State string

// The states, in the order in which they need attention.
const (
	StateDiverged    State = "DIVERGED"           // the source's history is not the mirror's
	StateRecreated   State = "SOURCE_RECREATED"   // the source topic has another ID
	StateGap         State = "gap"                // the source deleted what was not mirrored
	StateRefused     State = "refused"            // this site has another topic of the name
	StateUnreachable State = "source-unreachable" // not heard
	StateStopped     State = "stopped"            // deleted at the source, or no longer offered
	StatePaused      State = "paused"             // by the operator
	StateDiscovering State = "discovering"        // not known yet, or being opened
	StateCatchingUp  State = "catching-up"        // behind the source
	StateStreaming   State = "streaming"          // level with the source
)

var severity = []State{
	StateDiverged, StateRecreated, StateGap, StateRefused, StateUnreachable, StateStopped,
	StatePaused, StateDiscovering, StateCatchingUp, StateStreaming,
}

// LinkStatus is what a link is doing. Numbers that are not known are null.
type LinkStatus struct {
	ID          string        `json:"id"`
	Name        string        `json:"name"` // "east→west"
	Source      string        `json:"source"`
	Destination string        `json:"destination"`
	Kind        string        `json:"kind"`
	State       State         `json:"state"`
	Reason      string        `json:"reason,omitempty"`
	Heard       *float64      `json:"heard_seconds_ago"` // any answer of the source
	Lag         string        `json:"lag"`               // "known", or "unknown" if that of a partition is
	LagRecords  *int64        `json:"lag_records"`       // sum
	LagSeconds  *float64      `json:"lag_seconds"`       // greatest
	Records     int64         `json:"records"`           // appended since the start
	Batches     int64         `json:"batches"`
	Bytes       int64         `json:"bytes"`
	BytesRate   float64       `json:"bytes_per_second"` // received, over ten seconds
	Topics      []TopicStatus `json:"topics"`
}

// TopicStatus is one mirrored topic.
type TopicStatus struct {
	Name       string            `json:"name"`
	ID         string            `json:"id"`
	State      State             `json:"state"`
	Reason     string            `json:"reason,omitempty"`
	Partitions []PartitionStatus `json:"partitions"`
}

// PartitionStatus is one mirrored partition. Offsets are Kafka's: Next is the
// end of this site's log, SourceEnd the source's high watermark.
type PartitionStatus struct {
	Partition   int32    `json:"partition"`
	State       State    `json:"state"`
	Reason      string   `json:"reason,omitempty"`
	Next        int64    `json:"next_offset"`
	SourceStart *int64   `json:"source_start"`
	SourceEnd   *int64   `json:"source_end"`
	Lag         string   `json:"lag"` // "known" or "unknown"
	LagRecords  *int64   `json:"lag_records"`
	LagSeconds  *float64 `json:"lag_seconds"` // null also while the age of a backlog is not known
	Heard       *float64 `json:"heard_seconds_ago"`
	Records     int64    `json:"records"`
	Batches     int64    `json:"batches"`
	Bytes       int64    `json:"bytes"`
	Refused     int64    `json:"refused"` // answers that failed a check
	Gap         *Gap     `json:"gap,omitempty"`
	Skipped     []Gap    `json:"skipped,omitempty"`
}

// The values of Lag.
const (
	lagKnown   = "known"
	lagUnknown = "unknown"
)

// status of the link at this moment.
func (c *core) status(now time.Time) LinkStatus {
	s := LinkStatus{
		ID: c.link.Name, Name: c.link.Source + "→" + c.cfg.Site, Source: c.link.Source, Destination: c.cfg.Site,
		Kind: c.link.Kind, Lag: lagUnknown, BytesRate: c.meter.rate(now), Topics: []TopicStatus{},
	}
	var states []PartitionStatus
	for _, t := range c.sorted() {
		ts := c.topicStatus(now, t)
		if len(ts.Partitions) == 0 && len(t.parts) > 0 {
			continue // all are led by other nodes of this site, which tell of them
		}
		s.Topics = append(s.Topics, ts)
		states = append(states, PartitionStatus{State: ts.State, Reason: ts.Reason})
		for _, p := range ts.Partitions {
			s.sum(p)
		}
	}
	s.State, s.Reason = worst(states)
	s.Heard = c.heard(now)
	if len(s.Topics) == 0 {
		s.State, s.Reason = c.idle()
	}
	s.lag()
	return s
}

// idle is the state of a link without topics.
func (c *core) idle() (State, string) {
	switch {
	case c.find.err != "":
		return StateUnreachable, c.find.err
	case c.paused:
		return StatePaused, ""
	case c.find.last.IsZero():
		return StateDiscovering, "the source has not been asked yet"
	}
	return StateStreaming, fmt.Sprintf("no topic of the source names %s in %s", c.cfg.Site, settingTo)
}

// heard is how long ago the source last answered anything.
func (c *core) heard(now time.Time) *float64 {
	at := c.find.last
	for _, t := range c.topics {
		for _, p := range t.parts {
			if p.source.heard.After(at) {
				at = p.source.heard
			}
		}
	}
	return ago(now, at)
}

func ago(now, at time.Time) *float64 {
	if at.IsZero() {
		return nil
	}
	s := now.Sub(at).Seconds()
	return &s
}

func (s *LinkStatus) sum(p PartitionStatus) {
	s.Records, s.Batches, s.Bytes = s.Records+p.Records, s.Batches+p.Batches, s.Bytes+p.Bytes
}

// lag of the link is known when that of every partition is, but for topics
// that are not to be mirrored.
func (s *LinkStatus) lag() {
	var (
		records int64
		seconds float64
		timed   = true
		some    bool
	)
	for _, t := range s.Topics {
		if t.State == StateStopped || t.State == StateRefused {
			continue
		}
		if len(t.Partitions) == 0 {
			return
		}
		for _, p := range t.Partitions {
			if p.LagRecords == nil {
				return
			}
			some = true
			records += *p.LagRecords
			if p.LagSeconds == nil {
				timed = false
			} else {
				seconds = max(seconds, *p.LagSeconds)
			}
		}
	}
	if !some {
		return
	}
	s.Lag, s.LagRecords = lagKnown, &records
	if timed {
		s.LagSeconds = &seconds
	}
}

func (c *core) topicStatus(now time.Time, t *topic) TopicStatus {
	s := TopicStatus{Name: t.name, ID: t.id.String(), Partitions: []PartitionStatus{}}
	for _, p := range t.parts {
		if p.here {
			s.Partitions = append(s.Partitions, c.partitionStatus(now, p))
		}
	}
	s.State, s.Reason = worst(s.Partitions)
	switch {
	case t.verdict != nil:
		s.State, s.Reason = t.verdict.state, t.verdict.reason
	case len(t.parts) == 0:
		s.State, s.Reason = StateDiscovering, t.trouble
	case s.Reason == "":
		s.Reason = t.trouble
	}
	return s
}

// worst is the state that needs attention most.
func worst(parts []PartitionStatus) (State, string) {
	state, reason := StateStreaming, ""
	for _, p := range parts {
		if a, b := slices.Index(severity, p.State), slices.Index(severity, state); a < b || a == b && reason == "" {
			state, reason = p.State, p.Reason
		}
	}
	return state, reason
}

func (c *core) partitionStatus(now time.Time, p *partition) PartitionStatus {
	s := PartitionStatus{
		Partition: p.tp.Partition, Next: p.next, Lag: lagUnknown, Heard: ago(now, p.source.heard),
		Records: p.count.records, Batches: p.count.batches, Bytes: p.count.bytes, Refused: p.count.refused,
		Skipped: slices.Clone(p.gaps),
	}
	s.State, s.Reason = c.stateOf(now, p)
	if p.halt != nil && p.halt.state == StateGap {
		gap := p.halt.gap
		s.Gap = &gap
	}
	if p.source.start >= 0 {
		s.SourceStart = new(p.source.start)
	}
	if p.source.end >= 0 {
		s.SourceEnd = new(p.source.end)
	}
	if c.lagKnown(now, p) {
		records := p.source.end - p.position()
		s.Lag, s.LagRecords, s.LagSeconds = lagKnown, &records, p.lag.seconds(now)
	}
	return s
}

// lagKnown: a lag is told only while the source is heard, and has what is
// mirrored. It is never 0 for want of news.
func (c *core) lagKnown(now time.Time, p *partition) bool {
	return p.phase == running && p.halt == nil && p.topic.verdict == nil && p.lost == "" && p.measureAt.IsZero() &&
		p.source.end >= p.position() && !p.source.heard.IsZero() && now.Sub(p.source.heard) <= c.cfg.Stale
}

// stateOf a partition, and why.
func (c *core) stateOf(now time.Time, p *partition) (State, string) {
	t := p.topic
	switch {
	case t.verdict != nil:
		return t.verdict.state, t.verdict.reason
	case p.halt != nil:
		return p.halt.state, p.halt.reason
	case t.paused || t.gone:
		return StatePaused, ""
	case p.phase != running:
		return StateDiscovering, p.reason
	case p.lost != "":
		return StateUnreachable, p.lost
	case c.find.err != "" && (p.source.heard.IsZero() || now.Sub(p.source.heard) > c.cfg.Stale):
		return StateUnreachable, c.find.err
	case p.leader.node < 0:
		return StateDiscovering, "no leader at the source"
	case p.source.heard.IsZero() || !p.measureAt.IsZero():
		return StateDiscovering, p.reason
	case now.Sub(p.source.heard) > c.cfg.Stale && len(p.queue) < queueLimit:
		return StateUnreachable, orElse(p.reason, fmt.Sprintf("not heard for %.0f s", now.Sub(p.source.heard).Seconds()))
	case p.position() < p.source.end:
		return StateCatchingUp, p.reason
	}
	return StateStreaming, p.reason
}

func orElse(s, other string) string {
	if s == "" {
		return other
	}
	return s
}
