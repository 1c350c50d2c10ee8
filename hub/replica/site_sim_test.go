package replica

import (
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// The simulation of a site: three to five nodes with several groups each, the
// real cores over the real storage, on disks in memory. One scheduler without
// goroutines draws everything from a seed: which message arrives, when a disk
// is done, what fails. docs/simulation.md says what happens and what is
// checked. Each step has a source of its own, made of the seed and its number,
// so that steps can be left out and the others stay what they are: that is how
// a failing seed is made short.

var siteShrink = flag.Bool("sim.shrink", false, "of a failing seed, look for the fewest steps that fail in the same way")

var siteLines = flag.Int("sim.lines", 80, "how many of the last events of a failing seed are told")

const siteSteps = 1500

func TestSimulateSite(t *testing.T) {
	usual := 2000
	if testing.Short() {
		usual = 200
	}
	first, n := simRange(usual)
	began := time.Now()
	seed, err, sum := runSites(first, n, sitePlant{})
	if err != nil {
		t.Fatalf("%s", explainSite(seed, sitePlant{}, *siteShrink))
	}
	t.Logf("%d seeds, %.1f a second: %s", n, float64(n)/time.Since(began).Seconds(), sum)
	if n >= 1000 {
		sum.wanted(t)
	}
}

// TestSimulationReplays: a seed is the whole story.
func TestSimulationReplays(t *testing.T) {
	for seed := range uint64(3) {
		var texts [2]string
		for i := range texts {
			s := newSimSite(seed+1, sitePlant{})
			s.tracing = true
			if err := s.run(siteSteps, nil); err != nil {
				t.Fatal(err)
			}
			texts[i] = strings.Join(s.trace, "\n")
		}
		if texts[0] != texts[1] {
			t.Errorf("seed %d went two ways", seed+1)
		}
	}
}

// runSites runs seeds on all processors, until one fails: the lowest of those
// that were begun by then.
func runSites(first uint64, n int, plant sitePlant) (seed uint64, err error, sum siteCounts) {
	defer debug.SetGCPercent(debug.SetGCPercent(400)) // many small disks: mostly garbage
	var mu sync.Mutex
	var wg sync.WaitGroup
	next := first
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for {
				mu.Lock()
				mine := next
				next++
				stop := err != nil || mine >= first+uint64(n)
				mu.Unlock()
				if stop {
					return
				}
				s := newSimSite(mine, plant)
				e := s.run(siteSteps, nil)
				mu.Lock()
				sum.add(&s.counts)
				if e != nil && (err == nil || mine < seed) {
					seed, err = mine, e
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return seed, err, sum
}

// simSite is the simulated site.
type simSite struct {
	seed    uint64
	at      int // step
	src     *rand.PCG
	rng     *rand.Rand
	now     time.Time
	mood    siteMood
	plant   sitePlant
	nodes   []*siteNode
	groups  []*siteGroup
	net     []packet
	late    []packet
	cut     [8][8]bool // from broker to broker: nothing arrives
	healing bool       // the end of a seed: nothing fails any more
	lost    *siteNode  // the node that has lost data, or whose data is damaged: one at a time
	counts  siteCounts
	tracing bool
	mended  int // notes since everything was mended
	trace   []string
}

// siteMood is what a seed is like.
type siteMood struct {
	weights  []int
	nodes    int
	drop     int // of 100 messages
	twice    int // of 100 messages
	late     int // of 100 messages: they come much later
	reorder  int // how far from the oldest message the next one may be
	sendLate bool
	readers  int  // percent of the steps in which somebody waits for a commit
	power    bool // power cuts besides kills
	narrow   bool // one group instead of several
	least    int  // voters
	ticks    int  // of a node at once, at most
	election int  // ticks
	quiet    int  // ticks of rest before a group goes quiet; 0: never
	repair   bool // damaged logs are repaired by their leaders' files, perhaps
	roll     int64
}

// siteEvent is something that a step may do.
type siteEvent struct {
	name   string
	weight int
	do     func(*simSite)
}

func siteEvents() []siteEvent {
	return []siteEvent{
		{"deliver", 330, (*simSite).evDeliver},
		{"tick", 130, (*simSite).evTick},
		{"disk", 190, (*simSite).evDisk},
		{"client", 200, (*simSite).evClient},
		{"wake", 60, (*simSite).evWake},
		{"partition", 6, (*simSite).evPartition},
		{"heal", 8, (*simSite).evHealNet},
		{"stop", 5, (*simSite).evStop},
		{"arm", 7, (*simSite).evArm},
		{"start", 30, (*simSite).evStart},
		{"pause", 3, (*simSite).evPause},
		{"clock", 2, (*simSite).evClock},
		{"full", 3, (*simSite).evFull},
		{"failsync", 2, (*simSite).evFailSync},
		{"flip", 4, (*simSite).evFlip},
		{"wipe", 3, (*simSite).evWipe},
		{"members", 18, (*simSite).evMembers},
		{"transfer", 4, (*simSite).evTransfer},
		{"campaign", 4, (*simSite).evCampaign},
		{"roll", 10, (*simSite).evRoll},
		{"retention", 8, (*simSite).evRetention},
		{"compact", 20, (*simSite).evCompact},
		{"hint", 4, (*simSite).evHint},
		{"repair", 30, (*simSite).evRepair},
	}
}

// Where these are in siteEvents.
const (
	siteClients = 3
	siteStop    = 7
	siteFlip    = 14
	siteWipe    = 15
	siteMembers = 16
)

// losses reports whether nodes lose data for good.
func (m *siteMood) losses() bool { return m.weights[siteFlip]+m.weights[siteWipe] > 0 }

// storm makes members come and go while nodes stop and the network fails.
func (m *siteMood) storm() {
	m.weights[siteMembers] *= 4
	m.weights[siteStop] *= 3
	for _, i := range []int{5, siteStop + 1} {
		m.weights[i] *= 2
	}
}

func newSimSite(seed uint64, plant sitePlant) *simSite {
	src := rand.NewPCG(seed, math.MaxUint64-1)
	s := &simSite{seed: seed, src: src, rng: rand.New(src), plant: plant, now: time.UnixMilli(1_700_000_000_000)}
	rng := s.rng
	m := &s.mood
	for i, e := range siteEvents() {
		w := e.weight * 4
		if i >= 5 { // what goes wrong: not all of it, and not always as often
			w = w * []int{0, 1, 2, 4, 8}[rng.IntN(5)] / 4
		}
		m.weights = append(m.weights, w)
	}
	m.nodes = []int{3, 3, 4, 5}[rng.IntN(4)]
	m.drop, m.twice, m.reorder = []int{0, 2, 10}[rng.IntN(3)], []int{0, 3, 10}[rng.IntN(3)], []int{0, 3, 30}[rng.IntN(3)]
	m.late = []int{0, 5, 25}[rng.IntN(3)]
	m.least, m.ticks = 3, 1+rng.IntN(3)
	if m.narrow = rng.IntN(3) == 0; m.narrow {
		m.storm()
		if rng.IntN(2) == 0 { // down to one voter: no data may be lost for good
			m.least, m.weights[siteFlip], m.weights[siteWipe] = 1, 0, 0
		}
	}
	if m.repair = rng.IntN(2) == 0; m.repair {
		m.weights[siteFlip] *= 3
	}
	m.sendLate, m.power = rng.IntN(2) == 0, rng.IntN(4) > 0
	m.readers = []int{0, 20, 100}[rng.IntN(3)]
	m.election = 4 + rng.IntN(4)
	if rng.IntN(2) == 0 {
		m.quiet = 2 + rng.IntN(m.election-3)
		m.weights[siteClients] /= 1 + 5*rng.IntN(2) // clients may leave the groups some rest
	}
	m.roll = 1200 + rng.Int64N(6000)
	for b := range m.nodes {
		s.nodes = append(s.nodes, newSiteNode(s, int32(b+1)))
	}
	s.groups = newSiteGroups(s)
	for _, n := range s.nodes {
		n.reps = make([]*siteReplica, len(s.groups))
	}
	for _, g := range s.groups {
		for _, id := range g.born {
			n := s.nodes[brokerOf(id)-1]
			n.reps[g.at] = newSiteReplica(n, g, id)
		}
	}
	return s
}

// siteFailure is what a check panics with.
type siteFailure struct{ text string }

func (s *simSite) fail(format string, v ...any) { panic(siteFailure{fmt.Sprintf(format, v...)}) }

// run plays the seed. skip leaves steps out.
func (s *simSite) run(steps int, skip map[int]bool) (err error) {
	defer func() {
		s.counts.seeds++
		switch p := recover().(type) {
		case nil:
		case siteFailure:
			err = fmt.Errorf("seed %d, step %d: %s", s.seed, s.at, p.text)
		default:
			err = fmt.Errorf("seed %d, step %d: panic: %v\n%s", s.seed, s.at, p, debug.Stack())
		}
	}()
	events := siteEvents()
	total := 0
	for _, w := range s.mood.weights {
		total += w
	}
	s.src.Seed(s.seed, 0)
	for _, n := range s.nodes {
		n.start()
	}
	for s.at = 1; s.at <= steps; s.at++ {
		if skip[s.at] {
			continue
		}
		s.src.Seed(s.seed, uint64(s.at))
		s.counts.steps++
		s.now = s.now.Add(time.Duration(s.rng.IntN(4)) * time.Millisecond)
		k := s.rng.IntN(total)
		for i, w := range s.mood.weights {
			if k -= w; k < 0 {
				s.note("%s", events[i].name)
				events[i].do(s)
				break
			}
		}
		s.reap()
	}
	s.src.Seed(s.seed, uint64(steps)+1)
	s.heal()
	return nil
}

// note adds to the story of a step.
func (s *simSite) note(format string, v ...any) {
	if s.tracing && (!s.healing || s.mended < 200) {
		if s.healing {
			s.mended++
		}
		s.trace = append(s.trace, fmt.Sprintf("%d ", s.at)+fmt.Sprintf(format, v...))
	}
}

// reap takes the nodes down whose disk stopped in the middle of an operation.
func (s *simSite) reap() {
	for _, n := range s.nodes {
		if n.up && n.mem.Dead() {
			n.crash(s.mood.power && s.rng.IntN(2) == 0, "in the middle")
		}
	}
}

// explainSite runs a failing seed again and tells its last events; with shrink
// also those of the fewest steps that fail in the same way.
func explainSite(seed uint64, plant sitePlant, shrink bool) string {
	s := newSimSite(seed, plant)
	s.tracing = true
	err := s.run(siteSteps, nil)
	if err == nil {
		return fmt.Sprintf("seed %d failed and does so no more", seed)
	}
	text := fmt.Sprintf("%v\nthe last events:\n%s\nrun it alone with -run TestSimulateSite -sim.seed=%d; -sim.shrink looks for a shorter story", err, lastLines(s.trace, *siteLines), seed)
	if !shrink {
		return text
	}
	skip := shrinkSite(seed, plant, s.at, symptom(err))
	s = newSimSite(seed, plant)
	s.tracing = true
	err = s.run(siteSteps, skip)
	return fmt.Sprintf("%s\n\nthe fewest steps found:\n%s\n%v", text, strings.Join(s.trace, "\n"), err)
}

func lastLines(lines []string, n int) string {
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

// symptom is an error without the numbers that differ from story to story.
func symptom(err error) string {
	text := err.Error()
	if i := strings.Index(text, ": "); i >= 0 {
		text = text[i+2:]
	}
	text = strings.SplitN(text, "\n", 2)[0]
	return strings.Map(func(r rune) rune {
		if r >= '0' && r <= '9' {
			return -1
		}
		return r
	}, text)
}

// shrinkSite leaves out as many steps as it can, in runs that get shorter.
func shrinkSite(seed uint64, plant sitePlant, last int, want string) map[int]bool {
	skip := map[int]bool{}
	for i := last + 1; i <= siteSteps; i++ {
		skip[i] = true
	}
	fails := func(skip map[int]bool) bool {
		err := newSimSite(seed, plant).run(siteSteps, skip)
		return err != nil && symptom(err) == want
	}
	if !fails(skip) {
		clear(skip)
	}
	for size := last / 2; size > 0; size /= 2 {
		for from := 1; from <= last; from += size {
			try := map[int]bool{}
			for k := range skip {
				try[k] = true
			}
			for i := from; i < from+size; i++ {
				try[i] = true
			}
			if len(try) > len(skip) && fails(try) {
				skip = try
			}
		}
	}
	return skip
}

// siteCounts says what the seeds went through.
type siteCounts struct {
	seeds, steps, cuts, kills, stopped, flips, found, wipes, changes, elections, transfers int
	partitions, resets, acks, lostAcks, commits, aborts, duplicates, mirrored, commands    int
	full, offline, trims, compactions, superseded, installed, repaired, rests, roused      int
	confirms                                                                               int
}

func (c *siteCounts) all() []*int {
	return []*int{
		&c.seeds, &c.steps, &c.cuts, &c.kills, &c.stopped, &c.flips, &c.found, &c.wipes, &c.changes, &c.elections, &c.transfers,
		&c.partitions, &c.resets, &c.acks, &c.lostAcks, &c.commits, &c.aborts, &c.duplicates, &c.mirrored, &c.commands,
		&c.full, &c.offline, &c.trims, &c.compactions, &c.superseded, &c.installed, &c.repaired, &c.rests, &c.roused, &c.confirms,
	}
}

func (c *siteCounts) add(o *siteCounts) {
	for i, p := range o.all() {
		*c.all()[i] += *p
	}
}

func (c siteCounts) String() string {
	return fmt.Sprintf("%d steps, %d power cuts, %d kills (%d stops in the middle of an operation), %d flips (%d found when the log was opened or read), %d wiped nodes, "+
		"%d changes of membership, %d elections, %d transfers, %d partitions, %d snapshots, %d acknowledgements (%d proposals of unknown end), %d commits and %d aborts, "+
		"%d duplicates, %d mirrored batches, %d commands, %d full disks, %d failed syncs, %d trims, %d compactions, %d suffixes superseded, %d logs taken from a leader as files and %d damaged ones, %d times a replica went quiet (%d roused by silence), %d times a leader was sure to lead",
		c.steps, c.cuts, c.kills, c.stopped, c.flips, c.found, c.wipes, c.changes, c.elections, c.transfers, c.partitions, c.resets, c.acks, c.lostAcks, c.commits, c.aborts,
		c.duplicates, c.mirrored, c.commands, c.full, c.offline, c.trims, c.compactions, c.superseded, c.installed, c.repaired, c.rests, c.roused, c.confirms)
}

// wanted fails a test whose seeds did not go through everything.
func (c *siteCounts) wanted(t *testing.T) {
	t.Helper()
	all := c.all()
	if i := slices.IndexFunc(all, func(p *int) bool { return *p == 0 }); i >= 0 {
		t.Errorf("the simulation did not do what it is for (count %d): %s", i, c)
	}
}
