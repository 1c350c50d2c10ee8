package kafka

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/entrepot-hub/entrepot/record"
)

// model is a partition as a broker has it.
type model struct {
	rng     *rand.Rand
	batches []record.Batch
	aborted []struct {
		producer    int64
		first, last int64 // last is that of the marker
	}
	want []int64 // offsets that a reader of committed records gets
	end  int64
}

// add appends a batch of n records of a producer, some of which compaction
// has taken away.
func (m *model) add(producer int64, n int, transactional bool) (offsets []int64, last int64) {
	b := record.NewBuilder(record.Codec(m.rng.IntN(5)))
	b.BaseOffset, b.KeepOffsets, b.LastOffset = m.end, true, m.end+int64(n)-1
	b.ProducerID, b.ProducerEpoch, b.BaseSequence, b.Transactional = producer, 0, 0, transactional
	for i := range int64(n) {
		if m.rng.IntN(4) == 0 {
			continue
		}
		if err := b.Append(record.Record{Offset: m.end + i, Timestamp: 7, Value: fmt.Append(nil, m.end+i)}); err != nil {
			panic(err)
		}
		offsets = append(offsets, m.end+i)
	}
	batch, err := b.Build()
	if err != nil {
		panic(err)
	}
	m.batches = append(m.batches, batch)
	m.end += int64(n)
	return offsets, m.end - 1
}

func (m *model) marker(producer int64, commit bool) int64 {
	b := record.NewMarker(producer, 0, commit, 0, 7)
	b.SetBaseOffset(m.end)
	m.batches = append(m.batches, b)
	m.end++
	return m.end - 1
}

// newModel writes a random history: plain batches among the transactions of
// three producers, of which some are aborted.
func newModel(seed uint64) *model {
	m := &model{rng: rand.New(rand.NewPCG(seed, 1))}
	type txn struct {
		first   int64
		offsets []int64
	}
	open := map[int64]*txn{}
	for range 40 + m.rng.IntN(60) {
		producer := int64(m.rng.IntN(3))
		t := open[producer]
		switch {
		case m.rng.IntN(4) == 0:
			offsets, _ := m.add(record.NoProducer, 1+m.rng.IntN(5), false)
			m.want = append(m.want, offsets...)
		case t != nil && m.rng.IntN(2) == 0:
			commit := m.rng.IntN(2) == 0
			last := m.marker(producer, commit)
			if commit {
				m.want = append(m.want, t.offsets...)
			} else {
				m.aborted = append(m.aborted, struct{ producer, first, last int64 }{producer, t.first, last})
			}
			delete(open, producer)
		default:
			if t == nil {
				t = &txn{first: m.end}
				open[producer] = t
			}
			offsets, _ := m.add(producer, 1+m.rng.IntN(5), true)
			t.offsets = append(t.offsets, offsets...)
		}
	}
	for producer := range int64(3) {
		if t := open[producer]; t != nil {
			m.aborted = append(m.aborted, struct{ producer, first, last int64 }{producer, t.first, m.marker(producer, false)})
		}
	}
	slices.Sort(m.want)
	return m
}

// fetch answers as a broker does: whole batches from the one that holds the
// offset on, the last one cut off at limit, and the aborted transactions that
// overlap with them.
func (m *model) fetch(offset int64, limit int) fetched {
	f := fetched{highWatermark: m.end, lastStable: m.end}
	last := offset
	for _, b := range m.batches {
		if b.LastOffset() < offset {
			continue
		}
		if len(f.records) > 0 && len(f.records)+len(b) > limit {
			f.records = append(f.records, b[:min(max(limit-len(f.records), 0), len(b))]...)
			break
		}
		f.records = append(f.records, b...)
		last = b.LastOffset()
	}
	for _, a := range m.aborted {
		if a.last >= offset && a.first <= last {
			f.aborted = append(f.aborted, aborted{a.producer, a.first})
		}
	}
	m.rng.Shuffle(len(f.aborted), func(i, j int) { f.aborted[i], f.aborted[j] = f.aborted[j], f.aborted[i] })
	return f
}

// TestSiftRandom: whatever the history and however it is cut into answers, a
// reader gets what was committed, once and in order, and comes to the end.
func TestSiftRandom(t *testing.T) {
	for seed := range uint64(400) {
		m := newModel(seed)
		s := sifter{committed: true}
		var got []int64
		for rounds := 0; s.next < m.end; rounds++ {
			before := s.next
			err := s.sift(m.fetch(s.next, 1+m.rng.IntN(600)), func(r record.Record) {
				if string(r.Value) != fmt.Sprint(r.Offset) {
					t.Fatalf("seed %d: offset %d has the value %s", seed, r.Offset, r.Value)
				}
				got = append(got, r.Offset)
			})
			if err != nil {
				t.Fatalf("seed %d at %d: %v", seed, before, err)
			}
			if s.next == before {
				t.Fatalf("seed %d: the reader stays at %d of %d", seed, before, m.end)
			}
			if m.rng.IntN(3) == 0 && len(got) > 0 { // a restart after the newest record
				s = sifter{committed: true, next: got[len(got)-1] + 1}
			}
		}
		if !slices.Equal(got, m.want) {
			t.Fatalf("seed %d: got %v, want %v", seed, got, m.want)
		}
	}
}

// TestSiftDamage: what is damaged is told, and what was good before it has
// been given out.
func TestSiftDamage(t *testing.T) {
	m := &model{rng: rand.New(rand.NewPCG(1, 1))}
	m.add(record.NoProducer, 3, false)
	good := len(m.batches[0])
	m.add(record.NoProducer, 3, false)
	f := m.fetch(0, 1<<20)
	f.records = slices.Clone(f.records)
	f.records[good+record.BatchHeaderSize] ^= 1
	s := sifter{}
	if err := s.sift(f, func(record.Record) {}); !errors.Is(err, record.ErrCorruptBatch) || s.next != 3 {
		t.Errorf("next %d: %v", s.next, err)
	}
}

// TestDecodeFetch: another program's encoder writes what is read here.
func TestDecodeFetch(t *testing.T) {
	r := kmsg.NewPtrFetchResponse()
	r.Version = fetchByName
	topic, part := kmsg.NewFetchResponseTopic(), kmsg.NewFetchResponseTopicPartition()
	part.Partition, part.HighWatermark, part.LastStableOffset, part.LogStartOffset = 4, 100, 90, 7
	part.AbortedTransactions = []kmsg.FetchResponseTopicPartitionAbortedTransaction{{ProducerID: 3, FirstOffset: 80}}
	part.RecordBatches = []byte("batches")
	topic.Topic, topic.Partitions = "orders", []kmsg.FetchResponseTopicPartition{part}
	r.Topics = []kmsg.FetchResponseTopic{topic}
	f, err := decodeFetch(r.AppendTo(nil), record.TopicPartition{Topic: "orders", Partition: 4})
	if err != nil || f.highWatermark != 100 || f.lastStable != 90 || f.logStart != 7 || string(f.records) != "batches" || len(f.aborted) != 1 || f.aborted[0] != (aborted{3, 80}) {
		t.Errorf("%+v, %v", f, err)
	}
	if _, err := decodeFetch(r.AppendTo(nil), record.TopicPartition{Topic: "orders", Partition: 5}); !errors.Is(err, errAnswer) {
		t.Errorf("an answer about another partition: %v", err)
	}
	r.Version, r.Topics[0].TopicID = fetchByID, [16]byte{1, 2}
	body := append([]byte{0}, r.AppendTo(nil)...)
	if g, err := decodeFetchByID(body, record.TopicPartition{Topic: "orders", Partition: 4}, record.TopicID{1, 2}); err != nil || !reflect.DeepEqual(f, g) {
		t.Errorf("by id: %+v, %v", g, err)
	}
	if _, err := decodeFetchByID(body, record.TopicPartition{Topic: "orders", Partition: 4}, record.TopicID{1, 3}); !errors.Is(err, errAnswer) {
		t.Errorf("an answer about another topic: %v", err)
	}
	ask := kmsg.NewPtrFetchRequest()
	ask.Version = fetchByID
	req := fetchRequest{tp: record.TopicPartition{Partition: 4}, id: record.TopicID{1, 2}, offset: 77, committed: true, minBytes: 3, maxBytes: 5, wait: time.Second}
	if err := ask.ReadFrom(encodeFetchByID(req)); err != nil {
		t.Fatal(err)
	}
	p := ask.Topics[0].Partitions[0]
	if ask.ReplicaID != -1 || ask.MaxWaitMillis != 1000 || ask.MinBytes != 3 || ask.MaxBytes != 5 || ask.IsolationLevel != 1 || ask.SessionEpoch != -1 ||
		ask.Topics[0].TopicID != [16]byte{1, 2} || p.Partition != 4 || p.FetchOffset != 77 || p.CurrentLeaderEpoch != -1 || p.LastFetchedEpoch != -1 || p.LogStartOffset != -1 || p.PartitionMaxBytes != 5 {
		t.Errorf("%+v", ask)
	}
}

func TestDecodeMetadata(t *testing.T) {
	m, err := decodeMetadata(append([]byte{0}, someMetadata().AppendTo(nil)...))
	if err != nil {
		t.Fatal(err)
	}
	got := m.topics["orders"]
	if m.brokers[2] != "[::1]:9092" || got.id != (record.TopicID{1, 2}) || got.partitions[1].leader != 2 || got.partitions[1].code != 5 || !got.internal {
		t.Errorf("%+v", m)
	}
	ask := kmsg.NewPtrMetadataRequest()
	ask.Version = metadataVersion
	if err := ask.ReadFrom(encodeMetadata([]string{"orders"})); err != nil || len(ask.Topics) != 1 || *ask.Topics[0].Topic != "orders" || ask.AllowAutoTopicCreation {
		t.Errorf("%+v, %v", ask, err)
	}
	all := kmsg.NewPtrMetadataRequest()
	all.Version = metadataVersion
	if err := all.ReadFrom(encodeMetadata(nil)); err != nil || all.Topics != nil {
		t.Errorf("%+v, %v", all, err)
	}
}

func someMetadata() *kmsg.MetadataResponse {
	r := kmsg.NewPtrMetadataResponse()
	r.Version = metadataVersion
	b := kmsg.NewMetadataResponseBroker()
	b.NodeID, b.Host, b.Port = 2, "::1", 9092
	name := "orders"
	p := kmsg.NewMetadataResponseTopicPartition()
	p.Partition, p.Leader, p.ErrorCode, p.Replicas = 1, 2, 5, []int32{2, 3}
	topic := kmsg.NewMetadataResponseTopic()
	topic.Topic, topic.TopicID, topic.IsInternal, topic.Partitions = &name, [16]byte{1, 2}, true, []kmsg.MetadataResponseTopicPartition{p}
	r.Brokers, r.Topics = []kmsg.MetadataResponseBroker{b}, []kmsg.MetadataResponseTopic{topic}
	return r
}

// Whatever a broker sends, it is read or refused.

func FuzzDecodeMetadata(f *testing.F) {
	f.Add(append([]byte{0}, someMetadata().AppendTo(nil)...))
	f.Fuzz(func(_ *testing.T, b []byte) { _, _ = decodeMetadata(b) })
}

func FuzzDecodeFetch(f *testing.F) {
	f.Add([]byte{}, int64(0))
	m := newModel(3)
	f.Add(m.fetch(0, 400).records, int64(0))
	f.Fuzz(func(t *testing.T, b []byte, next int64) {
		_, _ = decodeFetch(b, record.TopicPartition{Topic: "orders"})
		_, _ = decodeFetchByID(b, record.TopicPartition{Topic: "orders"}, record.TopicID{})
		s := sifter{next: max(next, 0), committed: true}
		before := s.next
		_ = s.sift(fetched{records: b}, func(r record.Record) {
			if r.Offset < before {
				t.Errorf("offset %d, asked for %d", r.Offset, before)
			}
		})
		if s.next < before {
			t.Errorf("next went from %d to %d", before, s.next)
		}
	})
}

func TestPosition(t *testing.T) {
	id := record.TopicID{9}
	a, b := appendPosition(nil, 255, id), appendPosition(nil, 256, id)
	if string(a) >= string(b) {
		t.Error("positions are not in the order of their offsets")
	}
	if offset, got, err := parsePosition(b); err != nil || offset != 256 || got != id {
		t.Errorf("%d %s %v", offset, got, err)
	}
}
