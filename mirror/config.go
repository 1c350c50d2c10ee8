package mirror

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"
)

// Config of all links of a node. Zero values mean the default.
type Config struct {
	Site string // this one

	// Dial connects to a broker of a source; nil: plain TCP.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)

	// Login is how sources are logged in to; nil: they ask for none.
	Login *Login

	// OnGap is the policy of links that are not configured by name.
	OnGap GapPolicy // GapStop

	// Poll is how often each source is asked for its topics.
	Poll time.Duration // 1 s

	// Stale is how long after the last answer the lag is still told.
	Stale time.Duration // 5 s

	// Wait is how long a source holds a fetch that has nothing to answer.
	Wait time.Duration // 500 ms

	// PartitionBytes and FetchBytes bound one answer; HoldBytes bounds what a
	// link holds in memory that is not yet in the destination's log.
	PartitionBytes int32 // 8 MiB
	FetchBytes     int32 // 32 MiB
	HoldBytes      int   // 64 MiB

	Logger *slog.Logger // nil: none
}

// Login is a login by SASL.
type Login struct {
	Mechanism string // PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512
	User      string
	Password  func() (string, error) // asked at each connection
}

// Fixed times of the state machine.
const (
	retryFirst   = 100 * time.Millisecond // after a first error; doubled from there
	retryMost    = time.Second            // a healed source goes on within this
	ensureMost   = 10 * time.Second       // between attempts to make a topic
	shortWait    = 20 * time.Millisecond  // a fetch that leaves a busy partition out
	confirmAfter = 3 * time.Second        // an end below the mirror's must last so long
	gapRecheck   = 5 * time.Second        // a stopped gap is measured anew so often
	slowAnswer   = 2 * time.Second        // fetches are made smaller above this, …
	quickAnswer  = 500 * time.Millisecond // … and larger below this
	leastFetch   = 64 << 10
	firstFetch   = 1 << 20
	queueLimit   = 2 // answers of a partition that wait for or are in an append
)

func (c Config) withDefaults() Config {
	set := func(d *time.Duration, to time.Duration) {
		if *d == 0 {
			*d = to
		}
	}
	set(&c.Poll, time.Second)
	set(&c.Stale, 5*time.Second)
	set(&c.Wait, 500*time.Millisecond)
	if c.PartitionBytes == 0 {
		c.PartitionBytes = 8 << 20
	}
	if c.FetchBytes == 0 {
		c.FetchBytes = 32 << 20
	}
	if c.HoldBytes == 0 {
		c.HoldBytes = 64 << 20
	}
	if c.OnGap == "" {
		c.OnGap = GapStop
	}
	if c.Dial == nil {
		c.Dial = (&net.Dialer{Timeout: 5 * time.Second}).DialContext
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

// Validate finds what is wrong; zero values are right.
func (c Config) Validate() error {
	var errs []error
	if c.Site == "" {
		errs = append(errs, errors.New("mirror: no site"))
	}
	for name, d := range map[string]time.Duration{"poll": c.Poll, "stale": c.Stale, "wait": c.Wait} {
		if d < 0 {
			errs = append(errs, fmt.Errorf("mirror: %s is %v, want more than 0", name, d))
		}
	}
	if c.PartitionBytes < 0 || c.FetchBytes < 0 || c.HoldBytes < 0 {
		errs = append(errs, fmt.Errorf("mirror: byte limits %d, %d, %d, want more than 0", c.PartitionBytes, c.FetchBytes, c.HoldBytes))
	}
	if c.OnGap != "" && c.OnGap != GapStop && c.OnGap != GapSkip {
		errs = append(errs, fmt.Errorf("mirror: gap policy %q, want %q or %q", c.OnGap, GapStop, GapSkip))
	}
	return errors.Join(errs...)
}
