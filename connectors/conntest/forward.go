package conntest

import (
	"net/http"
	"net/http/httputil"
	"net/url"
	"testing"
)

// Forward serves everything by the server at base, so that a test can stand
// between it and a client.
func Forward(t testing.TB, base string) http.Handler {
	t.Helper()
	to, err := url.Parse(base)
	if err != nil {
		t.Fatal(err)
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	t.Cleanup(transport.CloseIdleConnections)
	return &httputil.ReverseProxy{Transport: transport, Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(to)
		r.Out.Host = r.In.Host // it is signed
	}}
}
