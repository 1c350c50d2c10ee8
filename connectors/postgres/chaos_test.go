package postgres

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"testing"

	"github.com/entrepot-hub/entrepot/connectors"
	"github.com/entrepot-hub/entrepot/connectors/conntest"
)

// chaos loads a topic while its writer is cut off at every step, replaced by
// successors, and sometimes comes back as a zombie.
type chaos struct {
	*rig
	rng    *rand.Rand
	fields func() map[string]any
	proxy  *conntest.Proxy
	dsn    string
	record func(offset int64) string // value at an offset

	epoch                     int64
	writer                    connectors.Writer
	undead                    connectors.Writer // the owner before
	last                      connectors.Plan   // which that one tried
	cuts, unknown, takeovers  int
	fenced, displaced, passed int
}

// cutSoon lets some messages of the writer go, then cuts in one of four ways.
func (c *chaos) cutSoon(cancel context.CancelFunc) {
	var seen atomic.Int64
	at, way := 1+c.rng.Int64N(13), c.rng.IntN(4)
	c.proxy.Watch(func([]byte) conntest.Verb {
		if seen.Add(1) != at {
			return conntest.Pass
		}
		switch way {
		case 0:
			cancel()
			return conntest.Pass
		case 1:
			return conntest.CutHere
		case 2:
			return conntest.CutAfter
		}
		cancel()
		return conntest.CutAfter
	})
}

// owner opens the next writer, as another process would.
func (c *chaos) owner(t *testing.T) (next int64) {
	c.proxy.Watch(nil)
	c.epoch++
	c.takeovers++
	c.writer = c.rig.writer(with(c.fields(), map[string]any{"dsn": c.dsn}))
	next, _, err := c.writer.Resume(t.Context(), clicks)
	if err != nil {
		t.Fatal(err)
	}
	return next
}

func (c *chaos) batch(from, to int64) connectors.Batch {
	var values []string
	for o := from; o < to; o++ {
		values = append(values, c.record(o))
	}
	return batchOf(from, values...)
}

// try writes one plan and tells whether the writer lives on.
func (c *chaos) try(t *testing.T, w connectors.Writer, p connectors.Plan, cut bool) bool {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	if cut {
		c.cuts++
		c.cutSoon(cancel)
	}
	wrong, err := w.Write(ctx, p, c.batch(p.From, p.To))
	c.proxy.Watch(nil)
	if len(wrong) > 0 {
		t.Fatal(wrong)
	}
	switch connectors.ClassOf(err) {
	case connectors.ClassNone:
		return true
	case connectors.ClassUnknown:
		c.unknown++
	case connectors.ClassFatal:
		wantFenced(t, err)
		c.fenced++
	case connectors.ClassRetry:
		c.displaced++
	}
	return false
}

// load brings in all records below end.
func (c *chaos) load(t *testing.T, end int64) {
	at := c.owner(t)
	for plans := 0; at < end; plans++ {
		p := planOf(at, min(end, at+1+c.rng.Int64N(40)), c.epoch)
		w := c.writer
		alive := c.try(t, w, p, c.rng.IntN(4) > 0)
		switch {
		case alive && c.rng.IntN(8) > 0:
			at = p.To
		case !alive && c.rng.IntN(3) == 0: // the same process, the same plan
			if c.try(t, w, p, false) {
				at = p.To
				continue
			}
			fallthrough
		default:
			c.haunt(t)
			c.undead, c.last = w, p
			c.haunt(t)
			at = c.owner(t)
		}
	}
}

// haunt lets the owner before come back, perhaps, with the plan that it tried
// last. The one before that is gone for good.
func (c *chaos) haunt(t *testing.T) {
	if c.undead == nil {
		return
	}
	if c.rng.IntN(2) == 0 && c.try(t, c.undead, c.last, false) {
		c.passed++
	}
	if c.undead != c.writer {
		_ = c.undead.Close(t.Context())
	}
}

func TestChaos(t *testing.T) {
	for _, mode := range []string{"insert", "upsert"} {
		t.Run(mode, func(t *testing.T) {
			r := newRig(t)
			p, dsn := conntest.NewProxy(t, r.dsn)
			const records, keys = 4000, 97
			seed := rand.Uint64()
			t.Log("seed", seed)
			c := &chaos{rig: r, rng: rand.New(rand.NewPCG(seed, 1)), proxy: p, dsn: dsn}
			c.fields = func() map[string]any { return upsertFields() }
			c.record = func(o int64) string { return fmt.Sprintf(`{"id":%d,"name":"%d"}`, o*31%keys, o) }
			if mode == "insert" {
				c.fields = func() map[string]any { return with(upsertFields(), map[string]any{"mode": "insert", "key": nil}) }
				c.record = func(o int64) string { return fmt.Sprintf(`{"id":%d,"name":"%d"}`, o, o) }
			}
			c.load(t, records)
			t.Logf("%d records: %d cuts, %d unknown outcomes, %d owners, zombies and old plans: %d fenced, %d displaced, %d harmless", records, c.cuts, c.unknown, c.takeovers, c.fenced, c.displaced, c.passed)
			r.want(`SELECT next_offset FROM entrepot_offsets`, fmt.Sprint(records))
			if mode == "insert" {
				r.want(`SELECT count(*) || ' ' || count(DISTINCT id) || ' ' || max(id) FROM rows`, fmt.Sprintf("%d %d %d", records, records, records-1))
				return
			}
			r.want(`SELECT count(*) FROM rows`, fmt.Sprint(keys))
			last := map[int64]int64{}
			for o := range int64(records) {
				last[o*31%keys] = o
			}
			for id, o := range last {
				r.want(fmt.Sprintf(`SELECT name FROM rows WHERE id = %d`, id), fmt.Sprint(o))
			}
		})
	}
}
