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
// letters, and the connector goes on. It lives as long as the job.
type breaker struct {
	mu struct {
		sync.Mutex
		partition record.TopicPartition
		from, to  int64
		count     int
	}
}

// crashed counts a panic of a plan and reports whether its records are the
// cause. The parts of a plan that has crashed are counted with it.
func (b *breaker) crashed(p connectors.Plan) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if p.Partition != b.mu.partition || p.From < b.mu.from || p.To > b.mu.to {
		b.mu.partition, b.mu.from, b.mu.to, b.mu.count = p.Partition, p.From, p.To, 0
	}
	b.mu.count++
	return b.mu.count >= crashLimit
}
