package files

import (
	"context"
	"errors"
	"os"
	"path"
	"slices"
	"time"

	"github.com/entrepot-hub/entrepot/connectors"
)

// publish gives the files of a plan their names, in this order:
//
//  1. All files are complete and durable without a name: stage has done that.
//  2. Their folders are made, and durable.
//  3. Each file gets its name. A name that is taken stands for the same file,
//     made by an earlier execution of the same plan.
//  4. The folders are made durable: now the plan is.
//  5. The temporary names are removed. Should this not come to pass, the next
//     Open does it.
//
// A crash between steps leaves whole files or none under each name, and the
// plan, executed again, adds those that are missing.
func (w *writer) publish(ctx context.Context, set []staged) error {
	var folders []string
	for _, s := range set {
		folders = append(folders, folderOf(s.target))
	}
	slices.Sort(folders)
	folders = slices.Compact(folders)
	if err := w.store.Prepare(ctx, folders); err != nil {
		w.drop(ctx, set)
		return w.store.fault("make folders for", w.fileNames(set), err)
	}
	for i := range set {
		s := &set[i]
		if s.done {
			continue
		}
		err := s.file.Publish(ctx)
		if s.done = errors.Is(err, os.ErrExist); err != nil && !s.done {
			w.drop(ctx, set)
			return named(w.store.fault("publish", s.target, err))
		}
	}
	if err := w.store.Settle(ctx, folders); err != nil {
		return named(w.store.fault("make durable", w.fileNames(set), err))
	}
	w.drop(ctx, set)
	return nil
}

// named is the error of a plan some of whose files may have their names: an
// earlier one, or this one when the answer was lost.
func named(err error) error {
	if connectors.ClassOf(err) == connectors.ClassRetry {
		return connectors.Unknown(err)
	}
	return err
}

// fileNames is what a plan's files are called, for an error.
func (*writer) fileNames(set []staged) string {
	if len(set) == 0 {
		return ""
	}
	return path.Base(set[0].target)
}

// folderOf is the folder of a name; "" is the store's own.
func folderOf(name string) string {
	if dir := path.Dir(name); dir != "." {
		return dir
	}
	return ""
}

// dropTimeout bounds the work after a plan has failed or was given up.
const dropTimeout = 20 * time.Second

// drop removes what a plan has left without a name. What cannot be removed
// now is removed by the next Open, and is hidden from readers until then.
func (w *writer) drop(ctx context.Context, set []staged) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), dropTimeout)
	defer cancel()
	for i := range set {
		if s := &set[i]; s.file != nil {
			_ = s.file.Discard(ctx)
			s.file = nil
		}
	}
}
