package storage

import (
	"crypto/sha256"
	"fmt"
	"slices"

	"github.com/entrepot-hub/entrepot/record"
	"github.com/entrepot-hub/entrepot/storage/vfs"
)

// Contents is what one log holds, for comparing the replicas of a partition.
type Contents struct {
	Log     string // topic-partition
	TopicID string
	Commit  uint64 // what is known on disk to be committed
	Entries []EntrySum
	// Records are those of a log that was compacted, by offset; nil for others.
	// What a replica still has of them depends on when it compacted.
	Records []RecordSum
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

// RecordSum names a record and what it carries, by SHA-256.
type RecordSum struct {
	Index         uint64 // of its entry
	Offset        int64
	Key           [sha256.Size]byte
	Value         [sha256.Size]byte
	Transactional bool
}

// mostDecompressed bounds the records of one batch, in bytes.
const mostDecompressed = 256 << 20

// ReadContents reads every log of a data directory that no node runs on, or one
// log's directory, and changes nothing. Of compacted segments there are no
// entries, since those were rewritten, but records. Damage is an error.
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
	compacted := slices.ContainsFunc(r.chain, func(s *found) bool { return s.header.isCompacted() })
	for _, s := range r.chain {
		_, stop := verify(s.f, begin(&s.header), s.p.end, func(f *frame, payload []byte) error {
			if f.isEntry() && !s.header.isCompacted() {
				c.Entries = append(c.Entries, EntrySum{f.index, f.term, f.kind, f.base, f.epoch, sha256.Sum256(payload)})
			}
			if f.isEntry() && f.kind == KindData && compacted {
				return c.addRecords(f.index, payload)
			}
			return nil
		})
		if stop != nil {
			return c, fmt.Errorf("%s: %w", s.path, stop)
		}
	}
	return c, nil
}

func (c *Contents) addRecords(index uint64, b record.Batch) error {
	if b.IsControl() {
		return nil // compaction drops markers
	}
	return b.Each(mostDecompressed, func(r record.Record) error {
		c.Records = append(c.Records, RecordSum{index, r.Offset, sha256.Sum256(r.Key), sha256.Sum256(r.Value), b.IsTransactional()})
		return nil
	})
}
