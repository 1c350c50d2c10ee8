package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fakeHub is all sources in one.
type fakeHub struct {
	offsets []Offset
	rate    int64
	letters int64
	status  Status
	unready error
	members []Member
	links   []Link
	jobs    []Job
	acted   []string
}

func (f *fakeHub) Status() Status    { return f.status }
func (f *fakeHub) Ready() error      { return f.unready }
func (f *fakeHub) Members() []Member { return f.members }
func (f *fakeHub) Links() []Link     { return f.links }
func (f *fakeHub) Jobs() []Job       { return f.jobs }

func (f *fakeHub) FetchRate() int64      { return f.rate }
func (f *fakeHub) SetFetchRate(to int64) { f.rate = to }

func (f *fakeHub) RTT(a, b string) (time.Duration, error) {
	if a != "east-1" || b != "west-1" {
		return 0, fmt.Errorf("node %q: %w", a, ErrNotFound)
	}
	return 1500 * time.Microsecond, nil
}

func (f *fakeHub) Offsets(context.Context, string) ([]Offset, error) { return f.offsets, nil }

func (f *fakeHub) SetOffsets(_ context.Context, _ string, to []Offset) error {
	f.offsets = to
	return nil
}

func (f *fakeHub) ResetOffsets(context.Context, string) error {
	f.offsets = nil
	return nil
}

func (f *fakeHub) Rewind(_ context.Context, job string, to RewindTo) (Rewind, error) {
	if job != "lake" {
		return Rewind{}, fmt.Errorf("a source of type file knows no times: %w", ErrInvalid)
	}
	return Rewind{Job: job, Kind: "sink", Time: to.Time, Moved: !to.DryRun}, nil
}

func (f *fakeHub) Replay(context.Context, string) (Replayed, error) {
	f.letters--
	return Replayed{Read: 1, Written: 1, Left: f.letters}, nil
}

func (f *fakeHub) Act(_ context.Context, job string, action Action) error {
	if job != "lake" {
		return ErrNotFound
	}
	if action == Resume && f.jobs[0].State == "running" {
		return fmt.Errorf("it is running: %w", ErrConflict)
	}
	f.acted = append(f.acted, string(action))
	f.jobs[0].State = map[Action]string{Pause: "paused", Resume: "running", Restart: "running"}[action]
	return nil
}

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func sample() *fakeHub {
	return &fakeHub{
		status: Status{
			Node: "west-1", Site: "west", Version: "0.1.0", ClusterID: "c1", Kafka: "127.0.0.1:9092", Ready: true,
			DataDir: "/var/lib/entrepot", Started: noon.Add(-93 * time.Second), Disk: Disk{FreeBytes: 5 << 30, State: "ok"},
			Topics: []Topic{
				{Name: "__consumer_offsets", Internal: true, Partitions: []Partition{{HighWatermark: 7, Compaction: &Compaction{
					DirtyBytes: 500, Passes: 3, Errors: 1, BeforeBytes: 9000, AfterBytes: 1000, Last: time.UnixMilli(1_700_000_000_500),
				}}}},
				{Name: "clicks", Source: "east", Partitions: []Partition{{LogStart: 1000, HighWatermark: 8765, Bytes: 3 << 20}, {ID: 1, HighWatermark: 1235, Bytes: 1 << 19, Damage: "segment 3: <checksum>"}}},
			},
			Peers: []PeerLink{
				{Node: "west-2", NodeID: 2, Class: "append", Since: noon, Connects: 3, RoundTripSeconds: 0.0005, QueueBytes: 70, Dropped: 4, SentBytes: 5000, ReceivedBytes: 600},
				{NodeID: 3, Class: "append", Error: "connection refused"},
			},
		},
		members: []Member{
			{ID: "east-1", Site: "east", Status: "alive", Pool: "wan"},
			{ID: "west-1", Site: "west", Status: "alive", Pool: "wan"},
			{ID: "west-1", Site: "west", Status: "alive", Pool: "lan"},
		},
		links: []Link{
			{Name: "east", Source: "east", Kind: "mirror", State: "streaming", Records: 9000, LagRecords: Known(12), LagSeconds: Known(0.25), Heard: Known(1)},
			{Name: "north", Source: "north", Kind: "mirror", State: "source-unreachable", Reason: "dial tcp: connection refused", Partitions: []LinkPartition{{Topic: "orders"}}},
		},
		jobs: []Job{{Name: "lake", Kind: "sink", Connector: "files", Topic: "clicks", State: "running", Lag: Known(3), Counters: map[string]int64{"read": 10000, "written": 9999, "dead": 1}}},
	}
}

// newServer also serves as a check that a test's sources can be registered.
func newServer(t *testing.T, f *fakeHub) http.Handler {
	t.Helper()
	s, err := New(Config{Clock: func() time.Time { return noon }}, Sources{Node: f, Mesh: f, Links: f, Jobs: f})
	if err != nil {
		t.Fatal(err)
	}
	return s.Handler()
}

func do(h http.Handler, method, path string, header ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, path, nil)
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func TestAnswers(t *testing.T) {
	h := newServer(t, sample())
	cases := []struct {
		method, path string
		code         int
		contains     string
	}{
		{"GET", "/healthz", 200, "ok"},
		{"GET", "/readyz", 200, `"ready": true`},
		{"GET", "/v1/status", 200, `"high_watermark": 8765`},
		{"GET", "/v1/mesh/members", 200, `"pool": "wan"`},
		{"GET", "/v1/mesh/rtt?a=east-1&b=west-1", 200, `"rtt_ms": 1.5`},
		{"GET", "/v1/mesh/rtt?a=nobody&b=west-1", 404, `node \"nobody\"`},
		{"GET", "/v1/mesh/rtt?a=east-1", 400, "give two node names"},
		{"GET", "/v1/links", 200, `"lag_records": 12`},
		{"GET", "/v1/jobs", 200, `"written": 9999`},
		{"GET", "/v1/jobs/lake", 200, `"connector": "files"`},
		{"GET", "/v1/jobs/pond", 404, `job \"pond\"`},
		{"HEAD", "/v1/jobs", 200, ""},
		{"DELETE", "/v1/jobs", 405, "use GET"},
		{"GET", "/v1/jobs/lake/pause", 405, "use POST"},
		{"POST", "/v1/jobs/lake/explode", 404, "there are pause, resume, stop and restart"},
		{"POST", "/v1/jobs/lake/resume", 409, "it is running"},
		{"POST", "/v1/jobs/pond/pause", 404, "not found"},
		{"POST", "/", 405, "use GET"},
		{"GET", "/v2/surprise", 404, "the API is under /v1"},
	}
	for _, c := range cases {
		w := do(h, c.method, c.path)
		if w.Code != c.code || !strings.Contains(w.Body.String(), c.contains) {
			t.Errorf("%s %s: %d %q, want %d with %q", c.method, c.path, w.Code, w.Body, c.code, c.contains)
		}
		if c.code >= 400 && !json.Valid(w.Body.Bytes()) {
			t.Errorf("%s %s: the error is not JSON: %q", c.method, c.path, w.Body)
		}
		if strings.Contains(w.Body.String(), "null") {
			t.Errorf("%s %s: a list is null: %s", c.method, c.path, w.Body)
		}
		if c.code == 405 && w.Header().Get("Allow") == "" {
			t.Errorf("%s %s: 405 without Allow", c.method, c.path)
		}
	}
}

func TestFetchRate(t *testing.T) {
	f := sample()
	f.rate = 64 << 20
	s, err := New(Config{}, Sources{Copies: f})
	if err != nil {
		t.Fatal(err)
	}
	put := func(body string) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		s.Handler().ServeHTTP(w, httptest.NewRequest("PUT", "/v1/fetch-rate", strings.NewReader(body)))
		return w
	}
	if w := do(s.Handler(), "GET", "/v1/fetch-rate"); w.Code != 200 || !strings.Contains(w.Body.String(), `"bytes_per_second": 67108864`) {
		t.Errorf("get: %d %s", w.Code, w.Body)
	}
	for _, bad := range []string{"", "16", "{}", `{"bytes_per_second": -1}`, `{"bytes_per_second": "16MiB"}`, `{"rate": 1}`} {
		if w := put(bad); w.Code != 400 || f.rate != 64<<20 || !strings.Contains(w.Body.String(), "at least 0") {
			t.Errorf("put %s: %d %s, rate %d", bad, w.Code, w.Body, f.rate)
		}
	}
	for _, rate := range []int64{1 << 20, 0} {
		if w := put(fmt.Sprintf(`{"bytes_per_second": %d}`, rate)); w.Code != 200 || f.rate != rate {
			t.Errorf("put: %d %s, rate %d", w.Code, w.Body, f.rate)
		}
	}
	if w := do(newServer(t, sample()), "GET", "/v1/fetch-rate"); w.Code != 409 {
		t.Errorf("a node that belongs to no site: %d %s", w.Code, w.Body)
	}
}

func TestOffsets(t *testing.T) {
	f := sample()
	f.letters = 3
	h := newServer(t, f)
	put := func(body string) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest("PUT", "/v1/jobs/lake/offsets", strings.NewReader(body)))
		return w
	}
	if w := put(`[{"topic":"clicks","partition":1,"offset":70}]`); w.Code != 200 || len(f.offsets) != 1 || f.offsets[0].Offset != 70 {
		t.Errorf("put: %d %s, %+v", w.Code, w.Body, f.offsets)
	}
	if w := put(`{"topic":1}`); w.Code != 400 {
		t.Errorf("put of nonsense: %d %s", w.Code, w.Body)
	}
	if w := do(h, "GET", "/v1/jobs/lake/offsets"); w.Code != 200 || !strings.Contains(w.Body.String(), `"offset": 70`) {
		t.Errorf("get: %d %s", w.Code, w.Body)
	}
	if w := do(h, "DELETE", "/v1/jobs/lake/offsets"); w.Code != 200 || strings.TrimSpace(w.Body.String()) != "[]" {
		t.Errorf("delete: %d %s", w.Code, w.Body)
	}
	if w := do(h, "POST", "/v1/jobs/lake/offsets"); w.Code != 405 {
		t.Errorf("post: %d %s", w.Code, w.Body)
	}
	if w := do(h, "POST", "/v1/jobs/lake/replay"); w.Code != 200 || !strings.Contains(w.Body.String(), `"left": 2`) {
		t.Errorf("replay: %d %s", w.Code, w.Body)
	}
}

func TestRewind(t *testing.T) {
	h := newServer(t, sample())
	for _, c := range []struct {
		job, body, want string
		code            int
	}{
		{"lake", `{"time":"2026-05-17T10:00:00Z"}`, `"moved": true`, 200},
		{"lake", `{"time":"2026-05-17T10:00:00Z","dry_run":true}`, `"parts": []`, 200},
		{"lake", `{"time":"yesterday"}`, "the body has to be", 400},
		{"lake", `{}`, "the body has to be", 400},
		{"other", `{"time":"2026-05-17T10:00:00Z"}`, "knows no times", 400},
	} {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest("POST", "/v1/jobs/"+c.job+"/rewind", strings.NewReader(c.body)))
		if w.Code != c.code || !strings.Contains(w.Body.String(), c.want) {
			t.Errorf("%s %s: %d %s, want %d with %s", c.job, c.body, w.Code, w.Body, c.code, c.want)
		}
	}
}

func TestActions(t *testing.T) {
	f := sample()
	h := newServer(t, f)
	w := do(h, "POST", "/v1/jobs/lake/pause")
	var job Job
	if err := json.Unmarshal(w.Body.Bytes(), &job); err != nil || w.Code != 200 || job.State != "paused" {
		t.Errorf("pause: %d %q (%v), want the job as it is now, paused", w.Code, w.Body, err)
	}
	w = do(h, "POST", "/v1/jobs/lake/resume", "Accept", "text/html")
	if w.Code != http.StatusSeeOther || w.Header().Get("Location") != "/#lake" {
		t.Errorf("resume from a browser: %d to %q, want back to the page", w.Code, w.Header().Get("Location"))
	}
	w = do(h, "POST", "/v1/jobs/lake/pause", "Sec-Fetch-Site", "cross-site")
	if w.Code != http.StatusForbidden {
		t.Errorf("pause from another site's page: %d, want 403", w.Code)
	}
	if got := strings.Join(f.acted, " "); got != "pause resume" {
		t.Errorf("the hub was told %q, want pause and resume only", got)
	}
}

func TestNotReady(t *testing.T) {
	f := sample()
	f.unready = errors.New("partition logs are being opened")
	h := newServer(t, f)
	if w := do(h, "GET", "/readyz"); w.Code != 503 || !strings.Contains(w.Body.String(), "being opened") {
		t.Errorf("/readyz: %d %q, want 503 with the reason", w.Code, w.Body)
	}
	if w := do(h, "GET", "/healthz"); w.Code != 200 {
		t.Errorf("/healthz: %d; a node that opens its logs is alive", w.Code)
	}
	if w := do(h, "GET", "/"); !strings.Contains(w.Body.String(), "being opened") {
		t.Error("the page does not say why the node is not ready")
	}
}

// A lag that nobody measured must not look like no lag, anywhere.
func TestUnknownIsShown(t *testing.T) {
	f := sample()
	f.links = f.links[1:]
	f.jobs[0].Lag = Measure{}
	h := newServer(t, f)
	if body := do(h, "GET", "/v1/links").Body.String(); strings.Count(body, `"unknown"`) != 6 {
		t.Errorf("/v1/links: want all six measures unknown: %s", body)
	}
	if body := do(h, "GET", "/").Body.String(); strings.Count(body, `<span class="tag warn">unknown</span>`) != 4 {
		t.Errorf("the page shows %d unknown, want lag twice, heard, and the sink's lag", strings.Count(body, `>unknown<`))
	}
	metrics := do(h, "GET", "/metrics").Body.String()
	for _, want := range []string{`entrepot_mirror_lag_records{link="north",source="north"} NaN`, `entrepot_job_lag_records{connector="files",job="lake",kind="sink"} NaN`} {
		if !strings.Contains(metrics, want) {
			t.Errorf("/metrics lacks %s", want)
		}
	}
}

func TestMeasureJSON(t *testing.T) {
	for text, m := range map[string]Measure{`"unknown"`: {}, "0": Known(0), "1.235": Known(1.23456), "9007199254740991": Known(1<<53 - 1)} {
		got, err := json.Marshal(m)
		if err != nil || string(got) != text {
			t.Errorf("%v is written %s (%v), want %s", m, got, err, text)
		}
		var back Measure
		if err := json.Unmarshal(got, &back); err != nil || back.String() != m.String() {
			t.Errorf("%s is read as %v (%v)", got, back, err)
		}
	}
	if err := json.Unmarshal([]byte(`"none"`), new(Measure)); err == nil {
		t.Error(`"none" was taken for a measure`)
	}
	zero := 0.0
	if _, known := Known(1 / zero).Value(); known {
		t.Error("infinity counts as known")
	}
}

func TestMetrics(t *testing.T) {
	h := newServer(t, sample())
	body := do(h, "GET", "/metrics").Body.String()
	for _, want := range []string{
		`entrepot_node_info{node="west-1",site="west",version="0.1.0"} 1`,
		`entrepot_node_uptime_seconds 93`,
		`entrepot_topic_records{topic="clicks"} 9000`,
		`entrepot_topic_quarantined_partitions{topic="clicks"} 1`,
		`entrepot_disk_state{state="offline"} 0`,
		`entrepot_mesh_member_up{node="west-1",pool="lan",site="west"} 1`,
		`entrepot_mirror_lag_seconds{link="east",source="east"} 0.25`,
		`# TYPE entrepot_mirror_records_total counter`,
		`entrepot_peer_connected{class="append",node_id="2"} 1`,
		`entrepot_peer_connected{class="append",node_id="3"} 0`,
		`entrepot_peer_round_trip_seconds{class="append",node_id="2"} 0.0005`,
		`entrepot_peer_dropped_messages_total{class="append",node_id="2"} 4`,
		`entrepot_peer_sent_bytes_total{class="append",node_id="2"} 5000`,
		`entrepot_job_records_total{connector="files",job="lake",kind="sink",outcome="dead"} 1`,
		`go_goroutines`,
	} {
		if !strings.Contains(body, want) {
			t.Errorf("/metrics lacks %s", want)
		}
	}
}

type badSamples struct{}

func (badSamples) Samples() []Sample {
	return []Sample{{Name: "fine", Help: "x", Value: 4}, {Name: "broken", Help: "x", Labels: labels{"a": "\xff"}}}
}

// A metric that Prometheus refuses must not blind the operator to the rest.
func TestOneBadMetric(t *testing.T) {
	var logged strings.Builder
	s, err := New(Config{Logger: slog.New(slog.NewTextHandler(&logged, nil))}, Sources{Node: sample(), Samples: []Samples{badSamples{}}})
	if err != nil {
		t.Fatal(err)
	}
	w := do(s.Handler(), "GET", "/metrics")
	if w.Code != 200 || !strings.Contains(w.Body.String(), "entrepot_fine 4") {
		t.Errorf("/metrics: %d; one bad sample hid the others", w.Code)
	}
	if !strings.Contains(logged.String(), "broken") {
		t.Errorf("the log does not name the bad metric: %s", logged.String())
	}
}

// A node without mesh, links and jobs answers with empty lists, not null.
func TestNoSources(t *testing.T) {
	s, err := New(Config{}, Sources{})
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/v1/mesh/members", "/v1/links", "/v1/jobs"} {
		if w := do(s.Handler(), "GET", path); w.Code != 200 || strings.TrimSpace(w.Body.String()) != "[]" {
			t.Errorf("%s: %d %q, want an empty list", path, w.Code, w.Body)
		}
	}
	for _, path := range []string{"/", "/metrics", "/v1/status", "/readyz"} {
		if w := do(s.Handler(), "GET", path); w.Code != 200 {
			t.Errorf("%s: %d", path, w.Code)
		}
	}
	if w := do(s.Handler(), "POST", "/v1/jobs/x/pause"); w.Code != 404 {
		t.Errorf("pause without jobs: %d, want 404", w.Code)
	}
}

func TestTwoServersOneRegistry(t *testing.T) {
	f := sample()
	registry := prometheus.NewRegistry()
	if _, err := New(Config{Registry: registry}, Sources{Node: f}); err != nil {
		t.Fatal(err)
	}
	s, err := New(Config{Registry: registry}, Sources{Node: f})
	if err != nil {
		return // refused at once: fine
	}
	if w := do(s.Handler(), "GET", "/metrics"); strings.Count(w.Body.String(), "entrepot_node_info{") > 1 {
		t.Error("the same metric is shown twice")
	}
}

func TestServe(t *testing.T) {
	s, err := New(Config{}, Sources{Node: sample()})
	if err != nil {
		t.Fatal(err)
	}
	ln, err := Listen(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, err = Listen(t.Context(), ln.Addr().String())
	if err == nil || !strings.Contains(err.Error(), ln.Addr().String()) || !strings.Contains(err.Error(), "listeners.admin.addr") {
		t.Errorf("a taken port: %v; want the address and what to do", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- s.Serve(ctx, ln) }()
	client := &http.Client{Transport: &http.Transport{}}
	resp, err := client.Get("http://" + ln.Addr().String() + "/readyz")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(resp.Body); err != nil || resp.Body.Close() != nil || resp.StatusCode != 200 {
		t.Errorf("readyz over a socket: %d, %v", resp.StatusCode, err)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("Serve after its context ended: %v, want nil", err)
	}
	client.CloseIdleConnections()
}

// A listener that dies under the server is an error, and nothing stays behind.
func TestServeListenerDies(t *testing.T) {
	s, err := New(Config{}, Sources{})
	if err != nil {
		t.Fatal(err)
	}
	ln, err := Listen(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := ln.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.Serve(t.Context(), ln); err == nil || !strings.Contains(err.Error(), ln.Addr().String()) {
		t.Errorf("Serve on a dead listener: %v", err)
	}
}

func TestCompactionIsMeasured(t *testing.T) {
	metrics := do(newServer(t, sample()), "GET", "/metrics").Body.String()
	for _, want := range []string{
		`entrepot_compaction_dirty_bytes{topic="__consumer_offsets"} 500`, `entrepot_compaction_passes_total{topic="__consumer_offsets"} 3`,
		`entrepot_compaction_errors_total{topic="__consumer_offsets"} 1`, `entrepot_compaction_before_bytes_total{topic="__consumer_offsets"} 9000`,
		`entrepot_compaction_after_bytes_total{topic="__consumer_offsets"} 1000`, `entrepot_compaction_last_seconds{topic="__consumer_offsets"} 1.7000000005e+09`,
	} {
		if !strings.Contains(metrics, want) {
			t.Errorf("/metrics lacks %s", want)
		}
	}
	if strings.Contains(metrics, `entrepot_compaction_passes_total{topic="clicks"}`) {
		t.Error("a topic that is not compacted has metrics of compaction")
	}
}

// TestJobOfSeveralNodes: a job whose tasks are at several nodes is shown once, as
// the worst of them: it has come to its end when all have.
func TestJobOfSeveralNodes(t *testing.T) {
	for _, c := range [][3]string{
		{"running", "running", "running"}, {"completed", "completed", "completed"}, {"completed", "running", "running"},
		{"backing-off", "running", "backing-off"}, {"backing-off", "completed", "backing-off"},
		{"failed", "running", "failed"}, {"failed", "stuck", "failed"},
	} {
		for _, at := range [][2]string{{c[0], c[1]}, {c[1], c[0]}} {
			one := func(i int) Job {
				return Job{Name: "copy", Node: string(rune('a' + i)), State: at[i], Reason: at[i], Counters: map[string]int64{"read": 3}, Tasks: []Task{{ID: string(rune('1' - i))}}}
			}
			s, err := New(Config{OtherJobs: func(context.Context, string) []Job { return []Job{one(1)} }}, Sources{Node: sample(), Jobs: &fakeHub{jobs: []Job{one(0)}}})
			if err != nil {
				t.Fatal(err)
			}
			all := s.allJobs(t.Context(), "")
			if len(all) != 1 || all[0].State != c[2] || all[0].Reason != c[2] || all[0].Node != "a, b" || all[0].Counters["read"] != 6 || len(all[0].Tasks) != 2 || all[0].Tasks[0].ID > all[0].Tasks[1].ID {
				t.Errorf("%s: %+v, want %s", at, all, c[2])
			}
		}
	}
}
