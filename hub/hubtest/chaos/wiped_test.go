package chaos

import (
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/entrepot-hub/entrepot/hub/hubtest"
)

// TestWipedUnderLoad wipes a node of a site that has ENTREPOT_WIPED_MIB of data
// and is written to, and measures how long it takes until it has everything
// again, how fast it receives it, and what a write takes meanwhile. Machines change
// their speed in the time that a large copy takes, so that the copy goes on and pauses
// by turns (PUT /v1/fetch-rate), and its turns are compared with the pauses between
// them; what a write takes before and after is told, too.
// The node leads nothing of what is written: how long an election takes is
// measured by TestFailover. ENTREPOT_WIPED_RATE is cluster.fetch_rate in MiB a
// second, 64 unless it is set. With ENTREPOT_WIPED_COLD nothing of the data is in
// memory before, as if there were more of it than memory.
func TestWipedUnderLoad(t *testing.T) {
	site := hubtest.NewSite(t, "trio", 3)
	rate := int64(64 << 20)
	if os.Getenv("ENTREPOT_WIPED_RATE") != "" {
		rate = int64(setting(t, "ENTREPOT_WIPED_RATE", 0)) << 20
		site.Set("cluster.fetch_rate", fmt.Sprint(rate))
	}
	// It gives way to copies, so that before and after would be slower by it.
	site.Set("scrub", "{rate: 0}")
	admin := begin(t, site)
	mib := int(setting(t, "ENTREPOT_WIPED_MIB", 80))
	// Logs of less than 64 MiB go as messages, which no rate bounds.
	partitions := min(max(mib/80, 1), 6)
	if _, err := admin.CreateTopic(t.Context(), int32(partitions), 3, nil, "old"); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	fill(t, site, mib)
	t.Logf("%d MiB in %d partitions written in %s", mib, partitions, time.Since(began).Round(10*time.Millisecond))
	if os.Getenv("ENTREPOT_WIPED_COLD") != "" {
		forget(t, site)
	}
	w := write(t, site, impatient()...)
	defer w.end()
	calm := min(max(2*time.Second, time.Duration(mib)*time.Second/64), 40*time.Second)
	n, other := site.Nodes[2], site.Nodes[1]
	if n == site.Leader(admin, loaded, 0) {
		n, other = other, n
	}
	before := w.during(t, calm, n)
	n.Kill()
	// Put away, not removed: what a file system does to give so many blocks back
	// (discards, on some) would be measured at the nodes that share the disk.
	if err := os.Rename(n.Dir, n.Dir+".lost"); err != nil {
		t.Fatal(err)
	}
	without := w.during(t, calm/2, other)
	began = time.Now()
	n.Start()
	c := watchCopy(t, n, rate, turnOf(mib, rate), time.Hour)
	took := time.Since(began)
	meanwhile, paused := w.between(settled(c.turns)), w.between(settled(c.pauses))
	after := w.during(t, calm, n)
	t.Logf("a wiped node has its %d MiB again after %s, %s of them pauses", mib, took.Round(10*time.Millisecond), length(c.pauses).Round(10*time.Millisecond))
	t.Logf("received %s", c)
	t.Logf("writes before, %s", spread(before))
	t.Logf("writes with two nodes, %s", spread(without))
	t.Logf("writes while it was filled, %s", spread(meanwhile))
	t.Logf("writes in the pauses, %s", spread(paused))
	t.Logf("writes after it, %s", spread(after))
	more := 100 * (figure(meanwhile, 0.99).Seconds()/figure(paused, 0.99).Seconds() - 1)
	t.Logf("p99 of a write %s before and after, %s in the pauses, %s while it was filled: %+.0f %%", figure(slices.Concat(before, after), 0.99),
		figure(paused, 0.99), figure(meanwhile, 0.99), more)
	if os.Getenv("ENTREPOT_WIPED_MIB") != "" && more > 20 {
		t.Errorf("p99 of a write is %.0f %% higher while a node is filled, want 20 %% at most", more)
	}
	c.check(t, int64(mib)<<20)
}

// turnOf is how long a copy goes on at a time: several times in all, and not for
// longer than a machine stays as it is. Then it pauses for a third of that.
func turnOf(mib int, rate int64) time.Duration {
	whole := time.Duration(float64(mib<<20) / float64(rate) * float64(time.Second))
	return min(max(whole/4, lookEvery), 30*time.Second)
}

// span is a time from begin to end.
type span struct{ begin, end time.Time }

func length(spans []span) (d time.Duration) {
	for _, s := range spans {
		d += s.end.Sub(s.begin)
	}
	return d
}

// settled are spans without the first half second of each that is longer than two:
// what was on its way then belongs to the one before.
func settled(spans []span) []span {
	out := slices.Clone(spans)
	for i := range out {
		if out[i].end.Sub(out[i].begin) > 2*time.Second {
			out[i].begin = out[i].begin.Add(time.Second / 2)
		}
	}
	return out
}

// copied is what a node has received of logs, as files.
type copied struct {
	bytes         int64
	turns, pauses []span
	rate          int64 // in the turns, bytes a second
	fastest       int64 // between two looks, in bytes a second
}

func (c copied) String() string {
	took := length(c.turns)
	return fmt.Sprintf("%d MiB in %s: %.1f MiB/s, in the fastest half second %.1f MiB/s, of %d MiB/s", c.bytes>>20, took.Round(10*time.Millisecond),
		float64(c.bytes)/took.Seconds()/(1<<20), float64(c.fastest)/(1<<20), c.rate>>20)
}

// check has less than the whole come as files fail, and more than the rate
// allows in the turns: besides, in each a hundredth of a second may be made up
// for, two streams be ahead by a window of 1 MiB, and a frame has a head.
func (c copied) check(t *testing.T, want int64) {
	t.Helper()
	if c.bytes < want {
		t.Errorf("%d bytes came as files, want %d and more", c.bytes, want)
	}
	allowed := length(c.turns).Seconds()*float64(c.rate) + float64(len(c.turns))*(float64(c.rate)/100+2<<20)
	if float64(c.bytes) > 1.01*allowed {
		t.Errorf("received %s: %d bytes, the rate allows %.0f", c, c.bytes, allowed)
	}
}

// lookEvery is how often a node is asked how far it is. It asks the others, which is
// work, so that it is done in every phase.
const lookEvery = time.Second / 2

// watchCopy has a node that has just started receive at a rate for a turn, pause for
// a third of one and go on, and looks every half second at what it has received, until
// it has all that it shall have.
func watchCopy(t *testing.T, n *hubtest.Node, rate int64, turn, limit time.Duration) (c copied) {
	t.Helper()
	c.rate = rate
	began := time.Now()
	at := began
	now, lasts := span{begin: began}, turn
	pausing := false
	defer func() { setFetchRate(t, n, rate) }()
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		before := at
		got := received(t, n)
		if at = time.Now(); got > c.bytes {
			if c.bytes == 0 {
				now.begin = before
			}
			c.fastest = max(c.fastest, int64(float64(got-c.bytes)/at.Sub(before).Seconds()))
			c.bytes = got
		}
		err := wholeNow(n, loadedBehind)
		over := c.bytes > 0 && at.Sub(now.begin) >= lasts
		if now.end = time.Now(); over || err == nil {
			if pausing {
				c.pauses = append(c.pauses, now)
			} else {
				c.turns = append(c.turns, now)
			}
		}
		if err == nil {
			return c
		}
		if at.Sub(began) > limit {
			t.Fatalf("not whole within %s: %v", limit, err)
		}
		if over {
			if pausing = !pausing; pausing {
				setFetchRate(t, n, 1)
				lasts = max(turn/3, lookEvery)
			} else {
				setFetchRate(t, n, rate)
				lasts = turn
			}
			now = span{begin: time.Now()}
		}
		<-tick.C
	}
}

// setFetchRate changes a node's cluster.fetch_rate until its next start.
func setFetchRate(t *testing.T, n *hubtest.Node, rate int64) {
	t.Helper()
	body := strings.NewReader(fmt.Sprintf(`{"bytes_per_second": %d}`, rate))
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, "http://"+n.Admin+"/v1/fetch-rate", body)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s", req.URL, resp.Status)
	}
}

// received is how many bytes other nodes have sent a node in streams.
func received(t *testing.T, n *hubtest.Node) (bytes int64) {
	t.Helper()
	var st struct {
		Peers []struct {
			Class    string `json:"class"`
			Received int64  `json:"received_bytes"`
		} `json:"peers"`
	}
	if err := n.Ask(http.MethodGet, "/v1/status", &st); err != nil {
		t.Fatal(err)
	}
	for _, p := range st.Peers {
		if p.Class == "bulk" {
			bytes += p.Received
		}
	}
	return bytes
}

// fill writes so many MiB.
func fill(t *testing.T, site *hubtest.Site, mib int) {
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(site.Brokers()...), kgo.DefaultProduceTopic("old"), kgo.RecordPartitioner(kgo.RoundRobinPartitioner()),
		kgo.MaxBufferedRecords(20_000), kgo.ProducerLinger(20*time.Millisecond), kgo.ProducerBatchCompression(kgo.NoCompression()))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	var failed kgo.FirstErrPromise
	value := make([]byte, 1024)
	for range mib << 10 {
		cl.Produce(t.Context(), &kgo.Record{Value: value}, failed.Promise())
	}
	if err := failed.Err(); err != nil {
		t.Fatal(err)
	}
}

// forget has the system keep nothing of the nodes' logs in memory.
func forget(t *testing.T, site *hubtest.Site) {
	t.Helper()
	for _, n := range site.Nodes {
		err := filepath.WalkDir(n.Dir, func(name string, _ fs.DirEntry, err error) error {
			if err != nil || filepath.Ext(name) != ".log" {
				return err
			}
			return exec.Command("dd", "if="+name, "iflag=nocache", "count=0", "status=none").Run()
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// during waits for so long and for some records, looking at a node as often as
// watchCopy does, and is how long each record took that was sent meanwhile.
func (w *writer) during(t *testing.T, d time.Duration, n *hubtest.Node) []time.Duration {
	t.Helper()
	began := time.Now()
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		<-tick.C
		received(t, n)
		_ = wholeNow(n, loadedBehind)
		if past := time.Since(began); past >= d {
			if took := w.since(began); len(took) >= 1000 {
				return took
			} else if past > d+time.Minute {
				t.Fatalf("%d records in %s, want 1000 and more", len(took), past)
			}
		}
	}
}

// since is how long each record took that was sent since begin.
func (w *writer) since(begin time.Time) []time.Duration {
	return w.between([]span{{begin, time.Now()}})
}

// between is how long each record took that was sent in one of the spans, which
// follow each other.
func (w *writer) between(spans []span) (took []time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, one := range w.mu.acked {
		for len(spans) > 0 && one.sent.After(spans[0].end) {
			spans = spans[1:]
		}
		if len(spans) == 0 {
			break
		}
		if one.sent.After(spans[0].begin) {
			took = append(took, one.at.Sub(one.sent))
		}
	}
	return took
}

func spread(times []time.Duration) string {
	tenths := make([]time.Duration, 10)
	for i := range tenths {
		tenths[i] = figure(slices.Clone(times[i*len(times)/10:(i+1)*len(times)/10]), 0.99)
	}
	at := func(q float64) time.Duration { return figure(times, q) }
	return fmt.Sprintf("%d of them: p50 %s, p95 %s, p99 %s, max %s; p99 of each tenth %s", len(times), at(0.5), at(0.95), at(0.99), at(1), tenths)
}

// figure sorts the times and returns one that so many are not above.
func figure(times []time.Duration, q float64) time.Duration {
	if len(times) == 0 {
		return 0
	}
	slices.Sort(times)
	return times[min(len(times)-1, int(q*float64(len(times))))].Round(10 * time.Microsecond)
}
