package chaos

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/entrepot-hub/entrepot/hub/hubtest"
)

// operations are what an operator may do to a site at any time.
func operations() []fault {
	return []fault{
		{kind: "leaders moved", nodes: 3, do: (*nemesis).moveLeaders},
		{kind: "node drained", nodes: 3, do: func(n *nemesis) {
			one := n.node()
			n.act(one, "drain")
			n.wait(time.Second, 4*time.Second)
			n.act(one, "undrain")
		}},
		{kind: "replicas moved", nodes: 3, do: (*nemesis).moveReplicas, whole: true},
		{kind: "kill -9 and wiped", nodes: 3, do: func(n *nemesis) {
			one := n.node()
			one.Kill()
			n.wait(0, 3*time.Second)
			one.Wipe()
			one.Start()
		}, whole: true},
	}
}

// moveLeaders makes another replica of every partition the preferred one, and
// has it elected.
func (n *nemesis) moveLeaders() {
	ctx, cancel := context.WithTimeout(n.r.t.Context(), 20*time.Second)
	defer cancel()
	admin := kadm.NewClient(n.r.client())
	n.reassign(ctx, admin, 3)
	set := kadm.TopicsSet{}
	for topic, partitions := range topics {
		for p := range partitions {
			set.Add(topic, p)
		}
	}
	if _, err := admin.ElectLeaders(ctx, kadm.ElectPreferredReplica, set); err != nil {
		n.r.note("elect leaders: %v", err)
	}
}

// moveReplicas takes a replica of every partition away, and gives it back.
func (n *nemesis) moveReplicas() {
	ctx, cancel := context.WithTimeout(n.r.t.Context(), time.Minute)
	defer cancel()
	admin := kadm.NewClient(n.r.client())
	n.reassign(ctx, admin, 2)
	n.wait(time.Second, 5*time.Second)
	n.reassign(ctx, admin, 3)
}

// act asks a node to do something with itself, until it says that it has.
func (n *nemesis) act(one *hubtest.Node, action string) {
	n.r.t.Helper()
	n.r.until(time.Minute, action+" "+one.ID, func() error { return act(one, action) })
}

// reassign gives every partition so many replicas, in an order of the
// nemesis's choice.
func (n *nemesis) reassign(ctx context.Context, admin *kadm.Client, replicas int) {
	var req kadm.AlterPartitionAssignmentsReq
	for _, topic := range names() {
		for p := range topics[topic] {
			var order []int32
			for _, i := range n.rng.Perm(3)[:replicas] {
				order = append(order, int32(i+1))
			}
			req.Assign(topic, p, order)
		}
	}
	if _, err := admin.AlterPartitionAssignments(ctx, req); err != nil {
		n.r.note("reassign: %v", err)
	}
}

// smallDisk mounts a file system in memory of so many bytes, for the data of one
// node. Empty: the machine does not allow it.
func smallDisk(t *testing.T, bytes int) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "small")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", fmt.Sprintf("size=%d", bytes), "tmpfs", dir).CombinedOutput(); err != nil {
		t.Logf("no small disk: %v: %s", err, out)
		return ""
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// fillDisk fills up the disk of the node whose disk is small, to its last page.
func (n *nemesis) fillDisk() {
	n.detail = fmt.Sprintf("node %d", n.small+1)
	path := filepath.Join(n.folder, "filler")
	var st syscall.Statfs_t
	f, err := os.Create(path)
	if err == nil {
		err = syscall.Statfs(n.folder, &st)
	}
	if err != nil {
		n.r.t.Errorf("fill the disk: %v", err)
		return
	}
	for size, more := int64(0), int64(st.Bavail)*st.Bsize; more >= st.Bsize; {
		// The node takes pages meanwhile: what does not fit is tried in halves.
		if syscall.Fallocate(int(f.Fd()), 0, size, more) == nil {
			size += more
		} else {
			more /= 2
		}
	}
	n.disk("full")
	n.wait(2*time.Second, 8*time.Second)
	_ = f.Close()
	if err := os.Remove(path); err != nil {
		n.r.t.Error(err)
	}
	n.disk("ok")
}

// disk waits until the node whose disk is small says that it is in this state.
func (n *nemesis) disk(state string) {
	n.r.t.Helper()
	n.r.until(20*time.Second, "the disk is "+state, func() error {
		var got struct{ Disk struct{ State string } }
		if err := n.r.nodes[n.small].Ask(http.MethodGet, "/v1/status", &got); err != nil || got.Disk.State == state {
			return err
		}
		return fmt.Errorf("it is %s", got.Disk.State)
	})
}

// ground is what a site of three nodes stands on here: a network of its own for
// each node, and a small disk for the last one, as far as the machine allows.
func ground(t *testing.T) (hubtest.Ground, string) {
	t.Helper()
	on := hubtest.Ground{Net: hubtest.NewNetwork(t, 3)}
	small, dir := smallDisk(t, 1<<30), t.TempDir()
	if small != "" {
		on.Dir = func(node int) string {
			if node == 2 {
				return small
			}
			return dir
		}
	}
	return on, small
}
