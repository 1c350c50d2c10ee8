package files

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
)

// content is a published file that is being read.
type content interface {
	io.ReaderAt
	io.Closer
	Size() int64
}

// Put writes a synced file under _tmp and renames it, which replaces a whole
// file by a whole file.
func (l *localStore) Put(_ context.Context, tmp, name string, text []byte) error {
	t, target := l.path(tmp), l.path(name)
	if err := errors.Join(mkdirs(l.disk, filepath.Dir(target)), mkdirs(l.disk, filepath.Dir(t)), removeIfThere(l.disk, t)); err != nil {
		return err
	}
	if err := writeSynced(l.disk, t, text); err != nil {
		return err
	}
	if err := l.disk.Rename(t, target); err != nil {
		return err
	}
	return l.disk.SyncDir(filepath.Dir(target))
}

func (l *localStore) Remove(_ context.Context, name string) error {
	return removeIfThere(l.disk, l.path(name))
}

func (l *localStore) Open(_ context.Context, name string) (content, error) {
	return l.disk.Open(l.path(name))
}

// sized is a file of known size.
type sized struct {
	readCloserAt
	size int64
}

type readCloserAt interface {
	io.ReaderAt
	io.Closer
}

func (s sized) Size() int64 { return s.size }

// Open opens a file for reading.
func (osDisk) Open(path string) (content, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return sized{f, info.Size()}, nil
}

func (osDisk) Rename(old, new string) error { return os.Rename(old, new) }

func (s *s3Store) Put(ctx context.Context, _, name string, text []byte) error {
	_, err := s.client.PutObject(ctx, &s3.PutObjectInput{
		Bucket: &s.loc.bucket, Key: aws.String(s.key(name)), Body: bytes.NewReader(text), ContentMD5: contentMD5(text),
	})
	return s3Error(err)
}

func (s *s3Store) Remove(ctx context.Context, name string) error {
	_, err := s.client.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: &s.loc.bucket, Key: aws.String(s.key(name))})
	if err = s3Error(err); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

func (s *s3Store) Open(ctx context.Context, name string) (content, error) {
	return openRanged(ctx, bucketLibrary{s}, name)
}

// openRanged opens a file that is read by requests.
func openRanged(ctx context.Context, l library, name string) (content, error) {
	e, err := l.Stat(ctx, name)
	if err != nil {
		return nil, err
	}
	v, err := l.Open(ctx, e)
	if err != nil {
		return nil, err
	}
	return &ranged{file: &bound{volume: v, ctx: ctx}, size: e.size}, nil
}

// ranged makes one request of small reads next to each other, as those of a
// footer.
type ranged struct {
	file  *bound
	size  int64
	at    int64 // of block
	block []byte
}

const rangedBlock = 64 << 10

func (r *ranged) Size() int64  { return r.size }
func (r *ranged) Close() error { return r.file.Close() }

func (r *ranged) ReadAt(b []byte, at int64) (int, error) {
	if at < 0 || at >= r.size {
		return 0, io.EOF
	}
	want := b[:min(int64(len(b)), r.size-at)]
	if len(want) >= rangedBlock {
		if err := r.fill(want, at); err != nil {
			return 0, err
		}
	} else {
		if at < r.at || at+int64(len(want)) > r.at+int64(len(r.block)) {
			from := max(0, min(at, r.size-rangedBlock))
			block := make([]byte, min(rangedBlock, r.size-from))
			if err := r.fill(block, from); err != nil {
				return 0, err
			}
			r.at, r.block = from, block
		}
		copy(want, r.block[at-r.at:])
	}
	if len(want) < len(b) {
		return len(want), io.EOF
	}
	return len(want), nil
}

func (r *ranged) fill(b []byte, at int64) error {
	n, err := r.file.ReadAt(b, at)
	if n == len(b) {
		return nil
	}
	return noEOF(err)
}

// Put renames over what is there, which this driver's rename does.
func (s *hdfsStore) Put(ctx context.Context, tmp, name string, text []byte) error {
	if err := s.Prepare(ctx, []string{folderOf(tmp), folderOf(name)}); err != nil {
		return err
	}
	if err := errors.Join(s.remove(tmp), s.put(ctx, tmp, text)); err != nil {
		return err
	}
	return s.client.Rename(s.path(tmp), s.path(name))
}

func (s *hdfsStore) Remove(_ context.Context, name string) error { return s.remove(name) }

func (s *hdfsStore) Open(_ context.Context, name string) (content, error) {
	f, err := s.client.Open(s.path(name))
	if err != nil {
		return nil, err
	}
	return sized{f, f.Stat().Size()}, nil
}

// Put renames with the option OVERWRITE, which replaces at once.
func (s *webStore) Put(ctx context.Context, tmp, name string, text []byte) error {
	if err := s.Prepare(ctx, []string{folderOf(tmp), folderOf(name)}); err != nil {
		return err
	}
	if err := s.put(ctx, tmp, bytes.NewReader(text)); err != nil {
		return err
	}
	_, err := s.boolean(ctx, http.MethodPut, "RENAME", tmp, "destination", s.path(name), "renameoptions", "OVERWRITE")
	return err
}

func (s *webStore) Remove(ctx context.Context, name string) error { return s.remove(ctx, name) }

func (s *webStore) Open(ctx context.Context, name string) (content, error) {
	return openRanged(ctx, webLibrary{s}, name)
}
