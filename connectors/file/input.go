package file

import (
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"

	"github.com/entrepot-hub/entrepot/connectors"
)

// input is one open file.
type input struct {
	path  string
	f     *os.File
	gz    *gzip.Reader // of a compressed file, read to gzAt
	gzAt  int64
	id    identity
	mtime int64 // nanoseconds
}

// open opens a regular file and takes its fingerprint.
func open(path string) (*input, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, openError(err)
	}
	in := &input{path: path, f: f}
	if err := in.identify(); err != nil {
		_ = f.Close()
		return nil, err
	}
	return in, nil
}

func openError(err error) error {
	if errors.Is(err, os.ErrPermission) {
		return connectors.Fatal(fmt.Errorf("%w: the hub's user needs the right to read it", err))
	}
	return connectors.Retry(0, err)
}

func (in *input) identify() error {
	info, err := in.f.Stat()
	if err != nil {
		return connectors.Retry(0, err)
	}
	if !info.Mode().IsRegular() {
		return connectors.Fatalf("%s is not a regular file", in.path)
	}
	head, err := in.head()
	if err != nil {
		return err
	}
	if len(head) >= 2 && (head[0] == 0xff && head[1] == 0xfe || head[0] == 0xfe && head[1] == 0xff) {
		return connectors.Fatalf("%s is UTF-16 by its byte order mark: convert it to UTF-8", in.path)
	}
	in.id = identityOf(info, head)
	in.mtime = info.ModTime().UnixNano()
	return nil
}

func identityOf(info os.FileInfo, head []byte) identity {
	id := identity{fpLen: uint16(len(head)), fp: fingerprint(head)}
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		id.dev, id.ino = uint64(st.Dev), st.Ino //nolint:unconvert // the type of Dev differs between systems
	}
	return id
}

func (in *input) compressed() bool { return strings.HasSuffix(in.path, ".gz") }

// head reads the first bytes, uncompressed.
func (in *input) head() ([]byte, error) {
	var r io.Reader = io.NewSectionReader(in.f, 0, 1<<62)
	if in.compressed() {
		z, err := gzip.NewReader(r)
		if err != nil {
			return nil, in.gzipError(err)
		}
		r = z
	}
	head := make([]byte, fingerprintBytes)
	n, err := readFull(r, head)
	if err != nil {
		return nil, in.gzipError(err)
	}
	return head[:n], nil
}

// readFull fills b, or less when the end comes first. Unlike io.ReadFull it
// keeps the clean end apart from one that came too early.
func readFull(r io.Reader, b []byte) (n int, err error) {
	for n < len(b) && err == nil {
		var m int
		m, err = r.Read(b[n:])
		n += m
	}
	if err == io.EOF {
		err = nil
	}
	return n, err
}

// gzipError: a file cut short may still be written; anything else stays wrong.
func (in *input) gzipError(err error) error {
	err = fmt.Errorf("%s: %w after %d uncompressed bytes", in.path, err, in.gzAt)
	if errors.Is(err, gzip.ErrHeader) || errors.Is(err, gzip.ErrChecksum) {
		return connectors.Fatal(err)
	}
	return connectors.Retry(0, err)
}

// state is what a look at the file tells.
type state struct {
	size      int64 // -1 for a compressed file
	truncated bool  // it is not the file any more that was read up to the offset
}

// look checks that the file still is what was read up to offset, and extends
// the fingerprint while the file grows.
func (in *input) look(offset int64) (state, error) {
	if in.compressed() {
		return state{size: -1}, nil
	}
	info, err := in.f.Stat()
	if err != nil {
		return state{}, connectors.Retry(0, err)
	}
	if info.Size() < offset {
		return state{size: info.Size(), truncated: true}, nil
	}
	head, err := in.head()
	if err != nil {
		return state{}, err
	}
	if !in.id.matches(head) {
		return state{size: info.Size(), truncated: true}, nil
	}
	if len(head) > int(in.id.fpLen) {
		in.id.fpLen, in.id.fp = uint16(len(head)), fingerprint(head)
	}
	in.mtime = info.ModTime().UnixNano()
	return state{size: info.Size()}, nil
}

// readAt fills b from an offset, uncompressed; 0 and no error at the end.
func (in *input) readAt(b []byte, offset int64) (int, error) {
	if !in.compressed() {
		n, err := in.f.ReadAt(b, offset)
		if err != nil && err != io.EOF {
			return n, connectors.Retry(0, err)
		}
		return n, nil
	}
	if err := in.seek(offset); err != nil {
		return 0, err
	}
	n, err := readFull(in.gz, b)
	in.gzAt += int64(n)
	if err != nil && n == 0 {
		return 0, in.gzipError(err)
	}
	return n, nil // what came before an error is good, the error comes again
}

// seek brings a compressed file to an offset; backwards by beginning again.
func (in *input) seek(offset int64) error {
	if in.gz == nil || in.gzAt > offset {
		z, err := gzip.NewReader(io.NewSectionReader(in.f, 0, 1<<62))
		if err != nil {
			return in.gzipError(err)
		}
		in.gz, in.gzAt = z, 0
	}
	n, err := io.CopyN(io.Discard, in.gz, offset-in.gzAt)
	in.gzAt += n
	if err != nil && !errors.Is(err, io.EOF) {
		return in.gzipError(err)
	}
	return nil
}

func (in *input) close() error { return in.f.Close() }
