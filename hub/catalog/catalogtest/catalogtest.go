// Package catalogtest is a site's catalog without the group that orders its
// commands, for tests.
//
// Goroutines: none.
package catalogtest

import (
	"context"
	"testing"

	"github.com/entrepot-hub/entrepot/hub/catalog"
)

// Site is a catalog that decides at once.
type Site struct{ *catalog.Machine }

// New is an empty one after commands that must be taken.
func New(t testing.TB, cmds ...catalog.Command) Site {
	t.Helper()
	s := Site{catalog.NewMachine()}
	s.Do(t, cmds...)
	return s
}

// Propose commits a command and returns its result.
func (s Site) Propose(_ context.Context, cmd catalog.Command) (any, error) {
	b, err := catalog.Encode(cmd)
	if err != nil {
		return nil, err
	}
	out := s.Apply(0, b).(catalog.Result)
	return out.Value, out.Err
}

// Do proposes commands that must be taken.
func (s Site) Do(t testing.TB, cmds ...catalog.Command) {
	t.Helper()
	for _, cmd := range cmds {
		if _, err := s.Propose(t.Context(), cmd); err != nil {
			t.Fatalf("%T: %v", cmd, err)
		}
	}
}
