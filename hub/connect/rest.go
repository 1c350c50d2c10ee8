package connect

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	// maxBody bounds a request.
	maxBody = 1 << 20
	// answerTime bounds how long one may take.
	answerTime = 50 * time.Second
)

// handler answers one request with a value to be written as JSON, or an error.
type handler func(r *request) (any, error)

// reply is an answer with another status than 200. A nil body is no body.
type reply struct {
	status   int
	body     any
	location string // URL of what was made
}

type request struct {
	*http.Request
	api *API
}

// routes is the one table of what is answered.
func routes() map[string]handler {
	return map[string]handler{
		"GET /{$}":                                       getRoot,
		"GET /health":                                    getHealth,
		"GET /connectors":                                listConnectors,
		"POST /connectors":                               createConnector,
		"GET /connectors/{name}":                         getConnector,
		"DELETE /connectors/{name}":                      deleteConnector,
		"GET /connectors/{name}/config":                  getConfig,
		"PUT /connectors/{name}/config":                  putConfig,
		"PATCH /connectors/{name}/config":                patchConfig,
		"GET /connectors/{name}/status":                  getStatus,
		"PUT /connectors/{name}/pause":                   act(Pause, http.StatusAccepted),
		"PUT /connectors/{name}/resume":                  act(Resume, http.StatusAccepted),
		"PUT /connectors/{name}/stop":                    act(Stop, http.StatusNoContent),
		"POST /connectors/{name}/restart":                restart,
		"GET /connectors/{name}/tasks":                   getTasks,
		"GET /connectors/{name}/tasks/{id}/status":       getTaskStatus,
		"POST /connectors/{name}/tasks/{id}/restart":     restartTask,
		"GET /connectors/{name}/topics":                  getTopics,
		"PUT /connectors/{name}/topics/reset":            resetTopics,
		"GET /connectors/{name}/offsets":                 getOffsets,
		"PATCH /connectors/{name}/offsets":               patchOffsets,
		"DELETE /connectors/{name}/offsets":              deleteOffsets,
		"GET /connector-plugins":                         listPlugins,
		"GET /connector-plugins/{class}/config":          getPluginConfig,
		"PUT /connector-plugins/{class}/config/validate": validatePlugin,
	}
}

// Handler is the API without its listener.
func (a *API) Handler() http.Handler {
	mux := http.NewServeMux()
	paths := map[string]bool{}
	for pattern, h := range routes() {
		mux.Handle(pattern, a.handle(h))
		_, path, _ := strings.Cut(pattern, " ")
		paths[path] = true
	}
	for path := range paths {
		mux.Handle(path, a.handle(func(*request) (any, error) {
			return nil, fail(http.StatusMethodNotAllowed, "HTTP 405 Method Not Allowed")
		}))
	}
	mux.Handle("/", a.handle(func(*request) (any, error) { return nil, fail(http.StatusNotFound, "HTTP 404 Not Found") }))
	return a.guard(noTrailingSlash(mux))
}

// noTrailingSlash takes /connectors/ for /connectors, as Kafka Connect does.
func noTrailingSlash(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if path := r.URL.EscapedPath(); len(path) > 1 && strings.HasSuffix(path, "/") {
			inner := r.Clone(r.Context())
			inner.URL.Path, inner.URL.RawPath = strings.TrimSuffix(r.URL.Path, "/"), strings.TrimSuffix(path, "/")
			r = inner
		}
		next.ServeHTTP(w, r)
	})
}

func (a *API) handle(h handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		ctx, cancel := context.WithTimeout(req.Context(), answerTime)
		defer cancel()
		v, err := h(&request{req.WithContext(ctx), a})
		out, ok := v.(reply)
		if !ok {
			out = reply{status: http.StatusOK, body: v}
		}
		if err != nil {
			e := answer(err)
			if e.Code >= 500 {
				a.cfg.Logger.Error("a request failed", "method", req.Method, "path", req.URL.Path, "error", err)
			}
			out = reply{status: e.Code, body: e}
		}
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "no-store")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		if out.location != "" {
			w.Header().Set("Location", out.location)
		}
		w.WriteHeader(out.status)
		if out.body != nil {
			enc := json.NewEncoder(w)
			enc.SetEscapeHTML(false)
			_ = enc.Encode(out.body) // an error here is a client that left
		}
	})
}

// Error is an answer that is not a success, in Kafka Connect's form.
type Error struct {
	Code    int    `json:"error_code"` // the HTTP status
	Message string `json:"message"`
}

func (e *Error) Error() string { return e.Message }

func fail(code int, format string, args ...any) *Error {
	return &Error{code, fmt.Sprintf(format, args...)}
}

// answer makes any error one of the API.
func answer(err error) *Error {
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	if r, ok := errors.AsType[*Rejected](err); ok {
		return fail(http.StatusBadRequest, "%v\nYou can also find the above list of errors at the endpoint `/connector-plugins/{connectorType}/config/validate`", r)
	}
	for _, known := range []struct {
		err  error
		code int
	}{
		{ErrUnknown, http.StatusNotFound},
		{ErrExists, http.StatusConflict},
		{ErrOfFile, http.StatusConflict},
		{ErrNotStopped, http.StatusBadRequest},
		{context.DeadlineExceeded, http.StatusInternalServerError},
	} {
		if errors.Is(err, known.err) {
			return fail(known.code, "%v", err)
		}
	}
	return fail(http.StatusInternalServerError, "%v", err)
}

// body reads the request's JSON. Kafka Connect answers 500 to what is none; it
// is the asker's mistake, so it is 400 here.
func (r *request) body(into any) error {
	raw, err := io.ReadAll(http.MaxBytesReader(nil, r.Body, maxBody))
	if _, tooBig := errors.AsType[*http.MaxBytesError](err); tooBig {
		return fail(http.StatusRequestEntityTooLarge, "the request has more than %d bytes", maxBody)
	}
	if err != nil {
		return fail(http.StatusBadRequest, "the request was cut off: %v", err)
	}
	d := json.NewDecoder(strings.NewReader(string(raw)))
	d.DisallowUnknownFields()
	if err = d.Decode(into); err == nil && d.More() {
		err = errors.New("there is more behind it")
	}
	if err != nil {
		return fail(http.StatusBadRequest, "the request is no JSON of the right form: %s", jsonError(err))
	}
	return nil
}

// jsonError says where, and never what: a value may be a secret.
func jsonError(err error) string {
	if wrong, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		field := wrong.Field
		if field == "" {
			field = "the whole"
		}
		return fmt.Sprintf("at byte %d, %s is of type %s and has to be %s", wrong.Offset, field, strings.Fields(wrong.Value)[0], jsonType(wrong.Type))
	}
	return err.Error()
}

// jsonType is what JSON calls a type of ours.
func jsonType(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Struct, reflect.Map:
		return "an object"
	case reflect.Slice:
		return "an array"
	case reflect.String:
		return "a string"
	case reflect.Bool:
		return "true or false"
	}
	return "a number"
}

func (r *request) flag(name string) bool {
	v, _ := strconv.ParseBool(r.URL.Query().Get(name))
	return v
}

// find is the connector of the path.
func (r *request) find() (Connector, error) {
	name := r.PathValue("name")
	all := r.api.cfg.Site.Connectors()
	if i := slices.IndexFunc(all, func(c Connector) bool { return c.Name == name }); i >= 0 {
		return all[i], nil
	}
	return Connector{}, fail(http.StatusNotFound, "Connector %s not found", short(name))
}

func getRoot(r *request) (any, error) {
	return struct {
		Version string `json:"version"`
		Commit  string `json:"commit"`
		Cluster string `json:"kafka_cluster_id"`
	}{r.api.cfg.Version, "entrepot", r.api.cfg.ClusterID}, nil
}

func getHealth(*request) (any, error) {
	return map[string]string{"status": "healthy", "message": "Worker has completed startup and is ready to handle requests."}, nil
}
