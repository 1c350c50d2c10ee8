package hubtest

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/entrepot-hub/entrepot/hub/admin"
	"github.com/entrepot-hub/entrepot/hub/demo"
)

// accessLog is the real log of the acceptance tests; without it a generated
// one stands in, and the test says so.
func accessLog(t *testing.T) []string {
	t.Helper()
	f, err := os.Open("../../../shared/data/access-2015.log")
	if err != nil {
		t.Log("the real log is not there: using 10,000 GENERATED lines")
		lines := make([]string, 10_000)
		at := time.Date(2026, 1, 5, 8, 0, 0, 0, time.UTC)
		for i := range lines {
			at = at.Add(30 * time.Second)
			lines[i] = fmt.Sprintf(`10.0.%d.%d - - [%s] "GET /%d HTTP/1.1" 200 %d "-" "curl/8.5.0"`, i%7, i%251, at.Format("02/Jan/2006:15:04:05 -0700"), i, i*3)
		}
		return lines
	}
	defer func() { _ = f.Close() }()
	var lines []string
	scan := bufio.NewScanner(f)
	scan.Buffer(nil, 1<<20)
	for scan.Scan() {
		lines = append(lines, scan.Text())
	}
	if err := scan.Err(); err != nil {
		t.Fatal(err)
	}
	return lines
}

// TestKilledSitesAgree kills a random one of {east, west, both} again and
// again while a growing log is read at east, mirrored to west and loaded
// there: in the end both sites hold the same bytes and the lake each row once.
func TestKilledSitesAgree(t *testing.T) {
	dir, lines, n := t.TempDir(), accessLog(t), kills(t, 4)
	input, lake := filepath.Join(dir, "access.log"), filepath.Join(dir, "lake", "clicks")
	env := []string{"ENTREPOT_DEMO_INPUT=" + input, "ENTREPOT_DEMO_LAKE=" + lake}
	eastJobs := filepath.Join(dir, "east-jobs.yaml")
	if err := os.WriteFile(eastJobs, []byte(followJobs), 0o600); err != nil {
		t.Fatal(err)
	}
	westJobs, err := filepath.Abs("../../configs/demo/west.yaml")
	if err != nil {
		t.Fatal(err)
	}
	log, err := os.Create(input)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = log.Close() }()
	east := NewNode(t, "east", dir, nil, []string{eastJobs}, env)
	west := NewNode(t, "west", dir, []string{east.WAN}, []string{westJobs}, env)
	east.Start()
	west.Start()

	// The log grows in pieces that end anywhere, also in the middle of a line.
	var writer sync.WaitGroup
	progress := make(chan struct{}) // one receive lets the next piece be written
	writer.Go(func() {
		defer close(progress)
		chunk := len(lines)/(n+1) + 1
		for from := 0; from < len(lines); from += chunk {
			for _, line := range lines[from:min(from+chunk, len(lines))] {
				half := len(line) / 2
				fmt.Fprint(log, line[:half])
				fmt.Fprintln(log, line[half:])
				if rand.IntN(40) == 0 {
					pause(t.Context(), time.Millisecond, 10*time.Millisecond)
				}
			}
			select {
			case progress <- struct{}{}:
			case <-t.Context().Done():
				return
			}
		}
	})
	killed := map[string]int{}
	for range n {
		pause(t.Context(), 200*time.Millisecond, 1500*time.Millisecond)
		which := []string{"east", "west", "both"}[rand.IntN(3)]
		killed[which]++
		if which != "west" {
			east.Kill()
		}
		if which != "east" {
			west.Kill()
		}
		if which != "west" {
			east.Start()
		}
		if which != "east" {
			west.Start()
		}
		<-progress
	}
	for range progress { // the rest of the log
	}
	writer.Wait()

	Until(t, 2*time.Minute, "everything has arrived", func() error { return arrived(east, west, int64(len(lines))) })
	report, err := demo.Check{East: east.Kafka, West: west.Kafka, Topic: "clicks", Partitions: 6, Lake: lake}.Take(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	report.Read, report.Dead = int64(len(lines)), 0
	for _, bad := range report.Disagreements() {
		t.Error(bad)
	}
	if sink, err := job(west.Admin, "clicks-lake"); err != nil || sink.Counters["written"] != int64(len(lines)) {
		t.Errorf("the sink counts %v rows (%v), want %d", sink.Counters, err, len(lines))
	}
	t.Logf("kills %v: %s", killed, report.Summary())
}

// followJobs is configs/demo/east.yaml for a log that grows.
const followJobs = `
topics:
  - {name: clicks, partitions: 6, replicas: 1, mirror_to: [west]}
connectors:
  - name: access-log
    source: {type: file, path: "${env:ENTREPOT_DEMO_INPUT}", follow: true}
    transforms: [{parse: {format: combined}}]
    topic: clicks
    key: value.remote_addr
`

// arrived asks both admin APIs whether the source has read all lines and the
// sink has written them.
func arrived(east, west *Node, lines int64) error {
	source, err := job(east.Admin, "access-log")
	if err != nil {
		return err
	}
	if got := source.Counters["written"]; got != lines {
		return fmt.Errorf("the source has written %d of %d records; it is %s %s", got, lines, source.State, source.Reason)
	}
	sink, err := job(west.Admin, "clicks-lake")
	if err != nil {
		return err
	}
	if lag, known := sink.Lag.Value(); !known || lag != 0 || sink.Counters["written"] < lines {
		return fmt.Errorf("the sink has written %d of %d rows, its lag is %s; it is %s %s", sink.Counters["written"], lines, sink.Lag, sink.State, sink.Reason)
	}
	return nil
}

func job(adminAddr, name string) (admin.Job, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+adminAddr+"/v1/jobs/"+name, nil)
	if err != nil {
		return admin.Job{}, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return admin.Job{}, err
	}
	defer func() { _ = resp.Body.Close() }()
	var j admin.Job
	if resp.StatusCode != http.StatusOK {
		return j, fmt.Errorf("job %s: %s", name, resp.Status)
	}
	return j, json.NewDecoder(resp.Body).Decode(&j)
}
