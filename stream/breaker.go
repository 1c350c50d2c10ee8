package stream

import (
	"sync"

	"github.com/entrepot-hub/entrepot/connectors"
	"github.com/entrepot-hub/entrepot/record"
)

// crashLimit is how often the same records may make a connector panic before
// they are taken for the cause.
const crashLimit = 3

// breaker counts the panics of one job's writes by the records that they were
// given. The first times the plan is executed again: nobody knows what came of
// it. Then the range is searched for the record, which goes to the dead
// letters, and the connector goes on. It lives as long as the job. Each
// partition counts for itself: several may have such a record, and take turns.
type breaker struct {
	mu struct {
		sync.Mutex
		crashes map[record.TopicPartition]crashes
	}
}

// crashes are those of the records [from, to) of a partition.
type crashes struct {
	from, to int64
	count    int
}

// crashed counts a panic of a plan and reports whether its records are the
// cause. The parts of a plan that has crashed are counted with it.
func (b *breaker) crashed(p connectors.Plan) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	c := b.mu.crashes[p.Partition]
	if p.From < c.from || p.To > c.to {
		c = crashes{from: p.From, to: p.To}
	}
	c.count++
	if b.mu.crashes == nil {
		b.mu.crashes = map[record.TopicPartition]crashes{}
	}
	b.mu.crashes[p.Partition] = c
	return c.count >= crashLimit
}
