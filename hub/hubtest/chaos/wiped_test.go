package chaos

import (
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
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
// them, and with the time before and after.
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
	measured := os.Getenv("ENTREPOT_WIPED_MIB") != ""
	if measured {
		fillMemory(t) // also what was forgotten leaves
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
	c := watchCopy(t, n, rate, turnOf(mib, rate), 40*time.Minute)
	took := time.Since(began)
	meanwhile, paused := w.between(c.turns), w.between(settled(c.pauses))
	after := w.during(t, calm, n)
	t.Logf("a wiped node has its %d MiB again after %s, %s of them pauses", mib, took.Round(10*time.Millisecond), length(c.pauses).Round(10*time.Millisecond))
	t.Logf("received %s", c)
	t.Logf("writes before, %s", spread(before))
	t.Logf("writes with two nodes, %s", spread(without))
	t.Logf("writes while it was filled, %s", spread(meanwhile))
	t.Logf("writes in the pauses, %s", spread(paused))
	t.Logf("writes after it, %s", spread(after))
	for than, quiet := range map[string][]time.Duration{"before and after": slices.Concat(before, after), "in the pauses": paused} {
		more := 100 * (figure(meanwhile, 0.99).Seconds()/figure(quiet, 0.99).Seconds() - 1)
		t.Logf("p99 of a write %s %s, %s while it was filled: %+.0f %%", figure(quiet, 0.99), than, figure(meanwhile, 0.99), more)
		if measured && more > 20 {
			t.Errorf("p99 of a write is %.0f %% higher while a node is filled than %s, want 20 %% at most", more, than)
		}
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

// settled are pauses without the first half second of each that is longer than two:
// what was on its way then belongs to the turn before.
func settled(pauses []span) []span {
	out := slices.Clone(pauses)
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
	first, last   time.Time // when something was received
	turns, pauses []span
	rate          int64 // in the turns, bytes a second
	fastest       int64 // between two looks, in bytes a second
	stray         int64 // bytes received in pauses
}

// took is how long it received, without the pauses.
func (c copied) took() (d time.Duration) {
	for _, s := range c.turns {
		if s.begin.Before(c.first) {
			s.begin = c.first
		}
		if s.end.After(c.last) {
			s.end = c.last
		}
		d += max(0, s.end.Sub(s.begin))
	}
	return d
}

func (c copied) String() string {
	took := c.took()
	return fmt.Sprintf("%d MiB in %s: %.1f MiB/s, in the fastest half second %.1f MiB/s, of %d MiB/s", c.bytes>>20, took.Round(10*time.Millisecond),
		float64(c.bytes)/took.Seconds()/(1<<20), float64(c.fastest)/(1<<20), c.rate>>20)
}

// check has less than the whole come as files fail, and more than the rate
// allows in the turns: besides, a hundredth of a second may be made up
// for, two streams be ahead by a window of 1 MiB, and a frame has a head.
func (c copied) check(t *testing.T, want int64) {
	t.Helper()
	if c.bytes < want {
		t.Errorf("%d bytes came as files, want %d and more", c.bytes, want)
	}
	allowed := c.took().Seconds()*float64(c.rate) + float64(c.rate)/100 + 2<<20
	if float64(c.bytes) > 1.01*allowed {
		t.Errorf("received %s: %d bytes, the rate allows %.0f", c, c.bytes, allowed)
	}
	if c.stray > int64(len(c.pauses))*2<<20 {
		t.Errorf("%d bytes came in %d pauses, want no more than is on its way", c.stray, len(c.pauses))
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
	at, now, pausing := began, span{begin: began}, false
	var atPause int64 // what was received then
	fetch := func(rate int64) {
		if err := n.SetFetchRate(rate); err != nil {
			t.Fatal(err)
		}
	}
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		before := at
		got := received(t, n)
		if at = time.Now(); got > c.bytes {
			if c.bytes == 0 {
				c.first = before
			}
			c.fastest = max(c.fastest, int64(float64(got-c.bytes)/at.Sub(before).Seconds()))
			c.bytes, c.last = got, at
		}
		err := wholeNow(n, loadedBehind)
		if err != nil && at.Sub(began) > limit {
			t.Fatalf("not whole within %s: %v", limit, err)
		}
		lasts := turn
		if pausing {
			lasts = max(turn/3, lookEvery)
		}
		over := err == nil || c.bytes > 0 && at.Sub(now.begin) >= lasts
		switch { // a turn has the moments in which the rate changes
		case over && pausing:
			c.stray += got - atPause
			now.end = time.Now()
			c.pauses, now = append(c.pauses, now), span{begin: now.end}
			fetch(rate)
		case over:
			if err != nil {
				fetch(1)
				atPause = received(t, n)
			}
			now.end = time.Now()
			c.turns, now = append(c.turns, now), span{begin: now.end}
		}
		pausing = pausing != over
		if err == nil {
			return c
		}
		<-tick.C
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
