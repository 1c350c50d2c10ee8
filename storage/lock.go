package storage

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/entrepot-hub/entrepot/record"
	"github.com/entrepot-hub/entrepot/storage/vfs"
)

const (
	lockName   = "lock"
	formatName = "format"
	// formatVersion of the directory: its layout and every format in it. An
	// older one is converted by a program that says so, never by opening it.
	formatVersion = 1
	formatPrefix  = "entrepot-storage "
)

var errClosed = fmt.Errorf("the store is closed: %w", record.ErrStopped)

// owner is what the lock file says of the process that holds it. Only the lock
// itself counts; this is for the sentence that people read.
type owner struct {
	name, host string
	pid        int
	since      time.Time
}

func (o owner) encode() []byte {
	return fmt.Appendf(nil, "owner=%q host=%q pid=%d since=%s\n", o.name, o.host, o.pid, o.since.UTC().Format(time.RFC3339))
}

// parseOwner reads what encode wrote. ok is false for anything else: the file
// may be empty on a full disk.
func parseOwner(b []byte) (o owner, ok bool) {
	var since string
	if n, err := fmt.Sscanf(string(b), "owner=%q host=%q pid=%d since=%s\n", &o.name, &o.host, &o.pid, &since); err != nil || n != 4 {
		return owner{}, false
	}
	var err error
	o.since, err = time.Parse(time.RFC3339, since)
	return o, err == nil && o.pid > 0
}

func (o owner) String() string {
	name := "process " + strconv.Itoa(o.pid)
	if o.name != "" {
		name = strconv.Quote(o.name) + " (" + name + ")"
	}
	return fmt.Sprintf("%s on host %q since %s", name, o.host, o.since.UTC().Format(time.RFC3339))
}

// takeLock locks the directory and writes who holds it.
func takeLock(fsys vfs.FS, dir string, cfg Config) (io.Closer, error) {
	name := path.Join(dir, lockName)
	lock, err := fsys.Lock(name)
	if errors.Is(err, vfs.ErrLocked) {
		holder := "another process"
		if o, ok := parseOwner(readSmall(fsys, name)); ok {
			holder = o.String()
		}
		return nil, fmt.Errorf("%w by %s: stop it, or choose another directory", ErrLocked, holder)
	}
	if err != nil {
		return nil, err
	}
	host, _ := os.Hostname()
	o := owner{name: cfg.Owner, host: host, pid: os.Getpid(), since: cfg.Clock()}
	// On a full disk the name may not fit; the lock holds without it.
	_ = overwrite(fsys, name, o.encode())
	return lock, nil
}

// overwrite replaces a file's content in place, unsynced.
func overwrite(fsys vfs.FS, name string, b []byte) error {
	f, err := fsys.OpenWrite(name)
	if err != nil {
		return err
	}
	_, err = f.WriteGather([][]byte{b}, 0)
	return errors.Join(err, f.Truncate(int64(len(b))), f.Close())
}

// readSmall reads the first 4 KiB of a file, or what can be read of them.
func readSmall(fsys vfs.FS, name string) []byte {
	f, err := fsys.Open(name)
	if err != nil {
		return nil
	}
	b := make([]byte, 4096)
	n, _ := f.ReadAt(b, 0)
	_ = f.Close()
	return b[:n]
}

// checkFormat compares the directory's format with the program's, and writes
// it into an empty directory.
func checkFormat(fsys vfs.FS, dir string) error {
	name := path.Join(dir, formatName)
	_, err := fsys.Stat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return writeFormat(fsys, dir)
	}
	if err != nil {
		return err
	}
	v, err := parseFormat(readSmall(fsys, name))
	switch {
	case err != nil:
		return fmt.Errorf("%w: file %s: %w", ErrFormat, name, err)
	case v > formatVersion:
		return fmt.Errorf("%w: version %d, written by a newer entrepot; this one reads version %d: run the newer one", ErrFormat, v, formatVersion)
	case v < formatVersion:
		return fmt.Errorf("%w: version %d, written by an older entrepot; this one reads version %d", ErrFormat, v, formatVersion)
	}
	return nil
}

func parseFormat(b []byte) (int, error) {
	text, ok := strings.CutPrefix(strings.TrimSuffix(string(b), "\n"), formatPrefix)
	v, err := strconv.Atoi(text)
	if !ok || err != nil || v < 1 {
		return 0, fmt.Errorf("want %q and a number, found %q", formatPrefix, b[:min(len(b), 80)])
	}
	return v, nil
}

// writeFormat marks a new directory. One that holds logs already lost its mark
// and is not touched.
func writeFormat(fsys vfs.FS, dir string) error {
	names, err := fsys.List(dir)
	if err != nil {
		return err
	}
	for _, n := range names {
		if logDirPattern.MatchString(n) {
			return fmt.Errorf("%w: there are logs in it (%s) but no file %q", ErrFormat, n, formatName)
		}
	}
	return replaceFile(fsys, dir, formatName, fmt.Appendf(nil, "%s%d\n", formatPrefix, formatVersion))
}

// replaceFile writes a small file as a whole or not at all, durably.
func replaceFile(fsys vfs.FS, dir, name string, b []byte) error {
	tmp := path.Join(dir, name+".tmp")
	if err := fsys.Remove(tmp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := fsys.Create(tmp)
	if err != nil {
		return err
	}
	_, err = f.WriteGather([][]byte{b}, 0)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return errors.Join(err, fsys.Remove(tmp))
	}
	if err := fsys.Rename(tmp, path.Join(dir, name)); err != nil {
		return err
	}
	return fsys.SyncDir(dir)
}
