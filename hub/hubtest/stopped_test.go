package hubtest

import (
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/entrepot-hub/entrepot/connectors/conntest"
)

// inputRate is how many records a second come while the sink is stopped.
const inputRate = 50_000

// TestStoppedSink stops the destination of a job, another hub, for ten
// minutes, in short form for four seconds, while 50,000 records of 100 bytes
// come in each second. The hub's memory stays what it was, the lag grows; after
// the destination is back the job has caught up in less than twice the time
// that it was away, and nothing is lost.
func TestStoppedSink(t *testing.T) {
	away, warm := 4*time.Second, 2*time.Second
	if conntest.Full() {
		away, warm = 10*time.Minute, 30*time.Second
	}
	far := NewNode(t, "far", t.TempDir(), nil, nil, nil)
	far.Start()
	createTopic(t, far.Kafka, "out", 6)
	n := jobsNode(t, fmt.Sprintf(`
topics:
  - {name: in, partitions: 6}
connectors:
  - name: out
    topic: in
    sink: {type: kafka, brokers: [%q], remote_topic: out, exactly_once: transaction, batch: {records: 20000, every: 200ms}}
`, far.Kafka))
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	p := &pump{cl: client(t, kgo.SeedBrokers(n.Kafka), kgo.DefaultProduceTopic("in"), kgo.UnknownTopicRetries(-1), kgo.MaxBufferedRecords(4*inputRate),
		kgo.ProducerLinger(5*time.Millisecond), kgo.ProducerBatchCompression(kgo.NoCompression()))}
	var pumping sync.WaitGroup
	pumping.Go(func() { p.run(ctx, t) })
	defer pumping.Wait()
	defer stop()

	steady := func() error { return behind(n, 2*inputRate) }
	Until(t, time.Minute, "records go through", func() error {
		if p.acked.Load() < inputRate {
			return fmt.Errorf("%d records", p.acked.Load())
		}
		return steady()
	})
	before := sampled(ctx, n, warm)
	sentBefore, began := p.acked.Load(), time.Now()
	far.Kill()
	during := sampled(ctx, n, away)
	var lag int64
	Until(t, 15*time.Second, "the lag grows", func() (err error) {
		if lag, err = lagOf(n); err == nil && lag < (p.acked.Load()-sentBefore)/2 {
			err = fmt.Errorf("%d records came and the lag is %d", p.acked.Load()-sentBefore, lag)
		}
		return err
	})
	gone, came := time.Since(began), p.acked.Load()-sentBefore
	back := time.Now()
	far.Start()
	var after held
	Until(t, 2*gone+30*time.Second, "it has caught up", func() error {
		after.add(n)
		return steady()
	})
	took := time.Since(back)
	stop()
	pumping.Wait()
	Until(t, 5*time.Minute, "nothing is left to do", caughtUp(n, "out"))
	lost, twice := p.missing(t, far)
	if lost+twice > 0 {
		t.Errorf("%d records are lost, %d twice", lost, twice)
	}
	if took > 2*gone && conntest.Full() {
		t.Errorf("it took %s to catch up with %s", took, gone)
	}
	if during.most > before.most+before.most/2+64 {
		t.Errorf("%d MiB of memory before, %d MiB while the sink was stopped", before.most, during.most)
	}
	conntest.Figures(t, "stopped for %s, %d records came (%.0f a second), the lag was %d; memory %d MiB at most before, %d MiB in the first half of it, %d MiB in the second, %d MiB while catching up; caught up after %s; %d records, %d lost, %d twice",
		gone.Round(time.Second), came, float64(came)/gone.Seconds(), lag, before.most, during.first, during.second, after.most, took.Round(time.Second), p.acked.Load(), lost, twice)
}

// pump sends inputRate records a second, numbered.
type pump struct {
	cl    *kgo.Client
	next  int64
	acked atomic.Int64
}

func (p *pump) run(ctx context.Context, t *testing.T) {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for began := time.Now(); ; {
		select {
		case <-ctx.Done():
			if err := p.cl.Flush(context.Background()); err != nil {
				t.Error(err)
			}
			return
		case now := <-tick.C:
			for due := int64(now.Sub(began).Seconds() * inputRate); p.next < due; p.next++ {
				value := make([]byte, 100)
				binary.BigEndian.PutUint64(value, uint64(p.next))
				p.cl.Produce(context.Background(), &kgo.Record{Value: value}, func(_ *kgo.Record, err error) {
					if err != nil {
						t.Error(err)
						return
					}
					p.acked.Add(1)
				})
			}
		}
	}
}

// missing counts what is not at the destination, and what is there twice.
func (p *pump) missing(t *testing.T, far *Node) (lost, twice int) {
	t.Helper()
	seen := make([]uint8, p.next)
	readEach(t, 5*time.Minute, far.Kafka, "out", func(r *kgo.Record) {
		if !r.Attrs.IsControl() {
			seen[binary.BigEndian.Uint64(r.Value)]++
		}
	}, kgo.FetchIsolationLevel(kgo.ReadCommitted()))
	for _, times := range seen {
		switch {
		case times == 0:
			lost++
		case times > 1:
			twice++
		}
	}
	return lost, twice
}

func lagOf(n *Node) (int64, error) {
	j, err := job(n.Admin, "out")
	if err != nil {
		return 0, err
	}
	lag, known := j.Lag.Value()
	if !known {
		return 0, fmt.Errorf("lag %s", j.Lag)
	}
	return int64(lag), nil
}

func behind(n *Node, most int64) error {
	lag, err := lagOf(n)
	if err == nil && lag > most {
		err = fmt.Errorf("the lag is %d", lag)
	}
	return err
}

// held is what a node holds besides pages of files, in MiB: the most of all
// samples, and of the two halves of their time.
type held struct{ most, first, second int }

// sampled looks at a node's memory for a time.
func sampled(ctx context.Context, n *Node, length time.Duration) (m held) {
	for began := time.Now(); time.Since(began) < length; {
		now := m.add(n)
		if time.Since(began) < length/2 {
			m.first = max(m.first, now)
		} else {
			m.second = max(m.second, now)
		}
		pause(ctx, 200*time.Millisecond, 300*time.Millisecond)
	}
	return m
}

func (m *held) add(n *Node) int {
	text, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(n.Process().Pid()), "status"))
	if err != nil {
		return 0 // a system that does not say
	}
	_, after, _ := strings.Cut(string(text), "RssAnon:")
	now, _ := strconv.Atoi(strings.Fields(after + " 0")[0])
	m.most = max(m.most, now>>10)
	return now >> 10
}
