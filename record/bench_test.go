package record

import (
	"fmt"
	"testing"
)

// benchBatch has 1000 records of about 1 KiB.
func benchBatch(b *testing.B, c Codec) Batch {
	n := NewBuilder(c)
	value := text(1000 * 1024)
	for i := range 1000 {
		mustAppend(b, n, Record{Timestamp: int64(i), Key: fmt.Append(nil, i), Value: value[i*1024 : (i+1)*1024]})
	}
	return mustBuild(b, n)
}

func BenchmarkCheck(b *testing.B) {
	batch := benchBatch(b, None)
	b.SetBytes(int64(len(batch)))
	for b.Loop() {
		if err := batch.Check(); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkEach(b *testing.B) {
	for _, c := range codecs {
		b.Run(c.String(), func(b *testing.B) {
			batch := benchBatch(b, c)
			b.SetBytes(1000 * 1024)
			b.ReportAllocs()
			for b.Loop() {
				if err := batch.Each(2<<20, func(Record) error { return nil }); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkBuild(b *testing.B) {
	for _, c := range codecs {
		b.Run(c.String(), func(b *testing.B) {
			rs := records(b, benchBatch(b, None))
			n := NewBuilder(c)
			b.SetBytes(1000 * 1024)
			b.ReportAllocs()
			for b.Loop() {
				n.Reset()
				mustAppend(b, n, rs...)
				if _, err := n.Build(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
