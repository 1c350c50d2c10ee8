package replica

import (
	"bytes"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/entrepot-hub/entrepot/record"
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

// asyncNet carries frames as connections do: a goroutine for each pair of nodes
// and class, and a queue in front of it.
type asyncNet struct {
	from uint64
	site *site
	mu   struct {
		sync.Mutex
		queues map[[2]uint64]chan []byte
	}
	stop chan struct{}
	done sync.WaitGroup
}

func (n *asyncNet) Send(to uint64, class Class, parts net.Buffers) bool {
	key := [2]uint64{to, uint64(class)}
	n.mu.Lock()
	q := n.mu.queues[key]
	if q == nil {
		q = make(chan []byte, 4096)
		n.mu.queues[key] = q
		n.done.Go(func() { n.carry(to, class, q) })
	}
	n.mu.Unlock()
	select {
	case q <- bytes.Join(parts, nil): // the copy that a socket makes
		return true
	default:
		return false
	}
}

func (n *asyncNet) carry(to uint64, class Class, q chan []byte) {
	for {
		select {
		case <-n.stop:
			return
		case f := <-q:
			n.site.net.mu.Lock()
			set := n.site.net.mu.sets[to]
			n.site.net.mu.Unlock()
			if set != nil {
				_ = set.Receive(n.from, class, f)
			}
		}
	}
}

// BenchmarkSite compares appends to one node with those to three, in the same
// run: 8 partitions, batches of 1 KiB and 100 KiB, acknowledged when synced.
func BenchmarkSite(b *testing.B) {
	for _, disk := range []string{"mem", "os"} {
		for _, nodes := range []int{1, 3} {
			for _, size := range []int{1 << 10, 100 << 10} {
				b.Run(fmt.Sprintf("%s/nodes=%d/bytes=%d", disk, nodes, size), func(b *testing.B) {
					benchAppends(b, disk, nodes, size)
				})
			}
		}
	}
}

func benchAppends(b *testing.B, disk string, nodes, size int) {
	const partitions, inflight = 8, 16
	cfg := Config{ElectionTicks: 300} // a machine that is busy is no reason to elect
	s := newSite(b, cfg)
	var born []uint64
	stop := make(chan struct{})
	var nets []*asyncNet
	for id := uint64(1); id <= uint64(nodes); id++ {
		born = append(born, id)
		var fs vfs.FS = vfs.NewMem()
		dir := "data"
		if disk == "os" {
			fs, dir = vfs.OS(), b.TempDir()
		}
		n := &asyncNet{from: id, site: s, stop: stop}
		n.mu.queues = map[[2]uint64]chan []byte{}
		nets = append(nets, n)
		cfg.Member, cfg.Transport = id, n
		s.nodes[id] = startNode(b, fs, dir, small, cfg)
		s.net.set(func(net *memNet) { net.mu.sets[id] = s.nodes[id].set })
	}
	for p := range int32(partitions) {
		s.add(Spec{ID: clicks(p), Born: born, Topic: TopicConfig{SegmentBytes: 64 << 20}})
	}
	var leads []*Replica
	for p := range int32(partitions) {
		s.replica(1, p).Campaign()
		leads = append(leads, s.leader(p))
	}
	value := strings.Repeat("x", size-80)
	room := make(chan struct{}, partitions*inflight)
	var failed atomic.Int64
	b.SetBytes(int64(size))
	i := 0
	for b.Loop() {
		room <- struct{}{}
		leads[i%partitions].Append([]record.Batch{batch(b, value)}, func(_ []record.Appended, err error) {
			if err != nil {
				failed.Add(1)
			}
			<-room
		})
		i++
	}
	for range cap(room) {
		room <- struct{}{}
	}
	b.StopTimer()
	if n := failed.Load(); n > 0 {
		b.Errorf("%d of %d appends failed", n, i)
	}
	for _, id := range s.ids() {
		s.stop(id)
	}
	close(stop)
	for _, n := range nets {
		n.done.Wait()
	}
}
