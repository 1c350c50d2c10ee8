package connect

import (
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// The forms of Kafka Connect's answers.
type (
	info struct {
		Name   string            `json:"name"`
		Config map[string]string `json:"config"`
		Tasks  []taskID          `json:"tasks"`
		Type   string            `json:"type"`
	}
	taskID struct {
		Connector string `json:"connector"`
		Task      int    `json:"task"`
	}
	status struct {
		Name      string          `json:"name"`
		Connector connectorStatus `json:"connector"`
		Tasks     []taskStatus    `json:"tasks"`
		Type      string          `json:"type"`
	}
	connectorStatus struct {
		State   State  `json:"state"`
		Worker  string `json:"worker_id"`
		Trace   string `json:"trace,omitempty"`
		Version string `json:"version"`
	}
	taskStatus struct {
		ID      int    `json:"id"`
		State   State  `json:"state"`
		Worker  string `json:"worker_id"`
		Trace   string `json:"trace,omitempty"`
		Version string `json:"version"`
	}
)

// shown is a configuration as it may be seen.
func (a *API) shown(name string, flat map[string]string) map[string]string {
	out := Mask(a.cfg.Registry, flat)
	out[keyName] = name
	return out
}

// live are the tasks there are: a stopped connector has none.
func (c Connector) live() []Task {
	if c.State == Stopped {
		return nil
	}
	return c.Tasks
}

func (a *API) info(c Connector) info {
	out := info{Name: c.Name, Config: a.shown(c.Name, c.Config), Tasks: []taskID{}, Type: c.Kind}
	for i := range c.live() {
		out.Tasks = append(out.Tasks, taskID{c.Name, i})
	}
	return out
}

func (a *API) status(c Connector) status {
	out := status{
		Name: c.Name, Tasks: []taskStatus{}, Type: c.Kind,
		Connector: connectorStatus{c.State, a.cfg.Worker, c.trace(), a.cfg.Version},
	}
	for i, t := range c.live() {
		one := taskStatus{i, c.State, a.cfg.Worker, c.trace(), a.cfg.Version}
		if t.Trace != "" && c.State == Running {
			one.State, one.Trace = Restarting, t.Trace
		}
		out.Tasks = append(out.Tasks, one)
	}
	return out
}

// trace is what went wrong, while it is not over.
func (c Connector) trace() string {
	if c.State == Failed || c.State == Restarting || c.State == Unassigned {
		return c.Trace
	}
	return ""
}

func listConnectors(r *request) (any, error) {
	all := r.api.cfg.Site.Connectors()
	expand := r.URL.Query()["expand"]
	if len(expand) == 0 {
		names := []string{}
		for _, c := range all {
			names = append(names, c.Name)
		}
		return names, nil
	}
	out := map[string]map[string]any{}
	for _, c := range all {
		one := map[string]any{}
		if slices.Contains(expand, "status") {
			one["status"] = r.api.status(c)
		}
		if slices.Contains(expand, "info") {
			one["info"] = r.api.info(c)
		}
		out[c.Name] = one
	}
	return out, nil
}

func createConnector(r *request) (any, error) {
	var body struct {
		Name    string            `json:"name"`
		Config  map[string]string `json:"config"`
		Initial string            `json:"initial_state"`
	}
	if err := r.body(&body); err != nil {
		return nil, err
	}
	desired := strings.ToLower(body.Initial)
	if !slices.Contains([]string{"", "running", "paused", "stopped"}, desired) {
		return nil, fail(http.StatusBadRequest, "initial_state is %q, want RUNNING, PAUSED or STOPPED", short(body.Initial))
	}
	if body.Config == nil {
		return nil, fail(http.StatusBadRequest, "the request has no config")
	}
	name := body.Name
	if name == "" {
		name = body.Config[keyName]
	}
	return r.put(name, body.Config, desired, true)
}

func putConfig(r *request) (any, error) {
	var config map[string]string
	if err := r.body(&config); err != nil {
		return nil, err
	}
	return r.put(r.PathValue("name"), config, "", false)
}

// patchConfig changes some keys; null takes one away (KIP-477).
func patchConfig(r *request) (any, error) {
	var patch map[string]*string
	if err := r.body(&patch); err != nil {
		return nil, err
	}
	c, err := r.find()
	if err != nil {
		return nil, err
	}
	config := maps.Clone(c.Config)
	for key, value := range patch {
		if value == nil {
			delete(config, key)
			continue
		}
		config[key] = *value
	}
	return r.put(c.Name, config, "", false)
}

// put makes or changes a connector and answers with what it is then. Secrets
// that were only shown hidden stay what they are.
func (r *request) put(name string, config map[string]string, desired string, isNew bool) (any, error) {
	site, reg := r.api.cfg.Site, r.api.cfg.Registry
	if given, ok := config[keyName]; ok && given != name {
		return nil, fail(http.StatusBadRequest, "Connector name configuration (%s) doesn't match connector name in the URL (%s)", short(given), short(name))
	}
	if config[keyClass] == "" {
		return nil, fail(http.StatusBadRequest, "Connector config contains no connector type")
	}
	config = maps.Clone(config)
	delete(config, keyName)
	before := site.Connectors()
	i := slices.IndexFunc(before, func(c Connector) bool { return c.Name == name })
	if i >= 0 && isNew {
		return nil, fail(http.StatusConflict, "Connector %s already exists", short(name))
	}
	if i >= 0 {
		config = Restore(reg, config, before[i].Config)
	}
	if hidden := StillHidden(reg, config); len(hidden) > 0 {
		return nil, &Rejected{hidden}
	}
	if err := site.Put(r.Context(), name, config, desired, i < 0); err != nil {
		return nil, err
	}
	out := Connector{Name: name, Config: config}
	for _, c := range site.Connectors() {
		if c.Name == name {
			out = c
		}
	}
	if i >= 0 {
		return r.api.info(out), nil
	}
	scheme := "http"
	if r.TLS != nil {
		scheme = "https"
	}
	return reply{http.StatusCreated, r.api.info(out), scheme + "://" + r.Host + "/connectors/" + url.PathEscape(name)}, nil
}

func getConnector(r *request) (any, error) {
	c, err := r.find()
	if err != nil {
		return nil, err
	}
	return r.api.info(c), nil
}

func deleteConnector(r *request) (any, error) {
	if _, err := r.find(); err != nil {
		return nil, err
	}
	return reply{status: http.StatusNoContent}, r.api.cfg.Site.Delete(r.Context(), r.PathValue("name"))
}

func getConfig(r *request) (any, error) {
	c, err := r.find()
	if err != nil {
		return nil, err
	}
	return r.api.shown(c.Name, c.Config), nil
}

func getStatus(r *request) (any, error) {
	c, err := r.find()
	if err != nil {
		return nil, fail(http.StatusNotFound, "No status found for connector %s", short(r.PathValue("name")))
	}
	return r.api.status(c), nil
}

// act asks something of a connector.
func act(a Action, done int) handler {
	return func(r *request) (any, error) {
		if _, err := r.find(); err != nil {
			return nil, fail(http.StatusNotFound, "Unknown connector %s", short(r.PathValue("name")))
		}
		return reply{status: done}, r.api.cfg.Site.Act(r.Context(), r.PathValue("name"), a)
	}
}

// restart begins a new run. Tasks are always part of it; with onlyFailed it
// happens to a connector that has failed, or a task of which waits.
func restart(r *request) (any, error) {
	c, err := r.find()
	if err != nil {
		return nil, fail(http.StatusNotFound, "Unknown connector: %s", short(r.PathValue("name")))
	}
	failed := c.State == Failed || c.State == Restarting || slices.ContainsFunc(c.live(), func(t Task) bool { return t.Trace != "" })
	if failed || !r.flag("onlyFailed") {
		if err := r.api.cfg.Site.Act(r.Context(), c.Name, Restart); err != nil {
			return nil, err
		}
		if c.State == Running || c.State == Failed {
			c.State = Restarting
		}
	}
	if !r.flag("includeTasks") && !r.flag("onlyFailed") {
		return reply{status: http.StatusNoContent}, nil
	}
	return reply{status: http.StatusAccepted, body: r.api.status(c)}, nil
}

func getTopics(r *request) (any, error) {
	name := r.PathValue("name")
	topics := []string{}
	if c, err := r.find(); err == nil {
		topics = append(topics, c.Topics...)
	}
	return map[string]map[string][]string{name: {"topics": topics}}, nil
}

// resetTopics has nothing to forget: a connector's topics are in its configuration.
func resetTopics(*request) (any, error) { return reply{status: http.StatusAccepted}, nil }
