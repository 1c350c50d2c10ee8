package record

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"runtime"
	"testing"
	"testing/synctest"

	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
)

var codecs = []Codec{None, Gzip, Snappy, LZ4, Zstd}

func mustCompress(t testing.TB, c Codec, src []byte) []byte {
	t.Helper()
	out, err := Compress(nil, c, src)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestCodecNames(t *testing.T) {
	for _, c := range codecs {
		if got, err := ParseCodec(c.String()); got != c || err != nil {
			t.Errorf("%v reads as %v, %v", c, got, err)
		}
	}
	if c, err := ParseCodec("uncompressed"); c != None || err != nil {
		t.Errorf("uncompressed reads as %v, %v", c, err)
	}
	if _, err := ParseCodec("lzma"); !errors.Is(err, ErrUnsupportedCodec) {
		t.Errorf("lzma: %v", err)
	}
	if got := Codec(9).String(); got != "codec(9)" {
		t.Errorf("codec 9 is %q", got)
	}
}

func TestCompressRoundTrip(t *testing.T) {
	for _, c := range codecs {
		for _, size := range []int{0, 1, 100, 64 << 10, 1 << 20, 5<<20 + 1} {
			t.Run(fmt.Sprintf("%v/%d", c, size), func(t *testing.T) {
				src := text(size)
				out, err := Compress([]byte("before"), c, src)
				if err != nil {
					t.Fatal(err)
				}
				if !bytes.HasPrefix(out, []byte("before")) {
					t.Fatal("what was in dst is gone")
				}
				got, err := Decompress(c, out[len("before"):], size)
				if err != nil || !bytes.Equal(got, src) {
					t.Fatalf("%d bytes back of %d: %v", len(got), size, err)
				}
				if size == 0 {
					return
				}
				if _, err := Decompress(c, out[len("before"):], size-1); !errors.Is(err, ErrBatchTooLarge) {
					t.Errorf("a limit one byte short: %v", err)
				}
			})
		}
	}
}

// text is size bytes that compress about as well as logs do.
func text(size int) []byte {
	var b bytes.Buffer
	for i := 0; b.Len() < size; i++ {
		fmt.Fprintf(&b, "%d level=info topic=orders-%d took=%dms\n", i, i%7, i*i%1000)
	}
	return b.Bytes()[:size]
}

func TestCompressUnknownCodec(t *testing.T) {
	if _, err := Compress(nil, 5, []byte("x")); !errors.Is(err, ErrUnsupportedCodec) {
		t.Error(err)
	}
	if _, err := Decompress(5, []byte("x"), 10); !errors.Is(err, ErrUnsupportedCodec) {
		t.Error(err)
	}
}

// xerial frames src as Java's SnappyOutputStream does.
func xerial(src []byte, block int) []byte {
	out := append([]byte(xerialMagic), 0, 0, 0, 1, 0, 0, 0, 1)
	for len(src) > 0 {
		n := min(block, len(src))
		enc := s2.EncodeSnappy(nil, src[:n])
		out = append(binary.BigEndian.AppendUint32(out, uint32(len(enc))), enc...)
		src = src[n:]
	}
	return out
}

// zstdStream compresses as zstd-jni does: without stating the size ahead.
func zstdStream(t *testing.T, src []byte, options ...zstd.EOption) *bytes.Buffer {
	t.Helper()
	var out bytes.Buffer
	z, err := zstd.NewWriter(&out, options...)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := z.Write(src); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return &out
}

func TestReadsWhatOtherClientsWrite(t *testing.T) {
	src := text(3 << 20) // far more than the first guess
	stream := zstdStream(t, src)
	var big bytes.Buffer
	l := lz4.NewWriter(&big) // blocks of 4 MiB and a checksum
	if _, err := l.Write(src); err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name  string
		codec Codec
		in    []byte
	}{
		{"xerial in 32 KiB blocks", Snappy, xerial(src, 32<<10)},
		{"xerial in one block", Snappy, xerial(src, len(src))},
		{"zstd stream", Zstd, stream.Bytes()},
		{"two zstd frames", Zstd, append(mustCompress(t, Zstd, src[:10]), mustCompress(t, Zstd, src[10:])...)},
		{"lz4 frame", LZ4, big.Bytes()},
	} {
		got, err := Decompress(c.codec, c.in, len(src))
		if err != nil || !bytes.Equal(got, src) {
			t.Errorf("%s: %d bytes back of %d: %v", c.name, len(got), len(src), err)
		}
		if _, err := Decompress(c.codec, c.in, len(src)-1); !errors.Is(err, ErrBatchTooLarge) {
			t.Errorf("%s, a limit one byte short: %v", c.name, err)
		}
	}
	if got, err := Decompress(Snappy, xerial(nil, 1), 0); err != nil || len(got) != 0 {
		t.Errorf("xerial without a block: %q, %v", got, err)
	}
}

func TestDecompressRefuses(t *testing.T) {
	claim := binary.AppendUvarint(nil, 900<<10) // a block that claims 900 KiB
	stream := zstdStream(t, text(100<<10))
	for _, c := range []struct {
		name  string
		codec Codec
		in    []byte
	}{
		{"empty gzip", Gzip, nil},
		{"empty snappy", Snappy, nil},
		{"empty lz4", LZ4, []byte{1}},
		{"empty zstd", Zstd, nil},
		{"text as gzip", Gzip, text(100)},
		{"text as snappy", Snappy, []byte("\xff\xff\xff\xff\xff\xff")},
		{"text as lz4", LZ4, text(100)},
		{"text as zstd", Zstd, text(100)},
		{"xerial, torn in its header", Snappy, []byte(xerialMagic + "\x00\x00")},
		{"xerial, torn in a length", Snappy, xerial(text(100), 100)[:xerialHeader+3]},
		{"xerial, torn in a block", Snappy, xerial(text(100), 100)[:xerialHeader+10]},
		{"snappy that claims what it cannot hold", Snappy, append(claim, text(50)...)},
		{"gzip, torn", Gzip, mustCompress(t, Gzip, text(1000))[:100]},
		{"lz4, torn", LZ4, mustCompress(t, LZ4, text(1000))[:100]},
		{"zstd of unstated size, torn", Zstd, stream.Bytes()[:stream.Len()/2]},
		{"zstd, torn", Zstd, mustCompress(t, Zstd, text(1000))[:100]},
	} {
		if out, err := Decompress(c.codec, c.in, 1<<20); !errors.Is(err, ErrCorruptBatch) {
			t.Errorf("%s: %d bytes, %v; want %v", c.name, len(out), err, ErrCorruptBatch)
		}
	}
}

// TestBombs decompresses little into very much and measures what that takes.
func TestBombs(t *testing.T) {
	const limit = 1 << 20
	zeros := make([]byte, 64<<20)
	stream := zstdStream(t, zeros, zstd.WithWindowSize(128<<20))
	bombs := map[string]struct {
		codec Codec
		in    []byte
	}{
		"gzip":                    {Gzip, mustCompress(t, Gzip, zeros)},
		"snappy":                  {Snappy, mustCompress(t, Snappy, zeros)},
		"xerial":                  {Snappy, xerial(zeros, 32<<10)},
		"lz4":                     {LZ4, mustCompress(t, LZ4, zeros)},
		"zstd":                    {Zstd, mustCompress(t, Zstd, zeros)},
		"zstd of unstated size":   {Zstd, stream.Bytes()},
		"zstd with a 128M window": {Zstd, stream.Bytes()[:20]},
	}
	for name, b := range bombs {
		var err error
		// A pool may have been emptied, so that its values are made anew.
		took := allocated(func() { _, err = Decompress(b.codec, b.in, limit) })
		if !errors.Is(err, ErrBatchTooLarge) && !errors.Is(err, ErrCorruptBatch) {
			t.Errorf("%s: %v", name, err)
		}
		if took > 16*limit {
			t.Errorf("%s: %d bytes allocated for a limit of %d", name, took, limit)
		}
	}
}

// TestClaimsTakeNoMemory: a header that promises what its input cannot hold is
// refused before there is memory for it.
func TestClaimsTakeNoMemory(t *testing.T) {
	const claim = 64 << 20
	zstdClaim := []byte("\x28\xb5\x2f\xfd\xa0") // a single segment, its size in 4 bytes
	for c, in := range map[Codec][]byte{
		Snappy: append(binary.AppendUvarint(nil, claim), text(50)...),
		Zstd:   append(binary.LittleEndian.AppendUint32(zstdClaim, claim), text(50)...),
	} {
		var err error
		took := allocated(func() { _, err = Decompress(c, in, 2*claim) })
		if !errors.Is(err, ErrCorruptBatch) || took > claim/4 {
			t.Errorf("%v: %d bytes allocated, %v", c, took, err)
		}
	}
}

// allocated is the number of bytes that f allocates.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

func TestLimitsAtTheEdge(t *testing.T) {
	for _, c := range codecs {
		in := mustCompress(t, c, []byte("abc"))
		for _, limit := range []int{math.MinInt, -2, -1, 0, 2} {
			if _, err := Decompress(c, in, limit); !errors.Is(err, ErrBatchTooLarge) {
				t.Errorf("%v with limit %d: %v", c, limit, err)
			}
		}
		if out, err := Decompress(c, in, math.MaxInt); err != nil || string(out) != "abc" {
			t.Errorf("%v without a limit: %q, %v", c, out, err)
		}
	}
}

// TestCodecsCrossBubbles uses in a synctest bubble and after it what they
// share, which a channel made inside would not survive.
func TestCodecsCrossBubbles(t *testing.T) {
	e, d := newZstdEncoder(), newZstdDecoder()
	use := func(t *testing.T) {
		if out, err := d.DecodeAll(e.EncodeAll(text(100), nil), make([]byte, 0, 100)); err != nil || len(out) != 100 {
			t.Errorf("%d bytes, %v", len(out), err)
		}
		for _, c := range codecs {
			if _, err := Decompress(c, mustCompress(t, c, text(100)), 100); err != nil {
				t.Error(err)
			}
		}
	}
	synctest.Test(t, use)
	use(t)
}

func FuzzDecompress(f *testing.F) {
	for _, c := range codecs {
		f.Add(uint8(c), mustCompress(f, c, text(3000)))
		f.Add(uint8(c), mustCompress(f, c, nil))
		if c != None { // fuzzing is slow on large inputs
			f.Add(uint8(c), mustCompress(f, c, make([]byte, 100<<10)))
		}
	}
	f.Add(uint8(Snappy), xerial(text(3000), 1000))
	f.Fuzz(func(t *testing.T, c uint8, src []byte) {
		const limit = 64 << 10
		out, err := Decompress(Codec(c), src, limit)
		switch {
		case err == nil && len(out) > limit:
			t.Fatalf("%d bytes pass a limit of %d", len(out), limit)
		case err == nil && Codec(c) != None && cap(out) > 2*limit+(128<<10):
			t.Fatalf("room for %d bytes with a limit of %d", cap(out), limit)
		case err != nil && !errors.Is(err, ErrCorruptBatch) && !errors.Is(err, ErrBatchTooLarge) && !errors.Is(err, ErrUnsupportedCodec):
			t.Fatalf("an error of no kind: %v", err)
		}
	})
}
