package relay

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// TestPass: another node sees the request as it came, and the client the answer
// as it was given.
func TestPass(t *testing.T) {
	there := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		user, password, _ := r.BasicAuth()
		w.Header().Set("X-There", "yes")
		w.WriteHeader(http.StatusConflict)
		fmt.Fprintf(w, "%s %s %s %s:%s %s", r.Method, r.URL.EscapedPath(), r.URL.RawQuery, user, password, body)
	})
	here := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		passOn(w, r, func(ctx context.Context, b []byte) ([]byte, error) { return serve(ctx, there, b) })
	}))
	defer here.Close()
	req, err := http.NewRequest(http.MethodPut, here.URL+"/subjects/a%2Fb/versions?x=1", strings.NewReader("the body"))
	if err != nil {
		t.Fatal(err)
	}
	req.SetBasicAuth("me", "secret")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	got, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if want := "PUT /subjects/a%2Fb/versions x=1 me:secret the body"; string(got) != want || resp.StatusCode != http.StatusConflict || resp.Header.Get("X-There") != "yes" {
		t.Errorf("%s %q, want %q", resp.Status, got, want)
	}
}

// TestSilentNode: a client hears why there is no answer.
func TestSilentNode(t *testing.T) {
	for name, call := range map[string]call{
		"gone":     func(context.Context, []byte) ([]byte, error) { return nil, errors.New("node 2 is gone") },
		"nonsense": func(context.Context, []byte) ([]byte, error) { return []byte("{}"), nil },
	} {
		w := httptest.NewRecorder()
		passOn(w, httptest.NewRequest(http.MethodGet, "/x", nil), call)
		if text := w.Body.String(); w.Code != http.StatusBadGateway || text == "" || strings.Contains(text, "%!") {
			t.Errorf("%s: status %d: %s", name, w.Code, text)
		}
	}
	w := httptest.NewRecorder()
	passOn(w, httptest.NewRequest(http.MethodPost, "/x", strings.NewReader(strings.Repeat("x", maxBody+1))), nil)
	if w.Code != http.StatusRequestEntityTooLarge {
		t.Errorf("a large request: status %d", w.Code)
	}
	if _, err := serve(t.Context(), http.NotFoundHandler(), []byte("no request")); err == nil {
		t.Error("what is no request was served")
	}
	broken := http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("broken") })
	if _, err := serve(t.Context(), broken, []byte("GET /x HTTP/1.1\r\nHost: h\r\n\r\n")); err == nil || !strings.Contains(err.Error(), "broken") {
		t.Errorf("a handler that panics: %v", err)
	}
}
