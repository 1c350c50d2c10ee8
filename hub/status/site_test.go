package status

import (
	"testing"

	"github.com/entrepot-hub/entrepot/hub/admin"
)

// TestFetchingOf: what a move lacks, and for how long, is told by those that get
// copies, and the last of them counts.
func TestFetchingOf(t *testing.T) {
	fetching := func(done, of int64, left admin.Measure) Report {
		return Report{Groups: []admin.Group{
			{Topic: "t", Partition: 0, Fetching: &admin.Fetching{DoneBytes: 7, OfBytes: 9}},
			{Topic: "t", Partition: 1, Fetching: &admin.Fetching{DoneBytes: done, OfBytes: of, Left: left}},
		}}
	}
	for name, c := range map[string]struct {
		all          map[int32]Report
		behind, left admin.Measure
	}{
		"nobody answers":       {nil, admin.Known(500), admin.Measure{}},
		"it comes as messages": {map[int32]Report{3: {Groups: []admin.Group{{Topic: "t", Partition: 1}}}}, admin.Known(500), admin.Measure{}},
		"one":                  {map[int32]Report{1: fetching(0, 900, admin.Known(9)), 3: fetching(100, 300, admin.Known(4))}, admin.Known(200), admin.Known(4)},
		"two":                  {map[int32]Report{3: fetching(100, 300, admin.Known(4)), 4: fetching(50, 300, admin.Known(6))}, admin.Known(450), admin.Known(6)},
		"one has just begun":   {map[int32]Report{3: fetching(100, 300, admin.Known(4)), 4: fetching(0, 300, admin.Measure{})}, admin.Known(500), admin.Measure{}},
		"the size is unknown":  {map[int32]Report{3: fetching(0, 0, admin.Measure{})}, admin.Known(500), admin.Measure{}},
	} {
		m := admin.Move{Topic: "t", Partition: 1, Replicas: []int32{2, 3, 4}, Behind: admin.Known(500)}
		fetchingOf(c.all, &m)
		if m.Behind != c.behind || m.Left != c.left {
			t.Errorf("%s: behind %v, left %v", name, m.Behind, m.Left)
		}
	}
}
