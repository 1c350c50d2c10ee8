package webhook

import (
	"strings"
	"testing"

	"github.com/entrepot-hub/entrepot/connectors"
	"github.com/entrepot-hub/entrepot/connectors/conntest"
)

// TestPreview makes no request, and does not show the address.
func TestPreview(t *testing.T) {
	e := newEndpoint(t)
	cfg := conntest.Config(t, Sink{}.Spec(), map[string]any{"url": e.URL + "/hunter2"})
	got, err := Sink{}.Preview(t.Context(), conntest.Task(cfg), []connectors.Message{{Value: []byte(`{"a":1}`)}, {Value: []byte("no JSON")}})
	if err != nil || len(got.Refused) != 1 || got.Refused[0].Index != 1 || !strings.Contains(got.Target, "127.0.0.1") || strings.Contains(got.Target, "hunter2") {
		t.Errorf("got %+v, %v", got, err)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if n := len(e.mu.requests); n > 0 {
		t.Errorf("%d requests were made", n)
	}
}
