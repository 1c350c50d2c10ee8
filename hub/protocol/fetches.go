package protocol

import (
	"math"
	"net"
	"slices"
	"time"

	"github.com/entrepot-hub/entrepot/record"
)

// fetches is what the Fetch requests of one connection share. It is used by the
// goroutine that handles them alone.
type fetches struct {
	nc      net.Conn
	session *fetchSession
	served  servedPart
	largest int // answer that pays; see room
	asked   int // how often since the way was measured
}

// servedPart is the last partition of which the last answer had records.
type servedPart struct {
	topic     record.TopicID
	partition int32
}

// turn lets a read begin behind the last partition that was served: with a bound
// on the answer, the first ones would otherwise have it all.
func (f *fetches) turn(parts []*fetchPart) []*fetchPart {
	n := 1 + slices.IndexFunc(parts, func(p *fetchPart) bool { return p.key() == f.served })
	if n == 0 || n == len(parts) {
		return parts
	}
	return slices.Concat(parts[n:], parts[:n])
}

// note remembers where the answer ended.
func (f *fetches) note(parts []*fetchPart) {
	for _, p := range slices.Backward(parts) {
		if len(p.out.batches) > 0 {
			f.served = p.key()
			return
		}
	}
}

func (p *fetchPart) key() servedPart { return servedPart{p.topic.ID, p.req.Partition} }

// How large an answer pays depends on the way to the client, which has to wait for
// a round trip before the next one comes: with perRoundTrip that is a tenth of its
// time over 10 Gbit/s. A larger one costs both ends more, as what does not fit into
// the processors' caches any more is read from memory twice and more
// (docs/benchmarks.md, "What reading costs").
const (
	leastRoom    = 1 << 20  // bytes, of an answer without any way
	perRoundTrip = 10 << 30 // bytes, for a round trip of a second
	measureEvery = 64       // requests
)

// room is how many bytes an answer has at most for its size to pay.
func (f *fetches) room() int {
	if f.asked%measureEvery == 0 {
		f.largest = math.MaxInt
		if way, ok := roundTrip(f.nc); ok {
			f.largest = answerFor(way)
		}
	}
	f.asked++
	return f.largest
}

func answerFor(way time.Duration) int {
	return leastRoom + int(way.Seconds()*perRoundTrip)
}
