// Package web is what the node's HTTP servers have in common: limits of
// a connection, an end that lets requests finish, and a login by HTTP Basic.
//
// Goroutines: Limits.Serve has one that ends the server with its context, and those of
// net/http, one for each connection; all have ended when it returns.
package web

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"
)

// Limits of one connection.
type Limits struct {
	Read, Write, Idle time.Duration
	Header            int // bytes
}

// Default is for servers that take schemas and configurations.
func Default() Limits {
	return Limits{Read: 60 * time.Second, Write: 60 * time.Second, Idle: 2 * time.Minute, Header: 32 << 10}
}

const (
	headerTime   = 5 * time.Second
	shutdownTime = 5 * time.Second
)

// Serve answers on ln with the limits of Default.
func Serve(ctx context.Context, ln net.Listener, handler http.Handler, logger *slog.Logger) error {
	return Default().Serve(ctx, ln, handler, logger)
}

// Serve answers on ln until ctx ends, then lets running requests finish for up
// to 5 s. It owns ln, which may be one with TLS. The error is nil after an
// ordinary end.
func (l Limits) Serve(ctx context.Context, ln net.Listener, handler http.Handler, logger *slog.Logger) error {
	server := &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: headerTime, ReadTimeout: l.Read, WriteTimeout: l.Write, IdleTimeout: l.Idle,
		MaxHeaderBytes: l.Header,
		// What net/http complains of (broken TLS hellos, clients that vanish)
		// tells of clients, not of this node.
		ErrorLog:    slog.NewLogLogger(logger.Handler(), slog.LevelDebug),
		BaseContext: func(net.Listener) context.Context { return context.WithoutCancel(ctx) },
	}
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		select {
		case <-ctx.Done():
			stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTime)
			defer cancel()
			if server.Shutdown(stopping) != nil {
				_ = server.Close()
			}
		case <-done:
		}
	})
	err := server.Serve(ln)
	close(done)
	wg.Wait()
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

// refuseTime is when a failed login is answered: it hides how long the check
// took, and makes guessing slow.
const refuseTime = time.Second

// Login is who may pass a Guard.
type Login struct {
	Realm  string                                                 // shown to who has to log in
	Check  func(ctx context.Context, user, password string) error // nil lets everybody pass
	Failed func()                                                 // a login was refused
	Refuse http.Handler                                           // writes the answer 401
}

// Guard lets only requests through that log in by HTTP Basic.
func (l Login) Guard(next http.Handler) http.Handler {
	if l.Check == nil {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		due := time.After(refuseTime)
		user, password, given := req.BasicAuth()
		if given && l.Check(req.Context(), user, password) == nil {
			next.ServeHTTP(w, req)
			return
		}
		if given {
			l.Failed()
			select {
			case <-due:
			case <-req.Context().Done():
			}
		}
		w.Header().Set("WWW-Authenticate", `Basic realm="`+l.Realm+`"`)
		l.Refuse.ServeHTTP(w, req)
	})
}
