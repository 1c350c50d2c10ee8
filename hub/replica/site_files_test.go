package replica

import (
	"context"
	"errors"
	"io"

	"github.com/entrepot-hub/entrepot/record"
	"github.com/entrepot-hub/entrepot/storage"
	pb "go.etcd.io/raft/v3/raftpb"
)

// siteFiles is a leader's log on its way to a replica. It is copied at once and
// put in place some steps later: what came meanwhile must not be lost with it.
type siteFiles struct {
	life *core
	g    *storage.Staging
	o    offer
}

// byFiles: in one schedule of three, who lacks the start of a log gets files,
// and logs are compacted although somebody lacks what is.
func (s *simSite) byFiles() bool { return s.seed%3 == 0 }

// takeFiles does what a fetch does, see Set.fetchOnce and Replica.beginAnew.
func (r *siteReplica) takeFiles(from uint64) {
	if r.files != nil && r.files.life != r.core {
		r.files = nil // the process has ended
	}
	switch {
	case r.core == nil || r.n.mem.Dead():
	case r.files == nil && from != 0:
		r.files = r.stage(from)
	case r.files != nil && (r.n.s.healing || r.n.s.rng.IntN(3) == 0):
		r.install(r.files)
	}
}

// mayFail says whether an error is one that the schedule has made.
func (r *siteReplica) mayFail(err error) bool {
	return r.n.damaged || r.diskFails(err)
}

// diskFails is mayFail of what has nothing to do with damage.
func (r *siteReplica) diskFails(err error) bool {
	return r.n.mem.Dead() || r.n.offline || errors.Is(err, record.ErrDiskFull)
}

func (r *siteReplica) stage(from uint64) *siteFiles {
	s := r.n.s
	lead := s.nodes[brokerOf(from)-1].reps[r.g.at]
	if !lead.working() || lead.member != from || len(lead.stalled) > 0 || !s.healing && s.cut[brokerOf(from)][r.n.broker] {
		return nil
	}
	o := offer{member: from}
	end, term, commit, err := lead.core.offer()
	if err != nil {
		return nil // it has been deposed meanwhile
	}
	o.term, o.commit = term, commit
	if o.manifest, err = lead.log.Manifest(end); err == nil {
		o, err = decodeOffer(o.encode())
	}
	if err != nil {
		if !lead.mayFail(err) {
			s.fail("%s: offer: %v", lead, err)
		}
		return nil
	}
	g, err := r.n.store.Stage(o.manifest)
	if err == nil {
		err = g.Fetch(context.Background(), func(_ context.Context, f storage.ManifestFile, at int64) (io.ReadCloser, error) {
			return lead.log.OpenSegment(f, at)
		})
	}
	if err != nil {
		if !(r.core != nil && r.mayFail(err) || r.diskFails(err)) && !lead.mayFail(err) {
			s.fail("%s: fetch: %v", r, err)
		}
		return nil
	}
	return &siteFiles{r.core, g, o}
}

func (r *siteReplica) install(f *siteFiles) {
	s := r.n.s
	err := r.core.mayBecome(f.o.term, f.o.manifest.State)
	if errors.Is(err, errNotNow) || len(r.stalled) > 0 {
		return
	}
	r.files = nil
	if err != nil {
		return
	}
	if err := r.log.Install(f.g, ownHard(r.core.hard, f.o.term, f.o.commit)); err != nil {
		if !r.mayFail(err) {
			s.fail("%s: install: %v", r, err)
		}
		if r.n.offline && r.err == nil {
			r.err = err
		}
		return
	}
	s.counts.installed++
	s.note("%s has fetched the log of term %d to entry %d", r, f.o.term, f.o.manifest.State.Index)
	r.checkReopened()
	r.startCore()
	if r.core != nil && r.core.term == f.o.term {
		r.send([]pb.Message{r.core.has(f.o.member, f.o.manifest.State.Index)})
	}
}
