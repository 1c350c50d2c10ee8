package storage

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"github.com/entrepot-hub/entrepot/record"
	"github.com/entrepot-hub/entrepot/storage/vfs"
)

// checkFlip inverts one bit of a log's files on a copy of the disk and looks at
// what a node makes of it:
//   - in a live frame or header that something states to be synced, Verify
//     finds it, always;
//   - the node never hands out an entry that is not the one that was written,
//     and either finds the damage while it reads the whole log, or holds all
//     of it, because what was hit only repeats something;
//   - damage, once found, is still known after a power cut;
//   - in dead bytes, it changes nothing that the log says;
//   - above every statement, it may pass for a torn end.
func (s *solo) checkFlip() error {
	l := s.logs[s.rng.IntN(len(s.logs))]
	mem := s.mem.KillClone()
	dir := simDir + "/" + dirName(l.id)
	r, err := inspect(mem, dir)
	if err != nil {
		return err
	}
	defer r.close()
	stated := r.highestStatement()
	file := r.files[s.rng.IntN(len(r.files))]
	if file.size == 0 {
		return nil
	}
	at := position{file.header.seq, uint32(s.rng.IntN(int(file.size)))}
	live := r.isLive(file) && at.pos < file.p.end
	whole, err := contentOf(mem, s, l.id)
	if err != nil {
		return err
	}
	if err := mem.Flip(file.path, int64(at.pos), 1<<s.rng.IntN(8)); err != nil {
		return err
	}
	if err := s.checkFlipped(mem, l.id, whole, live && at.less(stated), !live); err != nil {
		return fmt.Errorf("a bit flipped at %s of %s, live %v, highest statement %s: %w", at, file.name, live, stated, err)
	}
	return nil
}

// checkFlipped looks at a disk with one flipped bit.
func (s *solo) checkFlipped(mem *vfs.Mem, id LogID, whole simContent, protected, dead bool) error {
	rep, err := Verify(mem, simDir+"/"+dirName(id))
	if err != nil {
		return err
	}
	if protected && !rep.Damaged() {
		return fmt.Errorf("verify says %+v", rep.Logs)
	}
	got, err := contentOf(mem, s, id)
	damaged := foundOut(err)
	if err != nil && !damaged && !(errors.Is(err, ErrNotFound) && !protected) {
		return err
	}
	for i, e := range got.entries {
		if i <= whole.base {
			continue // discarded by a reset that cannot be read any more
		}
		if w, ok := whole.entries[i]; (protected || dead) && (!ok || w.Term != e.Term || w.BaseOffset != e.BaseOffset || w.Kind != e.Kind || !bytes.Equal(w.Payload, e.Payload)) {
			return fmt.Errorf("entry %d of term %d at offset %d was handed out, written was term %d at %d", i, e.Term, e.BaseOffset, w.Term, w.BaseOffset)
		}
	}
	switch {
	case dead && damaged:
		return fmt.Errorf("dead bytes were taken for damage: %w", err)
	case (protected || dead) && !damaged && len(got.entries) != len(whole.entries):
		return fmt.Errorf("%d of %d entries, and no damage", len(got.entries), len(whole.entries))
	case !damaged:
		return nil
	}
	if _, err := contentOf(mem.CrashClone(s.rng), s, id); !foundOut(err) {
		return fmt.Errorf("damage was found, and forgotten after a power cut: %w", err)
	}
	return nil
}

// foundOut reports whether a log was opened and found damaged, or not found
// though it is known to have been there: its only header is broken.
func foundOut(err error) bool {
	return errors.Is(err, record.ErrQuarantined) || errors.Is(err, ErrLost)
}

// simContent is what a log hands out.
type simContent struct {
	base    uint64
	entries map[uint64]Entry
}

// contentOf opens a log and reads all that it holds. With damage it returns
// what can be read.
func contentOf(mem *vfs.Mem, s *solo, id LogID) (simContent, error) {
	content := simContent{entries: map[uint64]Entry{}}
	st, err := s.open(mem)
	if err != nil {
		return content, err
	}
	l, err := st.OpenLog(id)
	if err != nil {
		return content, errors.Join(err, st.Close())
	}
	content.base = l.First().Index
	all, err := everything(l)
	for _, e := range all {
		content.entries[e.Index] = e
	}
	if err != nil {
		return content, errors.Join(err, st.Close())
	}
	damage := l.Damage()
	if damage != nil {
		damage = errors.Join(record.ErrQuarantined, damage)
	}
	return content, errors.Join(damage, st.Close())
}

// highestStatement is the highest position that any whole header or frame
// states.
func (r *recovery) highestStatement() (highest position) {
	for _, s := range r.files {
		if s.bad == nil {
			stated, err := searchStatements(s.f, s.header.sealing(), s.header.length, s.size)
			if err != nil {
				panic(err)
			}
			highest = maxPosition(highest, maxPosition(stated, s.header.synced))
		}
	}
	return highest
}

func (r *recovery) isLive(s *found) bool { return slices.Contains(r.chain, s) }
