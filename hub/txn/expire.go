package txn

import "time"

// Deadline is when Tick has to be called next; zero: not before another input.
func (x *Txn) Deadline() time.Time {
	switch {
	case x.next != nil:
		return time.Time{}
	case x.rec.State == Ongoing:
		end := time.UnixMilli(x.rec.Started).Add(x.rec.Timeout)
		if x.retry.After(end) {
			return x.retry
		}
		return end
	case x.rec.State.preparing() && len(x.marking) == 0:
		return x.retry
	}
	return time.Time{}
}

// Tick aborts a transaction that is open for too long, and fences its
// producer; and it tries again what failed.
func (x *Txn) Tick(now time.Time) (out Output) {
	if d := x.Deadline(); d.IsZero() || now.Before(d) {
		return out
	}
	if x.rec.State == Ongoing {
		x.fence(now, &out, None, func(err error, _ *Output) { x.tryLater(now, err) })
		return out
	}
	x.complete(now, &out)
	return out
}

// tryLater lets Tick try again what failed.
func (x *Txn) tryLater(now time.Time, err error) {
	x.retry = time.Time{}
	if err != nil {
		x.retry = now.Add(x.cfg.Retry)
	}
}

// Expire forgets a transactional ID that nobody has used for
// Config.Expiration. The driver calls it now and then; a write that fails is
// tried again the next time.
func (x *Txn) Expire(now time.Time) (out Output) {
	idle := x.rec.State == Empty || x.rec.State == CompleteCommit || x.rec.State == CompleteAbort
	if !idle || x.Vacant() || x.next != nil || now.Sub(time.UnixMilli(x.rec.Updated)) < x.cfg.Expiration {
		return out
	}
	x.write(&out, nil, func(_ time.Time, err error, _ *Output) {
		if err == nil {
			x.rec.State = Dead
		}
	})
	return out
}
