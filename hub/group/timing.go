package group

import (
	"fmt"
	"time"

	"github.com/entrepot-hub/entrepot/record"
)

// Timing is how the members of a consumer group (KIP-848) are heard. Kafka sets
// it for a broker (group.consumer.session.timeout.ms and
// group.consumer.heartbeat.interval.ms) and for one group
// (consumer.session.timeout.ms and consumer.heartbeat.interval.ms).
type Timing struct {
	Session  time.Duration // a member that is not heard for as long is fenced
	Interval time.Duration // between the heartbeats of a member
}

// TimingBounds are what may be set of it, both ends included. Kafka's names are
// group.consumer.min.session.timeout.ms and so on.
type TimingBounds struct{ Min, Max Timing }

// Check says what is wrong with t: a value out of bounds, or members that would
// be fenced between two heartbeats.
func (b TimingBounds) Check(t Timing) error {
	bad := func(what string, d, low, high time.Duration) error {
		return fmt.Errorf("%w: the %s of members is %s, want %s to %s", record.ErrInvalidConfig, what, d, low, high)
	}
	switch {
	case t.Session < b.Min.Session || t.Session > b.Max.Session:
		return bad("session timeout", t.Session, b.Min.Session, b.Max.Session)
	case t.Interval < b.Min.Interval || t.Interval > b.Max.Interval:
		return bad("heartbeat interval", t.Interval, b.Min.Interval, b.Max.Interval)
	case t.Session <= t.Interval:
		return fmt.Errorf("%w: the session timeout of members is %s, want more than the heartbeat interval, %s", record.ErrInvalidConfig, t.Session, t.Interval)
	}
	return nil
}

// WithTiming is c with what was set for one group. The bounds may be others
// than when it was set: each value is moved into them, and if the session is
// not longer than the interval then, the defaults hold.
func (c Config) WithTiming(t Timing) Config {
	t.Session = min(max(t.Session, c.Bounds.Min.Session), c.Bounds.Max.Session)
	t.Interval = min(max(t.Interval, c.Bounds.Min.Interval), c.Bounds.Max.Interval)
	if t.Session > t.Interval {
		c.Consumer = t
	}
	return c
}

// Configure sets what holds for the group from now on. Sessions that have begun
// end when they would have.
func (g *Group) Configure(cfg Config) { g.cfg = cfg }
