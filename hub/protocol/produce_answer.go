package protocol

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/entrepot-hub/entrepot/hub/catalog"
	"github.com/entrepot-hub/entrepot/record"
)

// produceAnswer gathers the outcomes of one Produce request. Its slots are
// filled by the goroutines that commit; the connection's writer waits for all
// of them.
type produceAnswer struct {
	s    *Server
	r    *request
	acks int16
	// transactional ID of the request
	transactional *string
	timeout       time.Duration
	resp          *kmsg.ProduceResponse
	done          chan struct{} // closed when every append has come to its end

	mu struct {
		sync.Mutex
		left   int  // appends under way, and one while they are being proposed
		sent   bool // the response has been taken: what comes now comes too late
		failed bool
		after  func()
	}
}

func newProduceAnswer(s *Server, r *request, req *kmsg.ProduceRequest) *produceAnswer {
	a := &produceAnswer{s: s, r: r, acks: req.Acks, transactional: req.TransactionID, timeout: produceTimeout(req.TimeoutMillis), done: make(chan struct{})}
	a.mu.left = 1
	a.resp = kmsg.NewPtrProduceResponse()
	a.resp.SetVersion(r.version)
	a.resp.Topics = make([]kmsg.ProduceResponseTopic, len(req.Topics))
	for i := range req.Topics {
		rt, t := &req.Topics[i], &a.resp.Topics[i]
		t.Default()
		t.Topic, t.TopicID = rt.Topic, rt.TopicID
		t.Partitions = make([]kmsg.ProduceResponseTopicPartition, len(rt.Partitions))
		for j := range rt.Partitions {
			p := &t.Partitions[j]
			p.Default()
			p.Partition = rt.Partitions[j].Partition
			p.BaseOffset, p.LogAppendTime, p.LogStartOffset = -1, -1, -1
		}
	}
	return a
}

// begin counts one more append.
func (a *produceAnswer) begin() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.mu.left++
}

// proposed says that no more appends follow.
func (a *produceAnswer) proposed() { a.settle(nil) }

// fail records an outcome known at once.
func (a *produceAnswer) fail(slot *kmsg.ProduceResponseTopicPartition, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.setError(slot, err)
}

func (a *produceAnswer) setError(slot *kmsg.ProduceResponseTopicPartition, err error) {
	slot.ErrorCode, slot.ErrorMessage = code(err), message(err)
	a.mu.failed = true
}

// appended is the outcome of one append.
func (a *produceAnswer) appended(slot *kmsg.ProduceResponseTopicPartition, t *catalog.Topic, got []record.Appended, err error) {
	if err == nil && len(got) == 0 {
		err = errors.New("the log did not say where the batch is")
	}
	if err != nil {
		err = fmt.Errorf("%s-%d: %w", t.Name, slot.Partition, err)
	}
	a.settle(func() {
		if err != nil {
			a.setError(slot, err)
			a.redirect(slot, t)
			return
		}
		slot.BaseOffset, slot.LogAppendTime, slot.LogStartOffset = got[0].BaseOffset, got[0].LogAppendTime, got[0].LogStart
	})
}

// settle ends one append; set writes its slot unless the response is gone.
func (a *produceAnswer) settle(set func()) {
	var after func()
	a.mu.Lock()
	if set != nil && !a.mu.sent {
		set()
	}
	a.mu.left--
	if a.mu.left == 0 {
		close(a.done)
		after = a.mu.after
	}
	a.mu.Unlock()
	if after != nil {
		after()
	}
}

// whenDone calls f once all appends have ended, at once if they have.
func (a *produceAnswer) whenDone(f func()) {
	a.mu.Lock()
	if a.mu.left > 0 {
		a.mu.after = f
		a.mu.Unlock()
		return
	}
	a.mu.Unlock()
	f()
}

// redirect tells the client the leader along with NOT_LEADER (KIP-951).
func (a *produceAnswer) redirect(slot *kmsg.ProduceResponseTopicPartition, t *catalog.Topic) {
	if a.r.version < 10 || slot.ErrorCode != code(record.ErrNotLeader) {
		return
	}
	slot.CurrentLeader.LeaderID, slot.CurrentLeader.LeaderEpoch = a.s.parts.Leader(t.Name, slot.Partition)
}

// wait returns the response when it is complete or its time is up; nil when
// none is to be sent: with acks=0, or when the connection is cut.
func (a *produceAnswer) wait(cut context.Context) kmsg.Response {
	if !a.isDone() && !a.await(cut) {
		return nil
	}
	if a.acks == 0 {
		return nil
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.mu.sent = true
	if a.mu.left > 0 {
		a.timeUp()
	}
	a.nameBrokers()
	return a.resp
}

func (a *produceAnswer) isDone() bool {
	select {
	case <-a.done:
		return true
	default:
		return false
	}
}

// await reports false when the connection is cut.
func (a *produceAnswer) await(cut context.Context) bool {
	t := time.NewTimer(a.timeout)
	defer t.Stop()
	select {
	case <-a.done:
	case <-t.C:
	case <-cut.Done():
		return false
	}
	return true
}

// timeUp marks the appends that have not ended.
func (a *produceAnswer) timeUp() {
	err := fmt.Errorf("%w: not committed within %v; it may still be", record.ErrTimeout, a.timeout)
	for i := range a.resp.Topics {
		for j := range a.resp.Topics[i].Partitions {
			if p := &a.resp.Topics[i].Partitions[j]; p.ErrorCode == 0 && p.BaseOffset < 0 {
				a.setError(p, err)
			}
		}
	}
}

// nameBrokers adds the addresses of leaders that were named.
func (a *produceAnswer) nameBrokers() {
	if a.r.version < 10 {
		return
	}
	named := map[int32]bool{-1: true}
	for i := range a.resp.Topics {
		for j := range a.resp.Topics[i].Partitions {
			id := a.resp.Topics[i].Partitions[j].CurrentLeader.LeaderID
			if named[id] {
				continue
			}
			named[id] = true
			if n, ok := a.s.meta.State().Node(id); ok {
				b := kmsg.NewProduceResponseBroker()
				b.NodeID = id
				b.Host, b.Port = a.s.advertised(a.r, n)
				b.Rack = rack(n)
				a.resp.Brokers = append(a.resp.Brokers, b)
			}
		}
	}
}

// mustClose: without an answer, only the end of the connection tells a client
// of acks=0 that something is wrong.
func (a *produceAnswer) mustClose() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.acks == 0 && a.mu.failed
}
