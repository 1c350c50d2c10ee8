package replica

import (
	"context"
	"errors"
	"fmt"

	"github.com/entrepot-hub/entrepot/record"
	"github.com/entrepot-hub/entrepot/storage"
)

// pass is one compaction of one log.
type pass struct {
	log          *storage.Log
	compactor    *compactor
	pace         *pace
	segmentBytes int64 // of what small segments are put together to
	done         func(storage.Rewritten)
}

// run reads the keys of the dirty part, as many as fit, and rewrites everything
// below from the front. The order matters: a tombstone must not be let go of
// before what it deletes is, and everything is durable before the next segment.
func (p *pass) run(ctx context.Context, plan compactionPlan) error {
	if err := p.findTransactions(); err != nil {
		return err
	}
	if err := p.findKeys(ctx, plan.dirtyFrom, plan.segments[len(plan.segments)-1].NextOffset); err != nil {
		return err
	}
	return p.rewrite(ctx, compactionGroups(plan.segments, p.segmentBytes))
}

// findTransactions reads which transactions were aborted. It goes on to the end
// of the log: a transaction below the last stable offset may be decided above.
func (p *pass) findTransactions() error {
	p.compactor.txns, p.compactor.left = transactionScan{}, map[int64]bool{}
	_, p.compactor.end = p.log.Offsets()
	if err := p.log.Replay(p.log.FirstIndex(), p.compactor.txns.take); err != nil {
		return fmt.Errorf("find the transactions: %w", err)
	}
	return nil
}

// compactRead is how much is read at once, in bytes.
const compactRead = 1 << 20

// findKeys reads the keys from an offset on, up to another or as many as fit.
func (p *pass) findKeys(ctx context.Context, from, end int64) error {
	c := p.compactor
	for c.clean = from; c.clean < end; {
		batches, err := p.log.Read(c.clean, end, compactRead)
		if err != nil {
			return err
		}
		if len(batches) == 0 {
			break // a gap up to there
		}
		c.clean, err = c.readKeys(batches, c.clean)
		if errors.Is(err, errFull) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := p.pace.wait(ctx, batchesBytes(batches)); err != nil {
			return err
		}
	}
	c.clean = end
	return nil
}

func batchesBytes(batches []record.Batch) (n int) {
	for _, b := range batches {
		n += len(b)
	}
	return n
}

func (p *pass) rewrite(ctx context.Context, groups [][]storage.SegmentInfo) error {
	for _, g := range groups {
		if g[0].BaseOffset >= p.compactor.clean {
			break // the keys did not fit: the next pass goes on there
		}
		done, err := p.log.Rewrite(ctx, storage.Rewrite{
			First: g[0].Seq, Last: g[len(g)-1].Seq, Clean: p.compactor.clean, Keep: p.compactor.keep, Pace: p.pace.wait,
		})
		if err != nil {
			return err
		}
		p.done(done)
	}
	return nil
}
