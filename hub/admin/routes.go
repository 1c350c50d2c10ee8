package admin

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// routes is the whole surface. Every answer but the page, /healthz and
// /metrics is JSON, errors too.
func (s *Server) routes(metrics http.Handler) http.Handler {
	mux := http.NewServeMux()
	get := func(path string, h func(*http.Request) (any, error)) { mux.Handle(path, answer(http.MethodGet, h)) }
	mux.Handle("/metrics", metrics)
	mux.HandleFunc("/healthz", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("ok\n")) })
	get("/readyz", s.ready)
	get("/v1/status", func(*http.Request) (any, error) { return s.status(), nil })
	get("/v1/mesh/members", func(*http.Request) (any, error) { return s.members(), nil })
	get("/v1/mesh/rtt", s.rtt)
	get("/v1/links", func(*http.Request) (any, error) { return s.links(), nil })
	get("/v1/jobs", func(r *http.Request) (any, error) { return s.allJobs(r.Context(), ""), nil })
	get("/v1/jobs/{name}", s.job)
	mux.Handle("/v1/jobs/{name}/{action}", answer(http.MethodPost, s.act))
	mux.Handle("/v1/jobs/{name}/offsets", s.offsetRoutes())
	mux.Handle("/v1/jobs/{name}/rewind", answer(http.MethodPost, s.rewind))
	mux.Handle("/v1/jobs/{name}/replay", answer(http.MethodPost, s.replay))
	s.siteRoutes(mux)
	mux.Handle("/v1/fetch-rate", methods{
		http.MethodGet: answer(http.MethodGet, s.fetchRate),
		http.MethodPut: answer(http.MethodPut, s.setFetchRate),
	})
	mux.Handle("/{$}", answerPage(s.page))
	get("/", func(r *http.Request) (any, error) {
		return nil, fmt.Errorf("%s: %w; the API is under /v1, the page at /", r.URL.Path, ErrNotFound)
	})
	// A page of another origin must not pause jobs through a browser that can
	// reach this port.
	return http.NewCrossOriginProtection().Handler(http.MaxBytesHandler(mux, maxBody))
}

// badRequest is an error of the asker (400).
type badRequest string

func (e badRequest) Error() string { return string(e) }

// answer runs h for requests of one method (GET includes HEAD) and writes what
// it returns as JSON.
func answer(method string, h func(*http.Request) (any, error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !allowed(w, r, method) {
			return
		}
		v, err := h(r)
		if err != nil {
			writeError(w, err)
			return
		}
		if to, ok := v.(redirect); ok {
			http.Redirect(w, r, string(to), http.StatusSeeOther)
			return
		}
		writeJSON(w, http.StatusOK, v)
	})
}

// methods is what answers a path, by method; others are told of GET.
type methods map[string]http.Handler

func (m methods) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h, ok := m[r.Method]
	if !ok {
		h = m[http.MethodGet]
	}
	h.ServeHTTP(w, r)
}

// redirect is an answer for a browser: go there.
type redirect string

func allowed(w http.ResponseWriter, r *http.Request, method string) bool {
	if r.Method == method || method == http.MethodGet && r.Method == http.MethodHead {
		return true
	}
	w.Header().Set("Allow", method)
	writeJSON(w, http.StatusMethodNotAllowed, failure{fmt.Sprintf("%s %s: use %s", r.Method, r.URL.Path, method)})
	return false
}

// failure is the body of every error.
type failure struct {
	Error string `json:"error"`
}

func writeError(w http.ResponseWriter, err error) {
	writeJSON(w, codeOf(err), failure{err.Error()})
}

func codeOf(err error) int {
	if _, ok := errors.AsType[badRequest](err); ok {
		return http.StatusBadRequest
	}
	if _, ok := errors.AsType[notReadyError](err); ok {
		return http.StatusServiceUnavailable
	}
	switch {
	case errors.Is(err, ErrNotFound):
		return http.StatusNotFound
	case errors.Is(err, ErrInvalid):
		return http.StatusBadRequest
	case errors.Is(err, ErrConflict):
		return http.StatusConflict
	default:
		return http.StatusInternalServerError
	}
}

func writeJSON(w http.ResponseWriter, code int, v any) {
	body, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		code, body = http.StatusInternalServerError, []byte(`{"error":"the answer cannot be written as JSON"}`)
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(code)
	_, _ = w.Write(append(body, '\n')) // an error here is a client that left
}

// notReadyError carries the reason to /readyz (503).
type notReadyError struct{ reason error }

func (e notReadyError) Error() string { return "not ready: " + e.reason.Error() }

func (s *Server) ready(*http.Request) (any, error) {
	if s.src.Node != nil {
		if err := s.src.Node.Ready(); err != nil {
			return nil, notReadyError{err}
		}
	}
	return map[string]bool{"ready": true}, nil
}

func (s *Server) rtt(r *http.Request) (any, error) {
	a, b := r.URL.Query().Get("a"), r.URL.Query().Get("b")
	if a == "" || b == "" {
		return nil, badRequest("give two node names: /v1/mesh/rtt?a=NODE&b=NODE")
	}
	if s.src.Mesh == nil {
		return nil, fmt.Errorf("this node is in no mesh: %w", ErrNotFound)
	}
	d, err := s.src.Mesh.RTT(a, b)
	if err != nil {
		return nil, err
	}
	return RTT{A: a, B: b, Millis: float64(d) / float64(time.Millisecond)}, nil
}

func (s *Server) job(r *http.Request) (any, error) {
	name := r.PathValue("name")
	jobs := s.allJobs(r.Context(), name)
	if i := slices.IndexFunc(jobs, func(j Job) bool { return j.Name == name }); i >= 0 {
		return jobs[i], nil
	}
	return nil, fmt.Errorf("job %q: %w; GET /v1/jobs lists them", name, ErrNotFound)
}

// act does the verb, then answers with the job as it is now; a browser is sent
// back to the page it came from.
func (s *Server) act(r *http.Request) (any, error) {
	name, action := r.PathValue("name"), Action(r.PathValue("action"))
	if action != Pause && action != Resume && action != Restart && action != Stop {
		return nil, fmt.Errorf("action %q: %w; there are pause, resume, stop and restart", action, ErrNotFound)
	}
	if s.src.Jobs == nil {
		return nil, fmt.Errorf("job %q: %w: no jobs run on this node", name, ErrNotFound)
	}
	if err := s.src.Jobs.Act(r.Context(), name, action); err != nil {
		return nil, fmt.Errorf("%s job %q: %w", action, name, err)
	}
	s.logger.Info("job steered", "job", name, "action", string(action), "client", r.RemoteAddr)
	if strings.Contains(r.Header.Get("Accept"), "text/html") {
		return redirect("/#" + url.PathEscape(name)), nil
	}
	return s.job(r)
}

// join adds what another node runs of the job. What is worst says how it is.
func (j *Job) join(o Job) {
	j.Node += ", " + o.Node
	if badness(o.State) > badness(j.State) {
		j.State, j.Reason, j.Retrying = o.State, o.Reason, o.Retrying
	}
	j.Lag = j.Lag.plus(o.Lag)
	j.Counters = maps.Clone(j.Counters)
	for what, n := range o.Counters {
		j.Counters[what] += n
	}
	j.Tasks = append(j.Tasks, o.Tasks...)
	slices.SortFunc(j.Tasks, func(a, b Task) int { return strings.Compare(a.ID, b.ID) })
}

// badness orders the states of a job's tasks: it has come to its end when all have.
func badness(state string) int {
	switch state {
	case "completed":
		return 0
	case "running":
		return 1
	case "failed":
		return 3
	}
	return 2
}

// The four below never return nil slices, which would be null in JSON.

func (s *Server) status() Status {
	if s.src.Node == nil {
		return Status{Topics: []Topic{}}
	}
	st := s.src.Node.Status()
	if err := s.src.Node.Ready(); err != nil {
		st.Ready, st.Reason = false, err.Error()
	}
	st.Topics = list(st.Topics)
	for i := range st.Topics {
		st.Topics[i].Partitions = list(st.Topics[i].Partitions)
	}
	return st
}

func (s *Server) members() []Member {
	if s.src.Mesh == nil {
		return []Member{}
	}
	return list(s.src.Mesh.Members())
}

func (s *Server) links() []Link {
	if s.src.Links == nil {
		return []Link{}
	}
	links := list(s.src.Links.Links())
	for i := range links {
		links[i].Partitions = list(links[i].Partitions)
	}
	return links
}

// allJobs are those of the whole site, by name; of other nodes, what they have of
// the one that is named, or with "" all.
func (s *Server) allJobs(ctx context.Context, name string) []Job {
	jobs := s.jobs()
	if s.cfg.OtherJobs == nil {
		return jobs
	}
	jobs = append(jobs, s.cfg.OtherJobs(ctx, name)...)
	for i := range jobs {
		jobs[i].Tasks = list(jobs[i].Tasks)
	}
	slices.SortStableFunc(jobs, func(a, b Job) int {
		return cmp.Or(strings.Compare(a.Name, b.Name), strings.Compare(a.Node, b.Node))
	})
	whole := jobs[:0]
	for _, j := range jobs {
		if n := len(whole); n > 0 && whole[n-1].Name == j.Name {
			whole[n-1].join(j)
			continue
		}
		whole = append(whole, j)
	}
	return whole
}

func (s *Server) jobs() []Job {
	if s.src.Jobs == nil {
		return []Job{}
	}
	jobs := list(s.src.Jobs.Jobs())
	for i := range jobs {
		jobs[i].Tasks = list(jobs[i].Tasks)
	}
	return jobs
}

// list is a copy that is never nil.
func list[T any](items []T) []T { return append([]T{}, items...) }
