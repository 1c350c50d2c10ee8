package stream

import (
	"hash/fnv"
	"slices"

	"github.com/entrepot-hub/entrepot/connectors"
)

// MaxTasks is the largest number of tasks of a job.
const MaxTasks = 100

// Share is a part of a job: of its Of tasks those whose numbers, from 0, are in
// Mine. A sink's partitions and a source's splits are dealt out to the tasks,
// each to the same one at all times. The zero Share is all of the job.
type Share struct {
	Of   int
	Mine []int
}

func (s Share) whole() bool { return s.Of <= 1 }

func (s Share) equal(o Share) bool { return s.Of == o.Of && slices.Equal(s.Mine, o.Mine) }

// partition reports whether a sink's partition is in the share.
func (s Share) partition(p int32) bool { return s.whole() || slices.Contains(s.Mine, int(p)%s.Of) }

// split reports whether a source's split is in the share.
func (s Share) split(id string) bool {
	if s.whole() {
		return true
	}
	h := fnv.New32a()
	h.Write([]byte(id))
	return slices.Contains(s.Mine, int(h.Sum32()%uint32(s.Of)))
}

// first tells the runners of a job apart: no two of them have the same.
func (s Share) first() int {
	if len(s.Mine) == 0 {
		return 0
	}
	return s.Mine[0]
}

// Parts is the number of tasks that the job is divided into. A sink with work
// that looks at the whole topic stays one: its Keeper has to know where every
// partition is.
func (s ConnectorSpec) Parts() int {
	if _, whole := s.Sink.(connectors.Keeping); whole {
		return 1
	}
	return max(s.Tasks, 1)
}
