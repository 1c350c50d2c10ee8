package relay

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
)

// TestRouter: a request is answered by the node whose business it is, as long as
// it is in reach and by this one otherwise.
func TestRouter(t *testing.T) {
	site := map[int32]*Router{}
	named := func(name string) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, name, r.URL.Path) })
	}
	for node := int32(1); node <= 2; node++ {
		site[node] = NewRouter(func(n int32) bool { return n != node && site[n] != nil }, func(ctx context.Context, n int32, request []byte) ([]byte, error) {
			if site[n] == nil {
				return nil, errors.New("nobody")
			}
			return site[n].Answer(ctx, request)
		})
		site[node].Serve('x', named(fmt.Sprint("passed to ", node)))
	}
	whose := map[string]int32{"/nobody": 0, "/1": 1, "/2": 2, "/3": 3}
	h := site[1].Before('x', func(r *http.Request) int32 { return whose[r.URL.Path] })(named("own"))
	for path, want := range map[string]string{"/nobody": "own/nobody", "/1": "own/1", "/2": "passed to 2/2", "/3": "own/3"} {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, nil))
		if got := w.Body.String(); got != want {
			t.Errorf("%s: %q, want %q", path, got, want)
		}
	}
	for _, body := range [][]byte{nil, {'y'}, {'x'}} {
		if _, err := site[2].Answer(t.Context(), body); err == nil {
			t.Errorf("%q is answered", body)
		}
	}
}
