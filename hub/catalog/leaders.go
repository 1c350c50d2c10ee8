package catalog

import (
	"slices"
	"time"

	"github.com/entrepot-hub/entrepot/record"
)

// LeaderLimits say how gently leaders are brought back to where they belong.
type LeaderLimits struct {
	Every  time.Duration // between two rounds of transfers
	Most   int           // transfers in a round to preferred leaders
	Drain  int           // transfers in a round away from nodes that drain
	Settle time.Duration // a node leads again when it has been well for as long
	Rest   time.Duration // a leader that is not the preferred one stays for as long at least
	Retry  time.Duration // until a transfer that did not hold is tried again; doubled each time
}

// DefaultLeaderLimits move ten leaders every two seconds to nodes that have been
// well for a minute. A partition that is away and back within a moment can stand
// still for a producer of librdkafka (its pull request 5593): so it rests first.
func DefaultLeaderLimits() LeaderLimits {
	return LeaderLimits{Every: 2 * time.Second, Most: 10, Drain: 100, Settle: time.Minute, Rest: 10 * time.Second, Retry: 30 * time.Second}
}

// LedGroup is a partition and who leads it now.
type LedGroup struct {
	record.TopicPartition
	Leader   int32   // 0: nobody knows
	Replicas []int32 // the preferred leader first
	Moving   bool    // its members are being changed: its leader stays
}

// NodeView is what is known of a node that could lead.
type NodeView struct {
	Node     int32
	Well     bool // reachable, and its replicas are in line
	Since    time.Time
	Draining bool
}

// Transfer asks the leader of a partition to hand it to another replica.
type Transfer struct {
	record.TopicPartition
	From, To int32
}

// Leaders decides which leaders to transfer: those of nodes that drain at once,
// others to their preferred leaders a few at a time. None goes to a node that is
// not well, that drains, or that came back a moment ago. A node can step it with
// the groups that it leads, or one node with all. It is a pure value.
type Leaders struct {
	limits LeaderLimits
	last   time.Time // the last round
	tried  map[record.TopicPartition]attempt
	led    map[record.TopicPartition]reign
}

// reign is who leads a group, and since when at the latest.
type reign struct {
	node  int32
	since time.Time
}

// attempt is a transfer that was asked for.
type attempt struct {
	at    time.Time
	times int // in a row without staying
}

// maxBackoff bounds the wait after transfers that did not hold.
const maxBackoff = 10 * time.Minute

// NewLeaders is one that has not asked for anything yet.
func NewLeaders(limits LeaderLimits) *Leaders {
	return &Leaders{limits: limits, tried: map[record.TopicPartition]attempt{}, led: map[record.TopicPartition]reign{}}
}

// Step returns the transfers to ask for now, and when to step again at the
// latest; zero: when something changes.
func (l *Leaders) Step(now time.Time, groups []LedGroup, nodes []NodeView) (transfers []Transfer, again time.Time) {
	l.note(now, groups)
	if next := l.last.Add(l.limits.Every); now.Before(next) {
		return nil, next
	}
	views := map[int32]NodeView{}
	for _, n := range nodes {
		views[n.Node] = n
	}
	drains, prefers := 0, 0
	for _, g := range groups {
		from, known := views[g.Leader]
		if !known || g.Moving {
			continue
		}
		var to int32
		var wait time.Time
		full := false
		if from.Draining {
			to, full = l.refuge(now, g, views), drains >= l.limits.Drain
		} else {
			to, wait = l.preferred(now, g, views)
			full = prefers >= l.limits.Most
		}
		if to != 0 {
			wait = later(wait, l.free(g.TopicPartition, from.Draining))
		}
		switch {
		case to == 0 && wait.IsZero():
		case wait.After(now):
			again = earlier(again, wait)
		case full:
			again = earlier(again, now.Add(l.limits.Every))
		default:
			if from.Draining {
				drains++
			} else {
				prefers++
			}
			l.tried[g.TopicPartition] = attempt{now, l.tried[g.TopicPartition].times + 1}
			transfers = append(transfers, Transfer{g.TopicPartition, g.Leader, to})
		}
	}
	if len(transfers) > 0 {
		l.last = now
		again = earlier(again, now.Add(l.limits.Every)) // to see what came of it
	}
	return transfers, again
}

// refuge is who takes over from a node that drains: the first replica that has
// been well for a while, or else any that is well.
func (l *Leaders) refuge(now time.Time, g LedGroup, views map[int32]NodeView) int32 {
	var any int32
	for _, id := range g.Replicas {
		v := views[id]
		if id == g.Leader || !v.Well || v.Draining {
			continue
		}
		if now.Sub(v.Since) >= l.limits.Settle {
			return id
		}
		if any == 0 {
			any = id
		}
	}
	return any
}

// preferred is the preferred leader if it shall take over, now or after wait.
func (l *Leaders) preferred(now time.Time, g LedGroup, views map[int32]NodeView) (to int32, wait time.Time) {
	if len(g.Replicas) == 0 || g.Replicas[0] == g.Leader || !slices.Contains(g.Replicas, g.Leader) {
		return 0, time.Time{} // one that is being removed hands over by itself
	}
	v := views[g.Replicas[0]]
	if !v.Well || v.Draining {
		return 0, time.Time{}
	}
	return v.Node, later(v.Since.Add(l.limits.Settle), l.led[g.TopicPartition].since.Add(l.limits.Rest))
}

// free is when a group may be transferred again. A node that drains does not
// wait as long.
func (l *Leaders) free(tp record.TopicPartition, drains bool) time.Time {
	a, tried := l.tried[tp]
	switch {
	case !tried:
		return time.Time{}
	case drains:
		return a.at.Add(l.limits.Every)
	}
	return a.at.Add(min(maxBackoff, l.limits.Retry<<min(a.times-1, 10)))
}

// note takes down who leads what, and drops what was asked for long ago and what
// is of groups that are gone.
func (l *Leaders) note(now time.Time, groups []LedGroup) {
	there := make(map[record.TopicPartition]bool, len(groups))
	for _, g := range groups {
		there[g.TopicPartition] = true
		if l.led[g.TopicPartition].node != g.Leader {
			l.led[g.TopicPartition] = reign{g.Leader, now}
		}
	}
	for tp, a := range l.tried {
		if !there[tp] || now.Sub(a.at) > 2*maxBackoff {
			delete(l.tried, tp)
		}
	}
	for tp := range l.led {
		if !there[tp] {
			delete(l.led, tp)
		}
	}
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
