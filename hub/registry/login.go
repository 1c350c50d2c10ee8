package registry

import (
	"net/http"

	"github.com/entrepot-hub/entrepot/hub/web"
)

// guard lets only requests through that log in by HTTP Basic, as Confluent's
// registry has it, if the registry asks for a login.
func (r *Registry) guard(next http.Handler) http.Handler {
	return web.Login{
		Realm: "schema registry", Check: r.cfg.Login, Failed: func() { r.refused.Add(1) },
		Refuse: r.handle(func(*request) (any, error) { return nil, fail(http.StatusUnauthorized, "Unauthorized") }),
	}.Guard(next)
}

// FailedLogins counts the logins that were refused.
func (r *Registry) FailedLogins() int64 { return r.refused.Load() }
