package storage

import (
	"github.com/entrepot-hub/entrepot/storage/vfs"
)

// plant is a mistake that a test builds into the node to see that the
// simulation notices it.
type plant struct {
	faults    func() func(op *vfs.Op) error // a fresh check for each start
	skipOver  bool
	unclamped bool
	append    func(l *Log, r *Round)
}

func (p plant) wrap(mem *vfs.Mem) vfs.FS {
	if p.faults == nil {
		return mem
	}
	return vfs.WithFaults(mem, p.faults())
}

func (p plant) before(l *Log, r *Round) {
	if p.append != nil {
		p.append(l, r)
	}
}

// rawHard is the hard state as it is on the disk, not clamped.
func rawHard(l *Log) HardState {
	r, err := inspect(l.store.fs, l.dir)
	if err != nil || len(r.chain) == 0 {
		return HardState{}
	}
	defer r.close()
	return r.chain[len(r.chain)-1].p.hard
}
