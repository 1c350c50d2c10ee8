package protocol

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"slices"
	"sync"
	"sync/atomic"
	"testing/iotest"

	"github.com/entrepot-hub/entrepot/hub/catalog"
	"github.com/entrepot-hub/entrepot/record"
)

// memSite is a site in memory: the catalog and the logs of all partitions, which
// its nodes share as if replication took no time. Commits are made by one
// goroutine, in order, as a real log would make them: after Append has
// returned. As Partitions it is its first node's view; see memNode.
type memSite struct {
	memNode
	commits chan func()
	done    chan struct{}
	lent    atomic.Int64 // chunks that were read and not given back
	decayed atomic.Bool  // what is read late turns out to be damaged

	mu struct {
		sync.Mutex
		lost     []bool                            // of the next proposals nobody tells the outcome; true: they are carried out
		deletes  bool                              // a topic that is made by one of them is deleted at once
		made     map[record.TopicID]*catalog.Topic // those
		skips    bool                              // which those are is not known
		lags     *catalog.State                    // what State gives until something is proposed; nil: all there is
		proposed int                               // commands, of all nodes
		state    *catalog.State
		logs     map[memKey]*memLog
		leaders  map[record.TopicPartition]int32 // where it is not the first replica with a server; 0: nobody
		servers  map[int32]*Server
		down     map[int32]bool // nodes that no other one reaches
	}
}

type memKey struct {
	id record.TopicID
	p  int32
}

func newMemSite() *memSite {
	m := &memSite{commits: make(chan func(), 1<<16), done: make(chan struct{})}
	m.memNode = memNode{m: m, id: 1}
	m.mu.logs = map[memKey]*memLog{}
	m.mu.leaders = map[record.TopicPartition]int32{}
	m.mu.servers = map[int32]*Server{}
	m.mu.down = map[int32]bool{}
	m.mu.made = map[record.TopicID]*catalog.Topic{}
	m.mu.state = catalog.New()
	go func() {
		defer close(m.done)
		for f := range m.commits {
			f()
		}
	}()
	return m
}

func (m *memSite) close() {
	close(m.commits)
	<-m.done
}

func (m *memSite) setAway(topic string, p int32, away bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	tp := record.TopicPartition{Topic: topic, Partition: p}
	if delete(m.mu.leaders, tp); away {
		m.mu.leaders[tp] = 0
	}
}

// leader is the node that leads a partition, 0: nobody does.
func (m *memSite) leader(topic string, p int32) int32 {
	m.mu.Lock()
	defer m.mu.Unlock()
	if n, ok := m.mu.leaders[record.TopicPartition{Topic: topic, Partition: p}]; ok {
		return n
	}
	if t, ok := m.mu.state.Topic(topic); ok && p >= 0 && int(p) < len(t.Partitions) {
		for _, n := range t.Partitions[p].Replicas {
			if m.mu.servers[n] != nil {
				return n
			}
		}
	}
	return 1
}

func (m *memSite) log(topic string, p int32) (*memLog, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	t, ok := m.mu.state.Topic(topic)
	if !ok || p < 0 || int(p) >= len(t.Partitions) {
		return nil, fmt.Errorf("%w: %s-%d", record.ErrUnknownTopic, topic, p)
	}
	k := memKey{t.ID, p}
	l := m.mu.logs[k]
	if l == nil {
		l = newMemLog(m.commits, t.Settings().LogAppendTime)
		l.site = m
		m.mu.logs[k] = l
	}
	return l, nil
}

// memLog is one partition's log in memory.
type memLog struct {
	site       *memSite
	commits    chan func()
	appendTime bool

	mu struct {
		sync.Mutex
		batches   []record.Batch
		start     int64
		next, hw  int64
		epoch     int32
		ends      []record.EpochEnd // epochs with their first offset in End
		changed   chan struct{}
		producers map[int64]*memProducer
		held      bool      // commits wait
		waiting   []memWait // for held
		refuse    error     // appends fail
		behind    error     // nothing can be served
		unsure    error     // whether it leads is not known
		asked     int       // how often that was asked
		unstable  int64     // records below the high watermark that are not decided
		onRead    func()    // called after the next read
		txns      bool      // there are transactional batches
		keep      int64     // bytes above which the oldest batches go; 0: all stay
		bytes     int64
		heard     map[int32]int64 // high watermarks of followers that are behind, by node
	}
}

type memProducer struct {
	epoch       int16
	last        []memBatch // the last five
	open        int64      // first offset of the open transaction; -1: none
	guard       int64      // offset behind the last marker
	coordinator int32
}

// memWait is an append that is not committed.
type memWait struct {
	commit func()
	done   func(error)
}

type memBatch struct {
	first, last int32
	base        int64
}

func newMemLog(commits chan func(), appendTime bool) *memLog {
	l := &memLog{commits: commits, appendTime: appendTime}
	l.mu.changed = make(chan struct{})
	l.mu.producers = map[int64]*memProducer{}
	l.mu.epoch = 1
	l.mu.ends = []record.EpochEnd{{Epoch: 1, End: 0}}
	return l
}

func (l *memLog) Append(batches []record.Batch, done func([]record.Appended, error)) {
	l.append(batches, 0, -1, done)
}

// AppendTransactional implements Partition.
func (l *memLog) AppendTransactional(batches []record.Batch, guard int64, done func([]record.Appended, error)) {
	l.append(batches, 0, guard, done)
}

// AppendFenced implements Partition.
func (l *memLog) AppendFenced(batches []record.Batch, epoch int32, guard int64, done func([]record.Appended, error)) {
	l.append(batches, epoch, guard, done)
}

// append takes batches; an epoch of 0 is any, a guard below 0 is none.
func (l *memLog) append(batches []record.Batch, epoch int32, guard int64, done func([]record.Appended, error)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var got []record.Appended
	err := l.mu.refuse
	if epoch != 0 && epoch != l.mu.epoch && err == nil {
		err = record.ErrFencedEpoch
	}
	if len(batches) > 0 && guard >= 0 && err == nil && l.transaction(batches[0].ProducerID()).Guard != guard {
		err = record.ErrTransactionState
	}
	for _, b := range batches {
		if err != nil {
			break
		}
		var a record.Appended
		a, err = l.appendOne(b)
		got = append(got, a)
	}
	l.finish(err, func(err error) {
		if err != nil {
			done(nil, err)
			return
		}
		done(got, nil)
	})
}

// finish commits what is in the log and calls done, in its turn.
func (l *memLog) finish(err error, done func(error)) {
	hw := l.mu.next
	commit := func() {
		if err == nil {
			l.commit(hw)
		}
		done(err)
	}
	if l.mu.held {
		l.mu.waiting = append(l.mu.waiting, memWait{commit, done})
		return
	}
	l.commits <- commit
}

func (l *memLog) appendOne(b record.Batch) (record.Appended, error) {
	a := record.Appended{BaseOffset: l.mu.next, LogAppendTime: -1, LogStart: l.mu.start}
	if b.ProducerID() != record.NoProducer {
		if base, dup, err := l.checkSequence(b); err != nil || dup {
			a.BaseOffset, a.Duplicate = base, dup
			return a, err
		}
	}
	if l.appendTime {
		a.LogAppendTime = 1_700_000_000_000
		b.SetLogAppendTime(a.LogAppendTime)
	}
	b.SetBaseOffset(l.mu.next)
	b.SetLeaderEpoch(l.mu.epoch)
	l.mu.batches = append(l.mu.batches, b)
	if b.IsTransactional() {
		l.mu.txns = true
		if p := l.mu.producers[b.ProducerID()]; p.open < 0 {
			p.open = b.BaseOffset()
		}
	}
	l.mu.next = b.NextOffset()
	l.mu.bytes += int64(len(b))
	for l.mu.keep > 0 && l.mu.bytes > l.mu.keep {
		l.mu.bytes -= int64(len(l.mu.batches[0]))
		l.mu.start = l.mu.batches[0].NextOffset()
		l.mu.batches[0] = nil
		l.mu.batches = l.mu.batches[1:]
	}
	return a, nil
}

func (l *memLog) checkSequence(b record.Batch) (int64, bool, error) {
	p := l.producer(b.ProducerID())
	if b.ProducerEpoch() > p.epoch {
		p.epoch, p.last = b.ProducerEpoch(), nil
	}
	if p.open >= 0 && !b.IsTransactional() {
		return -1, false, record.ErrTransactionState
	}
	if b.ProducerEpoch() < p.epoch {
		return -1, false, record.ErrProducerFenced
	}
	if b.BaseSequence() < 0 {
		return 0, false, nil
	}
	for _, o := range p.last {
		if o.first == b.BaseSequence() && o.last == b.LastSequence() {
			return o.base, true, nil
		}
	}
	if n := len(p.last); n > 0 && b.BaseSequence() != (p.last[n-1].last+1)&0x7fffffff {
		return -1, false, record.ErrOutOfOrderSequence
	}
	p.last = append(p.last, memBatch{b.BaseSequence(), b.LastSequence(), l.mu.next})
	if len(p.last) > 5 {
		p.last = p.last[1:]
	}
	return 0, false, nil
}

func (l *memLog) producer(id int64) *memProducer {
	p := l.mu.producers[id]
	if p == nil {
		p = &memProducer{open: -1, coordinator: -1}
		l.mu.producers[id] = p
	}
	return p
}

func (l *memLog) commit(hw int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if hw > l.mu.hw {
		l.mu.hw = hw
		l.wake()
	}
}

func (l *memLog) wake() {
	close(l.mu.changed)
	l.mu.changed = make(chan struct{})
}

// hold makes commits wait until release.
func (l *memLog) hold() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mu.held = true
}

func (l *memLog) release() {
	l.mu.Lock()
	waiting := l.mu.waiting
	l.mu.waiting, l.mu.held = nil, false
	l.mu.Unlock()
	for _, w := range waiting {
		l.commits <- w.commit
	}
}

// keepOnly drops the oldest batches beyond so many bytes.
func (l *memLog) keepOnly(bytes int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mu.keep = bytes
}

// held is the number of appends that wait.
func (l *memLog) heldAppends() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.mu.waiting)
}

func (l *memLog) refuse(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mu.refuse = err
}

// newEpoch begins a new leader epoch at the present end.
func (l *memLog) newEpoch() int32 {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mu.epoch++
	l.mu.ends = append(l.mu.ends, record.EpochEnd{Epoch: l.mu.epoch, End: l.mu.next})
	l.wake()
	return l.mu.epoch
}

func (l *memLog) Read(offset int64, maxBytes int) (record.Chunk, error) {
	c, err := l.read(offset, maxBytes)
	l.site.lend(&c)
	l.mu.Lock()
	onRead := l.mu.onRead
	l.mu.onRead = nil
	l.mu.Unlock()
	if onRead != nil {
		onRead()
	}
	return c, err
}

func (l *memLog) ReadLate(offset int64, maxBytes int) (record.Chunk, error) {
	c, err := l.Read(offset, maxBytes)
	l.site.arriveLate(&c)
	return c, err
}

// arriveLate leaves only the header of every other batch of a chunk in it.
func (m *memSite) arriveLate(c *record.Chunk) {
	whole := slices.Clone(c.Batches)
	for i := 0; i < len(whole); i += 2 {
		c.Batches[i] = whole[i][:record.BatchHeaderSize]
	}
	c.Open = func(i int) io.Reader {
		switch b := whole[i]; {
		case i%2 == 1:
			return nil
		case m.decayed.Load():
			return io.MultiReader(bytes.NewReader(b[:len(b)-1]), iotest.ErrReader(record.ErrQuarantined))
		default:
			return bytes.NewReader(b)
		}
	}
}

// lend makes the chunk's batches copies that turn into something else when they
// are given back, as those of a real log do.
func (m *memSite) lend(c *record.Chunk) {
	if len(c.Batches) == 0 {
		return
	}
	for i := range c.Batches {
		c.Batches[i] = slices.Clone(c.Batches[i])
	}
	lent := c.Batches
	m.lent.Add(1)
	var once atomic.Bool
	c.Release = func() {
		if once.Swap(true) {
			panic("protocol: memory is given back twice")
		}
		m.lent.Add(-1)
		for _, b := range lent {
			for i := range b {
				b[i] = 0xdd
			}
		}
	}
}

func (l *memLog) read(offset int64, maxBytes int) (record.Chunk, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := record.Chunk{Offsets: l.offsets()}
	if l.mu.behind != nil {
		return c, l.mu.behind
	}
	if offset < l.mu.start || offset > l.mu.next {
		return c, fmt.Errorf("%w: %d", record.ErrOffsetOutOfRange, offset)
	}
	i, _ := slices.BinarySearchFunc(l.mu.batches, offset, func(b record.Batch, o int64) int {
		if b.LastOffset() < o {
			return -1
		}
		return 1
	})
	for n := 0; i < len(l.mu.batches) && l.mu.batches[i].BaseOffset() < l.mu.hw; i++ {
		b := l.mu.batches[i]
		if n += len(b); n > maxBytes && len(c.Batches) > 0 {
			break
		}
		c.Batches = append(c.Batches, b)
	}
	return c, nil
}

func (l *memLog) offsets() record.Offsets {
	hw := l.mu.hw
	if l.mu.behind != nil {
		hw = l.mu.start // what it does not know of
	}
	stable := hw - l.mu.unstable
	if l.mu.behind == nil && l.mu.txns {
		stable = min(stable, l.firstOpen())
	}
	return record.Offsets{Start: l.mu.start, LastStable: stable, HighWatermark: hw, LeaderEpoch: l.mu.epoch}
}

// Serving implements Partition.
func (l *memLog) Serving() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.mu.behind
}

// Confirm implements Partition.
func (l *memLog) Confirm(context.Context) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mu.asked++
	if l.mu.behind != nil {
		return l.mu.behind
	}
	return l.mu.unsure
}

// confirms counts the calls of Confirm.
func (l *memLog) confirms() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.mu.asked
}

// doubt makes the log one of a leader that hears nothing of the others; nil ends it.
func (l *memLog) doubt(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mu.unsure = err
}

// fallBehind makes the log one of a replica that does not know yet what was
// committed; nil ends it.
func (l *memLog) fallBehind(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mu.behind = err
}

func (l *memLog) Offsets() record.Offsets {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.offsets()
}

func (l *memLog) Changed() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.mu.changed
}

func (l *memLog) EpochEnd(epoch int32) record.EpochEnd {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := record.EpochEnd{Epoch: -1, End: -1}
	for i, e := range l.mu.ends {
		if e.Epoch > epoch {
			break
		}
		out = record.EpochEnd{Epoch: e.Epoch, End: l.mu.next}
		if i+1 < len(l.mu.ends) {
			out.End = l.mu.ends[i+1].End
		}
	}
	return out
}

func (l *memLog) OffsetForTime(ms int64) (record.TimeOffset, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, b := range l.mu.batches {
		if b.MaxTime() < ms || b.LastOffset() < l.mu.start || b.BaseOffset() >= l.mu.hw {
			continue
		}
		for r, err := range b.All(1 << 30) {
			if err != nil {
				return record.TimeOffset{}, err
			}
			if r.Timestamp >= ms {
				return record.TimeOffset{Offset: r.Offset, Timestamp: r.Timestamp, LeaderEpoch: b.LeaderEpoch()}, nil
			}
		}
	}
	return record.TimeOffset{Offset: -1, Timestamp: -1, LeaderEpoch: -1}, nil
}

func (l *memLog) SetLogStart(_ context.Context, offset int64) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mu.start = max(l.mu.start, offset)
	for len(l.mu.batches) > 0 && l.mu.batches[0].LastOffset() < l.mu.start {
		l.mu.batches = l.mu.batches[1:]
	}
	l.wake()
	return nil
}

// TransferTo implements Partition; see memPart.
func (l *memLog) TransferTo(context.Context, int32) error { return record.ErrNotLeader }

func (l *memLog) Producers() (all []Producer) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for id, p := range l.mu.producers {
		one := Producer{ID: id, Epoch: p.epoch, LastSequence: -1, LastTimestamp: -1, CoordinatorEpoch: p.coordinator, TxnFirstOffset: p.open}
		if n := len(p.last); n > 0 {
			one.LastSequence = p.last[n-1].last
		}
		all = append(all, one)
	}
	return all
}

func (l *memLog) Size() (n int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, b := range l.mu.batches {
		n += int64(len(b))
	}
	return n
}
