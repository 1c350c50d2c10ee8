package files

import (
	"context"
	"errors"
	"os"
	"path/filepath"
)

// localStore keeps files on a disk. A file without a name is one under _tmp;
// to publish it is to link it.
type localStore struct {
	root string
	disk disk
}

func (l *localStore) path(name string) string { return filepath.Join(l.root, filepath.FromSlash(name)) }

func (l *localStore) fault(what, name string, err error) error {
	return classify(what+" "+l.path(name), err)
}

func (l *localStore) Create(_ context.Context, tmp, target string) (pending, error) {
	p := &localFile{store: l, tmp: l.path(tmp), target: l.path(target)}
	if err := errors.Join(mkdirs(l.disk, filepath.Dir(p.tmp)), removeIfThere(l.disk, p.tmp)); err != nil {
		return nil, err
	}
	f, err := l.disk.Create(p.tmp)
	p.file = f
	return p, err
}

func (l *localStore) Exists(_ context.Context, name string) (bool, error) {
	return l.disk.Exists(l.path(name))
}

func (l *localStore) Read(_ context.Context, name string) ([]byte, error) {
	return l.disk.ReadFile(l.path(name))
}

func (l *localStore) List(_ context.Context, folder string) ([]string, error) {
	return l.disk.List(l.path(folder))
}

func (l *localStore) Prepare(_ context.Context, folders []string) error {
	for _, f := range folders {
		if err := mkdirs(l.disk, l.path(f)); err != nil {
			return err
		}
	}
	return nil
}

func (l *localStore) Settle(_ context.Context, folders []string) error {
	for _, f := range folders {
		if err := l.disk.SyncDir(l.path(f)); err != nil {
			return err
		}
	}
	return nil
}

func (l *localStore) PutNew(_ context.Context, tmp, name string, text []byte) error {
	t, target := l.path(tmp), l.path(name)
	if err := errors.Join(mkdirs(l.disk, filepath.Dir(target)), mkdirs(l.disk, filepath.Dir(t)), removeIfThere(l.disk, t)); err != nil {
		return err
	}
	if err := writeSynced(l.disk, t, text); err != nil {
		return err
	}
	err := l.disk.Link(t, target)
	if err == nil || errors.Is(err, os.ErrExist) { // whoever was quicker may have died before this
		if failed := l.disk.SyncDir(filepath.Dir(target)); failed != nil {
			err = failed
		}
	}
	return errors.Join(err, removeIfThere(l.disk, t))
}

func (l *localStore) Sweep(_ context.Context, tmpFolder string, mine func(string) bool) error {
	names, err := l.disk.List(l.path(tmpFolder))
	for _, name := range names {
		if err == nil && mine(name) {
			err = removeIfThere(l.disk, filepath.Join(l.path(tmpFolder), name))
		}
	}
	return err
}

func (l *localStore) Close(tmpFolder string) error {
	_ = l.disk.Remove(l.path(tmpFolder)) // goes only when it is empty; others may use it
	return nil
}

type localFile struct {
	file
	store       *localStore
	tmp, target string
	closed      bool
}

func (f *localFile) Complete(context.Context) error {
	f.closed = true
	return errors.Join(f.Sync(), f.Close())
}

func (f *localFile) Publish(context.Context) error { return f.store.disk.Link(f.tmp, f.target) }

func (f *localFile) Discard(context.Context) error {
	var err error
	if !f.closed {
		f.closed = true
		err = f.Close()
	}
	return errors.Join(err, removeIfThere(f.store.disk, f.tmp))
}

func writeSynced(d disk, path string, text []byte) error {
	f, err := d.Create(path)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	return errors.Join(err, f.Sync(), f.Close())
}

func removeIfThere(d disk, path string) error {
	if err := d.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}
