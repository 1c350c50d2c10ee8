package postgres

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/entrepot-hub/entrepot/connectors/postgres/pgoutput"
)

// spool keeps transactions in progress in one temporary file each. Nothing of
// it outlives the reader: after a restart the server sends them again. A file
// is taken out of its folder as soon as it is open, so that a crash leaves none.
type spool struct {
	files map[uint32]*spoolFile
}

var _ pgoutput.Spool = (*spool)(nil)

type spoolFile struct {
	file *os.File
	w    *bufio.Writer
}

// spoolBuffer is the memory that a transaction in progress takes.
const spoolBuffer = 64 << 10

func newSpool() *spool { return &spool{files: map[uint32]*spoolFile{}} }

// Append implements pgoutput.Spool.
func (s *spool) Append(xid uint32, message []byte) error {
	f := s.files[xid]
	if f == nil {
		file, err := os.CreateTemp("", "entrepot-cdc-*")
		if err != nil {
			return fmt.Errorf("keep a transaction in progress: %w", err)
		}
		if err := os.Remove(file.Name()); err != nil {
			return errors.Join(fmt.Errorf("keep a transaction in progress: %w", err), file.Close())
		}
		f = &spoolFile{file: file, w: bufio.NewWriterSize(file, spoolBuffer)}
		s.files[xid] = f
	}
	var size [4]byte
	binary.BigEndian.PutUint32(size[:], uint32(len(message)))
	_, err := f.w.Write(size[:])
	if err == nil {
		_, err = f.w.Write(message)
	}
	if err != nil {
		return fmt.Errorf("keep a transaction in progress: %w", err)
	}
	return nil
}

// Replay implements pgoutput.Spool.
func (s *spool) Replay(xid uint32) (next func() ([]byte, error), err error) {
	f := s.files[xid]
	if f == nil {
		return func() ([]byte, error) { return nil, io.EOF }, nil
	}
	if err = f.w.Flush(); err == nil {
		_, err = f.file.Seek(0, io.SeekStart)
	}
	if err != nil {
		return nil, fmt.Errorf("read a transaction in progress: %w", err)
	}
	in := bufio.NewReaderSize(f.file, spoolBuffer)
	return func() ([]byte, error) {
		var size [4]byte
		_, err := io.ReadFull(in, size[:])
		if errors.Is(err, io.EOF) {
			return nil, io.EOF
		}
		message := make([]byte, binary.BigEndian.Uint32(size[:]))
		if err == nil {
			_, err = io.ReadFull(in, message)
		}
		if err != nil {
			return nil, fmt.Errorf("read a transaction in progress: %w", err)
		}
		return message, nil
	}, nil
}

// Drop implements pgoutput.Spool.
func (s *spool) Drop(xid uint32) error {
	f := s.files[xid]
	if f == nil {
		return nil
	}
	delete(s.files, xid)
	return f.file.Close()
}

// close drops everything.
func (s *spool) close() error {
	var all error
	for xid := range s.files {
		all = errors.Join(all, s.Drop(xid))
	}
	return all
}
