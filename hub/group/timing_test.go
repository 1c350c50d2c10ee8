package group

import (
	"errors"
	"testing"
	"time"

	"github.com/entrepot-hub/entrepot/record"
)

func TestTimingIsBounded(t *testing.T) {
	cfg := Default()
	cfg.Bounds = TimingBounds{Min: Timing{6 * time.Second, time.Second}, Max: Timing{time.Minute, 15 * time.Second}}
	seconds := func(session, interval int) Timing {
		return Timing{time.Duration(session) * time.Second, time.Duration(interval) * time.Second}
	}
	for _, c := range []struct {
		set   Timing
		fine  bool
		holds Timing
	}{
		{seconds(6, 1), true, seconds(6, 1)},
		{seconds(60, 15), true, seconds(60, 15)},
		{seconds(5, 1), false, seconds(6, 1)},
		{seconds(61, 5), false, seconds(60, 5)},
		{seconds(45, 0), false, seconds(45, 1)},
		{seconds(45, 16), false, seconds(45, 15)},
		{seconds(10, 10), false, seconds(45, 5)}, // no room for a heartbeat: the defaults
		{seconds(-7, -7), false, seconds(6, 1)},
	} {
		err := cfg.Bounds.Check(c.set)
		if (err == nil) != c.fine || err != nil && !errors.Is(err, record.ErrInvalidConfig) {
			t.Errorf("%v: %v, want it to be fine: %v", c.set, err, c.fine)
		}
		if got := cfg.WithTiming(c.set).Consumer; got != c.holds {
			t.Errorf("%v: %v holds, want %v", c.set, got, c.holds)
		}
	}
}
