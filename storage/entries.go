package storage

import (
	"crypto/sha256"
	"fmt"

	"github.com/entrepot-hub/entrepot/storage/vfs"
)

// Contents is what one log holds, for comparing the replicas of a partition.
type Contents struct {
	Log     string // topic-partition
	TopicID string
	Commit  uint64 // what is known on disk to be committed
	Entries []EntrySum
}

// EntrySum names an entry and what it carries. Payload is the SHA-256 of its
// bytes, in which a batch has its base offset and leader epoch.
type EntrySum struct {
	Index, Term uint64
	Kind        Kind
	Base        int64 // offset
	Epoch       int32
	Payload     [sha256.Size]byte
}

// ReadContents reads every log of a data directory that no node runs on, or one
// log's directory, and changes nothing. Compacted segments are left out: what
// they still hold depends on when each replica compacted. Damage is an error.
func ReadContents(fsys vfs.FS, dir string) ([]Contents, error) {
	dirs, release, err := offlineLogs(fsys, dir)
	if err != nil {
		return nil, fmt.Errorf("contents of %s: %w", dir, err)
	}
	defer release()
	var all []Contents
	for _, d := range dirs {
		one, err := readContents(fsys, d)
		if err != nil {
			return all, fmt.Errorf("contents of %s: %w", d, err)
		}
		if one.Log != "" {
			all = append(all, one)
		}
	}
	return all, nil
}

func readContents(fsys vfs.FS, dir string) (c Contents, err error) {
	r, err := inspect(fsys, dir)
	if err != nil {
		return c, err
	}
	defer r.close()
	if r.damage != nil {
		return c, r.damage
	}
	n := len(r.chain)
	if n == 0 {
		return c, nil // its creation was cut short
	}
	last := r.chain[n-1]
	c.Log, c.TopicID = r.id.String(), r.id.ID.String()
	c.Commit = clamp(last.p.hard, r.committed(), last.p.lastIndex).Commit
	for _, s := range r.chain {
		if s.header.isCompacted() {
			continue
		}
		_, stop := verify(s.f, begin(&s.header), s.p.end, func(f *frame, payload []byte) error {
			if f.isEntry() {
				c.Entries = append(c.Entries, EntrySum{f.index, f.term, f.kind, f.base, f.epoch, sha256.Sum256(payload)})
			}
			return nil
		})
		if stop != nil {
			return c, fmt.Errorf("%s: %w", s.path, stop)
		}
	}
	return c, nil
}
