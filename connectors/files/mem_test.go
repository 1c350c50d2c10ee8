package files

import (
	"bytes"
	"os"
	"path"
	"slices"
	"strings"
)

// memDisk is a disk in memory, for tests that use one very often.
type memDisk struct{ files map[string]*memFile }

type memFile struct {
	bytes.Buffer
	folder bool
}

func newMemDisk() *memDisk { return &memDisk{map[string]*memFile{"/": {folder: true}}} }

func (*memFile) Close() error { return nil }
func (*memFile) Sync() error  { return nil }

func (d *memDisk) make(name string, f *memFile) error {
	if d.files[name] != nil {
		return os.ErrExist
	}
	if parent := d.files[path.Dir(name)]; parent == nil || !parent.folder {
		return os.ErrNotExist
	}
	d.files[name] = f
	return nil
}

func (d *memDisk) Create(name string) (file, error) {
	f := &memFile{}
	return f, d.make(name, f)
}

func (d *memDisk) Mkdir(name string) error { return d.make(name, &memFile{folder: true}) }

func (d *memDisk) Link(old, new string) error {
	if d.files[old] == nil {
		return os.ErrNotExist
	}
	return d.make(new, d.files[old])
}

func (d *memDisk) Rename(old, new string) error {
	delete(d.files, new)
	if err := d.Link(old, new); err != nil {
		return err
	}
	return d.Remove(old)
}

func (d *memDisk) Remove(name string) error {
	f := d.files[name]
	if f == nil {
		return os.ErrNotExist
	}
	if names, _ := d.List(name); f.folder && len(names) > 0 {
		return os.ErrExist
	}
	delete(d.files, name)
	return nil
}

func (d *memDisk) Exists(name string) (bool, error) { return d.files[name] != nil, nil }

func (d *memDisk) ReadFile(name string) ([]byte, error) {
	if f := d.files[name]; f != nil && !f.folder {
		return f.Bytes(), nil
	}
	return nil, os.ErrNotExist
}

func (d *memDisk) Open(name string) (content, error) {
	text, err := d.ReadFile(name)
	return inMemory{bytes.NewReader(text)}, err
}

func (d *memDisk) List(name string) (names []string, err error) {
	for other := range d.files {
		if rest, ok := strings.CutPrefix(other, name+"/"); ok && !strings.Contains(rest, "/") {
			names = append(names, rest)
		}
	}
	slices.Sort(names)
	return names, nil
}

func (d *memDisk) SyncDir(string) error { return nil }
