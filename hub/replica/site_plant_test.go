package replica

import (
	"github.com/entrepot-hub/entrepot/storage"
	"github.com/entrepot-hub/entrepot/storage/vfs"
)

// sitePlant is a mistake that a test builds in to see that the simulation
// notices it. Nothing of it is in the code that it tests.
type sitePlant struct {
	faults     func() func(*vfs.Op) error         // of a node's disk, fresh for each start
	log        func(*siteReplica) entryLog        // what the core reads at its start
	opened     func(*siteReplica)                 // after the core was opened
	step       func(*siteReplica)                 // before each step
	stepped    func(*siteReplica)                 // after it
	round      func(*siteReplica, *storage.Round) // before each append
	sameMember bool                               // a replica that comes back to a node is the same member
}

func (p *sitePlant) logOf(r *siteReplica) entryLog {
	if p.log != nil {
		return p.log(r)
	}
	return r.log
}
