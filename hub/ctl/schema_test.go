package ctl

import (
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestSchemaCommands: what each command asks of the registry, and what it makes
// of the answer.
func TestSchemaCommands(t *testing.T) {
	const click = `{"subject":"a/b","version":2,"id":7,"references":[{"name":"n.M","subject":"m","version":1}],"schema":"\"int\""}`
	answers := map[string]string{
		"GET /schemas?deleted=false&latestOnly=true":                "[" + click + `,{"subject":"p","version":1,"id":8,"schemaType":"PROTOBUF","schema":"message M {}","deleted":true}]`,
		"GET /schemas?deleted=true&latestOnly=true&subjectPrefix=x": "[]",
		"GET /subjects/a%2Fb/versions/2":                            click,
		`POST /subjects/a%2Fb/versions {"references":[{"name":"n.M","subject":"m:x","version":1}],"schema":"\"int\"","schemaType":"AVRO"}`: `{"id":7}`,
		`POST /compatibility/subjects/good/versions?verbose=true {"references":[],"schema":"\"int\"","schemaType":"AVRO"}`:                 `{"is_compatible":true}`,
		`POST /compatibility/subjects/bad/versions?verbose=true {"references":[],"schema":"\"int\"","schemaType":"JSON"}`:                  `{"is_compatible":false,"messages":["because"]}`,
		"DELETE /subjects/a%2Fb?permanent=false":           "[1,2]",
		"DELETE /subjects/a%2Fb/versions/2?permanent=true": "2",
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		body, _ := io.ReadAll(req.Body)
		asked := strings.TrimSpace(req.Method + " " + req.URL.RequestURI() + " " + string(body))
		if said, ok := answers[asked]; ok {
			_, _ = io.WriteString(w, said)
			return
		}
		w.WriteHeader(http.StatusNotFound)
		fmt.Fprintf(w, `{"error_code":40401,"message":"not asked for: %s"}`, strings.ReplaceAll(asked, `"`, "'"))
	}))
	defer server.Close()
	file := filepath.Join(t.TempDir(), "click.avsc")
	if err := os.WriteFile(file, []byte(`"int"`), 0o600); err != nil {
		t.Fatal(err)
	}
	deps := Deps{Getenv: func(name string) (string, bool) { return server.URL, name == "ENTREPOT_REGISTRY" }}
	for _, c := range []struct {
		args   string
		status int
		want   string
	}{
		{"schema list", Done, "SUBJECT  VERSION  ID  TYPE      STATE\na/b            2   7  AVRO      live\np              1   8  PROTOBUF  deleted\n"},
		{"schema list x --deleted", Done, "no schema is registered\n"},
		{"schema show a/b --version 2", Done, "subject:  a/b\nversion:  2\nid:       7\ntype:     AVRO\nrefers to n.M: m version 1\n\n\"int\"\n"},
		{"schema register a/b " + file + " --reference n.M=m:x:1", Done, "registered under a/b with id 7\n"},
		{"schema register a/b " + file + " --reference n.M=m:x:1 --json", Done, "{\n  \"id\": 7\n}\n"},
		{"schema check good " + file, Done, "compatible with good\n"},
		{"schema check bad " + file + " --type json", Failed, "because\nentrepot: the schema is not compatible with bad\n"},
		{"schema delete a/b", Done, "deleted version 1, 2 of a/b\n"},
		{"schema delete a/b --version 2 --permanent", Done, "deleted version 2 of a/b\n"},
		{"schema show nobody", Failed, "entrepot: not asked for: GET /subjects/nobody/versions/latest\n"},
		{"schema register s nowhere.avsc", Usage, "nowhere.avsc"},
		{"schema register s /dev/null", Usage, "give --type avro, json or protobuf"},
		{"schema register s " + file + " --reference x", Usage, "want NAME=SUBJECT:VERSION"},
		{"schema register s " + file + " --reference x=y:z", Usage, "is no number"},
		{"schema list --registry ftp://x", Usage, "--registry ftp://x: want a URL such as http://127.0.0.1:8081"},
	} {
		r := run(t, deps, strings.Split(c.args, " ")...)
		if r.status != c.status || !strings.Contains(r.stdout+r.stderr, c.want) {
			t.Errorf("%s: status %d, want %d\n%s%s\nwant %s", c.args, r.status, c.status, r.stdout, r.stderr, c.want)
		}
	}
}

// TestSchemaLogin: the commands speak TLS and log in as a user.
func TestSchemaLogin(t *testing.T) {
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		user, password, _ := req.BasicAuth()
		if user != "alice" || password != "secret" {
			w.WriteHeader(http.StatusUnauthorized)
			_, _ = io.WriteString(w, `{"error_code":401,"message":"Unauthorized"}`)
			return
		}
		_, _ = io.WriteString(w, "[]")
	}))
	defer server.Close()
	dir := t.TempDir()
	files := map[string]string{"ca.pem": string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})), "right": "secret\n", "wrong": "geheim\n"}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	at := "schema list --registry " + server.URL + " --tls-ca " + filepath.Join(dir, "ca.pem")
	for _, c := range []struct {
		args   string
		status int
		want   string
	}{
		{at + " --username alice --password-file " + filepath.Join(dir, "right"), Done, "no schema is registered\n"},
		{at + " --username alice --password-file " + filepath.Join(dir, "wrong"), Failed, "Unauthorized"},
		{at, Failed, "Unauthorized"},
		{at + " --username alice", Usage, "--password-file is missing"},
		{"schema list --registry " + server.URL, Failed, "certificate"},
	} {
		r := run(t, Deps{}, strings.Split(c.args, " ")...)
		if r.status != c.status || !strings.Contains(r.stdout+r.stderr, c.want) {
			t.Errorf("%s: status %d, want %d\n%s%s\nwant %s", c.args, r.status, c.status, r.stdout, r.stderr, c.want)
		}
	}
}
