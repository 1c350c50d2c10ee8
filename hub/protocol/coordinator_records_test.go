package protocol

import (
	"log/slog"
	"testing"
	"time"

	"github.com/entrepot-hub/entrepot/hub/group"
	"github.com/entrepot-hub/entrepot/record"
)

// Of two transactions that set the offset of one partition the later write
// counts, whichever ends first, in a group that is read from its partition too.
// The one before is gone once the partition is compacted.
func TestLoadedOffsetsOfTwoTransactions(t *testing.T) {
	tp := record.TopicPartition{Topic: "t"}
	for _, ends := range [][]record.TransactionMarker{
		{{ProducerID: 7, Commit: true}, {ProducerID: 8, Commit: true}},
		{{ProducerID: 8, Commit: true}, {ProducerID: 7, Commit: true}},
	} {
		for early := range len(ends) + 1 { // how many end before the group is loaded
			groups, at := map[string]*keptGroup{}, int64(0)
			read := func(b record.Batch, err error) {
				t.Helper()
				if err != nil {
					t.Fatal(err)
				}
				b.SetBaseOffset(at)
				at = b.NextOffset()
				if err := readGroupBatch(groups, b, slog.New(slog.DiscardHandler)); err != nil {
					t.Fatal(err)
				}
			}
			for _, producer := range []int64{7, 8} {
				b := newGroupBatch(1)
				b.of(&group.Transactional{ProducerID: producer})
				b.add("g", group.Write{Offsets: []group.OffsetWrite{{TopicPartition: tp, Offset: &group.Offset{Offset: 10 * producer}}}})
				all, err := b.build()
				for _, one := range all {
					read(one, err)
				}
			}
			for _, m := range ends[:early] {
				read(m.Batch(1), nil)
			}
			g, err := groups["g"].live("g", group.Default(), time.UnixMilli(1))
			if err != nil {
				t.Fatal(err)
			}
			groups["g"].pend(g)
			for _, m := range ends[early:] {
				g.EndTransaction(m.ProducerID, m.Commit)
			}
			if o, _ := g.Offset(tp); o.Offset != 80 {
				t.Errorf("producer %d ends first, %d before the load: the offset is %d, want 80", ends[0].ProducerID, early, o.Offset)
			}
		}
	}
}
