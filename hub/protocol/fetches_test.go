package protocol

import (
	"math"
	"net"
	"runtime"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/entrepot-hub/entrepot/record"
)

// What an answer has room for grows with the way, up to all that a client asks
// for between continents.
func TestAnswerPaysOnItsWay(t *testing.T) {
	for way, want := range map[time.Duration]int{0: 1 << 20, 100 * time.Microsecond: 2 << 20, 10 * time.Millisecond: 103 << 20} {
		if got := answerFor(way); got < want-want/20 || got > want+want/20 {
			t.Errorf("%v: %d bytes, want about %d", way, got, want)
		}
	}
}

func TestRoundTripOfAConnection(t *testing.T) {
	one, two := net.Pipe()
	defer one.Close()
	defer two.Close()
	f := fetches{nc: one}
	if got := f.room(); got != math.MaxInt {
		t.Errorf("%d bytes where nothing is known of the way", got)
	}
	if runtime.GOOS != "linux" {
		return // the system is not asked
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		if c, err := net.Dial("tcp", l.Addr().String()); err == nil {
			defer c.Close()
			_, _ = c.Read(make([]byte, 1))
		}
	}()
	nc, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	if way, ok := roundTrip(nc); !ok || way <= 0 || way > time.Second {
		t.Errorf("%v, %v on this machine", way, ok)
	}
}

// The way bounds an answer, but not below what the client waits for.
func TestAnswerHasWhatTheClientWaitsFor(t *testing.T) {
	s := startSite(t, quick())
	for _, c := range []struct{ max, least, room, want int }{
		{1000, 1, 100, 100},
		{1000, 500, 100, 500},
		{50, 1, 100, 50},
		{50, 500, 100, 50},
		{1 << 30, 1, math.MaxInt, s.srv.cfg.Limits.Fetch},
		{1 << 30, 1 << 30, 100, s.srv.cfg.Limits.Fetch},
	} {
		req := kmsg.NewPtrFetchRequest()
		req.MaxBytes, req.MinBytes = int32(c.max), int32(c.least)
		r := &request{fetches: &fetches{largest: c.room, asked: 1}}
		if f := newFetch(s.srv, r, req); f.limit != c.want {
			t.Errorf("%+v: %d", c, f.limit)
		}
	}
}

// Batches that are still in their files count with what they are sent through.
func TestMemoryOfAnAnswer(t *testing.T) {
	whole := batch(t, record.None, "v")
	a := &fetchAnswer{topics: []fetchedTopic{{parts: []fetchedPart{{batches: []record.Batch{whole, whole}}}}}}
	if n := a.memory(); n != 2*int64(len(whole)) {
		t.Errorf("%d bytes", n)
	}
	head := whole[:record.BatchHeaderSize]
	a.topics[0].parts = append(a.topics[0].parts, fetchedPart{batches: []record.Batch{head}})
	if n := a.memory(); n != 2*int64(len(whole))+int64(len(head))+writePiece {
		t.Errorf("%d bytes with a late batch", n)
	}
}
