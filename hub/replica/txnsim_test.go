package replica

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/entrepot-hub/entrepot/storytest"
)

// TestTransactionsOverLeaderChanges runs three voters through elections, cut
// networks, crashes and new segments with transactions on the way, some of
// which are superseded. After each step every node's last stable offset, open
// transactions and aborted list are compared with the batches in its log, and
// with what a second core makes of the same log.
func TestTransactionsOverLeaderChanges(t *testing.T) {
	superseded, markers := 0, 0
	for seed := range uint64(40) {
		rng := rand.New(rand.NewPCG(seed, 5))
		e := &cluster{t: t, nodes: map[uint64]*member{}, cut: map[uint64]bool{}, auto: true, now: 1_000_000}
		do := func(verb string, words ...string) { e.do(verb, storytest.Args{T: t, Words: words}) }
		do("nodes", "count=3")
		do("campaign", "n1")
		seq := map[string]int{}
		for range 120 {
			n := fmt.Sprintf("n%d", 1+rng.IntN(3))
			pid := fmt.Sprint(1 + rng.IntN(4))
			last := e.node(storytest.Args{T: t, Words: []string{n}}).core.tail.index
			switch rng.IntN(16) {
			case 0, 1, 2, 3, 4:
				seq[pid]++ // a new epoch each time: any batch is in order
				do("produce", n, "pid="+pid, "pepoch="+fmt.Sprint(seq[pid]), "txn=true", "count=2")
			case 5, 6, 7:
				markers++
				as := []string{"as=commit", "as=abort"}[rng.IntN(2)]
				do("end", n, "pid="+pid, "pepoch="+fmt.Sprint(seq[pid]), "coordinator="+fmt.Sprint(rng.IntN(3)), as)
			case 8:
				do("produce", n, "pid=9", "pepoch="+fmt.Sprint(len(seq)))
			case 9:
				do("cut", n)
			case 10, 11:
				do("heal")
				do("tick", "count=1")
			case 12:
				do("campaign", n)
			case 13:
				do("restart", n)
			case 14:
				do("roll", n)
			case 15:
				do([]string{"manual", "auto", "settle"}[rng.IntN(3)])
			}
			if e.node(storytest.Args{T: t, Words: []string{n}}).core.tail.index < last {
				superseded++
			}
			if t.Failed() {
				t.Fatalf("seed %d", seed)
			}
		}
	}
	t.Logf("%d markers, %d times a suffix was lost or superseded", markers, superseded)
	if superseded == 0 {
		t.Error("nothing was ever superseded")
	}
}
