package file

import (
	"errors"
	"os"
	"slices"
	"time"

	"github.com/entrepot-hub/entrepot/connectors"
)

// start opens the file to begin with: where the position says, or the first.
// Its error wraps os.ErrNotExist when there is no file yet.
func (r *reader) start() error {
	if r.from == nil {
		older, err := r.siblings(r.included) // a plain path includes only itself
		if err != nil {
			return openError(err)
		}
		return r.begin(older, 1)
	}
	in, err := r.locate(r.from.identity, r.from.offset, false)
	if err != nil {
		return err
	}
	if in != nil {
		at := *r.from
		at.identity, at.mtime = in.id, in.mtime
		r.switchTo(in, at)
		return nil
	}
	was := r.from.String()
	rest, err := r.newer(r.from.mtime)
	if err != nil {
		return openError(err)
	}
	if err := r.begin(rest, r.from.generation+1); err != nil {
		return err
	}
	r.log.Warn("the file that was read is gone or was truncated; what was written to it after the position is lost, unless it is in a newer file", "position", was)
	return nil
}

// switchTo makes in the current file, at a position in it.
func (r *reader) switchTo(in *input, at position) {
	if r.cur != nil {
		_ = r.cur.close() // it was only read
	}
	r.cur, r.from, r.quiet = in, nil, time.Time{}
	r.restart(at)
}

// begin opens the first of rest, or the newest file, as a new generation.
func (r *reader) begin(rest []sibling, generation uint32) error {
	path := r.base
	if len(rest) > 0 {
		path = rest[0].path
	}
	in, err := open(path)
	if err != nil {
		return err
	}
	r.switchTo(in, position{generation: generation, identity: in.id, mtime: in.mtime})
	return nil
}

func (r *reader) siblings(keep func(path string) bool) ([]sibling, error) {
	return siblings(r.base, keep)
}

// rotated keeps every file that rotation may have made of this log, whether
// the glob names it or not.
func (r *reader) rotated(path string) bool { return !r.excluded(path) }

// following lists the rotated files that come after the current one: by its
// inode, by its content when it was compressed or copied since, else by time.
func (r *reader) following(cur os.FileInfo) ([]sibling, error) {
	all, err := r.siblings(r.rotated)
	if err != nil {
		return nil, err
	}
	for i, s := range all {
		if os.SameFile(s.info, cur) {
			return all[i+1:], nil
		}
	}
	for i := len(all) - 1; i >= 0 && r.cur.id.fpLen > 0; i-- {
		if in, err := open(all[i].path); err == nil {
			head, err := in.head()
			_ = in.close() // it was only read
			if err == nil && r.cur.id.matches(head) {
				return all[i+1:], nil
			}
		}
	}
	return r.newer(r.cur.mtime)
}

// newer lists the rotated files that were written after mtime.
func (r *reader) newer(mtime int64) ([]sibling, error) {
	all, err := r.siblings(r.rotated)
	if err != nil {
		return nil, err
	}
	for i, s := range all {
		if s.mtime > mtime {
			return all[i:], nil
		}
	}
	return nil, nil
}

// locate finds the file of an identity that holds an offset: the same inode
// first, then another file that begins alike (a copy, a compressed one, one
// that was restored). elsewhere leaves out the newest file.
func (r *reader) locate(id identity, offset int64, elsewhere bool) (*input, error) {
	all, err := r.siblings(r.rotated)
	if err != nil {
		return nil, openError(err)
	}
	var paths []string
	for _, s := range all {
		paths = append(paths, s.path)
	}
	if !elsewhere {
		paths = append(paths, r.base)
	}
	for _, sameInode := range []bool{true, false} {
		for _, path := range slices.Backward(paths) { // the newest first
			in, err := r.check(path, id, offset, sameInode)
			if in != nil || err != nil {
				return in, err
			}
		}
	}
	return nil, nil
}

// check opens a file if it is the one looked for; nil if not.
func (r *reader) check(path string, id identity, offset int64, sameInode bool) (*input, error) {
	in, err := open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	same := in.id.dev == id.dev && in.id.ino == id.ino
	if (same == sameInode) && (same || id.fpLen > 0) {
		was := in.id
		in.id.fpLen, in.id.fp = id.fpLen, id.fp
		st, err := in.look(offset)
		if err == nil && !st.truncated && in.holds(was, id, offset) {
			return in, nil
		}
	}
	return nil, in.close()
}

// holds reports whether a file can have been read up to offset as id says.
func (in *input) holds(now, id identity, offset int64) bool {
	if !in.compressed() {
		return true // look has compared size and fingerprint
	}
	head, err := in.head()
	if err != nil || !id.matches(head) {
		return false
	}
	in.id = now
	return in.seek(offset) == nil && in.gzAt == offset
}

// truncated goes on after the current file was cut: with the rest of a copy
// that was made of it before, else with what comes next.
func (r *reader) truncated(size int64) error {
	at := r.pos
	copied, err := r.locate(r.cur.id, at.offset, true)
	if err != nil {
		return err
	}
	if copied != nil {
		at.identity, at.mtime = copied.id, copied.mtime
		r.switchTo(copied, at)
		return nil
	}
	rest, err := r.newer(at.mtime)
	if err != nil {
		return openError(err)
	}
	r.finishLine()
	if err := r.begin(rest, at.generation+1); err != nil {
		return err
	}
	r.log.Warn("the file was truncated, and there is no copy of it; what was written to it after the position is lost", "position", at.String(), "size", size)
	return nil
}

// finishLine makes a record of what the file ends with, newline or not.
func (r *reader) finishLine() {
	if m, ok := r.final(r.cur.path); ok {
		r.last = append(r.last, m)
	}
}

// atEnd decides what follows when all of the current file was read.
func (r *reader) atEnd() (moved bool, err error) {
	info, err := r.cur.f.Stat()
	if err != nil {
		return false, connectors.Retry(0, err)
	}
	newest, err := os.Stat(r.base)
	missing := errors.Is(err, os.ErrNotExist)
	if err != nil && !missing {
		return false, openError(err)
	}
	if !missing && os.SameFile(info, newest) {
		return r.atEndOfNewest(), nil
	}
	rest, err := r.following(info)
	if err != nil {
		return false, connectors.Retry(0, err)
	}
	if len(rest) == 0 && missing {
		return r.atEndOfNewest(), nil // renamed, and the next is not there yet
	}
	if !r.silent() {
		return false, nil
	}
	path := r.base
	if len(rest) > 0 {
		path = rest[0].path
	}
	in, err := open(path)
	if err != nil {
		return false, err
	}
	r.finishLine()
	r.switchTo(in, position{generation: r.pos.generation + 1, identity: in.id, mtime: in.mtime})
	return true, nil
}

// atEndOfNewest ends the reader when it does not follow.
func (r *reader) atEndOfNewest() (moved bool) {
	if r.follow {
		return false
	}
	if r.emitFinal {
		r.finishLine()
	}
	r.ended = true
	return true
}

// silent reports whether a rotated file is finished: its writer has not
// touched it for rotate_wait.
func (r *reader) silent() bool {
	if !r.follow || r.cur.compressed() {
		return true
	}
	now := r.clock()
	if changed, ok := r.cur.changed(); ok && now.Sub(changed) >= r.rotateWait {
		return true // neither written nor renamed since
	}
	if r.quiet.IsZero() {
		r.quiet = now
	}
	return now.Sub(r.quiet) >= r.rotateWait
}
