package registry

import (
	"errors"
	"net/http"
	"time"
)

// refuseTime is when a failed login is answered: it hides how long the check
// took, and makes guessing slow.
const refuseTime = time.Second

// errNoLogin: the request has no user and password.
var errNoLogin = errors.New("no user and password")

// guard lets only requests through that log in by HTTP Basic, as Confluent's
// registry has it, if the registry asks for a login.
func (r *Registry) guard(next http.Handler) http.Handler {
	if r.cfg.Login == nil {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		due := time.After(refuseTime)
		user, password, ok := req.BasicAuth()
		err := errNoLogin
		if ok {
			err = r.cfg.Login(req.Context(), user, password)
		}
		if err == nil {
			next.ServeHTTP(w, req)
			return
		}
		if ok {
			r.refused.Add(1)
			select {
			case <-due:
			case <-req.Context().Done():
			}
		}
		w.Header().Set("WWW-Authenticate", `Basic realm="schema registry"`)
		r.handle(func(*request) (any, error) { return nil, fail(http.StatusUnauthorized, "Unauthorized") }).ServeHTTP(w, req)
	})
}

// FailedLogins counts the logins that were refused.
func (r *Registry) FailedLogins() int64 { return r.refused.Load() }
