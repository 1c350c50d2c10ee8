package rabbitmq

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/entrepot-hub/entrepot/connectors"
	"github.com/entrepot-hub/entrepot/record"
)

// moodyBroker is a broker with one queue, which refuses, is silent, is slow and
// goes away as often as a test wants.
type moodyBroker struct {
	mu    sync.Mutex
	rng   *rand.Rand
	bad   int // of 100 messages
	queue []string
	moods map[string]int
}

// open connects, or fails.
func (b *moodyBroker) open(context.Context) (*outlet, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.mood("no connection") {
		return nil, connectors.Retry(0, errors.New("nobody answers"))
	}
	p := &moodyPort{broker: b, closed: make(chan *amqp.Error, 1), returns: make(chan amqp.Return), blocks: make(chan amqp.Blocking)}
	return &outlet{port: p, note: func(error) {}, homeless: map[string]string{}, closed: p.closed, returns: p.returns, blocks: p.blocks}, nil
}

// mood draws whether a thing goes wrong.
func (b *moodyBroker) mood(what string) bool {
	is := b.rng.IntN(100) < b.bad
	if is {
		b.moods[what]++
	}
	return is
}

type moodyPort struct {
	broker  *moodyBroker
	closed  chan *amqp.Error
	returns chan amqp.Return
	blocks  chan amqp.Blocking
	gone    bool // under the broker's mu, as open
	open    []*answer
}

// answer is one confirmation.
type answer struct {
	done  chan struct{}
	acked bool
	once  sync.Once
}

func (a *answer) Done() <-chan struct{} { return a.done }
func (a *answer) Acked() bool           { return a.acked }
func (a *answer) say(ack bool) {
	a.once.Do(func() {
		a.acked = ack
		close(a.done)
	})
}

func (p *moodyPort) within(_ context.Context, calls func() error) error { return calls() }

func (p *moodyPort) dead() bool {
	p.broker.mu.Lock()
	defer p.broker.mu.Unlock()
	return p.gone
}

func (p *moodyPort) close() {
	p.broker.mu.Lock()
	defer p.broker.mu.Unlock()
	p.end()
}

// end is what the driver makes of a lost connection: it answers for the broker.
func (p *moodyPort) end() {
	if p.gone {
		return
	}
	p.gone = true
	p.closed <- amqp.ErrClosed
	close(p.closed)
	close(p.returns)
	close(p.blocks)
	for _, a := range p.open {
		a.say(false)
	}
}

// send takes a message in and answers at once, later, or never.
func (p *moodyPort) send(m *outgoing, _ bool) (confirmation, error) {
	b := p.broker
	b.mu.Lock()
	defer b.mu.Unlock()
	if p.gone || b.mood("cut before") {
		p.end()
		return nil, amqp.ErrClosed
	}
	a := &answer{done: make(chan struct{})}
	p.open = append(p.open, a)
	switch {
	case b.mood("refused"):
		b.later(p, func() { a.say(false) })
		return a, nil
	case b.mood("dropped without a word"):
		return a, nil
	}
	b.queue = append(b.queue, m.MessageId)
	switch {
	case b.mood("taken without a word"):
	case b.mood("cut after"):
		p.end()
	default:
		b.later(p, func() { a.say(true) })
	}
	return a, nil
}

// later answers now or a little later.
func (b *moodyBroker) later(p *moodyPort, answer func()) {
	if b.rng.IntN(2) == 0 {
		answer()
		return
	}
	time.AfterFunc(time.Duration(b.rng.IntN(50))*time.Millisecond, func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		if !p.gone {
			answer()
		}
	})
}

// TestOneInFlightKeepsTheOrder: whatever the broker does, a message enters the
// queue after those before it; what is there twice is next to itself. With more
// in flight all are there.
func TestOneInFlightKeepsTheOrder(t *testing.T) {
	moods := map[string]int{}
	disorder := 0
	for seed := range uint64(300) {
		for _, window := range []int{1, 8} {
			synctest.Test(t, func(t *testing.T) {
				b := &moodyBroker{rng: rand.New(rand.NewPCG(seed, uint64(window))), bad: int(seed % 20), moods: moods}
				all := publishAll(t, b, window, 60)
				order := slices.Compact(slices.Clone(b.queue))
				if window == 1 && !slices.Equal(order, all) {
					t.Errorf("seed %d: the queue has %v", seed, b.queue)
				}
				if !slices.Equal(order, all) {
					disorder++
				}
				slices.Sort(order)
				slices.Sort(all)
				if !slices.Equal(slices.Compact(order), all) {
					t.Errorf("seed %d, %d in flight: the queue has %v", seed, window, b.queue)
				}
			})
		}
	}
	t.Logf("%v; with 8 in flight the order changed in %d of 300 runs", moods, disorder)
	for _, mood := range []string{"no connection", "cut before", "cut after", "refused", "dropped without a word", "taken without a word"} {
		if moods[mood] < 100 {
			t.Errorf("%q happened %d times", mood, moods[mood])
		}
	}
	if disorder == 0 {
		t.Error("the order was never in danger")
	}
}

// publishAll writes plans until all n records are confirmed, as the runtime does,
// and returns the IDs.
func publishAll(t *testing.T, b *moodyBroker, window, n int) (all []string) {
	s, err := sinkSettingsOf(sinkConfig(t, window))
	if err != nil {
		t.Fatal(err)
	}
	w := &writer{sinkSettings: s, open: b.open, note: func(error) {}, log: slog.New(slog.DiscardHandler)}
	defer func() { _ = w.Close(t.Context()) }()
	tp := record.TopicPartition{Topic: "t"}
	for from := 0; from < n; from += 20 {
		plan := connectors.Plan{Partition: tp, From: int64(from), To: int64(from + 20), ID: fmt.Sprint(from)}
		var batch connectors.Batch
		for o := plan.From; o < plan.To; o++ {
			m := connectors.Message{Key: []byte("q"), Value: []byte("v"), Partition: tp, Offset: o, Timestamp: connectors.NoTimestamp}
			batch.Messages = append(batch.Messages, m)
			all = append(all, messageID(&m))
		}
		for {
			refused, err := w.Write(t.Context(), plan, batch)
			if len(refused) > 0 {
				t.Fatal(refused)
			}
			if err == nil {
				break
			}
			if connectors.ClassOf(err) != connectors.ClassRetry {
				t.Fatal(err)
			}
		}
	}
	return all
}

func sinkConfig(t *testing.T, window int) connectors.Config {
	cfg, err := connectors.NewConfig(Sink{}.Spec().Fields, map[string]any{"url": "amqp://nowhere", "in_flight": window})
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}
