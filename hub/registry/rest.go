package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/entrepot-hub/entrepot/hub/registry/schema"
)

// mediaType is what every answer says it is.
const mediaType = "application/vnd.schemaregistry.v1+json"

// maxBody bounds a request: a schema with every character escaped, and its
// references.
const maxBody = 2*schema.MaxBytes + 256<<10

// answerTime bounds how long a request waits for the topic to be read.
const answerTime = 20 * time.Second

// handler answers one request with a value to be written as JSON, with text
// as it is (rawText), or with an error.
type handler func(r *request) (any, error)

// rawText is an answer that is not JSON of ours: a schema as such.
type rawText string

// request is an HTTP request with what its path and query say.
type request struct {
	*http.Request
	reg *Registry
}

// Handler is the API without its listener.
func (r *Registry) Handler() http.Handler {
	mux := http.NewServeMux()
	for pattern, h := range r.routes() {
		mux.Handle(pattern, r.handle(h))
	}
	mux.Handle("/", r.handle(func(req *request) (any, error) {
		return nil, fail(http.StatusNotFound, "HTTP 404 Not Found: %s %.200s", req.Method, req.URL.Path)
	}))
	return r.guard(inContext(mux))
}

// routes is the one table of what is answered. A subject may hold any
// character, slashes as %2F.
func (r *Registry) routes() map[string]handler {
	return map[string]handler{
		"GET /{$}":                                                  func(*request) (any, error) { return struct{}{}, nil },
		"GET /subjects":                                             listSubjects,
		"POST /subjects/{subject}":                                  lookupSchema,
		"DELETE /subjects/{subject}":                                deleteSubject,
		"GET /subjects/{subject}/versions":                          listVersions,
		"POST /subjects/{subject}/versions":                         registerSchema,
		"GET /subjects/{subject}/versions/{version}":                getVersion,
		"GET /subjects/{subject}/versions/{version}/schema":         getVersionSchema,
		"GET /subjects/{subject}/versions/{version}/referencedby":   getReferencedBy,
		"DELETE /subjects/{subject}/versions/{version}":             deleteVersion,
		"GET /schemas":                                              listSchemas,
		"GET /schemas/types":                                        func(*request) (any, error) { return []schema.Type{schema.JSON, schema.Protobuf, schema.Avro}, nil },
		"GET /schemas/ids/{id}":                                     getByID,
		"GET /schemas/ids/{id}/schema":                              getSchemaByID,
		"GET /schemas/ids/{id}/subjects":                            getSubjectsByID,
		"GET /schemas/ids/{id}/versions":                            getVersionsByID,
		"POST /compatibility/subjects/{subject}/versions":           checkAll,
		"POST /compatibility/subjects/{subject}/versions/{version}": checkOne,
		"GET /config":                                               getConfig,
		"PUT /config":                                               putConfig,
		"DELETE /config":                                            deleteConfig,
		"GET /config/{subject}":                                     getConfig,
		"PUT /config/{subject}":                                     putConfig,
		"DELETE /config/{subject}":                                  deleteConfig,
		"GET /mode":                                                 getMode,
		"PUT /mode":                                                 putMode,
		"DELETE /mode":                                              deleteMode,
		"GET /mode/{subject}":                                       getMode,
		"PUT /mode/{subject}":                                       putMode,
		"DELETE /mode/{subject}":                                    deleteMode,
		"GET /contexts":                                             listContexts,
		"GET /v1/metadata/id":                                       getClusterID,
		"GET /v1/metadata/version":                                  getServerVersion,
	}
}

// inContext takes /contexts/NAME before any path: subjects below it are of that
// context.
func inContext(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		rest, ok := strings.CutPrefix(req.URL.EscapedPath(), "/contexts/")
		name, path, more := strings.Cut(rest, "/")
		if !ok || !more || !strings.HasPrefix(name, ".") {
			next.ServeHTTP(w, req)
			return
		}
		inner := req.Clone(context.WithValue(req.Context(), contextKey{}, name))
		inner.URL.RawPath = "/" + path
		if plain, err := req.URL.Parse("/" + path); err == nil {
			inner.URL.Path = plain.Path
		}
		next.ServeHTTP(w, inner)
	})
}

type contextKey struct{}

// context is the one that the path or the query names.
func (r *request) context() string {
	if name, ok := r.Context().Value(contextKey{}).(string); ok {
		return name
	}
	if s := r.URL.Query().Get("subject"); s != "" {
		return contextOf(s)
	}
	return defaultContext
}

// subject is the one of the path, with its context.
func (r *request) subject() string {
	s := r.PathValue("subject")
	if context := r.context(); s != "" && context != defaultContext && contextOf(s) == defaultContext && r.Context().Value(contextKey{}) != nil {
		return ":" + context + ":" + s
	}
	return s
}

func (r *Registry) handle(h handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		ctx, cancel := context.WithTimeout(req.Context(), answerTime)
		defer cancel()
		v, err := h(&request{req.WithContext(ctx), r})
		w.Header().Set("Content-Type", mediaType)
		if err != nil {
			e := answer(err)
			if e.Status() >= 500 {
				r.logger.Error("a request failed", "method", req.Method, "path", req.URL.Path, "error", err)
			}
			w.WriteHeader(e.Status())
			v = struct {
				Code    int    `json:"error_code"`
				Message string `json:"message"`
			}{e.Code, strings.ToValidUTF8(e.Message, "\uFFFD")}
		}
		if text, ok := v.(rawText); ok {
			_, _ = io.WriteString(w, string(text))
			return
		}
		_, _ = w.Write(encode(v))
	})
}

// body reads the request's JSON.
func (r *request) body(into any) error {
	if kind := r.Header.Get("Content-Type"); kind != "" {
		media, _, err := mime.ParseMediaType(kind)
		if err != nil || !strings.HasPrefix(media, "application/") || media == "application/x-www-form-urlencoded" {
			return fail(http.StatusUnsupportedMediaType, "HTTP 415 Unsupported Media Type: want Content-Type: %s", mediaType)
		}
	}
	raw, err := io.ReadAll(http.MaxBytesReader(nil, r.Body, maxBody))
	if _, tooBig := errors.AsType[*http.MaxBytesError](err); tooBig {
		return fail(codeTooLarge, "the request has more than %d bytes", maxBody)
	}
	if err != nil {
		return fail(http.StatusBadRequest, "the request was cut off: %v", err)
	}
	if !utf8.Valid(raw) {
		return fail(http.StatusBadRequest, "the request is not UTF-8")
	}
	if err := json.Unmarshal(raw, into); err != nil {
		return fail(http.StatusBadRequest, "the request is no JSON of the right form: %v", err)
	}
	return nil
}

// flag is a query parameter that is true or false.
func (r *request) flag(name string) bool {
	v, _ := strconv.ParseBool(r.URL.Query().Get(name))
	return v
}

// version is the one of the path; 0 stands for the latest.
func (r *request) version() (int, error) {
	text := r.PathValue("version")
	if text == "latest" || text == "-1" {
		return 0, nil
	}
	n, err := strconv.ParseInt(text, 10, 32)
	if err != nil || n < 1 {
		return 0, fail(codeInvalidVersion, "The specified version '%.100s' is not a valid version id. Allowed values are between [1, 2^31-1] and the string \"latest\"", text)
	}
	return int(n), nil
}

func (r *request) id() (int, error) {
	n, err := strconv.ParseInt(r.PathValue("id"), 10, 32)
	if err != nil || n < 0 {
		return 0, fail(http.StatusNotFound, "HTTP 404 Not Found: %.100s is no schema id", r.PathValue("id"))
	}
	return int(n), nil
}

// page cuts a list to the query's offset and limit.
func page[T any](r *request, all []T) []T {
	number := func(name string, otherwise int) int {
		if n, err := strconv.Atoi(r.URL.Query().Get(name)); err == nil && n >= 0 {
			return n
		}
		return otherwise
	}
	all = all[min(number("offset", 0), len(all)):]
	all = all[:min(number("limit", len(all)), len(all))]
	return append([]T{}, all...) // never null in JSON
}

// look answers from the state.
func look[T any](r *request, fn func(*state) (T, error)) (any, error) {
	var out T
	err := r.reg.read(r.Context(), func(s *state) (err error) {
		out, err = fn(s)
		return err
	})
	return out, err
}

func getClusterID(r *request) (any, error) {
	return map[string]any{"id": "", "scope": map[string]any{"path": []string{}, "clusters": map[string]string{
		"kafka-cluster": r.reg.cfg.ClusterID, "schema-registry-cluster": "schema-registry",
	}}}, nil
}

func getServerVersion(r *request) (any, error) {
	return map[string]string{"version": fmt.Sprintf("entrepot-%s", r.reg.cfg.Version), "commitId": ""}, nil
}
