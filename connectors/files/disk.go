package files

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"

	"github.com/entrepot-hub/entrepot/connectors"
)

// disk is the file system, as far as this sink uses it. Paths are absolute.
type disk interface {
	// Create makes a file that was not there.
	Create(path string) (file, error)
	Mkdir(path string) error
	// Link gives a file a second name and fails when that is taken.
	Link(old, new string) error
	// Rename replaces what has the new name.
	Rename(old, new string) error
	Remove(path string) error
	Exists(path string) (bool, error)
	ReadFile(path string) ([]byte, error)
	Open(path string) (content, error)
	// List gives the names in a folder; none when there is no folder.
	List(path string) ([]string, error)
	// SyncDir makes the names in a folder durable.
	SyncDir(path string) error
}

type file interface {
	io.WriteCloser
	Sync() error
}

// osDisk is the real one.
type osDisk struct{}

func (osDisk) Create(path string) (file, error) {
	return os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
}
func (osDisk) Mkdir(path string) error              { return os.Mkdir(path, 0o755) }
func (osDisk) Link(old, new string) error           { return os.Link(old, new) }
func (osDisk) Remove(path string) error             { return os.Remove(path) }
func (osDisk) ReadFile(path string) ([]byte, error) { return os.ReadFile(path) }

func (osDisk) Exists(path string) (bool, error) {
	_, err := os.Lstat(path)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

func (osDisk) List(path string) ([]string, error) {
	entries, err := os.ReadDir(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = e.Name()
	}
	return names, err
}

func (osDisk) SyncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// mkdirs makes a folder and its parents, and syncs the parent of each one
// that was made, so that a published file cannot lose its folder.
func mkdirs(d disk, path string) error {
	there, err := d.Exists(path)
	if err != nil || there {
		return err
	}
	parent := filepath.Dir(path)
	if err := mkdirs(d, parent); err != nil {
		return err
	}
	if err := d.Mkdir(path); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	return d.SyncDir(parent)
}

// classify gives a file system's error its class: full disks and the like
// pass, missing rights do not.
func classify(what string, err error) error {
	err = fmt.Errorf("%s: %w", what, err)
	switch {
	case errors.Is(err, os.ErrPermission), errors.Is(err, syscall.EROFS), errors.Is(err, syscall.ENOTDIR), errors.Is(err, syscall.ENAMETOOLONG):
		return connectors.Fatal(err)
	}
	return connectors.Retry(0, err)
}
