package replica

import (
	"syscall"
	"testing"
	"time"

	"github.com/entrepot-hub/entrepot/storage/vfs"
)

// BenchmarkIdleGroups is what groups at rest cost: 1,000 of them on three nodes
// of one process. Memory and time are those of one node, of one group.
func BenchmarkIdleGroups(b *testing.B) {
	const groups = 1000
	before := heap()
	s := benchSite(b, Config{}, func(uint64) vfs.FS { return vfs.NewMem() })
	for p := range int32(groups) {
		for id := range uint64(3) {
			if _, err := s.nodes[id+1].set.Add(Spec{ID: clicks(p), Born: []uint64{1, 2, 3}}); err != nil {
				b.Fatal(err)
			}
		}
	}
	waitFor(b, func() bool {
		for _, n := range s.nodes {
			for _, r := range n.set.replicas(nil) {
				if !r.view.Load().quiet {
					return false
				}
			}
		}
		return true
	})
	each := float64(heap()-before) / 3 / groups / 1024
	var used time.Duration
	for b.Loop() {
		from := cpu()
		<-time.After(5 * time.Second)
		used += cpu() - from
	}
	b.ReportMetric(each, "KiB/group")
	b.ReportMetric(100*used.Seconds()/3/(5*float64(b.N)), "%core/node")
}

func cpu() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// benchSite is three nodes on disks of a kind.
func benchSite(b *testing.B, cfg Config, disk func(id uint64) vfs.FS) *site {
	s := newSite(b, cfg)
	for id := range uint64(3) {
		s.disks[id+1] = disk(id + 1)
		s.start(id + 1)
	}
	b.Cleanup(s.stopAll)
	return s
}
