package vfs

import (
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"sync"
	"syscall"
)

// Mem is a file system in memory that knows what is durable: CrashClone loses
// what was not synced, KillClone keeps everything, CutAfter stops it in the
// middle of an operation. It keeps no times.
type Mem struct {
	mu struct {
		sync.Mutex
		root     *node
		locked   map[*node]bool
		used     int64
		capacity int64 // 0: no limit
		ops      int   // operations that change something, so far
		cut      cutPlan
	}
}

// cutPlan says where the machine stops.
type cutPlan struct {
	armed bool
	at    int // the operation that is cut in the middle
	rng   *rand.Rand
	dead  bool
}

// NewMem is an empty file system of unlimited size.
func NewMem() *Mem {
	m := &Mem{}
	m.mu.root = newDir()
	m.mu.locked = map[*node]bool{}
	return m
}

// errCut is what every call returns after the cut.
var errCut = &fs.PathError{Op: "cut", Path: "the machine has stopped", Err: syscall.EIO}

// node is a file or a directory.
type node struct {
	links int
	file  *memFile // nil for a directory
	// A directory: what a process sees, what is durable, and what leads from
	// one to the other.
	names, durable map[string]*node
	pending        []dirOp
}

// dirOp is one change of a directory that is not durable yet. A rename inside
// a directory is one operation: it survives or it does not.
type dirOp struct {
	remove string
	add    string
	node   *node
}

func newDir() *node {
	return &node{names: map[string]*node{}, durable: map[string]*node{}}
}

func (n *node) apply(op dirOp) {
	applyTo(n.names, op)
	n.pending = append(n.pending, op)
}

func applyTo(names map[string]*node, op dirOp) {
	if op.remove != "" {
		delete(names, op.remove)
	}
	if op.add != "" {
		names[op.add] = op.node
	}
}

func (n *node) sync() {
	n.durable, n.pending = maps.Clone(n.names), nil
}

// walk finds the directory of name and name's last element.
func (m *Mem) walk(op, name string) (dir *node, base string, err error) {
	if m.mu.cut.dead {
		return nil, "", errCut
	}
	parts := strings.Split(strings.Trim(path.Clean("/"+name), "/"), "/")
	dir = m.mu.root
	for _, p := range parts[:len(parts)-1] {
		if dir = dir.names[p]; dir == nil {
			return nil, "", &fs.PathError{Op: op, Path: name, Err: fs.ErrNotExist}
		}
		if dir.file != nil {
			return nil, "", &fs.PathError{Op: op, Path: name, Err: syscall.ENOTDIR}
		}
	}
	return dir, parts[len(parts)-1], nil
}

// find returns the node of name; the root has an empty name.
func (m *Mem) find(op, name string) (*node, error) {
	dir, base, err := m.walk(op, name)
	if err != nil {
		return nil, err
	}
	if base == "" {
		return m.mu.root, nil
	}
	n := dir.names[base]
	if n == nil {
		return nil, &fs.PathError{Op: op, Path: name, Err: fs.ErrNotExist}
	}
	return n, nil
}

// change counts an operation that changes something. At the cut it runs the
// operation or not, by a coin, and the machine stops.
func (m *Mem) change(do func()) error {
	if m.mu.cut.dead {
		return errCut
	}
	m.mu.ops++
	if c := &m.mu.cut; c.armed && m.mu.ops == c.at {
		if c.rng.IntN(2) == 0 {
			do()
		}
		c.dead = true
		return errCut
	}
	do()
	return nil
}

// Create implements FS.
func (m *Mem) Create(name string) (File, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	dir, base, err := m.walk("create", name)
	if err != nil {
		return nil, err
	}
	if dir.names[base] != nil {
		return nil, &fs.PathError{Op: "create", Path: name, Err: fs.ErrExist}
	}
	n := &node{file: newMemFile(), links: 1}
	if err := m.change(func() { dir.apply(dirOp{add: base, node: n}) }); err != nil {
		return nil, err
	}
	return &memHandle{fs: m, name: name, node: n, write: true}, nil
}

// Open implements FS.
func (m *Mem) Open(name string) (File, error) { return m.open(name, false) }

// OpenWrite implements FS.
func (m *Mem) OpenWrite(name string) (File, error) { return m.open(name, true) }

func (m *Mem) open(name string, write bool) (File, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n, err := m.find("open", name)
	if err != nil {
		return nil, err
	}
	if n.file == nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: syscall.EISDIR}
	}
	return &memHandle{fs: m, name: name, node: n, write: write}, nil
}

// Mkdir implements FS.
func (m *Mem) Mkdir(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	dir, base, err := m.walk("mkdir", name)
	if err != nil {
		return err
	}
	if base == "" || dir.names[base] != nil {
		return &fs.PathError{Op: "mkdir", Path: name, Err: fs.ErrExist}
	}
	return m.change(func() { dir.apply(dirOp{add: base, node: newDir()}) })
}

// SyncDir implements FS.
func (m *Mem) SyncDir(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	n, err := m.find("sync", name)
	if err != nil {
		return err
	}
	if n.file != nil {
		return &fs.PathError{Op: "sync", Path: name, Err: syscall.ENOTDIR}
	}
	return m.change(n.sync)
}

// SyncFS implements FS.
func (m *Mem) SyncFS(dir string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, err := m.find("syncfs", dir); err != nil {
		return err
	}
	return m.change(func() { syncTree(m.mu.root) })
}

func syncTree(n *node) {
	if n.file != nil {
		n.file.sync()
		return
	}
	n.sync()
	for _, c := range n.names {
		syncTree(c)
	}
}

// Rename implements FS. Both names must be in one directory.
func (m *Mem) Rename(oldname, newname string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	n, err := m.find("rename", oldname)
	if err != nil {
		return err
	}
	from, base, _ := m.walk("rename", oldname)
	to, newbase, err := m.walk("rename", newname)
	if err != nil {
		return err
	}
	if from != to {
		return &fs.PathError{Op: "rename", Path: newname, Err: syscall.EXDEV}
	}
	return m.change(func() {
		if to.names[newbase] == n {
			return // two names of one file: POSIX leaves both
		}
		m.unlink(to.names[newbase])
		to.apply(dirOp{remove: base, add: newbase, node: n})
	})
}

// Remove implements FS.
func (m *Mem) Remove(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	n, err := m.find("remove", name)
	if err != nil {
		return err
	}
	if n.file == nil && len(n.names) > 0 {
		return &fs.PathError{Op: "remove", Path: name, Err: syscall.ENOTEMPTY}
	}
	dir, base, _ := m.walk("remove", name)
	return m.change(func() {
		m.unlink(n)
		dir.apply(dirOp{remove: base})
	})
}

// unlink gives back the space of a file that lost its last name.
func (m *Mem) unlink(n *node) {
	if n == nil || n.file == nil {
		return
	}
	if n.links--; n.links == 0 {
		m.mu.used -= int64(len(n.file.data))
	}
}

// Link implements FS.
func (m *Mem) Link(oldname, newname string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	n, err := m.find("link", oldname)
	if err != nil {
		return err
	}
	dir, base, err := m.walk("link", newname)
	if err != nil {
		return err
	}
	if dir.names[base] != nil || n.file == nil {
		return &fs.PathError{Op: "link", Path: newname, Err: fs.ErrExist}
	}
	return m.change(func() {
		n.links++
		dir.apply(dirOp{add: base, node: n})
	})
}

// List implements FS.
func (m *Mem) List(dir string) ([]string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n, err := m.find("list", dir)
	if err != nil {
		return nil, err
	}
	if n.file != nil {
		return nil, &fs.PathError{Op: "list", Path: dir, Err: syscall.ENOTDIR}
	}
	return slices.Sorted(maps.Keys(n.names)), nil
}

// Stat implements FS.
func (m *Mem) Stat(name string) (Info, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n, err := m.find("stat", name)
	switch {
	case err != nil:
		return Info{}, err
	case n.file == nil:
		return Info{Dir: true}, nil
	}
	return Info{Size: int64(len(n.file.data))}, nil
}

// Lock implements FS.
func (m *Mem) Lock(name string) (io.Closer, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	dir, base, err := m.walk("lock", name)
	if err != nil {
		return nil, err
	}
	n := dir.names[base]
	switch {
	case n == nil:
		n = &node{file: newMemFile(), links: 1}
		if err := m.change(func() { dir.apply(dirOp{add: base, node: n}) }); err != nil {
			return nil, err
		}
	case m.mu.locked[n]:
		return nil, ErrLocked
	}
	m.mu.locked[n] = true
	return memLock{fs: m, node: n}, nil
}

type memLock struct {
	fs   *Mem
	node *node
}

func (l memLock) Close() error {
	l.fs.mu.Lock()
	defer l.fs.mu.Unlock()
	delete(l.fs.mu.locked, l.node)
	return nil
}

// SetCapacity limits the space of the volume, in bytes; 0 is no limit.
func (m *Mem) SetCapacity(bytes int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.mu.capacity = bytes
}

// Space implements FS.
func (m *Mem) Space(string) (Space, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.mu.cut.dead {
		return Space{}, errCut
	}
	total := m.mu.capacity
	if total == 0 {
		total = 1 << 50
	}
	return Space{Total: total, Free: max(0, total-m.mu.used)}, nil
}

// Ops counts the operations so far that changed something.
func (m *Mem) Ops() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.mu.ops
}
