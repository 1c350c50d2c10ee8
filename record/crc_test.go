package record

import (
	"math/rand/v2"
	"testing"
)

func TestTailCRC(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 2_000 {
		n := NewBuilder(None)
		value := make([]byte, rng.IntN(1<<rng.IntN(18)))
		for i := range value {
			value[i] = byte(rng.Uint32())
		}
		mustAppend(t, n, Record{Timestamp: 1, Value: value})
		b := mustBuild(t, n)
		for _, from := range []int{posAttributes, BatchHeaderSize, 64, len(b), posAttributes + rng.IntN(len(b)-posAttributes)} {
			if got, want := b.TailCRC(from), CRC(b[from:]); got != want {
				t.Fatalf("batch of %d bytes from %d: %08x, want %08x", len(b), from, got, want)
			}
		}
	}
}

func BenchmarkTailCRC(b *testing.B) {
	batch := benchBatch(b, None)
	b.SetBytes(int64(len(batch)))
	for b.Loop() {
		batch.TailCRC(64)
	}
}
