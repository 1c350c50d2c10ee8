package registry

import (
	"context"
	"fmt"
	"net"

	"github.com/entrepot-hub/entrepot/hub/web"
)

// Serve answers on ln, which it owns, until ctx ends. The error is nil after an
// ordinary end.
func (r *Registry) Serve(ctx context.Context, ln net.Listener) error {
	handler := r.Handler()
	if r.cfg.Relay != nil {
		handler = r.cfg.Relay(handler)
	}
	if err := web.Serve(ctx, ln, handler, r.logger); err != nil {
		return fmt.Errorf("registry: serve on %s: %w", ln.Addr(), err)
	}
	return nil
}
