package protocol

import (
	"bytes"
	"encoding/binary"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/entrepot-hub/entrepot/record"
)

// What a log lends to an answer goes back exactly once, and not before the
// answer is written: the memory of these logs turns into something else when
// it is given back.
func TestFetchGivesBackWhatItWasLent(t *testing.T) {
	s := startSite(t, quick())
	topic := s.topic(t, "t", 2)
	c := s.dial(t)
	want := batch(t, record.None, string(bytes.Repeat([]byte("x"), 2*inlined)))
	want.SetLeaderEpoch(1)
	for range 3 {
		produced(c, produceRequest(9, "t", topic.ID, bytes.Clone(want)))
	}
	both := fetchRequest(12, "t", topic.ID, 0)
	both.Topics[0].Partitions = append(both.Topics[0].Partitions, both.Topics[0].Partitions[0])
	both.Topics[0].Partitions[1].Partition = 1
	if got := fetched(c, both); !bytes.HasPrefix(got.RecordBatches, want) {
		t.Error("the answer is not what was produced")
	}
	both.MaxBytes = int32(len(want)) // full after one batch
	both.IsolationLevel = readCommitted
	if got := fetched(c, both); !bytes.Equal(got.RecordBatches, want) {
		t.Errorf("%d bytes, want one batch of %d", len(got.RecordBatches), len(want))
	}
	both.MaxWaitMillis, both.MinBytes, both.MaxBytes = 10, 1<<20, 1<<20 // read again while it waits
	if got := fetched(c, both); !bytes.HasPrefix(got.RecordBatches, want) {
		t.Error("the answer after a wait is not what was produced")
	}
	stale := fetchRequest(12, "t", topic.ID, 0)
	stale.Topics[0].Partitions[0].CurrentLeaderEpoch = 0
	fetched(c, stale)
	both.MaxWaitMillis = 3_600_000
	requests := s.srv.counts[1].Load()
	c.send(both) // never answered
	eventually(t, "the fetch is parked", func() bool { return s.srv.counts[1].Load() > requests })
	_ = c.nc.Close()
	s.stop()
	if n := s.lent.Load(); n != 0 {
		t.Errorf("%d reads have not given their memory back", n)
	}
}

// What turns out to be damaged while it is sent ends the connection before its last
// byte: the client asks again, and is not handed half of it as the whole.
func TestAnswerIsBrokenOff(t *testing.T) {
	s := startSite(t, quick())
	topic := s.topic(t, "t", 1, "max.message.bytes", "8388608")
	produced(s.dial(t), produceRequest(9, "t", topic.ID, batch(t, record.None, strings.Repeat("x", 3*writePiece))))
	s.decayed.Store(true)
	c := s.dial(t)
	f := fetchRequest(12, "t", topic.ID, 0)
	f.MaxBytes = 1 << 30
	c.send(f)
	if err := c.nc.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	var size [4]byte
	if _, err := io.ReadFull(c.nc, size[:]); err != nil {
		t.Fatal(err)
	}
	want := int64(binary.BigEndian.Uint32(size[:]))
	if got, err := io.Copy(io.Discard, c.nc); err != nil || got >= want || got < want/2 {
		t.Errorf("%d bytes of an answer of %d, then %v", got, want, err)
	}
	s.decayed.Store(false)
	if got := fetched(s.dial(t), f); len(got.RecordBatches) < 3*writePiece {
		t.Errorf("%d bytes from a log that is whole again", len(got.RecordBatches))
	}
	s.stop()
	if n := s.lent.Load(); n != 0 {
		t.Errorf("%d reads have not given their memory back", n)
	}
}

// An answer that is full asks no log for more, and still says where it ends.
func TestFullFetchReadsNoMore(t *testing.T) {
	s := startSite(t, quick())
	topic := s.topic(t, "t", 2)
	c := s.dial(t)
	for p := range int32(2) {
		r := produceRequest(9, "t", topic.ID, batch(t, record.None, "v"))
		r.Topics[0].Partitions[0].Partition = p
		produced(c, r)
	}
	reads := 0
	log := s.memLog(t, "t", 1)
	log.mu.Lock()
	log.mu.onRead = func() { reads++ }
	log.mu.Unlock()
	f := fetchRequest(12, "t", topic.ID, 0)
	f.MaxBytes = 1
	f.Topics[0].Partitions = append(f.Topics[0].Partitions, f.Topics[0].Partitions[0])
	f.Topics[0].Partitions[1].Partition = 1
	got := ask[*kmsg.FetchResponse](c, f).Topics[0].Partitions
	if len(got[0].RecordBatches) == 0 || len(got[1].RecordBatches) != 0 || reads != 0 {
		t.Errorf("%d and %d bytes, the second log was read %d times", len(got[0].RecordBatches), len(got[1].RecordBatches), reads)
	}
	if got[1].HighWatermark != 1 || got[1].ErrorCode != 0 {
		t.Errorf("the partition without room: %+v", got[1])
	}
}

// A batch that does not fit any more fills the answer: the logs behind it are
// not read for one that would not fit either.
func TestFetchStopsAtWhatDoesNotFit(t *testing.T) {
	s := startSite(t, quick())
	topic := s.topic(t, "t", 3)
	c := s.dial(t)
	b := batch(t, record.None, "v")
	for p := range int32(3) {
		r := produceRequest(9, "t", topic.ID, bytes.Clone(b))
		r.Topics[0].Partitions[0].Partition = p
		produced(c, r)
	}
	reads := 0
	log := s.memLog(t, "t", 2)
	log.mu.Lock()
	log.mu.onRead = func() { reads++ }
	log.mu.Unlock()
	f := fetchRequest(12, "t", topic.ID, 0)
	f.MaxBytes = int32(len(b)) + 1
	for p := range int32(2) {
		f.Topics[0].Partitions = append(f.Topics[0].Partitions, f.Topics[0].Partitions[0])
		f.Topics[0].Partitions[p+1].Partition = p + 1
	}
	got := ask[*kmsg.FetchResponse](c, f).Topics[0].Partitions
	if len(got[0].RecordBatches) == 0 || len(got[1].RecordBatches)+len(got[2].RecordBatches) != 0 || reads != 0 {
		t.Errorf("%d, %d and %d bytes, the last log was read %d times", len(got[0].RecordBatches), len(got[1].RecordBatches), len(got[2].RecordBatches), reads)
	}
	if got[2].HighWatermark != 1 || got[2].ErrorCode != 0 {
		t.Errorf("the partition without room: %+v", got[2])
	}
}
