// Package relay has an HTTP request that one node of a site has received answered
// by another: as bytes there, and as bytes back.
//
// Goroutines: none.
package relay

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
)

// maxBody bounds what is passed on of a request, in bytes.
const maxBody = 8 << 20

// answer is a response on its way back.
type answer struct {
	Status int         `json:"status"`
	Header http.Header `json:"header"`
	Body   []byte      `json:"body"`
}

// call has another node answer a request that was encoded.
type call func(ctx context.Context, request []byte) ([]byte, error)

// passOn answers w with what ask makes of the request. A node that does not answer
// is a bad gateway (502), in words.
func passOn(w http.ResponseWriter, r *http.Request, ask call) {
	status, err := pass(w, r, ask)
	if err != nil {
		http.Error(w, err.Error(), status)
	}
}

func pass(w http.ResponseWriter, r *http.Request, ask call) (status int, err error) {
	request, err := encode(r)
	if errors.Is(err, errTooLarge) {
		return http.StatusRequestEntityTooLarge, err
	}
	if err != nil {
		return http.StatusBadRequest, err
	}
	b, err := ask(r.Context(), request)
	if err != nil {
		return http.StatusBadGateway, err
	}
	var a answer
	if err := json.Unmarshal(b, &a); err != nil {
		return http.StatusBadGateway, fmt.Errorf("the answer of another node: %w", err)
	}
	if a.Status < 200 || a.Status > 599 {
		return http.StatusBadGateway, fmt.Errorf("another node answers with status %d, want 200 to 599", a.Status)
	}
	for k, v := range a.Header {
		w.Header()[k] = v
	}
	w.WriteHeader(a.Status)
	_, _ = w.Write(a.Body) // an error is a client that left
	return a.Status, nil
}

var errTooLarge = fmt.Errorf("a request of more than %d bytes cannot be passed on to another node", maxBody)

func encode(r *http.Request) ([]byte, error) {
	body, err := io.ReadAll(io.LimitReader(r.Body, maxBody+1))
	if err != nil {
		return nil, err
	}
	if len(body) > maxBody {
		return nil, errTooLarge
	}
	out := r.Clone(r.Context())
	out.Body, out.ContentLength, out.TransferEncoding = io.NopCloser(bytes.NewReader(body)), int64(len(body)), nil
	var b bytes.Buffer
	if err := out.Write(&b); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// serve answers a request that another node has passed on. A handler that panics
// fails that request and nothing else, as with net/http.
func serve(ctx context.Context, h http.Handler, request []byte) (out []byte, err error) {
	r, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(request)))
	if err != nil {
		return nil, fmt.Errorf("a request that was passed on: %w", err)
	}
	defer func() {
		if p := recover(); p != nil {
			out, err = nil, fmt.Errorf("%s %s: the handler panicked: %v", r.Method, r.URL.Path, p)
		}
	}()
	w := &recorder{a: answer{Header: http.Header{}}}
	h.ServeHTTP(w, r.WithContext(ctx))
	w.WriteHeader(http.StatusOK) // unless it was
	return json.Marshal(w.a)
}

// recorder keeps what a handler answers.
type recorder struct{ a answer }

// Header implements http.ResponseWriter.
func (w *recorder) Header() http.Header { return w.a.Header }

// WriteHeader implements http.ResponseWriter.
func (w *recorder) WriteHeader(status int) {
	if w.a.Status == 0 {
		w.a.Status = status
	}
}

// Write implements http.ResponseWriter.
func (w *recorder) Write(p []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	w.a.Body = append(w.a.Body, p...)
	return len(p), nil
}
