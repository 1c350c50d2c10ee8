package storage

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"
)

// Config of a store. The zero value of a field means its default.
type Config struct {
	// SegmentBytes is the size at which a log asks for a new segment; default
	// 128 MiB, at most 2 GiB. Log.SetConfig overrides it for one log.
	SegmentBytes int64
	// SegmentAge is the age at which it does; default 7 days.
	SegmentAge time.Duration
	// ReserveBytes is the size of the file that is given up when the disk is
	// full, so that control entries and votes can still be written; default
	// 64 MiB, negative for none.
	ReserveBytes int64
	// LowWater is the free space in bytes below which DiskStatus.Low is set;
	// default 1 GiB or 5 % of the volume, whichever is less.
	LowWater int64
	// HighWater is the free space below which DiskStatus.High is set; default
	// 256 MiB or 2 % of the volume, whichever is less.
	HighWater int64
	// TailCacheBytes is the memory for the newest entries of all logs; default
	// 64 MiB, negative for none.
	TailCacheBytes int64
	// AheadBytes is the most zeros that are written behind a small round, so that
	// the file need not grow with the ones that follow it; default 64 KiB, negative
	// for none. Tests make it small.
	AheadBytes int64
	// IdleAfter is how long a log rests before a state frame states its last
	// position as synced (Invariant 8); default 500 ms.
	IdleAfter time.Duration
	// MaxOpenFiles is how many sealed segments are kept open for reading;
	// default 512.
	MaxOpenFiles int
	// Owner is written into the lock file for people to read.
	Owner string

	Logger *slog.Logger     // default: discard
	Clock  func() time.Time // default: time.Now
	Rand   io.Reader        // default: crypto/rand
}

// LogConfig is what can differ from log to log; zero means the store's.
type LogConfig struct {
	SegmentBytes int64
	SegmentAge   time.Duration
}

const (
	maxSegmentBytes     = 2 << 30
	defaultSegmentBytes = 128 << 20
	noSyncDelay         = 100 * time.Millisecond // Invariant 6
	noSyncBytes         = 256 << 10              // Invariant 6
)

// Validate says which field is wrong and what would be right.
func (c Config) Validate() error {
	var errs []error
	if c.SegmentBytes < 0 || c.SegmentBytes > maxSegmentBytes {
		errs = append(errs, fmt.Errorf("segment bytes %d: want 1 to %d", c.SegmentBytes, int64(maxSegmentBytes)))
	}
	if c.HighWater > 0 && c.LowWater > 0 && c.HighWater > c.LowWater {
		errs = append(errs, fmt.Errorf("high water %d bytes free: want no more than low water, %d", c.HighWater, c.LowWater))
	}
	return errors.Join(errs...)
}

func orDefault[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}

// withDefaults fills what is zero. The water marks depend on the volume and
// are filled by Open.
func (c Config) withDefaults() Config {
	orDefault(&c.SegmentBytes, defaultSegmentBytes)
	orDefault(&c.SegmentAge, 7*24*time.Hour)
	orDefault(&c.ReserveBytes, 64<<20)
	orDefault(&c.TailCacheBytes, 64<<20)
	orDefault(&c.AheadBytes, 64<<10)
	orDefault(&c.IdleAfter, 500*time.Millisecond)
	orDefault(&c.MaxOpenFiles, 512)
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Clock == nil {
		c.Clock = time.Now
	}
	if c.Rand == nil {
		c.Rand = rand.Reader
	}
	return c
}
