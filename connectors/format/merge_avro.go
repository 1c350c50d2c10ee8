package format

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

const (
	avroMagic = "Obj\x01"
	avroSync  = 16 // bytes of the marker between blocks
	// maxAvroPart bounds one name, value or block of a file that is read back.
	maxAvroPart = 1 << 30
)

// MergeAvro copies an object container file's blocks as they are. Its schema
// and compression have to be those of the header that is given; with none, the
// header is copied too, and returned.
func MergeAvro(w io.Writer, r io.Reader, header string) (string, int64, error) {
	in := bufio.NewReaderSize(r, 256<<10)
	own, err := readAvroHeader(in)
	if err != nil {
		return header, 0, fmt.Errorf("read the header of an Avro file: %w", err)
	}
	switch {
	case header == "":
		header = own
		if _, err := io.WriteString(w, header); err != nil {
			return header, 0, err
		}
	case header[:len(header)-avroSync] != own[:len(own)-avroSync]:
		return header, 0, ErrDifferentColumns
	}
	rows, err := copyAvroBlocks(w, in, own[len(own)-avroSync:], header[len(header)-avroSync:])
	return header, rows, err
}

// CountAvro is the number of rows of an object container file.
func CountAvro(r io.Reader) (int64, error) {
	_, rows, err := MergeAvro(io.Discard, r, "")
	return rows, err
}

// readAvroHeader reads the magic, the map of metadata, and the marker.
func readAvroHeader(in *bufio.Reader) (string, error) {
	var b bytes.Buffer
	if _, err := io.CopyN(&b, in, int64(len(avroMagic))); err != nil || b.String() != avroMagic {
		return "", errors.Join(errors.New("it does not begin as one"), err)
	}
	for {
		count, err := copyLong(&b, in)
		if err != nil {
			return "", err
		}
		if count == 0 {
			_, err := io.CopyN(&b, in, avroSync)
			return b.String(), err
		}
		if count < 0 { // then its size in bytes stands before it
			if _, err := copyLong(&b, in); err != nil {
				return "", err
			}
			count = -count
		}
		for range 2 * count { // names and values
			if err := copyAvroBytes(&b, in); err != nil {
				return "", err
			}
		}
	}
}

// copyAvroBlocks copies blocks and puts another marker behind each.
func copyAvroBlocks(w io.Writer, in *bufio.Reader, was, marker string) (rows int64, err error) {
	var head bytes.Buffer
	for {
		head.Reset()
		if _, err := in.Peek(1); errors.Is(err, io.EOF) {
			return rows, nil
		}
		count, err := copyLong(&head, in)
		if err != nil {
			return rows, err
		}
		size, err := copyLong(&head, in)
		if err == nil && (count < 0 || size < 0 || size > maxAvroPart) {
			err = fmt.Errorf("a block has %d rows in %d bytes", count, size)
		}
		if err == nil {
			_, err = head.WriteTo(w)
		}
		if err == nil {
			_, err = io.CopyN(w, in, size)
		}
		var end [avroSync]byte
		if err == nil {
			_, err = io.ReadFull(in, end[:])
		}
		if err == nil && string(end[:]) != was {
			err = errors.New("a block does not end with the file's marker")
		}
		if err == nil {
			_, err = io.WriteString(w, marker)
		}
		if err != nil {
			return rows, noEOF(err)
		}
		rows += count
	}
}

// copyLong copies a zigzag varint and gives its value.
func copyLong(b *bytes.Buffer, in *bufio.Reader) (int64, error) {
	n, err := binary.ReadVarint(in)
	if err != nil {
		return 0, noEOF(err)
	}
	b.Write(binary.AppendVarint(nil, n))
	return n, nil
}

func copyAvroBytes(b *bytes.Buffer, in *bufio.Reader) error {
	n, err := copyLong(b, in)
	if err == nil && (n < 0 || n > maxAvroPart) {
		err = fmt.Errorf("a text has %d bytes", n)
	}
	if err == nil {
		_, err = io.CopyN(b, in, n)
	}
	return noEOF(err)
}

// noEOF says that a file ends too early.
func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
