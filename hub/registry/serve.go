package registry

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"
)

// Limits of one connection.
const (
	headerTime   = 5 * time.Second
	requestTime  = 60 * time.Second
	idleTime     = 2 * time.Minute
	shutdownTime = 5 * time.Second
	maxHeader    = 32 << 10
)

// Serve answers on ln until ctx ends, then lets running requests finish for up
// to 5 s. It owns ln, which may be one with TLS. The error is nil after an
// ordinary end.
func (r *Registry) Serve(ctx context.Context, ln net.Listener) error {
	server := &http.Server{
		Handler:           r.Handler(),
		ReadHeaderTimeout: headerTime, ReadTimeout: requestTime, WriteTimeout: requestTime, IdleTimeout: idleTime,
		MaxHeaderBytes: maxHeader,
		ErrorLog:       slog.NewLogLogger(r.logger.Handler(), slog.LevelDebug),
		BaseContext:    func(net.Listener) context.Context { return context.WithoutCancel(ctx) },
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
	return fmt.Errorf("registry: serve on %s: %w", ln.Addr(), err)
}
