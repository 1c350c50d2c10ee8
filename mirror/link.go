package mirror

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// core is the state machine of one link: its topics, the source's brokers and
// the discovery. next says what to do, and the outcome comes back as an event.
type core struct {
	cfg    Config
	link   Link
	topics map[string]*topic
	lanes  map[int32]*lane
	paused bool

	find struct {
		busy  bool
		at    time.Time // the next one is due
		last  time.Time // the last one that succeeded; zero: none
		err   string    // of the last one
		again retry
	}
	meter meter
	wake  time.Time // earliest time at which next has something to do by itself
}

// lane is what is under way to one of the source's brokers: one request, since
// a broker answers those of a connection one after the other.
type lane struct {
	busy     bool
	coming   int // bytes that the request under way may bring
	retry    retry
	maxBytes int32 // of the next fetch; follows how long answers take
	turn     int   // who comes first in the next fetch
}

func newCore(cfg Config, l Link) *core {
	return &core{cfg: cfg, link: l, topics: map[string]*topic{}, lanes: map[int32]*lane{}}
}

// know takes the mirrors that this site has: all of them, of any source.
func (c *core) know(mirrors []MirroredTopic) {
	here := map[string]bool{}
	for _, m := range mirrors {
		if m.SourceSite != c.link.Source {
			continue
		}
		here[m.Name] = true
		t := c.topics[m.Name]
		if t == nil {
			t = &topic{name: m.Name, id: m.ID, link: &c.link, gone: c.paused}
			c.topics[m.Name] = t
		}
		if t.id == m.ID {
			t.grow(m.Partitions)
		}
	}
	for name, t := range c.topics {
		// Deleted here after it had stopped: it may begin anew.
		if len(t.parts) > 0 && t.verdict != nil && !here[name] && !t.active() {
			delete(c.topics, name)
		}
	}
}

// sorted are the topics by name, so that the order of actions is fixed.
func (c *core) sorted() []*topic {
	all := make([]*topic, 0, len(c.topics))
	for _, t := range c.topics {
		all = append(all, t)
	}
	slices.SortFunc(all, func(a, b *topic) int { return strings.Compare(a.name, b.name) })
	return all
}

// later notes a time at which next should be called.
func (c *core) later(t time.Time) {
	if !t.IsZero() && (c.wake.IsZero() || t.Before(c.wake)) {
		c.wake = t
	}
}

// next returns what is to be done now. Without an event it need not be called
// before c.wake.
func (c *core) next(now time.Time) (todo []any) {
	c.wake = time.Time{}
	todo = c.nextDiscovery(now, todo)
	held := c.coming()
	byBroker := map[int32][]*partition{}
	for _, t := range c.sorted() {
		if t.unmade(now) {
			t.busy = true
			todo = append(todo, ensure{t.want})
		} else if !t.busy && !t.want.equal(t.made) {
			c.later(t.retry.at)
		}
		for _, p := range t.parts {
			todo = c.nextLocal(now, p, todo)
			held += p.queued
			if p.phase == running && p.leader.node >= 0 {
				byBroker[p.leader.node] = append(byBroker[p.leader.node], p)
			}
		}
	}
	for _, id := range sortedKeys(byBroker) {
		todo = c.nextRemote(now, id, byBroker[id], &held, todo)
	}
	return todo
}

// coming is what the fetches under way may bring, in bytes.
func (c *core) coming() (n int) {
	for _, l := range c.lanes {
		n += l.coming
	}
	return n
}

func sortedKeys(m map[int32][]*partition) []int32 {
	keys := make([]int32, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// nextDiscovery asks the source for its topics from time to time, and soon
// when a partition needs another leader.
func (c *core) nextDiscovery(now time.Time, todo []any) []any {
	if c.find.busy {
		return todo
	}
	if now.Before(c.find.at) {
		c.later(c.find.at)
		return todo
	}
	c.find.busy = true
	return append(todo, discover{})
}

// nextLocal is what a partition has to do at the destination.
func (c *core) nextLocal(now time.Time, p *partition, todo []any) []any {
	if p.phase == closed {
		if !p.retry.due(now) {
			c.later(p.retry.at)
			return todo
		}
		p.phase = opening
		return append(todo, open{p})
	}
	if out := p.output(); out != nil {
		todo = append(todo, out)
	}
	return todo
}

// nextRemote is the next request to a broker, for those of its partitions that
// have something to ask.
func (c *core) nextRemote(now time.Time, id int32, parts []*partition, held *int, todo []any) []any {
	l := c.lanes[id]
	if l == nil {
		l = &lane{maxBytes: min(firstFetch, c.cfg.FetchBytes)}
		c.lanes[id] = l
	}
	if l.busy {
		return todo
	}
	if !l.retry.due(now) {
		c.later(l.retry.at)
		return todo
	}
	if m := c.measures(now, id, parts); len(m.asks) > 0 {
		l.busy = true
		return append(todo, m)
	}
	f := c.fetches(now, id, l, parts, *held)
	if len(f.asks) > 0 {
		l.busy, l.coming = true, int(f.maxBytes)
		*held += l.coming
		todo = append(todo, f)
	}
	return todo
}

func (c *core) measures(now time.Time, id int32, parts []*partition) measure {
	m := measure{broker: id}
	for _, p := range parts {
		if p.unmeasured(now) {
			m.asks = append(m.asks, p.ask(0))
		} else if p.topic.pulls() && !p.asked {
			c.later(p.measureAt)
		}
	}
	return m
}

// fetches gathers the partitions that can take an answer, beginning with
// another one each time: a source fills its answer from the front. There is no
// fetch while the link holds as much as it may.
func (c *core) fetches(now time.Time, id int32, l *lane, parts []*partition, held int) fetch {
	f := fetch{broker: id, wait: c.cfg.Wait}
	room := c.cfg.HoldBytes - held
	if room < min(leastFetch, c.cfg.HoldBytes) {
		return f
	}
	f.maxBytes = min(l.maxBytes, int32(room))
	l.turn++
	for i := range parts {
		p := parts[(i+l.turn)%len(parts)]
		ready, full := p.ready(now)
		switch {
		case ready:
			f.asks = append(f.asks, p.ask(min(c.cfg.PartitionBytes, f.maxBytes)))
		case full:
			f.wait = min(f.wait, shortWait) // its queue may have room at any moment
		case p.halt == nil && p.measureAt.IsZero() && !p.retry.due(now):
			c.later(p.retry.at)
			f.wait = min(f.wait, max(p.retry.at.Sub(now), shortWait))
		}
	}
	return f
}

// step takes an event.
func (c *core) step(now time.Time, event any) {
	switch e := event.(type) {
	case discovered:
		c.discovered(now, e)
	case ensured:
		if t := c.topics[e.topic.Name]; t != nil {
			t.ensured(now, e)
		}
	case opened:
		e.part.opened(now, e)
	case fetched:
		c.fetched(now, e)
	case measured:
		c.measured(now, e)
	case written:
		e.part.written(now, e)
	case trimmed:
		e.part.trimDone(now, e)
	default:
		panic(fmt.Sprintf("mirror: %T is no event", event))
	}
}

// discovered takes the source's topics.
func (c *core) discovered(now time.Time, e discovered) {
	c.find.busy = false
	if e.err != nil {
		c.find.err = e.err.Error()
		c.find.again.failed(now, max(c.cfg.Poll, retryFirst))
		c.find.at = c.find.again.at
		return
	}
	c.find.err, c.find.last, c.find.again = "", now, retry{}
	c.find.at = now.Add(c.cfg.Poll)
	found := map[string]bool{}
	for i := range e.topics {
		s := &e.topics[i]
		found[s.name] = true
		t := c.topics[s.name]
		if t == nil && (s.fault != "" || !c.link.takes(s.name) || !offered(s, c.cfg.Site)) {
			continue
		}
		if t == nil {
			t = &topic{name: s.name, id: s.id, link: &c.link, gone: c.paused}
			c.topics[s.name] = t
		}
		t.seen(s, c.cfg.Site)
	}
	for name, t := range c.topics {
		if !found[name] {
			t.absent()
		}
	}
}

// rediscover brings the next discovery forward: a leader has changed.
func (c *core) rediscover(now time.Time) {
	if soon := now.Add(retryFirst); soon.Before(c.find.at) {
		c.find.at = soon
	}
}

// fetched takes a fetch answer.
func (c *core) fetched(now time.Time, e fetched) {
	l := c.lanes[e.broker]
	l.busy, l.coming = false, 0
	if e.err != nil {
		c.lost(now, l, e.broker, e.asks, e.err)
		l.maxBytes = max(l.maxBytes/2, min(leastFetch, c.cfg.FetchBytes))
		return
	}
	l.retry = retry{}
	switch { // the size doubles or halves, until an answer takes some time but not long
	case e.took > slowAnswer && e.bytes > int(l.maxBytes/2):
		l.maxBytes = max(l.maxBytes/2, min(leastFetch, c.cfg.FetchBytes))
	case e.took < quickAnswer && e.bytes > int(l.maxBytes/2):
		l.maxBytes = int32(min(2*int64(l.maxBytes), int64(c.cfg.FetchBytes)))
	}
	c.meter.add(now, e.bytes)
	for i, a := range e.asks {
		a.part.fetched(now, a, e.answers[i])
		if a.part.refused {
			c.rediscover(now)
		}
	}
}

func (c *core) measured(now time.Time, e measured) {
	l := c.lanes[e.broker]
	l.busy, l.coming = false, 0
	if e.err != nil {
		c.lost(now, l, e.broker, e.asks, e.err)
		return
	}
	l.retry = retry{}
	for i, a := range e.asks {
		a.part.measured(now, a, e.ranges[i])
		if a.part.refused {
			c.rediscover(now)
		}
	}
}

// lost: the broker did not answer.
func (c *core) lost(now time.Time, l *lane, broker int32, asks []ask, err error) {
	l.retry.failed(now, retryMost)
	c.rediscover(now)
	for _, a := range asks {
		if a.era == a.part.era {
			a.part.unreachable(fmt.Sprintf("broker %d of the source does not answer: %v", broker, err))
		}
	}
}

// pause stops (or goes on) asking for records of one topic, or of all with "".
// Going on looks anew at what had stopped a partition.
func (c *core) pause(name string, stop bool) error {
	if name == "" {
		c.paused = stop
	} else if c.topics[name] == nil {
		return fmt.Errorf("mirror: link %q has no topic %q", c.link.Name, name)
	}
	for _, t := range c.topics {
		if name == "" {
			t.gone = stop
		} else if t.name == name {
			t.paused = stop
		} else {
			continue
		}
		if stop {
			continue
		}
		for _, p := range t.parts {
			p.halt, p.suspect, p.measureAt = nil, suspicion{}, time.Time{}
		}
	}
	return nil
}
