package peer

import (
	"context"
	"crypto/x509/pkix"
	"fmt"
	"io"
	"net"
	"testing"
	"time"

	"github.com/entrepot-hub/entrepot/hub/auth/authtest"
)

// BenchmarkSend is messages from one node to another over loopback, a head of
// 64 bytes and a payload, as fast as the queue takes them.
func BenchmarkSend(b *testing.B) {
	for _, size := range []int{1 << 10, 1 << 20} {
		for _, secured := range []bool{false, true} {
			b.Run(fmt.Sprintf("size=%d/tls=%v", size, secured), func(b *testing.B) { benchSend(b, size, secured) })
		}
	}
}

func benchSend(b *testing.B, size int, secured bool) {
	configs := [2]Config{patient(), patient()}
	if secured {
		a := authtest.NewAuthority(b)
		for i := range configs {
			configs[i] = secure(b, a.Issue(fmt.Sprint(i), pkix.Name{CommonName: "n"}, time.Hour), a.CA)
		}
	}
	from, to := newNode(b, configs[0], identity(1)), newNode(b, configs[1], identity(2))
	got := make(chan struct{}, 1<<16)
	to.onFrame = func(Peer, Class, []byte) { got <- struct{}{} }
	to.forget = true
	from.serve(listen(b, "127.0.0.1:0"))
	to.serve(listen(b, "127.0.0.1:0"))
	join(from, to)
	head, body := make([]byte, 64), make([]byte, size)
	b.SetBytes(int64(size))
	b.ReportAllocs()
	b.ResetTimer()
	sent, received := 0, 0
	for received < b.N {
		for sent < b.N && from.Send(2, Append, net.Buffers{head, body}) {
			sent++
		}
		<-got
		received++
	}
}

// BenchmarkStream is a stream from one node to another over loopback, a megabyte
// at a time, as a file of a log is read.
func BenchmarkStream(b *testing.B) {
	from, to := newNode(b, patient(), identity(1)), newNode(b, patient(), identity(2))
	piece := make([]byte, chunkBytes)
	from.onStream = func(_ context.Context, _ Peer, _ string, _ []byte, w io.Writer) error {
		for {
			if _, err := w.Write(piece); err != nil {
				return err
			}
		}
	}
	from.serve(listen(b, "127.0.0.1:0"))
	to.serve(listen(b, "127.0.0.1:0"))
	join(from, to)
	r, err := to.Open(b.Context(), 1, "file", nil)
	if err != nil {
		b.Fatal(err)
	}
	buf := make([]byte, 1<<20)
	b.SetBytes(int64(len(buf)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := io.ReadFull(r, buf); err != nil {
			b.Fatal(err)
		}
	}
	_ = r.Close()
}
