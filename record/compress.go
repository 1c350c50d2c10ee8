package record

import (
	"fmt"
	"sync"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
)

// Codec is how the records of a batch are compressed; the numbers are those
// of the batch's attributes.
type Codec uint8

// The codecs of Kafka.
const (
	None Codec = iota
	Gzip
	Snappy
	LZ4
	Zstd
)

var codecNames = [...]string{None: "none", Gzip: "gzip", Snappy: "snappy", LZ4: "lz4", Zstd: "zstd"}

// String is the name that Kafka's settings use.
func (c Codec) String() string {
	if int(c) < len(codecNames) {
		return codecNames[c]
	}
	return fmt.Sprintf("codec(%d)", uint8(c))
}

// ParseCodec reads what String writes, and "uncompressed", which Kafka's topic
// setting says for none. Its error wraps ErrUnsupportedCodec.
func ParseCodec(s string) (Codec, error) {
	if s == "uncompressed" {
		return None, nil
	}
	for c, name := range codecNames {
		if s == name {
			return Codec(c), nil
		}
	}
	return None, fmt.Errorf("%w: %q, want none, gzip, snappy, lz4 or zstd", ErrUnsupportedCodec, s)
}

// Compress appends src, compressed, to dst. Snappy is written as one raw
// block, which every client reads; lz4 as a frame of independent 64 KiB blocks,
// as Kafka's own. Its error wraps ErrUnsupportedCodec.
func Compress(dst []byte, c Codec, src []byte) ([]byte, error) {
	switch c {
	case None:
		return append(dst, src...), nil
	case Gzip:
		return compressGzip(dst, src)
	case Snappy:
		return appendSnappy(dst, src), nil
	case LZ4:
		return compressLZ4(dst, src)
	case Zstd:
		return zstdEncoder.EncodeAll(src, dst), nil
	}
	return dst, fmt.Errorf("%w: %v", ErrUnsupportedCodec, c)
}

// appender is an io.Writer over a slice.
type appender struct{ b []byte }

func (a *appender) Write(p []byte) (int, error) {
	a.b = append(a.b, p...)
	return len(p), nil
}

// The pools hold what is dear to make. Nothing in them has a channel or a
// goroutine, so that a value may be made inside a synctest bubble and used
// outside of it.
var (
	gzipWriters = sync.Pool{New: func() any { return gzip.NewWriter(nil) }}
	lz4Writers  = sync.Pool{New: func() any { return newLZ4Writer() }}
)

// zstdEncoder serves all callers; it holds no more than four working sets (of
// 1.3 MB each) and lets others wait.
var zstdEncoder = newZstdEncoder()

func compressGzip(dst, src []byte) ([]byte, error) {
	w := gzipWriters.Get().(*gzip.Writer)
	defer gzipWriters.Put(w)
	out := &appender{dst}
	w.Reset(out)
	defer w.Reset(nil)
	if _, err := w.Write(src); err != nil {
		return dst, fmt.Errorf("gzip %d bytes: %w", len(src), err)
	}
	if err := w.Close(); err != nil {
		return dst, fmt.Errorf("gzip %d bytes: %w", len(src), err)
	}
	return out.b, nil
}

func compressLZ4(dst, src []byte) ([]byte, error) {
	w := lz4Writers.Get().(*lz4.Writer)
	defer lz4Writers.Put(w)
	out := &appender{dst}
	w.Reset(out)
	defer w.Reset(nil)
	if _, err := w.Write(src); err != nil {
		return dst, fmt.Errorf("lz4 %d bytes: %w", len(src), err)
	}
	if err := w.Close(); err != nil {
		return dst, fmt.Errorf("lz4 %d bytes: %w", len(src), err)
	}
	return out.b, nil
}

// appendSnappy compresses into the spare room of dst, when there is enough.
func appendSnappy(dst, src []byte) []byte {
	if room := s2.MaxEncodedLen(len(src)); cap(dst)-len(dst) < room {
		dst = append(make([]byte, 0, len(dst)+room), dst...)
	}
	block := s2.EncodeSnappy(dst[len(dst):cap(dst)], src)
	return dst[:len(dst)+len(block)]
}

func newLZ4Writer() *lz4.Writer {
	w := lz4.NewWriter(nil)
	if err := w.Apply(lz4.BlockSizeOption(lz4.Block64Kb), lz4.ChecksumOption(false), lz4.ConcurrencyOption(1)); err != nil {
		panic("lz4 refuses constant options: " + err.Error())
	}
	return w
}

// newZstdEncoder makes an encoder and uses it once: it makes its channel on
// first use, and one made inside a synctest bubble could not be used outside.
func newZstdEncoder() *zstd.Encoder {
	e, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(4), zstd.WithEncoderCRC(false), zstd.WithZeroFrames(true))
	if err != nil {
		panic("zstd refuses constant options: " + err.Error())
	}
	e.EncodeAll([]byte{0}, nil)
	return e
}
