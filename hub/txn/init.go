package txn

import (
	"fmt"
	"time"
)

// InitRequest asks for a producer (InitProducerId).
type InitRequest struct {
	Timeout  time.Duration // of the transactions to come
	Producer Producer      // what the client has (KIP-360), None without
	Fresh    int64         // an unused producer ID, -1: none is drawn
}

// Init gives the client a producer that fences all others, and aborts an open
// transaction first: the client is told to come again until that is done. It
// fails with ErrNeedsID where the request brings no unused producer ID and one
// is needed.
func (x *Txn) Init(now time.Time, t Ticket, r InitRequest) (out Output) {
	if err := x.checkInit(r); err != nil {
		out.answer(t, None, err)
		return out
	}
	if x.rec.State == Ongoing {
		x.fence(now, &out, r.Producer, func(err error, out *Output) {
			if err == nil {
				err = fmt.Errorf("%w: its transaction is being aborted", ErrConcurrent)
			}
			out.answer(t, None, err)
		})
		return out
	}
	p, err := x.successor(r)
	if err != nil {
		out.answer(t, None, err)
		return out
	}
	rec := x.changed(now, Empty)
	rec.Partitions, rec.Started, rec.Timeout = nil, -1, r.Timeout
	if p.ID != rec.Producer.ID {
		rec.Previous = rec.Producer.ID
	}
	rec.Producer = p
	x.enter(&out, rec, func(_ time.Time, err error, out *Output) {
		if err == nil {
			x.last = r.Producer
		}
		out.answer(t, p, err)
	})
	return out
}

// checkInit fences clients that come with an old producer.
func (x *Txn) checkInit(r InitRequest) error {
	now := x.rec.Producer
	switch {
	case x.id == "":
		return ErrInvalidID
	case r.Timeout <= 0 || r.Timeout > x.cfg.MaxTimeout:
		return fmt.Errorf("%w: %v, the most is %v", ErrTimeout, r.Timeout, x.cfg.MaxTimeout)
	case x.next != nil || x.rec.State.preparing():
		return fmt.Errorf("%w: it is %v", ErrConcurrent, x.rec.State)
	case now == None || r.Producer == None || r.Producer == now || r.Producer == x.last:
		return nil
	}
	return fmt.Errorf("%w: the request has producer %d epoch %d, now it is %d epoch %d",
		ErrFenced, r.Producer.ID, r.Producer.Epoch, now.ID, now.Epoch)
}

// successor is the producer that the client gets.
func (x *Txn) successor(r InitRequest) (Producer, error) {
	now := x.rec.Producer
	again := r.Producer != None && r.Producer == x.last // it lost the answer
	switch {
	case again && now.Epoch <= maxEpoch:
		return now, nil
	case now == None || now.Epoch >= maxEpoch:
		return fresh(r.Fresh)
	}
	return Producer{ID: now.ID, Epoch: now.Epoch + 1}, nil
}

func fresh(id int64) (Producer, error) {
	if id < 0 {
		return None, ErrNeedsID
	}
	return Producer{ID: id}, nil
}
