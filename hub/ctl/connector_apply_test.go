package ctl

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/entrepot-hub/entrepot/connectors/all"
)

// TestConnectorApply shows what is different, sends what the file says with its
// references and secrets as they are, and prints no secret.
func TestConnectorApply(t *testing.T) {
	var sent []string
	asked := 0
	site := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		if r.Method == http.MethodGet {
			asked++
			fmt.Fprint(w, `{"a":{"info":{"config":{"name":"a","connector.class":"postgres-sink","topic":"t","sink.dsn":"***","sink.table":"old"}}}}`)
			return
		}
		sent = append(sent, r.Method+" "+r.URL.Path+" "+string(b))
		w.WriteHeader(http.StatusNoContent)
	}))
	defer site.Close()
	file := filepath.Join(t.TempDir(), "jobs.yaml")
	if err := os.WriteFile(file, []byte(`connectors:
  - {name: a, topic: t, sink: {type: postgres, dsn: "postgres://u:hunter2-ctl@h/d", table: new}}
  - {name: b, topic: t, source: {type: file, path: "${env:IN}"}}
`), 0o600); err != nil {
		t.Fatal(err)
	}
	run := func(args ...string) (int, string) {
		var out bytes.Buffer
		status := Main(t.Context(), append([]string{"connector"}, append(args, "--connect", site.URL)...), nil, &out, &out, Deps{Registry: all.Builtin()})
		return status, out.String()
	}
	const want = "a: change\n  - sink.table: old\n  + sink.table: new\nb: create\n  + connector.class: file-source\n  + source.path: ${env:IN}\n  + topic: t\n"
	if status, out := run("apply", "-f", file, "--dry-run"); status != Done || out != want || len(sent) > 0 {
		t.Errorf("%d %q, sent %q", status, out, sent)
	}
	if asked != 1 {
		t.Errorf("the site was asked %d times for what it has, want once", asked)
	}
	status, out := run("apply", "-f", file, "--json")
	if status != Done || strings.Contains(out, "hunter2") {
		t.Errorf("%d %s", status, out)
	}
	if len(sent) != 2 || !strings.HasPrefix(sent[0], "PUT /connectors/a/config ") || !strings.Contains(sent[0], "hunter2-ctl") || !strings.Contains(sent[1], "${env:IN}") {
		t.Errorf("sent %q", sent)
	}
	if status, out := run("delete", "a"); status != Done || out != "connector a is deleted\n" || !strings.HasPrefix(sent[2], "DELETE /connectors/a ") {
		t.Errorf("%d %q %q", status, out, sent)
	}
}
