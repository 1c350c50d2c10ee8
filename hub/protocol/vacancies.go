package protocol

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/entrepot-hub/entrepot/record"
)

// vacancies lets what is asked of a coordinator wait while its partition has no
// leader, which is over within a second as a rule: not every client asks again,
// and those that do ask no sooner. It waits in the request's own goroutine, so that
// there are never more than there are connections.
//
// Who asks while there has been no leader for longer than electionTime, as without
// a majority, is answered at once: a connection is held up once and not for good.
type vacancies struct {
	parts Partitions
	peers *peers

	mu struct {
		sync.Mutex
		all map[record.TopicPartition]vacancy
	}
}

// vacancy is a time without a leader, as those who ask find it.
type vacancy struct{ first, last time.Time }

const (
	// electionTime is how long somebody waits for a leader: several elections, and
	// with the time between two heartbeats less than the shortest session (6 s), so
	// that nobody loses its place in a group over a heartbeat that waits.
	electionTime = 3 * time.Second
	// vacancyLook is between two looks whether there is a leader.
	vacancyLook = 50 * time.Millisecond
)

func newVacancies(parts Partitions, peers *peers) *vacancies {
	v := &vacancies{parts: parts, peers: peers}
	v.mu.all = map[record.TopicPartition]vacancy{}
	return v
}

// leader waits while nobody who can be reached leads a partition.
func (v *vacancies) leader(ctx context.Context, topic string, partition int32) {
	v.wait(ctx, topic, partition, func() bool { return v.vacant(topic, partition) })
}

// here waits while a partition that is here has no leader that this node knows.
// Where another node leads it, who asks is sent there at once.
func (v *vacancies) here(ctx context.Context, topic string, partition int32) {
	v.wait(ctx, topic, partition, func() bool {
		log, err := v.parts.Partition(topic, partition)
		if err == nil {
			err = log.Serving()
		}
		return errors.Is(err, record.ErrLeaderUnknown) && v.vacant(topic, partition)
	})
}

func (v *vacancies) vacant(topic string, partition int32) bool {
	node, _ := v.parts.Leader(topic, partition)
	return node < 0 || !v.peers.up(node)
}

// wait returns when the partition is not vacant, or has been for too long, or
// when ctx ends. What is so then is for the caller to find out.
func (v *vacancies) wait(ctx context.Context, topic string, partition int32, vacant func() bool) {
	if !vacant() {
		return
	}
	tp := record.TopicPartition{Topic: topic, Partition: partition}
	for v.young(tp, time.Now()) && pause(ctx, vacancyLook) {
		if !vacant() {
			v.filled(tp)
			return
		}
	}
}

// young reports whether a vacancy that is found now may end soon. One that nobody
// has asked about for a while is another one.
func (v *vacancies) young(tp record.TopicPartition, now time.Time) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	one, ok := v.mu.all[tp]
	if !ok || now.Sub(one.last) >= electionTime {
		v.forget(now)
		one.first = now
	}
	one.last = now
	v.mu.all[tp] = one
	return now.Sub(one.first) < electionTime
}

// forget drops what nobody asks about any more.
func (v *vacancies) forget(now time.Time) {
	for tp, one := range v.mu.all {
		if now.Sub(one.last) >= electionTime {
			delete(v.mu.all, tp)
		}
	}
}

func (v *vacancies) filled(tp record.TopicPartition) {
	v.mu.Lock()
	defer v.mu.Unlock()
	delete(v.mu.all, tp)
}
