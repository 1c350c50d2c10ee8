package stream

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/entrepot-hub/entrepot/record"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// store is the runner's view of the checkpoint topic: its newest value of
// every key. The whole topic is read once, then only what was added.
type store struct {
	cluster *cluster
	client  *kgo.Client
	admin   *kadm.Client

	loading chan struct{} // holds one token: who has it may load
	mu      struct {
		sync.Mutex
		values map[string]stored
		next   int64 // all records below it were seen and decided
	}
}

// stored is one value; a nil text is a tombstone.
type stored struct {
	text   []byte
	offset int64
}

func newStore(c *cluster, cl *kgo.Client) *store {
	s := &store{cluster: c, client: cl, admin: kadm.NewClient(cl), loading: make(chan struct{}, 1)}
	s.mu.values = map[string]stored{}
	return s
}

// storeOptions are for the client of a store: each put is sent at once.
func storeOptions() []kgo.Opt {
	return []kgo.Opt{kgo.ProducerLinger(0), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.StopProducerOnDataLossDetected()}
}

// load catches up with the topic and creates it when it is missing.
func (s *store) load(ctx context.Context) error {
	select {
	case s.loading <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-s.loading }()
	// Small segments: the newest one is not compacted, and all of it is read here.
	compact, segment := "compact", "16777216"
	if err := ensureTopic(ctx, s.client, CheckpointTopic, 1, map[string]*string{"cleanup.policy": &compact, "segment.bytes": &segment}); err != nil {
		return err
	}
	bounds, err := spans(ctx, s.admin, CheckpointTopic)
	if err != nil {
		return err
	}
	tp := record.TopicPartition{Topic: CheckpointTopic}
	b := bounds[tp]
	s.mu.Lock()
	b.start = max(b.start, s.mu.next)
	s.mu.Unlock()
	undecided, err := s.cluster.scanDecided(ctx, "entrepot-checkpoints", map[record.TopicPartition]span{tp: b}, func(r *kgo.Record) {
		s.set(string(r.Key), r.Value, r.Offset)
	})
	if err != nil {
		return fmt.Errorf("read %s: %w", CheckpointTopic, err)
	}
	next := b.end
	if at, ok := undecided[tp]; ok { // another job is about to commit: the next load comes back to it
		next = at
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.next = max(s.mu.next, next)
	return nil
}

// set takes over one record. Those of other writers may lie between it and
// the last one seen; only load goes past them.
func (s *store) set(key string, value []byte, offset int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if old, ok := s.mu.values[key]; ok && old.offset > offset {
		return
	}
	s.mu.values[key] = stored{value, offset}
}

// put makes a value durable. When it returns nil the hub has acknowledged it.
func (s *store) put(ctx context.Context, key string, v any) error {
	text, err := encodeCheckpoint(v)
	if err != nil {
		return err
	}
	return s.write(ctx, key, text)
}

// write is put of an encoded value; nil is a tombstone.
func (s *store) write(ctx context.Context, key string, text []byte) (err error) {
	// The client cannot take back what it has sent, so a hub that does not
	// answer would hold up the caller beyond ctx: the answer comes by itself.
	answer := make(chan error, 1)
	s.client.Produce(ctx, &kgo.Record{Topic: CheckpointTopic, Key: []byte(key), Value: text}, func(r *kgo.Record, err error) {
		if err == nil {
			s.set(key, text, r.Offset)
		}
		answer <- err
	})
	select {
	case err = <-answer:
	case <-ctx.Done():
		err = ctx.Err()
	}
	if err != nil {
		return fmt.Errorf("write checkpoint %s: %w", key, err)
	}
	return nil
}

// drop forgets a key, durably.
func (s *store) drop(ctx context.Context, key string) error { return s.write(ctx, key, nil) }

// get decodes the value of a key and reports whether there is one.
func (s *store) get(key string, into any) (bool, error) {
	s.mu.Lock()
	v := s.mu.values[key]
	s.mu.Unlock()
	if v.text == nil {
		return false, nil
	}
	return true, decodeCheckpoint(key, v.text, into)
}

// keys lists the keys with a prefix, sorted.
func (s *store) keys(prefix string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []string
	for _, k := range slices.Sorted(maps.Keys(s.mu.values)) {
		if strings.HasPrefix(k, prefix) && s.mu.values[k].text != nil {
			out = append(out, k)
		}
	}
	return out
}
