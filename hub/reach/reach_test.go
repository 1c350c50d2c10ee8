package reach

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"testing"
	"time"
)

// TestReach: a node knows of others what their connections say, and of itself
// that it is there.
func TestReach(t *testing.T) {
	r := New(1, nil, nil)
	if !r.Up(1) || r.Up(2) || len(r.Others()) > 0 {
		t.Error("nobody is connected")
	}
	r.Set(2, true)
	if !r.Up(2) || r.Up(3) || !slices.Equal(r.Others(), []int32{2}) {
		t.Error("node 2 is connected")
	}
	r.Set(2, false)
	if r.Up(2) || !r.UpWithin(2, time.Minute) || r.UpWithin(2, 0) || len(r.Others()) > 0 {
		t.Error("node 2 has gone a moment ago")
	}
}

// TestAsk: those in reach are asked, and what cannot be read is left out.
func TestAsk(t *testing.T) {
	r := New(1, func(_ context.Context, node int32, method string, _ []byte) ([]byte, error) {
		switch node {
		case 2, 3:
			return []byte(strconv.Quote(method + strconv.Itoa(int(node)))), nil
		case 4:
			return nil, errors.New("it has just gone")
		}
		return []byte("{"), nil
	}, slog.New(slog.DiscardHandler))
	for node := range int32(6) {
		r.Set(node, true)
	}
	r.Set(3, false)
	got := map[int32]string{}
	Ask(t.Context(), r, "m", nil, func(node int32, answer string) { got[node] = answer })
	if !maps.Equal(got, map[int32]string{2: "m2"}) {
		t.Errorf("%v, want node 2's alone", got)
	}
	Ask(t.Context(), r, "m", []int32{3, 4}, func(node int32, answer string) {
		t.Errorf("node %d was not to be asked, or is not in reach: %s", node, answer)
	})
}
