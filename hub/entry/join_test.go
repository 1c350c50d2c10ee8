package entry

import (
	"testing"

	"github.com/entrepot-hub/entrepot/hub/catalog"
	"github.com/entrepot-hub/entrepot/hub/replica"
)

// TestMayBeLost: a node that comes back with another directory is taken for lost
// if nobody is connected with the one that there is, and enough say so.
func TestMayBeLost(t *testing.T) {
	up := func(nodes ...int32) []int32 { return nodes }
	voters := []uint64{replica.MemberID(1, 0), replica.MemberID(2, 3), replica.MemberID(3, 0)}
	for _, c := range []struct {
		what   string
		up     map[int32][]int32
		voters []uint64
		lost   bool
	}{
		{"nobody is connected with it", map[int32][]int32{1: up(2), 2: up(1)}, voters, true},
		{"this node alone is not", map[int32][]int32{1: up(2), 2: up(1, 3)}, voters, false},
		{"this node is cut off", map[int32][]int32{1: up()}, voters, false},
		{"so is it with one that does not decide", map[int32][]int32{1: up(4), 4: up(1)}, voters, false},
		{"it alone decides", map[int32][]int32{1: up()}, voters[:1], true},
		{"who decides is not known", map[int32][]int32{1: up()}, nil, false},
	} {
		if err := mayBeLost(catalog.Node{ID: 3, Name: "n3"}, c.up, c.voters); (err == nil) != c.lost {
			t.Errorf("%s: %v", c.what, err)
		}
	}
}
