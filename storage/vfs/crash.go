package vfs

import (
	"io/fs"
	"maps"
	"math/rand/v2"
	"slices"
)

// CutAfter stops the machine in the middle of the n-th operation from now that
// changes something: a write leaves a part of itself, anything else happens or
// does not. Every call after it fails; clone the file system to go on.
func (m *Mem) CutAfter(n int, rng *rand.Rand) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.mu.cut = cutPlan{armed: true, at: m.mu.ops + n, rng: rng}
}

// Uncut takes a cut back that has not happened yet.
func (m *Mem) Uncut() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.mu.cut.dead {
		m.mu.cut = cutPlan{}
	}
}

// Dead reports whether the machine has stopped.
func (m *Mem) Dead() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.mu.cut.dead
}

// KillClone is what the next process finds after this one was killed: all that
// it had written, synced or not. What was not synced stays so.
func (m *Mem) KillClone() *Mem { return m.clone(cloneNode) }

// CrashClone is what is found after a power cut: what was synced, and of the
// rest any part, in sectors of 512 bytes and single changes of directories,
// as rng draws it. How much survives is drawn first, so that all and nothing
// happen often.
func (m *Mem) CrashClone(rng *rand.Rand) *Mem {
	keep := []float64{0, 0.1, 0.5, 0.9, 1}[rng.IntN(5)]
	c := crash{rng: rng, sectors: keep, names: keep}
	if rng.IntN(3) == 0 {
		c.names = float64(rng.IntN(2))
	}
	return m.clone(c.node)
}

// PowerCut is what is found after a power cut that took everything that was not
// synced.
func (m *Mem) PowerCut() *Mem {
	return m.clone(crash{rng: rand.New(rand.NewPCG(0, 0)), oldest: true}.node)
}

func (m *Mem) clone(copyNode func(*node, map[*node]*node) *node) *Mem {
	m.mu.Lock()
	defer m.mu.Unlock()
	c := NewMem()
	seen := map[*node]*node{}
	c.mu.root = copyNode(m.mu.root, seen)
	c.mu.capacity = m.mu.capacity
	reachable(c.mu.root, func(n *node) {
		if n.file != nil {
			if n.links++; n.links == 1 {
				c.mu.used += int64(len(n.file.data))
			}
		}
	})
	return c
}

func reachable(n *node, visit func(*node)) {
	visit(n)
	for _, c := range n.names {
		reachable(c, visit)
	}
}

// cloneNode copies a node with everything that is pending. seen keeps hard
// links one file.
func cloneNode(n *node, seen map[*node]*node) *node {
	if c := seen[n]; c != nil || n == nil {
		return c
	}
	c := &node{}
	seen[n] = c
	if n.file != nil {
		c.file = n.file.clone()
		return c
	}
	c.names, c.durable = cloneNames(n.names, seen), cloneNames(n.durable, seen)
	for _, op := range n.pending {
		c.pending = append(c.pending, dirOp{remove: op.remove, add: op.add, node: cloneNode(op.node, seen)})
	}
	return c
}

func cloneNames(names map[string]*node, seen map[*node]*node) map[string]*node {
	c := make(map[string]*node, len(names))
	for name, n := range names {
		c[name] = cloneNode(n, seen)
	}
	return c
}

// crash draws what survives a power cut.
type crash struct {
	rng            *rand.Rand
	sectors, names float64 // how likely a sector, a change of a directory survives
	oldest         bool    // what is lost goes back to what was synced, not further on
}

func (c crash) node(n *node, seen map[*node]*node) *node {
	if d := seen[n]; d != nil {
		return d
	}
	d := &node{}
	seen[n] = d
	if n.file != nil {
		d.file = c.file(n.file)
		return d
	}
	d.names = maps.Clone(n.durable)
	for _, op := range n.pending {
		if c.rng.Float64() < c.names {
			applyTo(d.names, op)
		}
	}
	// In order, so that a seed draws the same again.
	for _, name := range slices.Sorted(maps.Keys(d.names)) {
		d.names[name] = c.node(d.names[name], seen)
	}
	d.durable = maps.Clone(d.names)
	return d
}

// file draws one of the contents of every sector that was not synced. The file
// ends with the last one that survived; sometimes its length survived whole,
// and what is missing reads as zeros.
func (c crash) file(f *memFile) *memFile {
	out := newMemFile()
	for s := int64(0); s*sectorSize < int64(len(f.data)); s++ {
		if f.older[s] == nil {
			out.place(s, f.sector(s))
		}
	}
	for _, s := range slices.Sorted(maps.Keys(f.older)) {
		content := f.sector(s)
		if c.rng.Float64() >= c.sectors {
			n := c.rng.IntN(len(f.older[s]))
			if c.oldest {
				n = 0
			}
			content = f.older[s][n]
		}
		out.place(s, content)
	}
	if missing := len(f.data) - len(out.data); missing > 0 && !c.oldest && c.rng.IntN(4) == 0 {
		out.data = append(out.data, make([]byte, missing)...)
	}
	return out
}

// place puts a sector's content where it belongs, over zeros.
func (f *memFile) place(s int64, content []byte) {
	if len(content) == 0 {
		return
	}
	end := int(s*sectorSize) + len(content)
	if end > len(f.data) {
		f.data = append(f.data, make([]byte, end-len(f.data))...)
	}
	copy(f.data[s*sectorSize:], content)
}

// Flip inverts bits of one byte of a file, on the disk and in memory, as decay
// does: mask says which.
func (m *Mem) Flip(name string, off int64, mask byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	n, err := m.find("flip", name)
	if err != nil {
		return err
	}
	if n.file == nil || off >= int64(len(n.file.data)) {
		return &fs.PathError{Op: "flip", Path: name, Err: fs.ErrInvalid}
	}
	n.file.data = slices.Clone(n.file.data)
	n.file.data[off] ^= mask
	return nil
}
