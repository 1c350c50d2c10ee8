package mirror

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kbin"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/entrepot-hub/entrepot/record"
)

// fakeLog is one partition's log at a source.
type fakeLog struct {
	batches []record.Batch
	start   int64
	end     int64 // high watermark and log end
	epoch   int32 // of the leader
	history []record.EpochEnd
	holes   map[Gap]bool // offsets that no batch ever had
	node    int32
	changed chan struct{}
}

func newFakeLog() *fakeLog {
	return &fakeLog{node: 1, changed: make(chan struct{}), holes: map[Gap]bool{}}
}

func (l *fakeLog) wake() {
	close(l.changed)
	l.changed = make(chan struct{})
}

// add appends n records; skip leaves a hole of offsets before them.
func (l *fakeLog) add(rng *rand.Rand, codec record.Codec, n int, skip int64) record.Batch {
	b := record.NewBuilder(codec)
	b.BaseOffset, b.LeaderEpoch = l.end+skip, l.epoch
	for range n {
		v := make([]byte, rng.IntN(200))
		for i := range v {
			v[i] = byte(rng.IntN(16))
		}
		if err := b.Append(record.Record{Key: fmt.Appendf(nil, "k%d", rng.IntN(100)), Value: v, Timestamp: 1e12 + rng.Int64N(1e6)}); err != nil {
			panic(err)
		}
	}
	one, err := b.Build()
	if err != nil {
		panic(err)
	}
	if skip > 0 {
		l.holes[Gap{l.end, one.BaseOffset()}] = true
	}
	l.batches = append(l.batches, one)
	l.end = one.NextOffset()
	if n := len(l.history); n == 0 || l.history[n-1].Epoch != l.epoch {
		l.history = append(l.history, record.EpochEnd{Epoch: l.epoch})
	}
	l.history[len(l.history)-1].End = l.end
	l.wake()
	return one
}

// hadHole reports whether the log never had a batch in these offsets.
func (l *fakeLog) hadHole(from, to int64) bool { return l.holes[Gap{from, to}] }

func (l *fakeLog) has(b record.Batch) bool {
	return slices.ContainsFunc(l.batches, func(o record.Batch) bool { return bytes.Equal(o, b) })
}

// trim deletes below start; whole batches go.
func (l *fakeLog) trim(start int64) {
	l.start = start
	for len(l.batches) > 0 && l.batches[0].NextOffset() <= start {
		l.batches = l.batches[1:]
	}
	l.wake()
}

// cut loses everything from offset on, as an unclean election does.
func (l *fakeLog) cut(from int64) {
	for len(l.batches) > 0 && l.batches[len(l.batches)-1].NextOffset() > from {
		l.batches = l.batches[:len(l.batches)-1]
	}
	l.end = l.start
	if n := len(l.batches); n > 0 {
		l.end = l.batches[n-1].NextOffset()
	}
	for len(l.history) > 1 && l.history[len(l.history)-2].End >= l.end {
		l.history = l.history[:len(l.history)-1]
	}
	if n := len(l.history); n > 0 {
		l.history[n-1].End = l.end
	}
	l.wake()
}

// epochEnd answers as OffsetForLeaderEpoch does.
func (l *fakeLog) epochEnd(epoch int32) record.EpochEnd {
	e := record.EpochEnd{Epoch: -1, End: -1}
	for _, h := range l.history {
		if h.Epoch <= epoch {
			e = h
		}
	}
	return e
}

// read returns bytes from the batch that holds offset on, the last one cut at
// the limit as Kafka does.
func (l *fakeLog) read(offset int64, limit int) (raw []byte) {
	for _, b := range l.batches {
		if b.LastOffset() < offset || limit <= 0 {
			continue
		}
		if len(raw) > 0 && len(raw)+len(b) > limit {
			return append(raw, b[:max(limit-len(raw), 0)]...)
		}
		raw = append(raw, b...)
	}
	return raw
}

// answerTo is a source's part of a fetch answer, as a broker gives it.
func (l *fakeLog) answerTo(p *kmsg.FetchRequestTopicPartition, limit int) kmsg.FetchResponseTopicPartition {
	out := kmsg.NewFetchResponseTopicPartition()
	out.Partition, out.HighWatermark, out.LastStableOffset, out.LogStartOffset = p.Partition, -1, -1, -1
	switch {
	case p.CurrentLeaderEpoch >= 0 && p.CurrentLeaderEpoch < l.epoch:
		out.ErrorCode = kerr.FencedLeaderEpoch.Code
		return out
	case p.FetchOffset < l.start || p.FetchOffset > l.end:
		if e := l.epochEnd(p.LastFetchedEpoch); p.LastFetchedEpoch >= 0 && p.FetchOffset > l.end && e.End >= 0 && e.Epoch != p.LastFetchedEpoch {
			break
		}
		out.ErrorCode = kerr.OffsetOutOfRange.Code
		return out
	}
	out.HighWatermark, out.LastStableOffset, out.LogStartOffset = l.end, l.end, l.start
	if p.LastFetchedEpoch >= 0 && p.FetchOffset > l.start {
		if e := l.epochEnd(p.LastFetchedEpoch); e.Epoch != p.LastFetchedEpoch || e.End < p.FetchOffset && e.End < l.end {
			out.DivergingEpoch.Epoch, out.DivergingEpoch.EndOffset = e.Epoch, e.End
			return out
		}
	}
	out.RecordBatches = l.read(p.FetchOffset, min(limit, int(p.PartitionMaxBytes)))
	return out
}

type fakeTopic struct {
	id     record.TopicID
	config map[string]string
	logs   []*fakeLog
}

// fakeSite is a source site with one broker that speaks enough of Kafka.
type fakeSite struct {
	mu     sync.Mutex
	topics map[string]*fakeTopic
	conns  map[net.Conn]bool
	down   bool
	// mangle, unless nil, may change a fetch answer on its way.
	mangle func(*kmsg.FetchResponse)
	newest int16 // version of Fetch
	done   sync.WaitGroup
}

func newFakeSite() *fakeSite {
	return &fakeSite{topics: map[string]*fakeTopic{}, conns: map[net.Conn]bool{}, newest: 16}
}

// create makes a topic with mirror.to = *.
func (s *fakeSite) create(name string, id byte, partitions int) *fakeTopic {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := &fakeTopic{id: record.TopicID{15: id}, config: map[string]string{settingTo: "*"}}
	for range partitions {
		t.logs = append(t.logs, newFakeLog())
	}
	s.topics[name] = t
	return t
}

// with changes something under the lock.
func (s *fakeSite) with(change func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change()
}

// stop closes all connections and refuses new ones.
func (s *fakeSite) stop() {
	s.with(func() {
		s.down = true
		for c := range s.conns {
			c.Close()
		}
	})
}

func (s *fakeSite) resume() { s.with(func() { s.down = false }) }

// dial is the mirror's way to the source.
func (s *fakeSite) dial(context.Context, string, string) (net.Conn, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.down {
		return nil, errors.New("connection refused")
	}
	near, far := net.Pipe()
	s.conns[far] = true
	s.done.Go(func() {
		s.serve(far)
		s.with(func() { delete(s.conns, far) })
	})
	return near, nil
}

// serve answers the requests of a connection one after the other.
func (s *fakeSite) serve(c net.Conn) {
	defer c.Close()
	for {
		var size [4]byte
		if _, err := io.ReadFull(c, size[:]); err != nil {
			return
		}
		frame := make([]byte, binary.BigEndian.Uint32(size[:]))
		if _, err := io.ReadFull(c, frame); err != nil {
			return
		}
		out, err := s.handle(frame)
		if err != nil {
			return
		}
		if _, err := c.Write(out); err != nil {
			return
		}
	}
}

func (s *fakeSite) handle(frame []byte) ([]byte, error) {
	r := kbin.Reader{Src: frame}
	key, version, corr := r.Int16(), r.Int16(), r.Int32()
	r.NullableString()
	req := kmsg.RequestForKey(key)
	if req == nil {
		return nil, fmt.Errorf("key %d", key)
	}
	req.SetVersion(version)
	if req.IsFlexible() {
		kmsg.SkipTags(&r)
	}
	if err := req.ReadFrom(r.Src); err != nil {
		return nil, err
	}
	resp := s.answer(req)
	if resp == nil {
		return nil, fmt.Errorf("no answer to key %d", key)
	}
	resp.SetVersion(version)
	out := binary.BigEndian.AppendUint32(make([]byte, 4), uint32(corr))
	if resp.IsFlexible() && key != 18 {
		out = append(out, 0)
	}
	out = resp.AppendTo(out)
	binary.BigEndian.PutUint32(out, uint32(len(out)-4))
	return out, nil
}

func (s *fakeSite) answer(req kmsg.Request) kmsg.Response {
	switch req := req.(type) {
	case *kmsg.ApiVersionsRequest:
		return s.versions()
	case *kmsg.MetadataRequest:
		return s.metadata()
	case *kmsg.DescribeConfigsRequest:
		return s.configs(req)
	case *kmsg.ListOffsetsRequest:
		return s.offsets(req)
	case *kmsg.FetchRequest:
		return s.fetch(req)
	}
	return nil
}

func (s *fakeSite) versions() kmsg.Response {
	resp := kmsg.NewPtrApiVersionsResponse()
	for key, most := range map[int16]int16{1: s.newest, 2: 7, 3: 12, 18: 3, 32: 4} {
		k := kmsg.NewApiVersionsResponseApiKey()
		k.ApiKey, k.MaxVersion = key, most
		resp.ApiKeys = append(resp.ApiKeys, k)
	}
	return resp
}

func (s *fakeSite) metadata() kmsg.Response {
	s.mu.Lock()
	defer s.mu.Unlock()
	resp := kmsg.NewPtrMetadataResponse()
	b := kmsg.NewMetadataResponseBroker()
	b.NodeID, b.Host, b.Port = 1, "source", 9092
	resp.Brokers = append(resp.Brokers, b)
	for name, t := range s.topics {
		mt := kmsg.NewMetadataResponseTopic()
		mt.Topic, mt.TopicID = kmsg.StringPtr(name), t.id
		for i, l := range t.logs {
			p := kmsg.NewMetadataResponseTopicPartition()
			p.Partition, p.Leader, p.LeaderEpoch = int32(i), l.node, l.epoch
			mt.Partitions = append(mt.Partitions, p)
		}
		resp.Topics = append(resp.Topics, mt)
	}
	return resp
}

func (s *fakeSite) configs(req *kmsg.DescribeConfigsRequest) kmsg.Response {
	s.mu.Lock()
	defer s.mu.Unlock()
	resp := kmsg.NewPtrDescribeConfigsResponse()
	for _, r := range req.Resources {
		out := kmsg.NewDescribeConfigsResponseResource()
		out.ResourceType, out.ResourceName = r.ResourceType, r.ResourceName
		t := s.topics[r.ResourceName]
		if t == nil {
			out.ErrorCode = kerr.UnknownTopicOrPartition.Code
			resp.Resources = append(resp.Resources, out)
			continue
		}
		for k, v := range t.config {
			if !slices.Contains(r.ConfigNames, k) {
				continue
			}
			c := kmsg.NewDescribeConfigsResponseResourceConfig()
			c.Name, c.Value, c.Source = k, kmsg.StringPtr(v), kmsg.ConfigSourceDynamicTopicConfig
			if k == "segment.ms" {
				c.Source = kmsg.ConfigSourceDefaultConfig
			}
			out.Configs = append(out.Configs, c)
		}
		resp.Resources = append(resp.Resources, out)
	}
	return resp
}

func (s *fakeSite) offsets(req *kmsg.ListOffsetsRequest) kmsg.Response {
	s.mu.Lock()
	defer s.mu.Unlock()
	resp := kmsg.NewPtrListOffsetsResponse()
	for _, rt := range req.Topics {
		ot := kmsg.NewListOffsetsResponseTopic()
		ot.Topic = rt.Topic
		for _, rp := range rt.Partitions {
			p := kmsg.NewListOffsetsResponseTopicPartition()
			p.Partition = rp.Partition
			if t := s.topics[rt.Topic]; t == nil {
				p.ErrorCode = kerr.UnknownTopicOrPartition.Code
			} else if l := t.logs[rp.Partition]; rp.Timestamp == timeStart {
				p.Offset = l.start
			} else {
				p.Offset = l.end
			}
			ot.Partitions = append(ot.Partitions, p)
		}
		resp.Topics = append(resp.Topics, ot)
	}
	return resp
}

// fetch answers at once if there is anything to say, else after the wait.
func (s *fakeSite) fetch(req *kmsg.FetchRequest) kmsg.Response {
	resp, empty, changed := s.fetchNow(req)
	if empty {
		timer := time.NewTimer(time.Duration(req.MaxWaitMillis) * time.Millisecond)
		defer timer.Stop()
		select {
		case <-changed:
		case <-timer.C:
		}
		resp, _, _ = s.fetchNow(req)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mangle != nil {
		s.mangle(resp)
	}
	return resp
}

func (s *fakeSite) fetchNow(req *kmsg.FetchRequest) (resp *kmsg.FetchResponse, empty bool, changed <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	resp, empty = kmsg.NewPtrFetchResponse(), true
	room := int(req.MaxBytes)
	for _, rt := range req.Topics {
		ot := kmsg.NewFetchResponseTopic()
		ot.TopicID = rt.TopicID
		t := s.byID(rt.TopicID)
		for i := range rt.Partitions {
			rp := &rt.Partitions[i]
			if t == nil {
				p := kmsg.NewFetchResponseTopicPartition()
				p.Partition, p.ErrorCode = rp.Partition, kerr.UnknownTopicID.Code
				ot.Partitions, empty = append(ot.Partitions, p), false
				continue
			}
			l := t.logs[rp.Partition]
			p := l.answerTo(rp, room)
			room -= len(p.RecordBatches)
			if p.ErrorCode != 0 || len(p.RecordBatches) > 0 || p.DivergingEpoch.EndOffset >= 0 {
				empty = false
			}
			changed = l.changed
			ot.Partitions = append(ot.Partitions, p)
		}
		resp.Topics = append(resp.Topics, ot)
	}
	return resp, empty, changed
}

func (s *fakeSite) byID(id record.TopicID) *fakeTopic {
	for _, t := range s.topics {
		if t.id == id {
			return t
		}
	}
	return nil
}

// memSite is a destination in memory.
type memSite struct {
	mu     sync.Mutex
	topics map[string]*memTopic
	refuse error                                                // of EnsureTopic
	fail   func(tp record.TopicPartition) (before, after error) // of Append; nil: none
	slow   time.Duration                                        // of an append
}

type memTopic struct {
	MirroredTopic
	logs []*memLog
}

// memLog is one partition's log at the destination.
type memLog struct {
	site    *memSite
	tp      record.TopicPartition
	batches []record.Batch
	start   int64
	next    int64
	epoch   int32
	trims   int
}

func newMemSite() *memSite { return &memSite{topics: map[string]*memTopic{}} }

func (s *memSite) EnsureTopic(_ context.Context, t MirroredTopic) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.refuse != nil {
		return s.refuse
	}
	have := s.topics[t.Name]
	if have == nil {
		have = &memTopic{}
		s.topics[t.Name] = have
	} else if have.ID != t.ID {
		return fmt.Errorf("topic %q here is the mirror of ID %s, the source has %s: %w", t.Name, have.ID, t.ID, ErrSourceRecreated)
	}
	have.MirroredTopic = t
	for i := len(have.logs); i < int(t.Partitions); i++ {
		tp := record.TopicPartition{Topic: t.Name, Partition: int32(i)}
		have.logs = append(have.logs, &memLog{site: s, tp: tp, epoch: -1})
	}
	return nil
}

func (s *memSite) Target(tp record.TopicPartition) (Target, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.topics[tp.Topic]
	if t == nil || int(tp.Partition) >= len(t.logs) {
		return nil, record.ErrUnknownTopic
	}
	return t.logs[tp.Partition], nil
}

func (s *memSite) Mirrors() (all []MirroredTopic) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, t := range s.topics {
		all = append(all, t.MirroredTopic)
	}
	return all
}

func (l *memLog) Next() (int64, int32) {
	l.site.mu.Lock()
	defer l.site.mu.Unlock()
	return l.next, l.epoch
}

func (l *memLog) Append(ctx context.Context, _ string, next int64, batches []record.Batch) error {
	if l.site.slow > 0 {
		select {
		case <-time.After(l.site.slow):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	l.site.mu.Lock()
	defer l.site.mu.Unlock()
	var before, after error
	if l.site.fail != nil {
		before, after = l.site.fail(l.tp)
	}
	if before != nil {
		return before
	}
	if next != l.next {
		return fmt.Errorf("%w: the log ends at %d, the link has %d", record.ErrMirrorFenced, l.next, next)
	}
	l.append(batches)
	return after
}

func (l *memLog) append(batches []record.Batch) {
	for _, b := range batches {
		if b.BaseOffset() < l.next {
			panic(fmt.Sprintf("batch %d onto a log that ends at %d", b.BaseOffset(), l.next))
		}
		if err := b.Check(); err != nil {
			panic(err)
		}
		l.batches, l.next, l.epoch = append(l.batches, b), b.NextOffset(), b.LeaderEpoch()
	}
}

func (l *memLog) SetLogStart(_ context.Context, start int64) error {
	l.site.mu.Lock()
	defer l.site.mu.Unlock()
	l.trims++
	return l.trim(start)
}

func (l *memLog) trim(start int64) error {
	if start > l.next {
		return fmt.Errorf("log start %d above the end %d", start, l.next)
	}
	l.start = max(l.start, start)
	for len(l.batches) > 0 && l.batches[0].NextOffset() <= l.start {
		l.batches = l.batches[1:]
	}
	return nil
}

// same compares a source's log with its mirror, byte for byte.
func same(src *fakeLog, dst *memLog) error {
	if dst.next != src.end && len(src.batches) > 0 {
		return fmt.Errorf("the mirror ends at %d, the source at %d", dst.next, src.end)
	}
	if dst.start != src.start && len(dst.batches) > 0 {
		return fmt.Errorf("the mirror begins at %d, the source at %d", dst.start, src.start)
	}
	return prefix(src, dst)
}

// prefix checks that all that the mirror has is as at the source.
func prefix(src *fakeLog, dst *memLog) error {
	from := max(src.start, dst.start)
	mine := slices.DeleteFunc(slices.Clone(dst.batches), func(b record.Batch) bool { return b.NextOffset() <= from })
	theirs := slices.DeleteFunc(slices.Clone(src.batches), func(b record.Batch) bool { return b.NextOffset() <= from })
	if len(mine) > len(theirs) {
		return fmt.Errorf("%d batches, the source has %d", len(mine), len(theirs))
	}
	for i, b := range mine {
		if !bytes.Equal(b, theirs[i]) {
			return fmt.Errorf("batch %d: offsets %d to %d here, %d to %d there, or other bytes", i,
				b.BaseOffset(), b.LastOffset(), theirs[i].BaseOffset(), theirs[i].LastOffset())
		}
	}
	if n := len(mine); n > 0 && dst.next < theirs[n-1].NextOffset() {
		return fmt.Errorf("the mirror ends at %d inside of its last batch", dst.next)
	}
	return nil
}
