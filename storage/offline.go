package storage

import (
	"errors"
	"fmt"
	"io/fs"
	"path"

	"github.com/entrepot-hub/entrepot/record"
	"github.com/entrepot-hub/entrepot/storage/vfs"
)

// What `entrepot log` does works on files alone: on a data directory that no
// node runs on, or on a copy of one log's directory anywhere.

// offlineLogs returns the log directories in dir, which may be one itself. A
// data directory is locked until release is called.
func offlineLogs(fsys vfs.FS, dir string) (dirs []string, release func(), err error) {
	names, err := fsys.List(dir)
	if err != nil {
		return nil, nil, err
	}
	release = func() {}
	for _, n := range names {
		if _, _, ok := parseSegmentName(n); ok {
			return []string{dir}, release, nil
		}
		if n == formatName {
			lock, err := takeLock(fsys, dir, Config{Owner: "entrepot log"}.withDefaults())
			if err != nil {
				return nil, nil, err
			}
			release = func() { _ = lock.Close() }
			if err := checkFormat(fsys, dir); err != nil {
				release()
				return nil, nil, err
			}
		}
		if logDirPattern.MatchString(n) {
			dirs = append(dirs, path.Join(dir, n))
		}
	}
	if len(dirs) == 0 {
		release()
		return nil, nil, fmt.Errorf("%w in %s: it holds neither segments nor directories of logs", ErrNotFound, dir)
	}
	return dirs, release, nil
}

// inspect recovers a log without changing anything.
func inspect(fsys vfs.FS, dir string) (*recovery, error) {
	r := &recovery{fs: fsys, dir: dir}
	err := r.run()
	if corrupt := (*record.CorruptionError)(nil); errors.As(err, &corrupt) {
		r.damage, err = corrupt, nil
	}
	if err != nil {
		r.close()
		return nil, err
	}
	return r, nil
}

// isSegment reports whether name is a segment's file rather than a directory.
func isSegment(fsys vfs.FS, name string) (bool, error) {
	info, err := fsys.Stat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return false, fmt.Errorf("%w: %s does not exist", ErrNotFound, name)
	}
	return err == nil && !info.Dir, err
}
