package kafka

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/segmentio/kafka-go/protocol"

	"github.com/entrepot-hub/entrepot/connectors"
	"github.com/entrepot-hub/entrepot/connectors/conntest"
	"github.com/entrepot-hub/entrepot/record"
)

// cutter breaks connections: before a request has gone out, or after it, so
// that the answer is lost.
type cutter struct {
	rng *rand.Rand
	// when decides by the API of a request; the first counts as sent.
	when func(key protocol.ApiKey) (before, after bool)
	cuts atomic.Int64
}

func (c *cutter) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	conn, err := new(net.Dialer).DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	return &cutConn{Conn: conn, cutter: c}, nil
}

type cutConn struct {
	net.Conn
	*cutter
	lost    bool // the answer to what was sent
	pending int  // bytes of a request that were not seen yet
}

var errCut = errors.New("the connection was cut")

func (c *cutConn) Write(b []byte) (int, error) {
	if c.pending <= 0 && len(b) >= 6 {
		before, after := c.when(protocol.ApiKey(binary.BigEndian.Uint16(b[4:])))
		if before {
			c.cuts.Add(1)
			_ = c.Close()
			return 0, errCut
		}
		c.lost = after
		c.pending = int(binary.BigEndian.Uint32(b)) + 4
	}
	n, err := c.Conn.Write(b)
	c.pending -= n
	return n, err
}

func (c *cutConn) Read(b []byte) (int, error) {
	if c.lost {
		if _, err := c.Conn.Read(b); err != nil { // the broker has done it
			return 0, err
		}
		c.cuts.Add(1)
		_ = c.Close()
		return 0, errCut
	}
	return c.Conn.Read(b)
}

func cutting(t testing.TB, cfg connectors.Config, c *cutter) *link {
	t.Helper()
	l, err := linkOf(cfg)
	if err != nil {
		t.Fatal(err)
	}
	l.connect = c.dial
	return l
}

// often cuts one in n requests before and one in n after it was sent.
func often(seed uint64, n int) *cutter {
	c := &cutter{rng: rand.New(rand.NewPCG(seed, 2))}
	c.when = func(protocol.ApiKey) (bool, bool) { return c.rng.IntN(n) == 0, c.rng.IntN(n) == 0 }
	return c
}

// TestSinkUnderCuts: connections are cut at random before requests and after
// them, writers are left behind as by kill -9, plans are executed again; each
// record is there once all the same, in the order of its partition.
func TestSinkUnderCuts(t *testing.T) {
	broker := conntest.Kafka(t)
	for _, mode := range []string{"off", "transaction"} {
		t.Run(mode, func(t *testing.T) {
			for seed := range uint64(3) {
				sinkUnderCuts(t, broker, mode, seed)
			}
		})
	}
}

func sinkUnderCuts(t *testing.T, broker, mode string, seed uint64) {
	topic := newTopic(t, broker, 3)
	more := map[string]any{"remote_topic": topic, "exactly_once": mode, "request_bytes": 2048}
	if mode == "transaction" {
		more["transactional_id"] = "cuts-" + topic
	}
	cfg := sinkConfig(t, broker, more)
	c := often(seed, 25)
	tp := record.TopicPartition{Topic: "hub", Partition: 1}
	var w *writer
	defer func() {
		if w != nil {
			_ = w.Close(context.Background())
		}
	}()
	epoch, again, kills := int64(0), 0, 0
	var (
		ctx  context.Context
		kill context.CancelFunc
	)
	cut := c.when
	c.when = func(key protocol.ApiKey) (bool, bool) {
		if w != nil && c.rng.IntN(12) == 0 { // the process ends here; the request may have gone out
			kill()
			kills++
		}
		return cut(key)
	}
	for from := int64(0); from < 600; {
		if w == nil {
			epoch++
			ctx, kill = context.WithCancel(t.Context())
			defer kill()
			fresh, err := openWriter(t.Context(), cutting(t, cfg, c), conntest.Task(cfg), []record.TopicPartition{tp})
			if err != nil {
				continue
			}
			w = fresh
		}
		next, known, err := w.Resume(ctx, tp)
		if err == nil && known && next > from {
			from = next // the destination's word counts
			continue
		}
		plan, batch := rows(tp, from, from+40)
		plan.Epoch = epoch
		if err == nil {
			_, err = w.Write(ctx, plan, batch)
		}
		switch {
		case err == nil:
			from = plan.To
		case fatal(err) || connectors.ClassOf(err) == connectors.ClassPoison:
			t.Fatalf("seed %d: class %v: %v", seed, connectors.ClassOf(err), err)
		default:
			again++
		}
		if err != nil || c.rng.IntN(4) == 0 { // the next process
			old := w
			w = nil
			if c.rng.IntN(2) == 0 {
				_ = old.Close(context.Background())
			} else {
				defer func() { _ = old.Close(context.Background()) }()
			}
		}
	}
	most := 0
	if mode == "off" { // a request may arrive after the next writer has looked
		most = 40 * kills
	}
	twice := checkRows(t, fmt.Sprintf("%s, seed %d", mode, seed), broker, topic, 600, most)
	t.Logf("%s, seed %d: %d cuts, %d kills, %d plans tried again, %d writers; 600 rows, %d twice", mode, seed, c.cuts.Load(), kills, again, epoch, twice)
	if c.cuts.Load() < 5 {
		t.Errorf("only %d cuts", c.cuts.Load())
	}
}

func rows(tp record.TopicPartition, from, to int64) (connectors.Plan, connectors.Batch) {
	var b connectors.Batch
	for o := from; o < to; o++ {
		b.Messages = append(b.Messages, connectors.Message{
			Key: fmt.Append(nil, "k", o%17), Value: fmt.Append(nil, o), Timestamp: 1_700_000_000_000 + o, Partition: tp, Offset: o,
		})
	}
	return connectors.Plan{Partition: tp, From: from, To: to, ID: fmt.Sprintf("plan-%d-%d", from, to)}, b
}

// checkRows: the values 0 to n-1 are there once, growing in each partition,
// but for at most so many that are there twice. It returns how many are.
func checkRows(t *testing.T, what, broker, topic string, n, most int) int {
	t.Helper()
	seen, last := map[string]int{}, map[int32]int{}
	for _, r := range committed(t, broker, topic) {
		seen[string(r.Value)]++
		var v int
		if _, err := fmt.Sscan(string(r.Value), &v); err != nil {
			t.Fatal(err)
		}
		if before, ok := last[r.Partition]; ok && v <= before && most == 0 {
			t.Errorf("%s: %d after %d in partition %d", what, v, before, r.Partition)
		}
		last[r.Partition] = v
	}
	twice := 0
	for _, count := range seen {
		twice += count - 1
	}
	if len(seen) != n || twice > most {
		t.Errorf("%s: %d distinct rows, %d twice, want %d, %d twice at most", what, len(seen), twice, n, most)
	}
	return twice
}

// TestLostAnswer: the answer to one request is lost, at each step of a plan;
// the plan is executed again by another writer.
func TestLostAnswer(t *testing.T) {
	broker := conntest.Kafka(t)
	for mode, keys := range map[string][]protocol.ApiKey{
		"off":         {protocol.Produce, protocol.InitProducerId, protocol.Fetch},
		"transaction": {protocol.InitProducerId, protocol.AddPartitionsToTxn, protocol.Produce, protocol.AddOffsetsToTxn, protocol.TxnOffsetCommit, protocol.EndTxn},
	} {
		for _, key := range keys {
			t.Run(mode+" "+key.String(), func(t *testing.T) { lostAnswer(t, broker, mode, key) })
		}
	}
}

func lostAnswer(t *testing.T, broker, mode string, key protocol.ApiKey) {
	topic := newTopic(t, broker, 2)
	more := map[string]any{"remote_topic": topic, "exactly_once": mode}
	if mode == "transaction" {
		more["transactional_id"] = "lost-" + topic
	}
	cfg := sinkConfig(t, broker, more)
	tp := record.TopicPartition{Topic: "hub", Partition: 0}
	armed := false
	c := &cutter{when: func(k protocol.ApiKey) (bool, bool) {
		now := armed && k == key
		if now {
			armed = false
		}
		return false, now
	}}
	for i := range int64(3) {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		w, err := openWriter(ctx, cutting(t, cfg, c), conntest.Task(cfg), []record.TopicPartition{tp})
		if err != nil {
			t.Fatal(err)
		}
		armed = i == 1
		plan, batch := rows(tp, i*30, i*30+30)
		plan.Epoch = i + 1
		for {
			if _, err = w.Write(ctx, plan, batch); err == nil {
				break
			}
			if fatal(err) {
				t.Fatal(err)
			}
			_ = w.Close(ctx)
			if w, err = openWriter(ctx, cutting(t, cfg, c), conntest.Task(cfg), []record.TopicPartition{tp}); err != nil {
				t.Fatal(err)
			}
		}
		_ = w.Close(ctx)
		cancel()
	}
	checkRows(t, mode, broker, topic, 90, 0)
	if n := c.cuts.Load(); n != 1 && key != protocol.Fetch {
		t.Errorf("%d cuts", n)
	}
}

// TestSourceUnderCuts: readers are cut off and opened again at the last
// position, by id and by name; every message comes once and in order.
func TestSourceUnderCuts(t *testing.T) {
	broker := conntest.Kafka(t)
	topic := newTopic(t, broker, 1)
	var want []string
	for i := range 120 {
		want = append(want, fmt.Sprint(i))
	}
	write(t, client(t, broker), topic, 0, want...)
	for _, older := range []bool{false, true} {
		cfg := sourceConfig(t, broker, map[string]any{"topics": []string{topic}, "follow": false, "fetch": map[string]any{"max_bytes": 1000}})
		c := often(7, 10)
		tp := record.TopicPartition{Topic: topic}
		var got []string
		var from connectors.Position
		for done := false; !done; {
			r, err := openReader(t.Context(), cutting(t, cfg, c), conntest.Task(cfg), connectors.Split{}, tp, from)
			for err == nil && !done {
				if older {
					for _, one := range r.cluster.conns {
						one.versions[protocol.Fetch] = versionRange{4, fetchByName}
					}
				}
				var b connectors.Batch
				b, err = r.Read(t.Context(), connectors.Limits{Records: 1 + c.rng.IntN(9), Wait: time.Second})
				for _, m := range b.Messages {
					got = append(got, string(m.Value))
					from = m.Position
				}
				if done = errors.Is(err, io.EOF); !done && c.rng.IntN(8) == 0 {
					break // kill -9
				}
			}
			if r != nil {
				_ = r.Close(context.Background())
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("got %s", strings.Join(got, " "))
		}
		t.Logf("%d cuts", c.cuts.Load())
	}
}

// TestRefusedByTheBroker: the topic takes less than the config says, so that a
// record is refused when others of its plan are in already. The runtime then
// writes the plan in parts; nothing comes twice.
func TestRefusedByTheBroker(t *testing.T) {
	broker := conntest.Kafka(t)
	for _, mode := range []string{"off", "transaction"} {
		topic := newTopic(t, broker, 3, "max.message.bytes=10000")
		more := map[string]any{"remote_topic": topic, "exactly_once": mode, "request_bytes": 1024, "max_message_bytes": 1 << 20}
		if mode == "transaction" {
			more["transactional_id"] = "refused-" + topic
		}
		cfg := sinkConfig(t, broker, more)
		tp := record.TopicPartition{Topic: "hub"}
		w, err := Sink{}.Open(t.Context(), conntest.Task(cfg), []record.TopicPartition{tp})
		if err != nil {
			t.Fatal(err)
		}
		const bad = 57
		var part func(from, to int64)
		part = func(from, to int64) {
			plan, batch := rows(tp, from, to)
			batch.Messages = slices.DeleteFunc(batch.Messages, func(m connectors.Message) bool { return m.Offset == bad && to-from == 1 })
			for i := range batch.Messages {
				if batch.Messages[i].Offset == bad {
					batch.Messages[i].Value = noise(20_000)
				}
			}
			if _, err := w.Write(t.Context(), plan, batch); err == nil {
				return
			} else if connectors.ClassOf(err) != connectors.ClassPoison {
				t.Fatalf("%s %s: class %v: %v", mode, plan, connectors.ClassOf(err), err)
			}
			part(from, (from+to)/2)
			part((from+to)/2, to)
		}
		part(0, 64)
		part(64, 100)
		_ = w.Close(t.Context())
		seen := map[string]int{}
		for _, r := range committed(t, broker, topic) {
			seen[string(r.Value)]++
			if seen[string(r.Value)] > 1 {
				t.Errorf("%s: %s is there twice", mode, r.Value)
			}
		}
		if len(seen) != 99 || seen[fmt.Sprint(bad)] != 0 {
			t.Errorf("%s: %d rows, want 99", mode, len(seen))
		}
	}
}
