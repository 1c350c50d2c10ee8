package record

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"sync"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
)

// Decompress returns what c made src from; with None that is src itself. The
// output is at most limit bytes, and memory is taken as output appears, not
// as a header claims. Snappy is read raw and in Xerial's framing, which Java
// clients write. Errors wrap ErrBatchTooLarge (more than limit),
// ErrCorruptBatch or ErrUnsupportedCodec.
func Decompress(c Codec, src []byte, limit int) (out []byte, err error) {
	limit = min(max(limit, 0), math.MaxInt32) // no batch is larger; sums below cannot overflow
	switch c {
	case None:
		if out = src; len(src) > limit {
			err = errTooLong
		}
	case Gzip:
		out, err = decompressGzip(src, limit)
	case Snappy:
		out, err = decompressSnappy(src, limit)
	case LZ4:
		out, err = decompressLZ4(src, limit)
	case Zstd:
		out, err = decompressZstd(src, limit)
	default:
		return nil, fmt.Errorf("%w: %v", ErrUnsupportedCodec, c)
	}
	switch {
	case err == nil:
		return out, nil
	case errors.Is(err, errTooLong):
		return nil, fmt.Errorf("%w: %d bytes of %v become more than %d", ErrBatchTooLarge, len(src), c, limit)
	}
	return nil, fmt.Errorf("%w: %d bytes of %v: %w", ErrCorruptBatch, len(src), c, err)
}

// errTooLong says that the output passes the limit; Decompress words it.
var errTooLong = errors.New("output passes the limit")

// gzipSource and lz4Source are readers with the input they read from, so that
// both are pooled in one piece.
type gzipSource struct {
	in bytes.Reader
	z  gzip.Reader
}

type lz4Source struct {
	in bytes.Reader
	z  *lz4.Reader
}

var (
	gzipReaders = sync.Pool{New: func() any { return new(gzipSource) }}
	lz4Readers  = sync.Pool{New: func() any { return &lz4Source{z: lz4.NewReader(nil)} }}
	zstdScratch = sync.Pool{New: func() any { return new([]byte) }}
	zstdDecoder = newZstdDecoder() // made before any synctest bubble, for it has a channel
)

func decompressGzip(src []byte, limit int) ([]byte, error) {
	s := gzipReaders.Get().(*gzipSource)
	defer gzipReaders.Put(s)
	defer s.in.Reset(nil)
	s.in.Reset(src)
	if err := s.z.Reset(&s.in); err != nil {
		return nil, err
	}
	return readAll(&s.z, len(src), limit)
}

func decompressLZ4(src []byte, limit int) ([]byte, error) {
	s := lz4Readers.Get().(*lz4Source)
	defer lz4Readers.Put(s)
	defer s.in.Reset(nil)
	s.in.Reset(src)
	s.z.Reset(&s.in)
	defer s.z.Reset(nil)
	return readAll(s.z, len(src), limit)
}

// readAll reads r to its end, of which at most limit bytes.
func readAll(r io.Reader, inputSize, limit int) ([]byte, error) {
	out := make([]byte, 0, min(4*inputSize+64, limit+1))
	for {
		if len(out) == cap(out) {
			out = grow(out, limit+1)
		}
		n, err := r.Read(out[len(out):cap(out)])
		out = out[:len(out)+n]
		switch {
		case len(out) > limit:
			return nil, errTooLong
		case errors.Is(err, io.EOF):
			return out, nil
		case err != nil:
			return nil, err
		}
	}
}

// grow doubles the room of b, up to most bytes.
func grow(b []byte, most int) []byte {
	return append(make([]byte, 0, min(2*cap(b), most)), b...)
}

// Xerial's framing: a magic, two version numbers, then blocks that each follow
// their length as a 32-bit number.
const (
	xerialMagic  = "\x82SNAPPY\x00"
	xerialHeader = len(xerialMagic) + 8
)

func decompressSnappy(src []byte, limit int) ([]byte, error) {
	if !bytes.HasPrefix(src, []byte(xerialMagic)) {
		return decodeSnappyBlock(nil, src, limit)
	}
	if len(src) < xerialHeader {
		return nil, fmt.Errorf("the header has %d bytes, want %d", len(src), xerialHeader)
	}
	out, src := []byte{}, src[xerialHeader:]
	for len(src) > 0 {
		if len(src) < 4 {
			return nil, fmt.Errorf("%d bytes where a block's length has 4", len(src))
		}
		n := int64(binary.BigEndian.Uint32(src))
		if src = src[4:]; n > int64(len(src)) {
			return nil, fmt.Errorf("a block of %d bytes, %d are there", n, len(src))
		}
		var err error
		if out, err = decodeSnappyBlock(out, src[:n], limit); err != nil {
			return nil, err
		}
		src = src[n:]
	}
	return out, nil
}

// maxSnappyRatio is more than snappy can shrink: its best is a copy of 64
// bytes in 3.
const maxSnappyRatio = 22

// decodeSnappyBlock appends the block's content to dst, which must not pass
// limit bytes.
func decodeSnappyBlock(dst, block []byte, limit int) ([]byte, error) {
	n, err := s2.DecodedLen(block)
	switch {
	case err != nil:
		return nil, err
	case n > limit-len(dst):
		return nil, errTooLong
	case n > maxSnappyRatio*len(block):
		return nil, fmt.Errorf("%d bytes cannot become %d", len(block), n)
	}
	if cap(dst)-len(dst) < n {
		dst = append(make([]byte, 0, max(min(2*cap(dst), limit), len(dst)+n)), dst...)
	}
	if _, err := s2.Decode(dst[len(dst):len(dst)+n], block); err != nil {
		return nil, err
	}
	return dst[:len(dst)+n], nil
}

// maxZstdRatio is more than zstd can shrink: its best is a block of 128 KiB
// in 4 bytes.
const maxZstdRatio = 1 << 15

// decompressZstd decodes a frame that states its size into just that; others,
// such as Java's, by way of a pooled buffer.
func decompressZstd(src []byte, limit int) ([]byte, error) {
	var h zstd.Header
	if err := h.Decode(src); err != nil {
		return nil, err
	}
	if !h.HasFCS {
		return decompressZstdUnstated(src, limit)
	}
	switch n := h.FrameContentSize; {
	case n > uint64(limit):
		return nil, errTooLong
	case n > uint64(maxZstdRatio*len(src)):
		return nil, fmt.Errorf("%d bytes cannot become %d", len(src), n)
	}
	out, err := zstdDecoder.DecodeAll(src, make([]byte, 0, h.FrameContentSize))
	if errors.Is(err, zstd.ErrDecoderSizeExceeded) { // another frame follows
		return decompressZstdUnstated(src, limit)
	}
	return out, err
}

// zstdSlack is room for the two blocks, of at most 128 KiB, during which the
// decoder finds out that the output does not fit.
const zstdSlack = 256 << 10

// decompressZstdUnstated tries with more and more room. An error counts as
// lack of room only when the output had passed into the slack, for the decoder
// does not always say. Its stream mode, which would not have to begin anew,
// takes the memory of the frame's window instead, whatever the output.
func decompressZstdUnstated(src []byte, limit int) ([]byte, error) {
	scratch := zstdScratch.Get().(*[]byte)
	defer zstdScratch.Put(scratch)
	for size := min(4*len(src)+64, limit); ; size = min(4*size, limit) {
		if cap(*scratch) < size+zstdSlack {
			*scratch = make([]byte, 0, size+zstdSlack)
		}
		out, err := zstdDecoder.DecodeAll(src, (*scratch)[:0:size+zstdSlack])
		switch {
		case err == nil && len(out) <= limit:
			return append(make([]byte, 0, len(out)), out...), nil
		case err != nil && len(out) <= size && !errors.Is(err, zstd.ErrDecoderSizeExceeded):
			return nil, err
		case size == limit:
			return nil, errTooLong
		}
	}
}

// newZstdDecoder makes a decoder that never appends beyond the capacity given
// to it and accepts the window of zstd's highest level, 128 MiB.
func newZstdDecoder() *zstd.Decoder {
	d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(0), zstd.WithDecodeAllCapLimit(true),
		zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(128<<20))
	if err != nil {
		panic("zstd refuses constant options: " + err.Error())
	}
	return d
}
