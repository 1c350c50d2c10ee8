package ctl

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/entrepot-hub/entrepot/hub/admin"
)

// fakeNode answers the admin API as a node would.
type fakeNode struct {
	state   string
	offsets []admin.Offset
	letters int64
}

func (*fakeNode) Ready() error { return nil }

func (*fakeNode) Status() admin.Status {
	return admin.Status{
		Node: "west-1", Site: "west", Version: "0.1.0", Kafka: "127.0.0.1:9092", Reason: "opening logs", Started: time.UnixMilli(0),
		Disk:  admin.Disk{FreeBytes: 3 << 30, State: "low", Reason: "below 10 %"},
		Scrub: &admin.Scrub{Running: true, Bytes: 4096, LastPass: time.UnixMilli(2000), Damaged: 1, Indexes: 3, Mended: 2},
		Topics: []admin.Topic{
			{Name: "__meta", Internal: true},
			{Name: "__consumer_offsets", Internal: true, Partitions: []admin.Partition{
				{ID: 0, Compaction: &admin.Compaction{}},
				{ID: 7, HighWatermark: 4000, Bytes: 3 << 20, Compaction: &admin.Compaction{CleanBelow: 3000, DirtyBytes: 1 << 20, Passes: 2, BeforeBytes: 32 << 20, AfterBytes: 2 << 20, Last: time.UnixMilli(0), LastError: "no room"}},
			}},
			{Name: "clicks", Source: "east", Partitions: []admin.Partition{{HighWatermark: 1500, Bytes: 2048, Damage: "segment 2: checksum"}}},
			{Name: "out", MirrorTo: []string{"east"}},
		},
	}
}

func (*fakeNode) Members() []admin.Member {
	return []admin.Member{{ID: "west-1", Site: "west", Pool: "wan", Status: "alive", Kafka: "127.0.0.1:9092"}}
}

func (*fakeNode) RTT(a, b string) (time.Duration, error) {
	if b == "nobody" {
		return 0, fmt.Errorf("node nobody: %w", admin.ErrNotFound)
	}
	return 12345 * time.Microsecond, nil
}

func (*fakeNode) Links() []admin.Link {
	return []admin.Link{
		{Name: "east→west", Source: "east", Kind: "mirror", State: "running", Records: 10000, LagRecords: admin.Known(12), LagSeconds: admin.Known(0.5), Heard: admin.Known(2), Partitions: []admin.LinkPartition{{Topic: "clicks", Next: 1500, State: "running", SourceEnd: admin.Known(1512), LagRecords: admin.Known(12), LagSeconds: admin.Known(0.5)}}},
		{Name: "north", Source: "north", Kind: "mirror", State: "connecting", Reason: "connection refused"},
	}
}

func (f *fakeNode) Jobs() []admin.Job {
	return []admin.Job{
		{Name: "access-log", Kind: "source", Connector: "file", Topic: "clicks", State: "running", Counters: map[string]int64{"read": 10000, "dead": 3}},
		{Name: "lake", Kind: "sink", Connector: "files", Topic: "clicks", State: f.state, Tasks: []admin.Task{{ID: "clicks-0", State: "running", Position: "1500"}}},
	}
}

func (f *fakeNode) Offsets(context.Context, string) ([]admin.Offset, error) { return f.offsets, nil }

func (f *fakeNode) SetOffsets(_ context.Context, _ string, to []admin.Offset) error {
	f.offsets = to
	return nil
}

func (f *fakeNode) ResetOffsets(context.Context, string) error {
	f.offsets = nil
	return nil
}

func (f *fakeNode) Replay(_ context.Context, job string) (admin.Replayed, error) {
	if job == "stuck" {
		return admin.Replayed{Left: 2}, nil
	}
	f.letters--
	return admin.Replayed{Read: 1, Written: 1, Left: f.letters}, nil
}

func (f *fakeNode) Rewind(_ context.Context, job string, to admin.RewindTo) (admin.Rewind, error) {
	from := admin.Offset{Topic: "clicks", Partition: 1, Offset: 1200}
	at := from
	at.Offset = 200
	return admin.Rewind{Job: job, Kind: "sink", Time: to.Time, Moved: !to.DryRun, Then: "rows are written again", Parts: []admin.RewindPart{
		{From: from, To: at, Records: 1000}, {From: admin.Offset{Topic: "clicks"}, To: admin.Offset{Topic: "clicks"}, Stays: true},
	}}, nil
}

func (f *fakeNode) Act(_ context.Context, job string, action admin.Action) error {
	if job != "lake" {
		return admin.ErrNotFound
	}
	if action == admin.Pause {
		f.state = "paused"
	}
	return nil
}

func node(t *testing.T) string {
	t.Helper()
	f := &fakeNode{state: "running", letters: 3, offsets: []admin.Offset{{Topic: "clicks", Partition: 3, Offset: 1500}, {Split: "a.log", Where: "a:70", Position: []byte{0, 70}}}}
	s, err := admin.New(admin.Config{}, admin.Sources{Node: f, Mesh: f, Links: f, Jobs: f})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(s.Handler())
	t.Cleanup(server.Close)
	return server.URL
}

func TestAdminCommands(t *testing.T) {
	url := node(t)
	cases := []struct{ args, want string }{
		{"mesh members", "NODE    SITE  POOL  STATUS  KAFKA           GOSSIP  VERSION\nwest-1  west  wan   alive   127.0.0.1:9092  -       -\n"},
		{"mesh rtt a b", "a to b: 12.345 ms estimated\n"},
		{"link list", "" +
			"LINK       SOURCE  STATE       LAG RECORDS  LAG SECONDS  COPIED  REASON\n" +
			"east→west  east    running              12          0.5  10,000  -\n" +
			"north      north   connecting      unknown      unknown       0  connection refused\n"},
		{"link status east", "heard:   2 s ago\n\nTOPIC   PARTITION  STATE    NEXT OFFSET  SOURCE END  LAG RECORDS  LAG SECONDS  REASON\nclicks          0  running        1,500       1,512           12          0.5  -\n"},
		{"link status", "reason:  connection refused\ncopied:  0 records, 0 B\nheard:   unknown\n"},
		{"connector list", "" +
			"CONNECTOR   KIND    TYPE   TOPIC   STATE        LAG  COUNTS\n" +
			"access-log  source  file   clicks  running        -  dead 3, read 10,000\n" +
			"lake        sink    files  clicks  running  unknown  -\n"},
		{"connector status lake", "TASK      STATE    POSITION  REASON\nclicks-0  running  1500      -\n"},
		{"connector pause lake", "connector lake is paused\n"},
		{"connector resume lake", "connector lake is paused\n"},
		{"connector restart lake", "connector lake is paused\n"},
		{"connector stop lake", "connector lake is paused\n"},
		{"connector offsets get lake", "" +
			"PART      AT     POSITION\n" +
			"clicks-3  1,500  -\n" +
			"a.log     a:70   AEY=\n"},
		{"connector offsets reset lake", "connector lake begins anew when it is resumed\n"},
		{"connector offsets get lake", "nothing has been committed yet\n"},
		{"dlq replay lake.dlq", "3 dead letters replayed: 3 written, 0 filtered, 0 dead again\n"},
		{"dlq replay stuck", "0 dead letters replayed: 0 written, 0 filtered, 0 dead again\nat most 2 dead letters left: nothing more came of the last request; ask again\n"},
		{"node compaction", "" +
			"TOPIC               PARTITION  ON DISK  CLEAN BELOW    DIRTY  PASSES      READ     LEFT  LAST\n" +
			"__consumer_offsets          7  3.0 MiB        3,000  1.0 MiB       2  32.0 MiB  2.0 MiB  1970-01-01T00:00:00.000Z failed: no room\n"},
		{"node status", "ready:    no: opening logs\n"},
		{"node status", "disk:     3.0 GiB free, low: below 10 %\n"},
		{"node status", "checked:  all of it, to 1970-01-01T00:00:02.000Z, again now, 4.0 KiB so far; found since the start: 1 damaged logs, 3 bad indexes, 2 of them written anew\n"},
		{"node status", "" +
			"TOPIC   MIRROR     PARTITIONS  RECORDS  ON DISK\n" +
			"clicks  from east           1    1,500  2.0 KiB\n" +
			"out     to east             0        0      0 B\n" +
			"quarantined: clicks-0: segment 2: checksum\n"},
	}
	for _, c := range cases {
		if out := mustRun(t, append(strings.Fields(c.args), "--admin", url)...); !strings.Contains(out, c.want) {
			t.Errorf("%s:\n%s\nlacks:\n%s", c.args, out, c.want)
		}
	}
	for args, want := range map[string]string{
		"mesh rtt a nobody":     "entrepot: node nobody: not found\n",
		"link status south":     "entrepot: link south: there is no such link; `entrepot link list` shows what is there\n",
		"connector status pond": "entrepot: job \"pond\": not found; GET /v1/jobs lists them\n",
		"connector pause pond":  "entrepot: pause job \"pond\": not found\n",
	} {
		if r := run(t, Deps{}, append(strings.Fields(args), "--admin", url)...); r.status != Failed || r.stderr != want {
			t.Errorf("%s: %+v, want %q", args, r, want)
		}
	}
}

// --json of the admin commands is what the node said, unknown lags included.
func TestAdminJSON(t *testing.T) {
	url := node(t)
	var links []admin.Link
	mustJSON(t, &links, "link", "list", "--admin", url)
	if len(links) != 2 || links[1].LagRecords.String() != "unknown" || links[0].LagRecords.String() != "12" {
		t.Errorf("link list: %+v", links)
	}
	if out := mustRun(t, "link", "list", "--json", "--admin", url); !strings.Contains(out, `"lag_records": "unknown"`) {
		t.Errorf("an unknown lag is not written as unknown: %s", out)
	}
	var rtt admin.RTT
	mustJSON(t, &rtt, "mesh", "rtt", "a", "b", "--admin", url)
	if rtt.Millis != 12.345 {
		t.Errorf("rtt: %+v", rtt)
	}
	var st admin.Status
	mustJSON(t, &st, "node", "status", "--admin", url)
	if len(st.Topics) != 4 {
		t.Errorf("status: %+v", st)
	}
	for _, args := range []string{"mesh members", "link status", "connector list", "connector status lake"} {
		var v any
		mustJSON(t, &v, append(strings.Fields(args), "--admin", url)...)
	}
}

// Some other server behind --admin is told as such.
func TestNotANode(t *testing.T) {
	page := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/v1/links" {
			w.WriteHeader(http.StatusTeapot)
		}
		_, _ = w.Write([]byte("<html>"))
	}))
	defer page.Close()
	for args, want := range map[string]string{
		"link list":      "is this the admin address of an Entrepot node?",
		"connector list": "does not answer as an Entrepot node does",
	} {
		if r := run(t, Deps{}, append(strings.Fields(args), "--admin", page.URL)...); r.status != Failed || !strings.Contains(r.stderr, want) {
			t.Errorf("%s: %+v, want %q", args, r, want)
		}
	}
}
