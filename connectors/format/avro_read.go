package format

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/twmb/avro"
	"github.com/twmb/avro/ocf"

	"github.com/entrepot-hub/entrepot/connectors"
)

const (
	// maxAvroBlock bounds a block, compressed and not: both are in memory.
	maxAvroBlock = 64 << 20
	// maxAvroHeader bounds what stands before the first block.
	maxAvroHeader = 16 << 20
	// maxAvroRow bounds a row's JSON. Without it a few bytes could stand for any
	// number of values that have none: nulls, and records of them.
	maxAvroRow = 2 * maxAvroBlock
	// maxEmpty bounds how many elements without a byte one length can claim.
	maxEmpty = 4096
)

// AvroReader reads the records of one object container file as JSON, from
// whichever program it comes. It holds one block.
type AvroReader struct {
	file  io.ReaderAt
	size  int64
	codec ocf.Codec
	sync  [avroSync]byte
	root  *avroPlace
	data  int64 // where the first block begins

	src    *bufio.Reader
	at     int64 // in the file, of what src gives next
	block  int64 // where the present one begins
	rest   []byte
	remain int64 // records in rest
	index  int64 // of the next record in the block
}

// NewAvroReader reads the header. size is the file's, in bytes.
func NewAvroReader(r io.ReaderAt, size int64) (*AvroReader, error) {
	a := &AvroReader{file: r, size: size}
	a.open(0)
	meta, err := a.header()
	if err != nil {
		return nil, fmt.Errorf("read the Avro header: %w", noEOF(err))
	}
	schema, err := avro.Parse(string(meta["avro.schema"]), avro.WithLaxNames(nil))
	if err != nil {
		return nil, fmt.Errorf("read the Avro schema: %w", err)
	}
	b := avroBuilder{names: map[string]*avroPlace{}}
	if a.root, err = b.place(schema.Root(), ""); err != nil {
		return nil, err
	}
	if a.codec, err = avroDecodec(string(meta["avro.codec"])); err != nil {
		return nil, err
	}
	a.data = a.at
	return a, nil
}

func avroDecodec(name string) (ocf.Codec, error) {
	switch name {
	case "", "null":
		return noCodec{}, nil
	case "zstandard":
		name = "zstd"
	}
	if name == "none" {
		name = "" // of ours, not of Avro's
	}
	c, err := avroCodec(name)
	if err != nil {
		return nil, fmt.Errorf("the Avro codec %q is not known here, want null, deflate, snappy or zstandard", name)
	}
	return c, nil
}

// open begins to read at a byte of the file.
func (a *AvroReader) open(at int64) {
	a.at, a.rest, a.remain = at, nil, 0
	a.src = bufio.NewReaderSize(io.NewSectionReader(a.file, at, a.size-at), 64<<10)
}

func (a *AvroReader) ReadByte() (byte, error) {
	c, err := a.src.ReadByte()
	if err == nil {
		a.at++
	}
	return c, err
}

func (a *AvroReader) full(b []byte) error {
	n, err := io.ReadFull(a.src, b)
	a.at += int64(n)
	if err = noEOF(err); errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("the file is cut off at byte %d: %w", a.at, err)
	}
	return err
}

// bytes reads so many, with no more memory than the file can have for them.
func (a *AvroReader) bytes(n, most int64) ([]byte, error) {
	if n < 0 || n > most || n > a.size-a.at {
		return nil, fmt.Errorf("the file is damaged or cut off: %d bytes are announced at byte %d, %d are left, at most %d can be", n, a.at, a.size-a.at, most)
	}
	b := make([]byte, n)
	return b, a.full(b)
}

// header reads up to the first block.
func (a *AvroReader) header() (map[string][]byte, error) {
	magic := make([]byte, len(avroMagic))
	if err := a.full(magic); err != nil || string(magic) != avroMagic {
		return nil, firstError(ioOnly(err), fmt.Errorf("it is no Avro file: it begins with %q", magic))
	}
	meta := map[string][]byte{}
	for {
		n, err := binary.ReadVarint(a)
		if err != nil {
			return nil, err
		}
		if n == 0 {
			break
		}
		if n < 0 { // with its size in bytes
			if _, err := binary.ReadVarint(a); err != nil {
				return nil, err
			}
			n = -n
		}
		for range n {
			key, err := a.text()
			if err != nil {
				return nil, err
			}
			if meta[string(key)], err = a.text(); err != nil {
				return nil, err
			}
		}
	}
	return meta, a.full(a.sync[:])
}

// ioOnly is err, if it is about reading and not about the end.
func ioOnly(err error) error {
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return nil
	}
	return err
}

func (a *AvroReader) text() ([]byte, error) {
	n, err := binary.ReadVarint(a)
	if err != nil {
		return nil, err
	}
	return a.bytes(n, maxAvroHeader-a.at)
}

// Seek implements RowReader.
func (a *AvroReader) Seek(to Place) error {
	if to.Block < a.data || to.Block > a.size || to.Row < 0 {
		return fmt.Errorf("there is no block at byte %d", to.Block)
	}
	a.open(to.Block)
	if err := a.next(); err != nil {
		return noEOF(err)
	}
	if to.Row >= a.remain {
		return fmt.Errorf("the block at byte %d has no record %d", to.Block, to.Row)
	}
	for a.index < to.Row {
		if _, err := a.Next(nil); err != nil && connectors.ClassOf(err) != connectors.ClassPoison {
			return noEOF(err)
		}
	}
	return nil
}

// next reads the next block that has a record.
func (a *AvroReader) next() error {
	for {
		block := a.at
		count, err := binary.ReadVarint(a)
		if err != nil {
			if a.at == block {
				return err // the end, or what it is read from
			}
			return noEOF(err)
		}
		size, err := binary.ReadVarint(a)
		if err != nil {
			return noEOF(err)
		}
		packed, err := a.bytes(size, maxAvroBlock)
		if err != nil {
			return err
		}
		var sync [avroSync]byte
		if err := a.full(sync[:]); err != nil {
			return err
		}
		if sync != a.sync || count < 0 {
			return fmt.Errorf("the file is damaged: the block at byte %d does not end with the file's marker", block)
		}
		if count == 0 {
			continue
		}
		if a.rest, err = unpack(a.codec, packed); err != nil {
			return fmt.Errorf("the file is damaged: the block at byte %d: %w", block, noEOF(err))
		}
		if count > int64(len(a.rest))+maxEmpty {
			return fmt.Errorf("the file is damaged: the block at byte %d has %d bytes for %d records", block, len(a.rest), count)
		}
		a.block, a.index, a.remain = block, 0, count
		return nil
	}
}

func unpack(c ocf.Codec, packed []byte) ([]byte, error) {
	if b, ok := c.(ocf.BoundedDecompressor); ok {
		return b.DecompressBounded(packed, maxAvroBlock)
	}
	return c.Decompress(packed)
}

// Next implements RowReader.
func (a *AvroReader) Next(dst []byte) (Row, error) {
	if a.remain == 0 {
		if len(a.rest) > 0 {
			return Row{Place: Place{a.block, a.index}}, fmt.Errorf("the file is damaged: %d bytes are left in the block at byte %d", len(a.rest), a.block)
		}
		if err := a.next(); err != nil {
			return Row{Place: Place{a.at, 0}}, err
		}
	}
	r, before := Row{Place: Place{a.block, a.index}}, a.rest
	d := avroDecoder{rest: a.rest, most: len(dst) + maxAvroRow}
	out := a.root.append(&d, dst, 0)
	if d.damage != nil {
		return r, fmt.Errorf("the file is damaged: record %d of the block at byte %d: %w", a.index, a.block, d.damage)
	}
	a.rest = d.rest
	a.index++
	a.remain--
	if d.poison != nil {
		r.Original = append([]byte(nil), before[:len(before)-len(d.rest)]...)
		return r, d.poison
	}
	r.JSON = out
	return r, nil
}

// Close implements RowReader.
func (a *AvroReader) Close() error { return a.codec.Close() }
