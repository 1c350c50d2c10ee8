package mirror

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/entrepot-hub/entrepot/record"
)

// link runs the state machine of one link: it does what the machine asks, each
// thing in a goroutine of its own, and tells it the outcome.
type link struct {
	name   string
	cfg    Config
	site   Site
	log    *slog.Logger
	events chan any
	kick   chan struct{} // something changed from outside

	mu struct {
		sync.Mutex
		core    *core
		targets map[record.TopicPartition]Target
		brokers []string
		source  *source // nil until brokers are known
	}
}

// errNoAddress: the mesh has not told any node of the source site.
var errNoAddress = errors.New("no node of the source site is known in the mesh")

func newLink(cfg Config, l Link, site Site) *link {
	k := &link{
		name: l.Name, cfg: cfg, site: site, log: cfg.Logger.With("link", l.Name, "site", l.Source),
		events: make(chan any), kick: make(chan struct{}, 1),
	}
	k.mu.core = newCore(cfg, l)
	k.mu.targets = map[record.TopicPartition]Target{}
	return k
}

// poke makes the loop look at the state again.
func (k *link) poke() {
	select {
	case k.kick <- struct{}{}:
	default:
	}
}

// setBrokers takes the addresses of the source; an empty list changes nothing,
// since what gossip no longer hears may still be there.
func (k *link) setBrokers(brokers []string) error {
	brokers = slices.Sorted(slices.Values(brokers))
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(brokers) == 0 || slices.Equal(brokers, k.mu.brokers) {
		return nil
	}
	k.mu.brokers = brokers
	k.mu.core.rediscover(time.Now())
	k.poke()
	if k.mu.source == nil {
		return nil
	}
	if err := k.mu.source.client.UpdateSeedBrokers(brokers...); err != nil {
		return fmt.Errorf("source brokers %v: %w", brokers, err)
	}
	return nil
}

// run works until ctx ends and all that was begun has ended.
func (k *link) run(ctx context.Context) {
	var wg sync.WaitGroup
	defer k.close()
	defer wg.Wait()
	timer := time.NewTimer(0)
	defer timer.Stop()
	tell := time.NewTicker(time.Second)
	defer tell.Stop()
	var told LinkStatus
	for {
		todo, wake := k.next()
		for _, action := range todo {
			wg.Go(func() { k.do(ctx, action) })
		}
		timer.Reset(wake)
		select {
		case <-ctx.Done():
			return
		case e := <-k.events:
			k.step(e)
		case <-timer.C:
		case <-k.kick:
		case <-tell.C:
			now := k.status()
			k.tell(told, now)
			told = now
		}
	}
}

// close ends the connections to the source.
func (k *link) close() {
	k.mu.Lock()
	s := k.mu.source
	k.mu.source = nil
	k.mu.Unlock()
	if s != nil {
		s.client.Close()
	}
}

// idleWake is when to look again although nothing is due.
const idleWake = time.Minute

func (k *link) next() (todo []any, wake time.Duration) {
	k.mu.Lock()
	defer k.mu.Unlock()
	now := time.Now()
	todo, wake = k.mu.core.next(now), idleWake
	if w := k.mu.core.wake; !w.IsZero() {
		wake = max(w.Sub(now), time.Millisecond)
	}
	return todo, wake
}

func (k *link) step(event any) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.mu.core.step(time.Now(), event)
}

func (k *link) status() LinkStatus {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.mu.core.status(time.Now())
}

func (k *link) know(mirrors []MirroredTopic) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.mu.core.know(mirrors)
	k.poke()
}

func (k *link) pause(topic string, stop bool) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	defer k.poke()
	return k.mu.core.pause(topic, stop)
}

// do does one thing and hands in the outcome.
func (k *link) do(ctx context.Context, action any) {
	event := k.outcome(ctx, action)
	select {
	case k.events <- event:
	case <-ctx.Done():
	}
}

func (k *link) outcome(ctx context.Context, action any) any {
	switch a := action.(type) {
	case discover:
		topics, err := k.discover(ctx)
		return discovered{topics, err}
	case ensure:
		return ensured{a.topic, k.site.EnsureTopic(ctx, a.topic)}
	case open:
		return k.open(a)
	case fetch:
		return k.fetch(ctx, a)
	case measure:
		return k.measure(ctx, a)
	case write:
		return written{a, k.target(a.part).Append(ctx, k.name, a.next, a.batches)}
	case trim:
		return trimmed{a, k.target(a.part).SetLogStart(ctx, a.start)}
	}
	panic(fmt.Sprintf("mirror: %T is no action", action))
}

// from is the client of the source, made when it is first needed.
func (k *link) from() (*source, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.mu.brokers) == 0 {
		return nil, errNoAddress
	}
	if k.mu.source == nil {
		s, err := newSource(k.cfg, k.mu.brokers)
		if err != nil {
			return nil, err
		}
		k.mu.source = s
	}
	return k.mu.source, nil
}

func (k *link) discover(ctx context.Context) ([]sourceTopic, error) {
	s, err := k.from()
	if err != nil {
		return nil, err
	}
	return s.discover(ctx)
}

func (k *link) fetch(ctx context.Context, f fetch) fetched {
	e := fetched{broker: f.broker, asks: f.asks}
	s, err := k.from()
	if err != nil {
		e.err = err
		return e
	}
	began := time.Now()
	e.answers, e.bytes, e.err = s.fetch(ctx, f)
	e.took = time.Since(began)
	return e
}

func (k *link) measure(ctx context.Context, m measure) measured {
	e := measured{broker: m.broker, asks: m.asks}
	s, err := k.from()
	if err != nil {
		e.err = err
		return e
	}
	e.ranges, e.err = s.measure(ctx, m)
	return e
}

// open finds the target of a partition and the end of its log.
func (k *link) open(a open) opened {
	e := opened{part: a.part}
	t, err := k.site.Target(a.part.tp)
	if err != nil {
		e.err = err
		return e
	}
	e.next, e.epoch = t.Next()
	k.mu.Lock()
	defer k.mu.Unlock()
	k.mu.targets[a.part.tp] = t
	return e
}

func (k *link) target(p *partition) Target {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.mu.targets[p.tp]
}

// tell logs what changed for the worse, and when it is over. What a healthy
// link does is in its status.
func (k *link) tell(before, now LinkStatus) {
	if alarming(now.State) != alarming(before.State) || alarming(now.State) && now.State != before.State {
		k.say("mirror: link", now.State, now.Reason, "")
	}
	was := map[string]State{}
	for _, t := range before.Topics {
		was[t.Name] = t.State
	}
	for _, t := range now.Topics {
		if was[t.Name] != t.State && (alarmingTopic(t.State) || alarmingTopic(was[t.Name])) {
			k.say("mirror: topic", t.State, t.Reason, t.Name)
		}
	}
}

func (k *link) say(msg string, s State, reason, topic string) {
	level := slog.LevelInfo
	if alarming(s) {
		level = slog.LevelWarn
	}
	args := []any{"state", string(s), "reason", reason}
	if topic != "" {
		args = append(args, "topic", topic)
	}
	k.log.Log(context.Background(), level, msg, args...)
}

// alarming states want someone to look.
func alarming(s State) bool {
	switch s {
	case StateDiverged, StateRecreated, StateGap, StateRefused, StateUnreachable, StateStopped:
		return true
	}
	return false
}

// alarmingTopic leaves out what concerns the whole link: one line is enough.
func alarmingTopic(s State) bool { return alarming(s) && s != StateUnreachable }
