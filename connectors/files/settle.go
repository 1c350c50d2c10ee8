package files

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
	"time"

	"github.com/entrepot-hub/entrepot/connectors"
)

// settle brings a folder to where its ledger says it can be, in this order:
//
//  1. What a version has decided is made true: merged files that are not there
//     are made, _MANIFEST.json becomes a copy, _SUCCESS is there, files whose
//     rows are in merged ones go.
//  2. What has come since becomes the next version, when the counts agree.
//  3. Small files become a version with merged ones, and 1 again.
//
// A version is decided by putting it at a name that nobody has. So whoever
// finds one goes on with it, and what is removed was replaced by a decision
// that stands. trouble says why the folder stays as it is.
func (k *keeper) settle(ctx context.Context, folder string, s *shelf, v view) (trouble string, err error) {
	for range maxRounds {
		names, err := k.look(ctx, folder, s)
		if err != nil {
			return "", err
		}
		if s.newest != nil {
			if trouble, err := k.fulfil(ctx, s.newest, names, v); err != nil || trouble != "" {
				return trouble, err
			}
		}
		next, files, trouble, err := k.decide(ctx, folder, s, names, v)
		if err == nil && next != nil {
			err = k.issue(ctx, next, files)
		}
		files.drop(ctx)
		if err != nil || trouble != "" || next == nil {
			return trouble, err
		}
	}
	return "", connectors.Retry(0, errors.New("others change it all the time"))
}

// issue puts the next version there, unless somebody else was first, and
// publishes the merged files that it has.
func (k *keeper) issue(ctx context.Context, next *manifest, files *merged) error {
	text, err := encodeLedger(next)
	if err != nil {
		return connectors.Fatal(err)
	}
	taken, err := k.put(ctx, path.Join(next.Folder, versionName(next.Version)), text)
	if err != nil || taken {
		return err
	}
	k.logger.Info("a folder is closed", "folder", next.Folder, "version", next.Version, "reason", next.Reason,
		"rows", next.Totals.Rows, "files", next.Totals.Files)
	return files.publish(ctx, next.Folder)
}

// maxRounds bounds one visit: closed, late, compacted, and one for a rival.
const maxRounds = 5

// look lists a folder and reads its newest manifest.
func (k *keeper) look(ctx context.Context, folder string, s *shelf) ([]string, error) {
	names, err := k.store.List(ctx, folder)
	if err != nil {
		return nil, k.store.fault("list", folder, err)
	}
	version := newestVersion(names)
	if version == 0 || s.newest != nil && s.newest.Version >= version {
		return names, nil
	}
	name := path.Join(folder, versionName(version))
	text, err := k.store.Read(ctx, name)
	if err != nil {
		return nil, k.store.fault("read", name, err)
	}
	m, err := decodeManifest(name, text)
	if err != nil {
		return nil, err
	}
	if m.Job != k.job {
		return nil, connectors.Fatalf("the folder %s has the manifest of job %s: two jobs cannot close one folder; put {topic} into partition_by, or use another url", folder, m.Job)
	}
	s.newest = m
	return names, nil
}

// fulfil makes true what a version says.
func (k *keeper) fulfil(ctx context.Context, m *manifest, names []string, v view) (trouble string, err error) {
	d := m.compare(names, k.ours(v), v.below)
	for _, f := range d.missing {
		if f.Merged == 0 {
			return d.String(), nil
		}
		if trouble, err := k.remake(ctx, m, f, names, v); err != nil || trouble != "" {
			return trouble, err
		}
	}
	if trouble, err := k.whole(ctx, m, d); err != nil || trouble != "" {
		return trouble, err
	}
	if err := k.copyNewest(ctx, m); err != nil {
		return "", err
	}
	if _, err := k.put(ctx, path.Join(m.Folder, successName), nil); err != nil {
		return "", err
	}
	for _, name := range d.superseded {
		full := path.Join(m.Folder, name)
		if err := k.store.Remove(ctx, full); err != nil {
			return "", k.store.fault("remove", full, err)
		}
	}
	return "", nil
}

// whole looks at merged files once more before their parts go.
func (k *keeper) whole(ctx context.Context, m *manifest, d differences) (trouble string, err error) {
	for _, f := range m.Files {
		if f.Merged == 0 || !slices.ContainsFunc(d.superseded, func(name string) bool {
			o, _ := parseName(name)
			return o.within(f.offsets())
		}) {
			continue
		}
		if trouble, err := k.recount(ctx, m, f); err != nil || trouble != "" {
			return trouble, err
		}
	}
	return "", nil
}

// recount compares a file with what the manifest says of it.
func (k *keeper) recount(ctx context.Context, m *manifest, f listed) (trouble string, err error) {
	name := path.Join(m.Folder, f.Name)
	rows, size, err := countRows(ctx, k.store, name)
	if err != nil {
		return "", k.store.fault("count the rows of", name, err)
	}
	if rows != f.Rows || size != f.Bytes {
		return fmt.Sprintf("%s has %d rows in %d bytes, it was written with %d in %d", f.Name, rows, size, f.Rows, f.Bytes), nil
	}
	return "", nil
}

// ours tells the job's topics: its own, and that of its dead letters when some
// were replayed.
func (k *keeper) ours(v view) func(topic string) bool {
	return func(topic string) bool {
		if topic == v.topic {
			return true
		}
		for tp := range k.book.last {
			if tp.Topic == topic {
				return true
			}
		}
		return false
	}
}

// copyNewest makes _MANIFEST.json the newest version, if it is not.
func (k *keeper) copyNewest(ctx context.Context, m *manifest) error {
	text, err := encodeLedger(m)
	if err != nil {
		return connectors.Fatal(err)
	}
	name := path.Join(m.Folder, manifestName)
	there, err := k.store.Read(ctx, name)
	if err == nil && bytes.Equal(there, text) {
		return nil
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return k.store.fault("read", name, err)
	}
	if err := k.store.Put(ctx, k.tmpName("copy"), name, text); err != nil {
		return k.store.fault("publish", name, err)
	}
	return nil
}

// decide finds the next version, if there is to be one now.
func (k *keeper) decide(ctx context.Context, folder string, s *shelf, names []string, v view) (next *manifest, files *merged, trouble string, err error) {
	base := manifest{Job: k.job, Topic: v.topic, Site: k.site, Folder: folder, Watermark: v.mark, Issued: instantOf(v.now)}
	more := k.book.since(folder, s.newest)
	if len(more) > 0 {
		if s.newest != nil {
			if due := s.newest.Issued.add(k.closing.reissue).time(); v.now.Before(due) {
				s.again = due
				return nil, nil, "", nil
			}
		}
		base.Begin, base.End = more[0].Begin, more[0].End
		m := s.newest.with(base, more, k.book.upTo())
		if trouble, err = k.agree(ctx, &m, names, v); err != nil || trouble != "" {
			return nil, nil, trouble, err
		}
		return &m, nil, "", nil
	}
	if s.newest == nil || k.closing.target == 0 {
		return nil, nil, "", nil
	}
	groups := s.newest.merges(k.closing.target)
	if due := s.newest.Issued.add(k.quiet(groups)).time(); len(groups) > 0 && v.now.Before(due) {
		s.again = due
		return nil, nil, "", nil
	}
	if len(groups) == 0 {
		if due := s.newest.Issued.add(strayTime).time(); s.newest.Reason == reasonCompacted && v.now.Before(due) {
			s.again = due
		}
		return nil, nil, "", nil
	}
	next, files, err = k.compact(ctx, s.newest, base, groups)
	return next, files, "", err
}

// strayTime after files were merged the folder is looked at once more: a writer
// that stood still may have published a part again. By then none is at work
// that was when the parts were removed, as a write may take two minutes.
const strayTime = 5 * time.Minute

// manyFiles of one partition are merged sooner.
const manyFiles = 32

// quiet is how long after the newest version files are merged.
func (k *keeper) quiet(groups []merge) time.Duration {
	for _, g := range groups {
		if len(g.parts) > manyFiles {
			return k.closing.after / 10
		}
	}
	return k.closing.after
}

// agree holds a version to what is in the folder: every file that the ledger
// knows and no other one, each with as many rows, as it says itself.
func (k *keeper) agree(ctx context.Context, m *manifest, names []string, v view) (trouble string, err error) {
	if err := m.check(); err != nil {
		return err.Error(), nil
	}
	if d := m.compare(names, k.ours(v), v.below); len(d.missing)+len(d.strange) > 0 {
		return d.String(), nil
	}
	for _, f := range m.Files {
		if f.Since < m.Version {
			continue // it was looked at then
		}
		if trouble, err := k.recount(ctx, m, f); err != nil || trouble != "" {
			return trouble, err
		}
	}
	return "", nil
}
