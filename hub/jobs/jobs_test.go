package jobs

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/entrepot-hub/entrepot/hub/admin"
	"github.com/entrepot-hub/entrepot/hub/catalog"
	"github.com/entrepot-hub/entrepot/hub/catalog/catalogtest"
	"github.com/entrepot-hub/entrepot/hub/placing"
)

// TestOneChangeAtATime: what the admin port is asked for waits for a change of
// connectors that is under way.
func TestOneChangeAtATime(t *testing.T) {
	j := open(t)
	j.Begin(Parts{})
	err := j.change(t.Context(), func() error {
		gone, leave := context.WithCancel(t.Context())
		leave()
		return j.Admin().Act(gone, "log", admin.Restart)
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("a restart in the midst of a change: %v", err)
	}
}

// TestBeforeASite: a node that belongs to no site yet has no connectors, and says
// so to who wants something of one.
func TestBeforeASite(t *testing.T) {
	j := open(t)
	if err := j.Admin().Act(t.Context(), "log", admin.Pause); !errors.Is(err, admin.ErrEarly) {
		t.Errorf("an action: %v", err)
	}
	if _, err := j.Admin().Offsets(t.Context(), "log"); !errors.Is(err, admin.ErrConflict) {
		t.Errorf("offsets: %v", err)
	}
	if all := append(j.Admin().Jobs(), j.Others(t.Context(), "")...); len(all) > 0 {
		t.Errorf("there are %v", all)
	}
	if node := j.WhoseAdmin(httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/v1/jobs/log/pause", nil)); node != 0 {
		t.Errorf("a request is node %d's", node)
	}
}

// TestWhose: what concerns a connector at work is its node's, all else anybody's.
func TestWhose(t *testing.T) {
	m := catalogtest.New(t,
		catalog.SiteInit{Site: "s", SiteID: 1, Founders: []catalog.Founder{{Name: "a", Nonce: "x"}, {Name: "b", Nonce: "y"}}},
		catalog.GrantLease{Task: "log", Node: 2},
	)
	j := open(t)
	j.Begin(Parts{Catalog: m, Placing: placing.New(placing.Config{Parts: j.PartsOf})})
	for _, c := range []struct {
		path           string
		admin, connect int32
	}{
		{"/connectors/log/status", 0, 2}, {"/connectors/log/config", 0, 0}, {"/connectors/log", 0, 0}, {"/connectors", 0, 0},
		{"/connectors/other/status", 0, 0}, {"/v1/jobs/log", 2, 0}, {"/v1/jobs/log/pause", 2, 0}, {"/v1/jobs", 0, 0}, {"/", 0, 0},
	} {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, c.path, nil)
		if a, k := j.WhoseAdmin(r), j.WhoseConnect(r); a != c.admin || k != c.connect {
			t.Errorf("%s: node %d by the admin API and %d by Kafka Connect's, want %d and %d", c.path, a, k, c.admin, c.connect)
		}
	}
}

func open(t *testing.T) *Jobs {
	t.Helper()
	j, err := Open(t.Context(), Config{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return j
}
