package protocol

import (
	"context"
	"reflect"
	"time"
)

// poll reads until the answer is worth sending: enough bytes, an error, the
// wait over, or the client gone.
func (f *fetch) poll(ctx context.Context, wait time.Duration) {
	enough := max(int(f.req.MinBytes), 0)
	done := func() bool { return f.settled || f.answer.size >= int64(min(enough, f.limit)) }
	f.read(false) // most find enough at once, and need no watch on every partition
	if done() || wait <= 0 {
		return
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	for f.read(true); !done(); f.read(true) {
		if !f.await(ctx, timer.C) {
			f.read(false) // what has come since counts, though it is less than was asked for
			return
		}
	}
}

// await waits for a change of any partition; false: no more waiting.
func (f *fetch) await(ctx context.Context, timeout <-chan time.Time) bool {
	var first <-chan struct{}
	n := 0
	for _, p := range f.parts {
		if p.log != nil {
			if n++; n == 1 {
				first = p.changed
			}
		}
	}
	if n > 1 {
		return f.awaitMany(ctx, timeout)
	}
	select {
	case <-first:
		return true
	case <-timeout:
	case <-ctx.Done():
	}
	return false
}

func (f *fetch) awaitMany(ctx context.Context, timeout <-chan time.Time) bool {
	cases := make([]reflect.SelectCase, 0, len(f.parts)+2)
	add := func(ch any) {
		cases = append(cases, reflect.SelectCase{Dir: reflect.SelectRecv, Chan: reflect.ValueOf(ch)})
	}
	add(timeout)
	add(ctx.Done())
	for _, p := range f.parts {
		if p.log != nil && len(cases) < maxSelect {
			add(p.changed)
		}
	}
	i, _, _ := reflect.Select(cases)
	return i > 1
}

// maxSelect is below what reflect.Select takes. Partitions beyond it are read
// when another one changes or the wait is over.
const maxSelect = 65_000
