package files

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
)

// publish gives the files of a plan their names, in this order:
//
//  1. All files are complete and synced under _tmp: stage has done that.
//  2. Their folders are made, and durable.
//  3. Each file is linked to its name. A name that is taken stands for the
//     same file, made by an earlier execution of the same plan.
//  4. The folders are synced: now the plan is durable.
//  5. The temporary names are removed. Should this not come to pass, the next
//     Open does it.
//
// A crash between steps leaves whole files or none under each name, and the
// plan, executed again, adds those that are missing.
func (w *writer) publish(set []staged) error {
	var folders []string
	for _, s := range set {
		folders = append(folders, filepath.Dir(s.target))
	}
	slices.Sort(folders)
	folders = slices.Compact(folders)
	for _, f := range folders {
		if err := mkdirs(w.disk, f); err != nil {
			w.drop(set)
			return classify("make "+f, err)
		}
	}
	for _, s := range set {
		if s.done {
			continue
		}
		if err := w.disk.Link(s.tmp, s.target); err != nil && !errors.Is(err, os.ErrExist) {
			w.drop(set)
			return classify("publish "+s.target, err)
		}
	}
	for _, f := range folders {
		if err := w.disk.SyncDir(f); err != nil {
			return classify("sync "+f, err)
		}
	}
	w.drop(set)
	return nil
}

// drop removes the temporary names of a plan. What cannot be removed now is
// removed by the next Open, and is hidden from readers until then.
func (w *writer) drop(set []staged) {
	for _, s := range set {
		if !s.done {
			_ = w.disk.Remove(s.tmp)
		}
	}
}
