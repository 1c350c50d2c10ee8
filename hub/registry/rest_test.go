package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// broker is a reference broker that is not ours.
func broker(t testing.TB) []string {
	t.Helper()
	c, err := kfake.NewCluster(kfake.NumBrokers(1))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c.ListenAddrs()
}

// open runs a registry over a broker until the test ends.
func open(t testing.TB, seeds []string) *Registry {
	t.Helper()
	r := New(Config{Seeds: seeds, ClusterID: "cluster", Version: "1.2.3"})
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
	return r
}

// ask makes one request, as "METHOD PATH [BODY]", and returns status and body.
func ask(t testing.TB, h http.Handler, line string) string {
	t.Helper()
	parts := strings.SplitN(line, " ", 3)
	var body io.Reader = http.NoBody
	if len(parts) == 3 {
		body = strings.NewReader(parts[2])
	}
	req, err := http.NewRequest(parts[0], "http://registry"+parts[1], body)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", mediaType)
	w := httptest.NewRecorder()
	h.ServeHTTP(w, req)
	if kind := w.Header().Get("Content-Type"); kind != mediaType {
		t.Errorf("%s: Content-Type %q", line, kind)
	}
	return fmt.Sprintf("%d %s", w.Code, w.Body)
}

// TestAPI goes through every path in order; an answer is compared as text.
func TestAPI(t *testing.T) {
	h := open(t, broker(t)).Handler()
	for i, c := range []struct{ ask, want string }{
		{"GET /", `200 {}`},
		{"GET /subjects", `200 []`},
		{"GET /schemas/types", `200 ["JSON","PROTOBUF","AVRO"]`},
		{"GET /config", `200 {"compatibilityLevel":"BACKWARD"}`},
		{"GET /mode", `200 {"mode":"READWRITE"}`},
		{"GET /contexts", `200 ["."]`},
		{"GET /v1/metadata/id", `200 {"id":"","scope":{"clusters":{"kafka-cluster":"cluster","schema-registry-cluster":"schema-registry"},"path":[]}}`},
		{"GET /v1/metadata/version", `200 {"commitId":"","version":"entrepot-1.2.3"}`},
		{"GET /subjects/s/versions", `404 {"error_code":40401,"message":"Subject 's' not found."}`},
		{`POST /subjects/s/versions {"schema":"{\"type\": \"int\"}"}`, `200 {"id":1}`},
		{`POST /subjects/s/versions {"schema":"\"int\"","schemaType":"AVRO","references":[],"metadata":null}`, `200 {"id":1}`},
		{`POST /subjects/s/versions {"schema":"\"long\""}`, `200 {"id":2}`},
		{`POST /subjects/s/versions {"schema":"\"string\""}`, `409 {"error_code":409,`},
		{"GET /subjects/s/versions", `200 [1,2]`},
		{"GET /subjects/s/versions?offset=1&limit=5", `200 [2]`},
		{"GET /subjects/s/versions/1", `200 {"subject":"s","version":1,"id":1,"schema":"\"int\""}`},
		{"GET /subjects/s/versions/latest/schema", `200 "long"`},
		{"GET /subjects/s/versions/-1", `200 {"subject":"s","version":2,`},
		{"GET /subjects/s/versions/0", `422 {"error_code":42202,`},
		{"GET /subjects/s/versions/x", `422 {"error_code":42202,`},
		{"GET /subjects/s/versions/99999999999", `422 {"error_code":42202,`},
		{"GET /subjects/s/versions/7", `404 {"error_code":40402,`},
		{`POST /subjects/s {"schema":"\"int\""}`, `200 {"subject":"s","version":1,"id":1,"schema":"\"int\""}`},
		{`POST /subjects/s {"schema":"\"bytes\""}`, `404 {"error_code":40403,"message":"Schema not found"}`},
		{`POST /subjects/no {"schema":"\"int\""}`, `404 {"error_code":40401,`},
		{"GET /schemas/ids/1", `200 {"schema":"\"int\""}`},
		{"GET /schemas/ids/1?fetchMaxId=true", `200 {"maxId":2,"schema":"\"int\""}`},
		{"GET /schemas/ids/1/schema", `200 "int"`},
		{"GET /schemas/ids/1/subjects", `200 ["s"]`},
		{"GET /schemas/ids/1/versions", `200 [{"subject":"s","version":1}]`},
		{"GET /schemas/ids/9", `404 {"error_code":40403,`},
		{"GET /schemas/ids/x", `404 {"error_code":404,`},
		{`POST /compatibility/subjects/s/versions/latest?verbose=true {"schema":"\"string\""}`, `200 {"is_compatible":false,"messages":["the new schema`},
		{`POST /compatibility/subjects/s/versions/1 {"schema":"\"float\""}`, `200 {"is_compatible":true}`},
		{`POST /compatibility/subjects/s/versions {"schema":"\"double\""}`, `200 {"is_compatible":true}`},
		{`POST /compatibility/subjects/no/versions/latest {"schema":"\"double\""}`, `200 {"is_compatible":true}`},
		{`POST /compatibility/subjects/s/versions/8 {"schema":"\"double\""}`, `404 {"error_code":40402,`},
		{`POST /subjects/a%2F..%2F%2Fb%20%25/versions {"schema":"\"int\""}`, `200 {"id":1}`},
		{"GET /subjects?subjectPrefix=a", `200 ["a/../\/b %"]`},
		{"GET /subjects/a%2F..%2F%2Fb%20%25/versions/1", `200 {"subject":"a/../\/b %","version":1,`},
		{`POST /subjects/%2e%2e/versions {"schema":"\"int\""}`, `200 {"id":1}`},
		{"DELETE /subjects/%2e%2e", `200 [1]`},
		{`POST /subjects/money/versions {"schemaType":"PROTOBUF","schema":"syntax = \"proto3\"; message M { int64 units = 1; }"}`, `200 {"id":3}`},
		{`POST /subjects/sale/versions {"schemaType":"PROTOBUF","schema":"syntax = \"proto3\"; import \"money.proto\"; message S { M m = 1; }","references":[{"name":"money.proto","subject":"money","version":-1}]}`, `200 {"id":4}`},
		{"GET /subjects/money/versions/1/referencedby", `200 [4]`},
		{"DELETE /subjects/money", `422 {"error_code":42206,`},
		{"GET /schemas/ids/3?format=serialized", `200 {"schemaType":"PROTOBUF","schema":"IhIKAU0S`},
		{"GET /schemas?subjectPrefix=s&latestOnly=true", `200 [{"subject":"s","version":2,"id":2,"schema":"\"long\""},{"subject":"sale",`},
		{`PUT /config/s {"compatibility":"full_transitive"}`, `200 {"compatibility":"FULL_TRANSITIVE"}`},
		{"GET /config/s", `200 {"compatibilityLevel":"FULL_TRANSITIVE"}`},
		{"GET /config/other", `404 {"error_code":40408,`},
		{"GET /config/other?defaultToGlobal=true", `200 {"compatibilityLevel":"BACKWARD"}`},
		{`PUT /config {"compatibility":"SOME"}`, `422 {"error_code":42203,`},
		{`PUT /config {"compatibility":"NONE","normalize":true}`, `200 {"compatibility":"NONE","normalize":true}`},
		{"DELETE /config/s", `200 {"compatibilityLevel":"FULL_TRANSITIVE"}`},
		{"DELETE /config/s", `404 {"error_code":40408,`},
		{"DELETE /config", `200 {"compatibilityLevel":"NONE","normalize":true}`},
		{`PUT /mode/s {"mode":"READONLY"}`, `200 {"mode":"READONLY"}`},
		{`POST /subjects/s/versions {"schema":"\"double\""}`, `422 {"error_code":42205,`},
		{`PUT /mode/s {"mode":"IMPORT"}`, `422 {"error_code":42205,`},
		{"DELETE /mode/s", `200 {"mode":"READONLY"}`},
		{"GET /mode/s", `404 {"error_code":40409,`},
		{`PUT /mode/i {"mode":"import"}`, `200 {"mode":"IMPORT"}`},
		{`POST /subjects/i/versions {"schema":"\"bytes\"","id":100,"version":5}`, `200 {"id":100}`},
		{"GET /subjects/i/versions", `200 [5]`},
		{"DELETE /subjects/s/versions/latest", `200 2`},
		{"DELETE /subjects/s/versions/2", `404 {"error_code":40406,`},
		{"DELETE /subjects/s/versions/1?permanent=true", `404 {"error_code":40407,`},
		{"DELETE /subjects/s/versions/2?permanent=true", `200 2`},
		{"DELETE /subjects/s?permanent=true", `404 {"error_code":40405,`},
		{"DELETE /subjects/s", `200 [1]`},
		{"GET /subjects?deletedOnly=true", `200 ["..","s"]`},
		{"GET /subjects/s/versions/1?deleted=true", `200 {"subject":"s","version":1,"id":1,"schema":"\"int\"","deleted":true}`},
		{`POST /contexts/.lab/subjects/s/versions {"schema":"\"string\""}`, `200 {"id":1}`},
		{"GET /contexts/.lab/schemas/ids/1", `200 {"schema":"\"string\""}`},
		{"GET /contexts/.lab/subjects", `200 [":.lab:s"]`},
		{"GET /schemas/ids/1?subject=:.lab:s", `200 {"schema":"\"string\""}`},
		{"GET /contexts", `200 [".",".lab"]`},
		{"GET /nothing/here", `404 {"error_code":404,`},
		{"PATCH /subjects", `404 {"error_code":404,`},
	} {
		want := strings.ReplaceAll(c.want, `\/`, "/")
		if got := ask(t, h, c.ask); !strings.HasPrefix(got, want) || strings.HasSuffix(want, "}") && got != want {
			t.Errorf("%d: %s\n got %.300s\nwant %s", i, c.ask, got, want)
		}
	}
}

// TestBadRequests: refused with a reason, and nothing is changed by them.
func TestBadRequests(t *testing.T) {
	r := open(t, broker(t))
	h := r.Handler()
	quoted := func(s string) string { text, _ := json.Marshal(s); return string(text) }
	for _, c := range []struct{ ask, want string }{
		{"POST /subjects/s/versions", `400 {"error_code":400,`},
		{"POST /subjects/s/versions {", `400 {"error_code":400,`},
		{"POST /subjects/s/versions []", `400 {"error_code":400,`},
		{"POST /subjects/s/versions {}", `422 {"error_code":42201,`},
		{`POST /subjects/s/versions {"schema":"\"in` + "\xff" + `t\""}`, `400 {"error_code":400,`},
		{`POST /subjects/s/versions {"schema":"{"}`, `422 {"error_code":42201,`},
		{`POST /subjects/s/versions {"schema":"\"int\"","schemaType":"XML"}`, `422 {"error_code":42201,`},
		{`POST /subjects/s/versions {"schema":` + quoted(strings.Repeat(" ", 600<<10)+`"int"`) + `}`, `422 {"error_code":42209,`},
		{`POST /subjects/s/versions {"schema":` + quoted(strings.Repeat("x", 3<<20)) + `}`, `422 {"error_code":42209,`},
		{`POST /subjects/s/versions {"schema":` + quoted(strings.Repeat("[", 50000)) + `}`, `422 {"error_code":42201,`},
		{`POST /subjects/s/versions ` + strings.Repeat(`{"schema":`, 50000), `400 {"error_code":400,`},
		{`POST /subjects/s/versions {"schema":"\"int\"","references":[{"name":"x","subject":"s","version":1}]}`, `422 {"error_code":42201,`},
		{`POST /subjects/s/versions {"schema":"\"int\"","id":7}`, `422 {"error_code":42205,`},
		{`POST /subjects/a%00b/versions {"schema":"\"int\""}`, `422 {"error_code":42208,`},
		{`POST /subjects/a%ffb/versions {"schema":"\"int\""}`, `422 {"error_code":42208,`},
		{`POST /subjects/` + strings.Repeat("x", 5000) + `/versions {"schema":"\"int\""}`, `422 {"error_code":42208,`},
		{`POST /subjects/__GLOBAL/versions {"schema":"\"int\""}`, `422 {"error_code":42208,`},
		{`PUT /mode {"mode":7}`, `400 {"error_code":400,`},
	} {
		if got := ask(t, h, c.ask); !strings.HasPrefix(got, c.want) {
			t.Errorf("%.120s\n got %.300s\nwant %s", c.ask, got, c.want)
		}
	}
	req := httptest.NewRequest("POST", "/subjects/s/versions", strings.NewReader(`{"schema":"\"int\""}`))
	req.Header.Set("Content-Type", "text/plain") // what a foreign web page may send
	w := httptest.NewRecorder()
	if h.ServeHTTP(w, req); w.Code != http.StatusUnsupportedMediaType {
		t.Errorf("text/plain is taken: %d %s", w.Code, w.Body)
	}
	if n, known := r.Subjects(); n != 0 || !known {
		t.Errorf("%d subjects", n)
	}
}

// TestFollowsTheTopic: another registry over the same broker sees what one
// writes, and so does one that starts later; foreign records do no harm, and a
// topic that is deleted takes the schemas with it.
func TestFollowsTheTopic(t *testing.T) {
	seeds := broker(t)
	first, second := open(t, seeds).Handler(), open(t, seeds).Handler()
	if got := ask(t, second, "GET /subjects"); got != "200 []" {
		t.Fatal(got)
	}
	for i := range 20 {
		if got := ask(t, first, fmt.Sprintf(`POST /subjects/s%d/versions {"schema":"\"int\""}`, i)); got != `200 {"id":1}` {
			t.Fatal(got)
		}
	}
	cl, err := kgo.NewClient(kgo.SeedBrokers(seeds...))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	for _, rec := range []*kgo.Record{
		{Value: []byte("no key")}, {Key: []byte("no JSON")}, {Key: []byte(`{"keytype":"SCHEMA","subject":"x","version":1,"magic":1}`), Value: []byte("{")},
		{Key: schemaKey("s0", 2), Value: []byte(`{"subject":"s0","version":2,"id":9,"schema":"\"string\""}`)},
	} {
		rec.Topic = Topic
		if err := cl.ProduceSync(t.Context(), rec).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	third := open(t, seeds).Handler()
	for name, h := range map[string]http.Handler{"first": first, "second": second, "third": third} {
		eventually(t, name+" sees the foreign schema", func() bool {
			return ask(t, h, "GET /subjects/s0/versions") == "200 [1,2]" && strings.Count(ask(t, h, "GET /subjects"), "s") == 20
		})
	}
	if got := ask(t, first, `POST /subjects/new/versions {"schema":"\"bytes\""}`); got != `200 {"id":10}` {
		t.Errorf("after the foreign ID 9: %s", got)
	}
}

// TestTwoWriteAtOnce: two registries that both take themselves for the one to
// write give no ID to two schemas, and none to one schema twice.
func TestTwoWriteAtOnce(t *testing.T) {
	seeds := broker(t)
	both := []http.Handler{open(t, seeds).Handler(), open(t, seeds).Handler()}
	const schemas = 12
	var ids [schemas][2]string
	var wg sync.WaitGroup
	for i := range schemas {
		for n, h := range both {
			wg.Go(func() {
				ids[i][n] = ask(t, h, fmt.Sprintf(`POST /subjects/s%d/versions {"schema":"{\"type\":\"fixed\",\"name\":\"f\",\"size\":%d}"}`, i, i+1))
			})
		}
	}
	wg.Wait()
	seen := map[string]int{}
	for i, of := range ids {
		if !strings.HasPrefix(of[0], `200 {"id":`) || of[0] != of[1] {
			t.Errorf("schema %d: %q", i, of)
		}
		if before, twice := seen[of[0]]; twice {
			t.Errorf("schemas %d and %d: %s", before, i, of[0])
		}
		seen[of[0]] = i
	}
}

// TestWriterForgotten: a writer that the hub has forgotten, as it does after a week
// without a write, takes over again, and nobody hears of it.
func TestWriterForgotten(t *testing.T) {
	c, err := kfake.NewCluster(kfake.NumBrokers(1))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	h := open(t, c.ListenAddrs()).Handler()
	register := func(size int) string {
		return ask(t, h, fmt.Sprintf(`POST /subjects/s%d/versions {"schema":"{\"type\":\"fixed\",\"name\":\"f\",\"size\":%d}"}`, size, size))
	}
	if got := register(1); got != `200 {"id":1}` {
		t.Fatal(got)
	}
	forgotten := make(chan struct{})
	c.ControlKey(int16(kmsg.EndTxn), func(req kmsg.Request) (kmsg.Response, error, bool) {
		resp := req.ResponseKind().(*kmsg.EndTxnResponse)
		resp.ErrorCode = kerr.InvalidProducerIDMapping.Code
		close(forgotten)
		return resp, nil, true
	})
	if got := register(2); got != `200 {"id":2}` {
		t.Error(got)
	}
	<-forgotten
}

func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	deadline, tick := time.After(30*time.Second), time.NewTicker(10*time.Millisecond)
	defer tick.Stop()
	for !is() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatal(what + ": it does not come true")
		}
	}
}

// TestNoBroker: a registry that cannot read its topic says so and does not
// answer from nothing.
func TestNoBroker(t *testing.T) {
	r := New(Config{Seeds: []string{"127.0.0.1:1"}})
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	err := r.read(ctx, func(*state) error { return nil })
	if answer(err).Code != codeTimeout {
		t.Errorf("%v", err)
	}
	if _, known := r.Subjects(); known {
		t.Error("it claims to know its subjects")
	}
}

// FuzzRequest: no body and no path panics, and every answer is JSON.
func FuzzRequest(f *testing.F) {
	r := New(Config{})
	r.setCaughtUp()
	s := r.mu.state
	for i, text := range []string{`"int"`, `"long"`} {
		_ = s.apply(schemaKey("s", i+1), encode(schemaValue{Subject: "s", Version: i + 1, ID: i + 1, Schema: text}))
	}
	h := r.Handler()
	for _, path := range []string{"/subjects/s", "/compatibility/subjects/s/versions", "/compatibility/subjects/s/versions/1?verbose=true"} {
		f.Add(path, `{"schema":"\"int\"","schemaType":"AVRO","references":[{"name":"a","subject":"s","version":1}]}`)
		f.Add(path, `{"schema":"{\"$ref\":\"#\"}","schemaType":"JSON","metadata":{"a":1}}`)
		f.Add(path, `{"schema":"message M { M m = 1; }","schemaType":"PROTOBUF"}`)
	}
	f.Fuzz(func(t *testing.T, path, body string) {
		if !strings.HasPrefix(path, "/") || strings.HasSuffix(strings.SplitN(path, "?", 2)[0], "/versions") && !strings.HasPrefix(path, "/compat") {
			return // registering needs a broker
		}
		req, err := http.NewRequest("POST", "http://registry"+path, strings.NewReader(body))
		if err != nil {
			return
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, req)
		if w.Code >= 500 || w.Code < 300 && !json.Valid(w.Body.Bytes()) {
			t.Errorf("%s: %d %s", path, w.Code, w.Body)
		}
	})
}

// FuzzRecord: no record of the topic panics, and what a record says can be
// asked for.
func FuzzRecord(f *testing.F) {
	f.Add([]byte(schemaKey("s", 1)), encode(schemaValue{Subject: "s", Version: 1, ID: 1, Schema: `"int"`, References: []Reference{{"a", "s", 1}}}))
	f.Add(subjectKey(keyDeleteSubject, "s"), encode(deleteValue{"s", 1}))
	f.Add(subjectKey(keyConfig, ""), encode(configValue{Level: "FULL"}))
	f.Add(subjectKey(keyMode, "s"), encode(modeValue{"READONLY"}))
	f.Add(noopKey(), encode(noopValue{map[string]int{".": 3}}))
	f.Fuzz(func(t *testing.T, key, value []byte) {
		s := newState()
		_ = s.apply(schemaKey("t", 1), encode(schemaValue{ID: 1, Schema: `"int"`}))
		_ = s.apply(key, value)
		for subject := range s.subjects {
			for _, v := range s.versions(subject, true) {
				_ = s.identity(v)
				_, _ = s.byID(contextOf(subject), v.ID)
			}
			_, _, _ = s.deleteSubject(subject, true)
		}
		_ = s.apply(key, nil)
	})
}
