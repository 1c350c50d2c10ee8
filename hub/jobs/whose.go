package jobs

import (
	"net/http"
	"strings"
)

// runs is the node that runs the connector that a path names between prefix and
// a slash, or 0.
func (j *Jobs) runs(path, prefix string) int32 {
	rest, ok := strings.CutPrefix(path, prefix)
	name, _, deeper := strings.Cut(rest, "/")
	if !ok || name == "" || !deeper || !j.there.Load() {
		return 0
	}
	s := j.parts.Catalog.State()
	return j.parts.Placing.Divided(s)[name].At(s, name)[0] // who has the first task speaks for all
}

// WhoseConnect is who answers a request of Kafka Connect's API: what the
// catalog keeps every node does, what concerns a connector at work the node
// that runs it.
func (j *Jobs) WhoseConnect(r *http.Request) int32 {
	if strings.HasSuffix(r.URL.Path, "/config") {
		return 0
	}
	return j.runs(r.URL.Path, "/connectors/")
}

// WhoseAdmin is who answers a request of the admin API.
func (j *Jobs) WhoseAdmin(r *http.Request) int32 { return j.runs(r.URL.Path+"/", "/v1/jobs/") }
