package stream

import (
	"testing"
	"time"

	"github.com/entrepot-hub/entrepot/connectors"
)

// TestPace: who waits for a commit waits at most the pace since the last one,
// not since its own message was read; a reader that has more to tell, and a
// source nobody waits for, go on until the pace is over since the first message.
func TestPace(t *testing.T) {
	const pace = 10 * time.Millisecond
	for _, c := range []struct {
		name           string
		awaited        bool
		unsaved, read  int
		commit, before time.Duration // since the last commit began, and since the first message
		want           bool
	}{
		{name: "nothing to commit", awaited: true, commit: time.Hour},
		{name: "nothing more comes", unsaved: 1, want: true},
		{name: "the first after a rest", awaited: true, unsaved: 1, read: 1, commit: time.Hour, want: true},
		{name: "soon after a commit", awaited: true, unsaved: 1, read: 1, commit: pace - 1, before: pace - 1},
		{name: "came during a long commit", awaited: true, unsaved: 5, read: 5, commit: pace, want: true},
		{name: "came during a long commit, and there is more", awaited: true, unsaved: readRecords, read: readRecords, commit: 5 * pace, before: pace - 1},
		{name: "more and more, for as long as the pace", awaited: true, unsaved: 2 * readRecords, read: readRecords, commit: 5 * pace, before: pace, want: true},
		{name: "nobody waits, after a rest", unsaved: 1, read: 1, commit: time.Hour, before: pace - 1},
		{name: "nobody waits, the pace is over", unsaved: 1, read: 1, commit: time.Hour, before: pace, want: true},
	} {
		inBubble(t, func(t *testing.T) {
			now := time.Now()
			s := &splitRun{sourceRun: &sourceRun{pace: connectors.Limits{Wait: pace}, awaited: c.awaited}, unsaved: c.unsaved, began: now.Add(-c.before), saving: now.Add(-c.commit)}
			if got := s.due(c.read); got != c.want {
				t.Errorf("%s: due says %v", c.name, got)
			}
		})
	}
}
