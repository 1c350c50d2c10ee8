package files

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"
	"time"

	"github.com/entrepot-hub/entrepot/connectors"
)

// library is a store to read from. Names are those of store.
type library interface {
	// Folder lists what is in a folder. os.ErrNotExist when there is none.
	Folder(ctx context.Context, folder string) ([]shelved, error)
	// Stat looks at a file.
	Stat(ctx context.Context, name string) (shelved, error)
	// Open begins to read a file that has not changed since it was looked at.
	Open(ctx context.Context, e shelved) (volume, error)
	// Read gives a whole small file.
	Read(ctx context.Context, name string) ([]byte, error)
	List(ctx context.Context, folder string) ([]string, error)
	fault(what, name string, err error) error
	Close(tmpFolder string) error
}

// volume is a file that is read, at any place. It is errChanged when the store
// notices that the file is no longer the same.
type volume interface {
	ReadAt(ctx context.Context, b []byte, at int64) (int, error)
	Close() error
}

// shelved is what a store says of a file, or of a folder within one.
type shelved struct {
	name   string
	folder bool
	size   int64
	mtime  time.Time
	tag    string // of the content, where the store has one

	merged int  // number of files that it was made of, says the folder's manifest; 0: none
	part   bool // of a merged file, says the manifest: it is about to go
}

// errChanged says that a file is not what it was.
var errChanged = errors.New("the file has changed since it was listed")

// print tells one state of a file from another.
func (e shelved) print() [8]byte {
	b := binary.BigEndian.AppendUint64(nil, uint64(e.size))
	b = binary.BigEndian.AppendUint64(b, uint64(e.mtime.UnixNano()))
	sum := sha256.Sum256(append(b, e.tag...))
	return [8]byte(sum[:8])
}

// String is what people compare.
func (e shelved) String() string {
	return fmt.Sprintf("%d bytes of %s", e.size, e.mtime.UTC().Format(time.RFC3339Nano))
}

// hiddenName says that readers pass over a file or a folder: what has no name
// yet, schemas, markers.
func hiddenName(name string) bool {
	return (name[0] == '_' || name[0] == '.') && !strings.Contains(name, "=") && !strings.HasPrefix(name, hiveNull)
}

// maxFolders bounds how deep folders are looked into, where links may go round.
const maxFolders = 64

// walk calls fn for each folder that is not hidden, with its files that are not,
// in the order of names, and with the names of all.
func walk(ctx context.Context, l library, folder string, deep int, fn func(folder string, files []shelved, names []string) error) error {
	all, err := l.Folder(ctx, folder)
	if err != nil {
		return l.fault("list", folder, err)
	}
	if deep > maxFolders {
		return connectors.Fatalf("%s: more than %d folders within each other", folder, maxFolders)
	}
	var (
		files []shelved
		names []string
	)
	for _, e := range all {
		base := path.Base(e.name)
		switch {
		case hiddenName(base):
		case e.folder:
			if err := walk(ctx, l, e.name, deep+1, fn); err != nil {
				return err
			}
		default:
			files = append(files, e)
		}
		if !e.folder {
			names = append(names, base)
		}
	}
	return fn(folder, files, names)
}

// bound is a volume as an io.ReaderAt: its calls belong to the context of the
// call of Read that they are made in. It remembers what went wrong below, to
// tell a file that is damaged from one that cannot be reached.
type bound struct {
	volume
	ctx context.Context
	err error
}

func (b *bound) ReadAt(p []byte, at int64) (int, error) {
	n, err := b.volume.ReadAt(b.ctx, p, at)
	if err != nil && !errors.Is(err, io.EOF) {
		b.err = err
	}
	return n, err
}
