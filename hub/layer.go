package hub

import (
	"context"
	"errors"
	"fmt"
	"sync"
)

// layer is a set of parts that end together. The end of one that was not asked
// to end fails the whole hub.
type layer struct {
	ctx    context.Context
	cancel context.CancelFunc
	fail   context.CancelCauseFunc
	wg     sync.WaitGroup
}

func newLayer(fail context.CancelCauseFunc) *layer {
	l := &layer{fail: fail}
	l.ctx, l.cancel = context.WithCancel(context.Background())
	return l
}

// run starts one part.
func (l *layer) run(name string, part func(context.Context) error) {
	l.wg.Go(func() {
		err := part(l.ctx)
		if l.ctx.Err() != nil && (err == nil || errors.Is(err, context.Canceled)) {
			return
		}
		if err == nil {
			err = errors.New("ended by itself")
		}
		l.fail(fmt.Errorf("%s: %w", name, err))
	})
}

// stop asks all parts to end and waits for them.
func (l *layer) stop() {
	l.cancel()
	l.wg.Wait()
}
