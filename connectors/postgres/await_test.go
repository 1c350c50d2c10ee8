package postgres

import (
	"testing"
	"time"
)

// await waits for a condition outside of this process.
func await(t testing.TB, condition func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(time.Minute)
	for !condition() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatal("it did not come about within a minute")
		}
	}
}
