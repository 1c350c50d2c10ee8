package protocol

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// What a request reads of a shard is its own when the wait is over, also when
// its client goes away first: what has not begun does not begin any more, what
// has is waited for. What a client tells and does not wait for is done.
func TestShardsAreNotReadBehindTheCaller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemSite()
		defer m.close()
		c := newShares(Default(), m, m, newVacancies(m, newPeers(Default())))
		gone, leave := context.WithCancel(t.Context())
		leave()
		began := 0
		f := func(time.Time, *shareShard) { began++ }
		if err := c.whileAsked(gone, 0, f); !errors.Is(err, errNoCoordinator) {
			t.Errorf("asked by nobody: %v", err)
		}
		_ = c.onShard(gone, 0, f)
		for _, e := range c.mail.all() {
			e.run(time.Now(), c.shard(0), nil)
		}
		if began != 1 {
			t.Errorf("%d have begun, want the one that was told", began)
		}

		ctx, leave := context.WithCancel(t.Context())
		hold, returned := make(chan struct{}), false
		go func() {
			_ = c.whileAsked(ctx, 0, func(time.Time, *shareShard) { <-hold })
			returned = true
		}()
		synctest.Wait()
		for _, e := range c.mail.all() {
			go e.run(time.Now(), c.shard(0), nil)
		}
		synctest.Wait()
		leave()
		synctest.Wait()
		if returned {
			t.Error("returned while it was looked at")
		}
		close(hold)
		synctest.Wait()
		if !returned {
			t.Error("waits for nothing")
		}
	})
}
