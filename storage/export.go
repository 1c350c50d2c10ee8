package storage

import (
	"errors"
	"fmt"
	"io/fs"
	"path"

	"github.com/entrepot-hub/entrepot/record"
	"github.com/entrepot-hub/entrepot/storage/vfs"
)

// Exported describes what Export wrote of one log.
type Exported struct {
	Log        string `json:"log"`
	Dir        string `json:"dir"` // written: topic-partition
	Files      int    `json:"files"`
	Batches    uint64 `json:"batches"`
	Records    uint64 `json:"records"`
	Bytes      int64  `json:"bytes"`
	BaseOffset int64  `json:"base_offset"`
	NextOffset int64  `json:"next_offset"`
	Damage     string `json:"damage,omitempty"` // what follows could not be exported
}

// Export writes the logs in dir, a data directory or one log's, as plain Kafka
// segments: out/topic-partition/<base offset>.log with bare batches, one file
// for each segment, which Kafka's own tools read. It exports everything that
// the log holds, committed or not, up to the first damage. Nothing that exists
// is overwritten; out must exist.
func Export(fsys vfs.FS, dir, out string) ([]Exported, error) {
	dirs, release, err := offlineLogs(fsys, dir)
	if err != nil {
		return nil, fmt.Errorf("export %s: %w", dir, err)
	}
	defer release()
	var all []Exported
	for _, d := range dirs {
		one, err := exportLog(fsys, d, out)
		if err != nil {
			return all, fmt.Errorf("export %s: %w", d, err)
		}
		all = append(all, one)
	}
	return all, nil
}

func exportLog(fsys vfs.FS, dir, out string) (Exported, error) {
	r, err := inspect(fsys, dir)
	if err != nil {
		return Exported{}, err
	}
	defer r.close()
	if len(r.chain) == 0 {
		return Exported{}, fmt.Errorf("%w: no readable segment in %s", ErrNotFound, dir)
	}
	ex := Exported{Log: r.id.String(), Dir: path.Join(out, r.id.String()), BaseOffset: r.chain[0].base(), NextOffset: r.chain[0].base()}
	if err := fsys.Mkdir(ex.Dir); errors.Is(err, fs.ErrExist) {
		return ex, fmt.Errorf("%w: %s; choose an empty directory", ErrExists, ex.Dir)
	} else if err != nil {
		return ex, err
	}
	if r.damage != nil {
		ex.Damage = r.damage.Error()
	}
	for _, s := range r.chain {
		whole, err := ex.segment(fsys, s)
		if err != nil {
			return ex, err
		}
		if !whole {
			break
		}
	}
	return ex, fsys.SyncDir(ex.Dir)
}

// segment copies one segment's batches. whole is false after damage.
func (ex *Exported) segment(fsys vfs.FS, s *found) (whole bool, err error) {
	var file vfs.File
	at := int64(0)
	_, stop := verify(s.f, begin(&s.header), s.p.end, func(f *frame, payload []byte) error {
		if f.kind != KindData {
			return nil
		}
		if file == nil {
			if file, err = fsys.Create(path.Join(ex.Dir, fmt.Sprintf("%020d.log", f.base))); err != nil {
				return err
			}
			ex.Files++
		}
		b := record.Batch(payload)
		n, werr := file.WriteGather([][]byte{b}, at)
		if werr != nil {
			err = werr
			return werr
		}
		at += int64(n)
		ex.Batches++
		ex.Records += uint64(max(b.Count(), 0))
		ex.Bytes += int64(n)
		ex.NextOffset = b.NextOffset()
		return nil
	})
	if file != nil {
		err = errors.Join(err, file.Sync(), file.Close())
	}
	if err == nil && stop != nil {
		ex.Damage = fmt.Sprintf("%s: %v", s.path, stop)
	}
	return stop == nil, err
}
