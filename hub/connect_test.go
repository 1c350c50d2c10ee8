package hub

import (
	"bytes"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/entrepot-hub/entrepot/connectors/all"
	"github.com/entrepot-hub/entrepot/connectors/strict"
)

// asks makes one request of a hub's REST API for connectors.
func asks(t *testing.T, h *Hub, method, path, body string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, "http://"+h.Connect()+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	return answered(t, req)
}

func answered(t *testing.T, req *http.Request) (int, string) {
	t.Helper()
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, strings.TrimSpace(string(text))
}

// expect fails unless the answer has the status, and the text in it.
func expect(t *testing.T, h *Hub, method, path, body string, status int, want string) string {
	t.Helper()
	got, text := asks(t, h, method, path, body)
	if got != status || !strings.Contains(text, want) {
		t.Errorf("%s %s %s: %d %s\nwant %d %s", method, path, body, got, text, status, want)
	}
	return text
}

// untilState waits for a state of a connector.
func untilState(t *testing.T, h *Hub, name, state string) {
	t.Helper()
	until(t, func() bool {
		_, text := asks(t, h, http.MethodGet, "/connectors/"+name+"/status", "")
		return strings.Contains(text, `"connector":{"state":"`+state+`"`)
	})
}

// lockedBuffer takes a log that several goroutines write.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// TestConnectorsOverREST makes a source and a sink through the API, has a file
// pass through both, and finds them and what was wanted of them after a restart.
func TestConnectorsOverREST(t *testing.T) {
	c := config(t, "solo")
	dir := t.TempDir()
	in, lake := filepath.Join(dir, "in.txt"), filepath.Join(dir, "lake")
	if err := os.WriteFile(in, []byte("{\"a\":1}\n{\"a\":2}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	deps := Deps{Registry: all.Builtin(), References: strict.FromOS()}
	h, stop := start(t, c, deps)
	source := `{"connector.class":"file","tasks.max":"1","source.path":"` + in + `","topic":"lines"}`
	expect(t, h, "GET", "/connectors", "", 200, "[]")
	expect(t, h, "POST", "/connectors", `{"name":"in","config":`+source+`}`, 201, `"tasks":[`)
	expect(t, h, "POST", "/connectors/", `{"name":"in","config":`+source+`}`, 409, "already exists")
	untilState(t, h, "in", "RUNNING")
	expect(t, h, "PUT", "/connectors/out/config", `{"connector.class":"files-sink","topics":"lines","sink.url":"file://`+lake+`","sink.format":"ndjson","sink.roll.every":"100ms","transforms":"[{\"parse\":{\"format\":\"json\"}}]"}`, 201, `"type":"sink"`)
	untilState(t, h, "out", "RUNNING")
	read := func() string {
		text := ""
		_ = filepath.Walk(lake, func(path string, info os.FileInfo, err error) error {
			if b, err := os.ReadFile(path); err == nil && strings.HasSuffix(path, ".ndjson") {
				text += string(b)
			}
			return nil
		})
		return text
	}
	until(t, func() bool { return strings.Count(read(), "\n") == 2 })
	expect(t, h, "PUT", "/connectors/in/pause", "", 202, "")
	untilState(t, h, "in", "PAUSED")
	expect(t, h, "PUT", "/connectors/out/stop", "", 204, "")
	untilState(t, h, "out", "STOPPED")
	stop()
	h, stop = start(t, c, deps)
	untilState(t, h, "in", "PAUSED")
	untilState(t, h, "out", "STOPPED")
	expect(t, h, "GET", "/connectors/in/config", "", 200, in)
	expect(t, h, "GET", "/connectors/out/offsets", "", 200, `{"partition":{"kafka_partition":0,"kafka_topic":"lines"},"offset":{"kafka_offset":`)
	expect(t, h, "GET", "/connectors/in/offsets", "", 200, `"partition":{"split":"`)
	expect(t, h, "DELETE", "/connectors/in/offsets", "", 400, "must be in the STOPPED state")
	expect(t, h, "PATCH", "/connectors/out/offsets", `{"offsets":[{"partition":{"kafka_topic":"lines","kafka_partition":0},"offset":{"kafka_offset":1}}]}`, 200, "altered successfully")
	expect(t, h, "GET", "/connectors/out/offsets", "", 200, `"kafka_offset":1`)
	expect(t, h, "DELETE", "/connectors/out/offsets", "", 200, "reset successfully")
	expect(t, h, "GET", "/connectors/out/offsets", "", 200, `{"offsets":[]}`)
	expect(t, h, "PUT", "/connectors/in/resume", "", 202, "")
	untilState(t, h, "in", "RUNNING")
	expect(t, h, "DELETE", "/connectors/in", "", 204, "")
	expect(t, h, "GET", "/connectors/in/status", "", 404, "No status found for connector in")
	for _, path := range []string{"", "/config", "/tasks", "/offsets"} {
		expect(t, h, "GET", "/connectors/in"+path, "", 404, "Connector in not found")
	}
	expect(t, h, "POST", "/connectors", "[]", 400, "at byte 1, the whole is of type array and has to be an object")
	stop()
	h, _ = start(t, c, deps)
	expect(t, h, "GET", "/connectors", "", 200, `["out"]`)
}

// TestConnectorsOfFiles: a connector of a jobs file is shown and can be paused,
// and neither changed nor deleted.
func TestConnectorsOfFiles(t *testing.T) {
	c := config(t, "solo")
	in := filepath.Join(t.TempDir(), "in.txt")
	if err := os.WriteFile(in, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	h, _ := start(t, c, Deps{Registry: all.Builtin(), JobsText: map[string][]byte{"jobs.yaml": []byte(
		"topics: [{name: lines}]\nconnectors: [{name: log, topic: lines, source: {type: file, path: " + in + "}, transforms: [{filter: 'true'}]}]")}})
	untilState(t, h, "log", "RUNNING")
	config := expect(t, h, "GET", "/connectors/log/config", "", 200, `"connector.class":"file-source"`)
	expect(t, h, "PUT", "/connectors/log/config", config, 409, "is in jobs.yaml")
	expect(t, h, "POST", "/connectors", `{"name":"log","config":`+config+`}`, 409, "already exists")
	expect(t, h, "DELETE", "/connectors/log", "", 409, "is in jobs.yaml")
	expect(t, h, "PUT", "/connectors/log/pause", "", 202, "")
	untilState(t, h, "log", "PAUSED")
}

// TestConnectAsksForLogins: with listeners.connect.login only the users of the
// site get an answer, and those who fail are counted.
func TestConnectAsksForLogins(t *testing.T) {
	t.Setenv("HUB_TEST_PASSWORD", "secret")
	c := parsed(t, config(t, "solo"), `
listeners: {connect: {addr: "127.0.0.1:0", login: true}}
security: {users: {alice: "${env:HUB_TEST_PASSWORD}"}}
`)
	h, _ := start(t, c, Deps{Registry: all.Builtin()})
	get := func(base, path, user, password string) (int, string) {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+base+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		if user != "" {
			req.SetBasicAuth(user, password)
		}
		return answered(t, req)
	}
	for _, path := range []string{"/", "/connectors", "/connector-plugins", "/health", "/nothing"} {
		if status, text := get(h.Connect(), path, "", ""); status != 401 || text != `{"error_code":401,"message":"HTTP 401 Unauthorized"}` {
			t.Errorf("GET %s without a login: %d %s", path, status, text)
		}
	}
	if status, _ := get(h.Connect(), "/connectors", "alice", "Secret"); status != 401 {
		t.Errorf("with a wrong password: %d", status)
	}
	if status, text := get(h.Connect(), "/connectors", "alice", "secret"); status != 200 || text != "[]" {
		t.Errorf("with the right password: %d %s", status, text)
	}
	if _, text := get(h.Admin(), "/metrics", "", ""); !strings.Contains(text, "\nentrepot_connect_failed_logins_total 1\n") {
		t.Errorf("metrics without the one failed login: %s", text)
	}
}

// TestNoSecretIsShown gives a secret to every connector that has one, in a
// field of its own and misspelt, and looks for it in every answer and the log.
func TestNoSecretIsShown(t *testing.T) {
	const secret = "hunter2-rest"
	var log lockedBuffer
	c := config(t, "solo")
	deps := Deps{Registry: all.Builtin(), Logger: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))}
	h, stop := start(t, c, deps)
	var answers strings.Builder
	ask := func(method, path string, body any) {
		text, err := json.Marshal(body)
		if err != nil {
			t.Fatal(err)
		}
		if _, isText := body.(string); isText {
			text = []byte(body.(string))
		}
		_, answer := asks(t, h, method, path, string(text))
		answers.WriteString(answer + "\n")
	}
	name := "pg"
	good := map[string]string{"connector.class": "postgres-sink", "topic": "t", "sink.dsn": "postgres://u:" + secret + "@127.0.0.1:1/db?connect_timeout=1", "sink.table": "t"}
	ask("POST", "/connectors", map[string]any{"name": name, "config": good})
	if !strings.Contains(answers.String(), `"sink.dsn":"***"`) {
		t.Fatalf("not made: %s", answers.String())
	}
	for _, class := range []string{"postgres-sink", "postgres-source", "postgres-cdc-source"} {
		kind := class[strings.LastIndexByte(class, '-')+1:]
		for _, key := range []string{"dsn", "dns", "dsn.x"} {
			config := map[string]string{"connector.class": class, "topic": "t", kind + "." + key: secret}
			ask("POST", "/connectors", map[string]any{"name": "x", "config": config})
			ask("PUT", "/connector-plugins/"+class+"/config/validate", config)
			ask("POST", "/connectors", `{"name":"x","config":{"`+kind+`.dsn":["`+secret+`"]}}`)
			ask("POST", "/connectors", `{"name":"x","config":{"`+kind+`.dsn":`+secret+`}}`)
		}
	}
	until(t, func() bool { return h.Jobs()[0].LastError != "" }) // nobody answers there
	for _, path := range []string{"/connectors?expand=info&expand=status", "/connectors/pg", "/connectors/pg/config", "/connectors/pg/tasks", "/connectors/pg/status"} {
		ask("GET", path, "")
	}
	ask("PATCH", "/connectors/pg/config", map[string]any{"sink.table": "u"})
	ask("PUT", "/connectors/pg/config", map[string]string{"connector.class": "postgres-sink", "topic": "t", "sink.dsn": "***", "sink.table": "v"})
	if got := h.meta.State().Connectors()["pg"]; got["sink.dsn"] != good["sink.dsn"] || got["sink.table"] != "v" {
		t.Errorf("a secret that was sent back hidden: %q", got)
	}
	for _, path := range []string{"/v1/jobs", "/v1/status", "/metrics"} {
		resp, err := http.Get("http://" + h.Admin() + path)
		if err != nil {
			t.Fatal(err)
		}
		b, _ := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		answers.Write(b)
	}
	stop()
	for what, text := range map[string]string{"answers": answers.String(), "the log": log.String()} {
		if i := strings.Index(text, "hunter2"); i >= 0 {
			t.Errorf("%s: a secret: %s", what, text[max(0, i-200):min(len(text), i+100)])
		}
	}
}

// TestBrokenConnector: one that cannot be read any more is shown as failed with
// the reason, the others run, and it comes back with what it refers to.
func TestBrokenConnector(t *testing.T) {
	c := config(t, "solo")
	dir := t.TempDir()
	in, path := filepath.Join(dir, "in.txt"), filepath.Join(dir, "path")
	for _, f := range [][2]string{{in, ""}, {path, in}} {
		if err := os.WriteFile(f[0], []byte(f[1]), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	deps := Deps{Registry: all.Builtin(), References: strict.FromOS()}
	h, stop := start(t, c, deps)
	expect(t, h, "PUT", "/connectors/a/config", `{"connector.class":"file","source.path":"${file:`+path+`}","topic":"lines"}`, 201, "${file:")
	stop()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	h, _ = start(t, c, deps)
	expect(t, h, "GET", "/connectors/a/status", "", 200, "cannot read the referenced file")
	untilState(t, h, "a", "FAILED")
	if err := os.WriteFile(path, []byte(in), 0o600); err != nil {
		t.Fatal(err)
	}
	expect(t, h, "POST", "/connectors/a/restart", "", 204, "")
	untilState(t, h, "a", "RUNNING")
}
