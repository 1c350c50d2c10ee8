package hub

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/entrepot-hub/entrepot/hub/catalog"
	"github.com/entrepot-hub/entrepot/hub/identity"
	"github.com/entrepot-hub/entrepot/hub/peer"
	"github.com/entrepot-hub/entrepot/hub/replica"
	"github.com/entrepot-hub/entrepot/record"
	"github.com/entrepot-hub/entrepot/storage"
	"github.com/entrepot-hub/entrepot/storage/vfs"
)

// applied is a group that has applied up to an index.
type applied uint64

func (a *applied) Changed() <-chan struct{} { return nil }
func (a *applied) Status() replica.Status   { return replica.Status{Applied: uint64(*a)} }

// TestAnswers: a node that asked another for a command gets the result of its own
// machine, also when it applies the command before it hears of it, and is told
// when it cannot know.
func TestAnswers(t *testing.T) {
	cmd := func(c catalog.Command) []byte {
		b, err := catalog.Encode(c)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	synctest.Test(t, func(t *testing.T) {
		a, at := newAnswers(), applied(0)
		got := make(chan catalog.Result, 1)
		go func() {
			r, err := a.wait(t.Context(), 3, &at)
			if err != nil {
				t.Error(err)
			}
			got <- r
		}()
		a.Apply(2, cmd(catalog.SiteInit{Site: "s", SiteID: 1}))
		synctest.Wait()
		select {
		case r := <-got:
			t.Fatalf("the result of entry 2 is taken for that of 3: %+v", r)
		default:
		}
		a.Apply(3, cmd(catalog.RegisterNode{Name: "n", Site: "s"}))
		at = 3
		if r := <-got; r.Err != nil || r.Value != (catalog.Registered{ID: 1}) {
			t.Errorf("%+v", r)
		}
		if r, err := a.wait(t.Context(), 2, &at); err != nil || r.Err != nil {
			t.Errorf("an earlier command: %+v, %v", r, err)
		}
		// One that came with a snapshot, and one so old that it is forgotten.
		at = 9
		if _, err := a.wait(t.Context(), 7, &at); !errors.Is(err, record.ErrTimeout) {
			t.Errorf("a command in a snapshot: %v", err)
		}
		a.Apply(2+keepAnswers, cmd(catalog.SetJob{Name: "j", Desired: catalog.JobPaused}))
		if _, err := a.wait(t.Context(), 2, &at); !errors.Is(err, record.ErrTimeout) {
			t.Errorf("a forgotten command: %v", err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := a.wait(ctx, 1<<40, &at); !errors.Is(err, record.ErrTimeout) {
			t.Errorf("a caller that has gone: %v", err)
		}
	})
}

// TestForwarded: only what was surely not proposed is asked for again.
func TestForwarded(t *testing.T) {
	index, err := readForwarded(2, binary.AppendUvarint([]byte{forwardDone}, 300))
	if index != 300 || err != nil {
		t.Errorf("%d, %v", index, err)
	}
	if _, err := readForwarded(2, append([]byte{forwardRefused}, "not me"...)); !errors.Is(err, errNotProposed) {
		t.Error(err)
	}
	for _, b := range [][]byte{append([]byte{forwardFailed}, "?"...), {}, {forwardDone}, {forwardDone, 0x80}, {forwardDone, 1, 1}, {9}} {
		if _, err := readForwarded(2, b); err == nil || errors.Is(err, errNotProposed) {
			t.Errorf("%v: %v", b, err)
		}
	}
}

// TestInsist: a node of several that starts asks the catalog again, not without a
// pause, while its leader changes or its own copy is damaged, and takes a refusal.
func TestInsist(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &Hub{id: identity.Node{Founders: []identity.Founder{{ID: 1}, {ID: 2}}}}
		answers := []error{
			undecided(record.ErrNotLeader), undecided(record.ErrLeaderUnknown), errors.Join(record.ErrQuarantined), record.ErrTimeout,
			undecided(record.ErrInvalidRequest),
		}
		begin, asked := time.Now(), 0
		err := h.insist(t.Context(), func() error { asked++; return answers[asked-1] })
		if asked != len(answers) || !errors.Is(err, record.ErrInvalidRequest) {
			t.Errorf("asked %d times: %v", asked, err)
		}
		if got, want := time.Since(begin), time.Duration(len(answers)-1)*proposeAgain; got < want {
			t.Errorf("asked again within %s, want %s or more", got, want)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := h.insist(ctx, func() error { return record.ErrTimeout }); !errors.Is(err, record.ErrTimeout) {
			t.Errorf("a node that ends: %v", err)
		}
	})
}

// TestConnectedAnew: a node that was connected with anew while it was told
// everything is told everything again, as is one that could not be told.
func TestConnectedAnew(t *testing.T) {
	a := &announcer{}
	a.mu.behind, a.mu.linked = map[int32]bool{}, map[int32]bool{}
	wants := func(what string, want bool) {
		t.Helper()
		if whole, _ := a.due(); slices.Contains(whole, 2) != want {
			t.Errorf("%s: %v want everything", what, whole)
		}
	}
	a.link(2, true)
	wants("connected", true)
	a.link(2, false)
	a.link(2, true)
	a.told(2, true)
	wants("connected anew", true)
	a.told(2, true)
	wants("told", false)
	a.told(2, false)
	wants("not told", true)
	a.link(2, false)
	a.told(2, false)
	wants("gone", false)
}

// TestReach: a node knows of others what their connections say, and of itself
// that it is there.
func TestReach(t *testing.T) {
	r := newReach(1)
	if !r.up(1) || r.up(2) || r.anyUp() {
		t.Error("nobody is connected")
	}
	r.set(2, true)
	if !r.up(2) || r.up(3) || !r.anyUp() {
		t.Error("node 2 is connected")
	}
	r.set(2, false)
	if r.up(2) || !r.upLately(2) || r.anyUp() {
		t.Error("node 2 has gone a moment ago")
	}
}

// TestFollowNodes: a node that the catalog takes in is connected with though
// gossip has no news, and let go of when the catalog takes it out.
func TestFollowNodes(t *testing.T) {
	h, stop := start(t, config(t, "solo"), Deps{})
	defer stop()
	known := func() bool {
		return slices.ContainsFunc(h.peers.Stats(), func(s peer.Stat) bool { return s.Node == 2 })
	}
	out, err := h.meta.Propose(t.Context(), catalog.RegisterNode{Name: "solo-2", Site: "solo", Nonce: "n", Peer: "127.0.0.1:1", Level: catalog.Level})
	if err != nil || out != (catalog.Registered{ID: 2}) {
		t.Fatal(out, err)
	}
	until(t, known)
	for _, cmd := range []catalog.Command{catalog.DecommissionNode{Node: 2}, catalog.RemoveNode{Node: 2}} {
		if _, err := h.meta.Propose(t.Context(), cmd); err != nil {
			t.Fatal(err)
		}
	}
	until(t, func() bool { return !known() })
}

// TestGrownBeginsNoSecondSite: a node that began its site alone, and has taken
// another one in, does not begin a catalog of its own when the folder of the one
// that it had is taken away; not even when nothing but its identity is left.
func TestGrownBeginsNoSecondSite(t *testing.T) {
	for _, grown := range []string{"by this version", "by one that left no mark"} {
		c := config(t, "solo")
		h, stop := start(t, c, Deps{})
		cluster := h.id.Cluster
		body, err := json.Marshal(catalog.RegisterNode{Name: "solo-2", Site: "solo", Nonce: "n", Peer: "127.0.0.1:1", Level: catalog.Level})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := h.joinCalled(t.Context(), peer.Peer{Identity: peer.Identity{Name: "solo-2"}}, body); err != nil {
			t.Fatal(err)
		}
		stop()
		if grown == "by one that left no mark" {
			id, _, err := identity.Read(vfs.OS(), c.Node.DataDir)
			id.Grown = false
			if err := errors.Join(err, identity.Write(vfs.OS(), c.Node.DataDir, id)); err != nil {
				t.Fatal(err)
			}
			_, stop = start(t, c, Deps{}) // and it is marked now
			stop()
		}
		for _, lost := range [][]string{{catalog.MetaGroup + "-0"}, {catalog.MetaGroup + "-0", "known"}} {
			for _, name := range lost {
				if err := os.RemoveAll(filepath.Join(c.Node.DataDir, name)); err != nil {
					t.Fatal(err)
				}
			}
			h, stop = launch(t, c, Deps{})
			until(t, h.begun.Load)
			st := h.meta.group.Status()
			if st.Quarantined != (len(lost) == 1) || st.Role == replica.RoleLeader || h.ready.Load() == nil || h.id.Cluster != cluster {
				t.Errorf("grown %s, %s is gone: %+v", grown, lost, st)
			}
			if _, err := h.meta.group.Propose(t.Context(), nil); err == nil {
				t.Errorf("grown %s, %s is gone: it has a catalog of its own", grown, lost)
			}
			stop()
		}
	}
}

// TestMayBeLost: a node that comes back with another directory is taken for lost
// if nobody is connected with the one that there is, and enough say so.
func TestMayBeLost(t *testing.T) {
	up := func(nodes ...int32) report { return report{Up: nodes} }
	voters := []uint64{replica.MemberID(1, 0), replica.MemberID(2, 3), replica.MemberID(3, 0)}
	for _, c := range []struct {
		what    string
		reports map[int32]report
		voters  []uint64
		lost    bool
	}{
		{"nobody is connected with it", map[int32]report{1: up(2), 2: up(1)}, voters, true},
		{"this node alone is not", map[int32]report{1: up(2), 2: up(1, 3)}, voters, false},
		{"this node is cut off", map[int32]report{1: up()}, voters, false},
		{"so is it with one that does not decide", map[int32]report{1: up(4), 4: up(1)}, voters, false},
		{"it alone decides", map[int32]report{1: up()}, voters[:1], true},
		{"who decides is not known", map[int32]report{1: up()}, nil, false},
	} {
		if err := mayBeLost(catalog.Node{ID: 3, Name: "n3"}, c.reports, c.voters); (err == nil) != c.lost {
			t.Errorf("%s: %v", c.what, err)
		}
	}
}

// TestOldDirectory: a data directory from before nodes had identities goes on as
// broker 1 of a site of one, with the cluster ID that its clients know; under
// another name it is refused and left as it was.
func TestOldDirectory(t *testing.T) {
	c := config(t, "solo")
	oldDirectory(t, c)
	other := c
	other.Node.ID = "solo-2"
	h, err := Open(t.Context(), other, Deps{})
	if err != nil {
		t.Fatal(err)
	}
	if err := h.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "belongs to another node") {
		t.Errorf("another name: %v", err)
	}
	if _, err := os.Stat(filepath.Join(c.Node.DataDir, identity.File)); !os.IsNotExist(err) {
		t.Errorf("the name that was refused is written down: %v", err)
	}
	for range 2 { // the second start finds the identity
		h, stop := start(t, c, Deps{})
		if h.id.ID != 1 || h.id.Incarnation != 0 || h.id.Cluster != oldClusterID(c) {
			t.Errorf("%+v", h.id)
		}
		if !h.Has("old") || h.Offsets("old", 0).HighWatermark != 0 {
			t.Error("the topic is not there")
		}
		stop()
	}
}

// oldDirectory writes the catalog that a node of a site of one had.
func oldDirectory(t *testing.T, c Config) {
	t.Helper()
	store, err := storage.Open(vfs.OS(), c.Node.DataDir, storage.Config{Owner: "old"})
	if err != nil {
		t.Fatal(err)
	}
	set, err := replica.Open(replica.Config{Member: 1}, store)
	if err != nil {
		t.Fatal(err)
	}
	logs := newLayer(func(error) {})
	logs.run("storage", store.Run)
	logs.run("replicas", set.Run)
	group, err := set.Add(replica.Spec{ID: storage.LogID{Topic: catalog.MetaGroup}, Born: []uint64{1}, Alone: true, Machine: catalog.NewMachine()})
	if err != nil {
		t.Fatal(err)
	}
	if err := serving(t.Context(), group); err != nil {
		t.Fatal(err)
	}
	for _, cmd := range []catalog.Command{
		catalog.SiteInit{Site: "solo", SiteID: c.siteID()}, catalog.RegisterNode{Name: "solo-1", Site: "solo", Kafka: "x:1"},
		catalog.CreateTopic{Name: "old", ID: record.TopicID{7}, Partitions: 1, Replicas: 1},
	} {
		b, err := catalog.Encode(cmd)
		if err != nil {
			t.Fatal(err)
		}
		if out, err := group.Propose(t.Context(), b); err != nil || out.(catalog.Result).Err != nil {
			t.Fatal(out, err)
		}
	}
	logs.stop()
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
}
