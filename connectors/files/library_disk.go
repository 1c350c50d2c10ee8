package files

import (
	"context"
	"errors"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
)

// diskLibrary reads from a disk. Links are followed.
type diskLibrary struct{ *localStore }

func (d diskLibrary) Folder(_ context.Context, folder string) ([]shelved, error) {
	names, err := os.ReadDir(d.path(folder))
	if err != nil {
		return nil, err
	}
	var all []shelved
	for _, n := range names {
		e, err := d.Stat(context.Background(), path.Join(folder, n.Name()))
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, errNoFile) {
			continue // it has just gone, or is a pipe or the like
		}
		if err != nil {
			return nil, err
		}
		all = append(all, e)
	}
	return all, nil
}

// errNoFile is of what is neither a file nor a folder.
var errNoFile = errors.New("it is not a file")

func (d diskLibrary) Stat(_ context.Context, name string) (shelved, error) {
	info, err := os.Stat(filepath.Join(d.root, filepath.FromSlash(name)))
	if err != nil {
		return shelved{}, err
	}
	if !info.IsDir() && !info.Mode().IsRegular() {
		return shelved{}, errNoFile
	}
	return shelved{name: name, folder: info.IsDir(), size: info.Size(), mtime: info.ModTime()}, nil
}

func (d diskLibrary) Open(_ context.Context, e shelved) (volume, error) {
	f, err := os.Open(d.path(e.name))
	if err != nil {
		return nil, err
	}
	v := &diskVolume{file: f, library: d, was: e}
	if err := v.same(); err != nil {
		_ = f.Close()
		return nil, err
	}
	return v, nil
}

// diskVolume looks after each read whether the file that has the name is still
// the one that was listed.
type diskVolume struct {
	file    *os.File
	library diskLibrary
	was     shelved
}

func (v *diskVolume) same() error {
	info, err := v.file.Stat()
	if err != nil {
		return err
	}
	now := shelved{name: v.was.name, size: info.Size(), mtime: info.ModTime()}
	if now.print() != v.was.print() {
		return errChanged
	}
	return nil
}

func (v *diskVolume) ReadAt(_ context.Context, b []byte, at int64) (int, error) {
	n, err := v.file.ReadAt(b, at)
	if err == nil || errors.Is(err, io.EOF) {
		if changed := v.same(); changed != nil {
			return 0, changed
		}
	}
	return n, err
}

func (v *diskVolume) Close() error { return v.file.Close() }

func sortShelved(all []shelved) []shelved {
	slices.SortFunc(all, func(a, b shelved) int { return slices.Compare([]byte(a.name), []byte(b.name)) })
	return all
}
