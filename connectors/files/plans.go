package files

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"hash"
	"io"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/entrepot-hub/entrepot/connectors"
	"github.com/entrepot-hub/entrepot/record"
)

// plans is a writer's side of the ledger: it tells which plans are done, and
// enters those that the writer executes.
type plans struct {
	folder string // of the job's entries
	clock  clock
	now    func() time.Time
	unique string // part of names that no other process uses
	ends   map[record.TopicPartition]end
}

// end is where the ledger of a partition ends.
type end struct {
	to      int64
	high    instant
	checked bool // what a former owner may have entered since was looked for
}

func ledgerOf(job string) string { return path.Join(ledgerFolder, escape(job, true)) }

// uniqueName is a word that no other process has.
func uniqueName() string { return strings.ToLower(rand.Text()[:10]) }

// openPlans finds the last entry of each partition.
func openPlans(ctx context.Context, task connectors.TaskContext, partitions []record.TopicPartition, c clock, st store) (*plans, error) {
	p := &plans{folder: ledgerOf(task.Job), clock: c, now: task.Clock, unique: uniqueName(), ends: map[record.TopicPartition]end{}}
	names, err := st.List(ctx, p.folder)
	if err != nil {
		return nil, st.fault("list", p.folder, err)
	}
	last := map[record.TopicPartition]string{}
	for _, name := range names {
		o, ok := parseName(name)
		if ok && o.to > p.ends[o.TopicPartition].to && slices.Contains(partitions, o.TopicPartition) {
			p.ends[o.TopicPartition], last[o.TopicPartition] = end{to: o.to, high: noTime}, path.Join(p.folder, name)
		}
	}
	for tp, name := range last {
		text, err := st.Read(ctx, name)
		if err != nil {
			return nil, st.fault("read", name, err)
		}
		e, err := decodeEntry(name, text)
		if err != nil {
			return nil, err
		}
		p.ends[tp] = end{to: e.To, high: e.High}
	}
	return p, nil
}

// entered tells whether the plan was executed before: then nothing is written,
// whatever has become of its files. A plan that has records in common with
// another one is refused, as they would be there twice.
func (w *writer) entered(ctx context.Context, plan connectors.Plan) (bool, error) {
	if w.plans == nil {
		return false, nil
	}
	e, known := w.plans.ends[plan.Partition]
	if e.checked && plan.From >= e.to {
		return false, nil
	}
	there, err := w.inLedger(ctx, plan)
	if err != nil {
		return false, err
	}
	if !there && known && plan.From < e.to {
		return false, connectors.Fatalf("offsets %d to %d of %s were loaded before: the ledger in %s goes to %d, and their rows would be there twice. "+
			"Set the offset to %d; or, to load them anew, remove their files and the ledger", plan.From, min(plan.To, e.to)-1, plan.Partition, w.plans.folder, e.to, e.to)
	}
	if !known {
		e.high = noTime
	}
	e.checked = true
	w.plans.ends[plan.Partition] = e
	return there, nil
}

// inLedger looks for the plan's entry.
func (w *writer) inLedger(ctx context.Context, plan connectors.Plan) (bool, error) {
	name := w.plans.name(plan)
	there, err := w.store.Exists(ctx, name)
	if err != nil {
		return false, w.store.fault("look for", name, err)
	}
	return there, nil
}

func (p *plans) name(plan connectors.Plan) string {
	return path.Join(p.folder, rangeName(plan.Partition, plan.From, plan.To)+".json")
}

// enter puts a plan whose files are published into the ledger: now it is done.
func (w *writer) enter(ctx context.Context, plan connectors.Plan, batch connectors.Batch, set []staged) error {
	if w.plans == nil {
		return nil
	}
	e := w.tally(plan, batch, set).entry(plan)
	for i := range e.Folders {
		f := &e.Folders[i]
		at := slices.IndexFunc(set, func(s staged) bool { return folderOf(s.target) == f.Folder })
		if at < 0 {
			continue
		}
		info, err := w.info(ctx, &set[at])
		if err != nil {
			return named(w.store.fault("read", set[at].target, err))
		}
		f.File = &info
	}
	text, err := encodeLedger(e)
	if err != nil {
		return connectors.Fatal(err)
	}
	name := w.plans.name(plan)
	tmp := path.Join(w.tmp, "ledger+"+w.plans.unique+"+"+path.Base(name))
	if err := w.store.PutNew(ctx, tmp, name, text); err != nil && !errors.Is(err, os.ErrExist) {
		return named(w.store.fault("enter", name, err))
	}
	w.plans.ends[plan.Partition] = end{to: plan.To, high: e.High, checked: true}
	return nil
}

// tally counts every record of a plan in its folder. One that was filtered or
// is in the dead letters counts in the folder of what stands in the topic; if
// that has none, it counts nowhere.
func (w *writer) tally(plan connectors.Plan, batch connectors.Batch, set []staged) *tallies {
	t := newTallies(w.plans.clock, instantOf(w.plans.now()), w.plans.ends[plan.Partition].high)
	for _, s := range set {
		for _, i := range s.rows {
			t.add(folderOf(s.target), &batch.Messages[i], counts{Records: 1, Rows: 1})
		}
	}
	dropped := func(m *connectors.Message, one counts) {
		if folder, err := w.partition.folder(m); err == nil {
			t.add(folder, m, one)
		}
	}
	for i := range batch.Messages {
		if m := &batch.Messages[i]; m.Value == nil { // skipped, or it would have been refused
			dropped(m, counts{Records: 1, Skipped: 1})
		}
	}
	for i := range batch.Records {
		switch m := &batch.Records[i]; {
		case m.Mark: // of another job
		case batch.Fates[i] == connectors.Filtered:
			dropped(m, counts{Records: 1, Filtered: 1})
		case batch.Fates[i] == connectors.DeadLettered:
			dropped(m, counts{Records: 1, DeadLetters: 1})
		}
	}
	return t
}

// digest sums up what is written.
type digest struct {
	hash  hash.Hash
	bytes int64
}

func newDigest() *digest { return &digest{hash: sha256.New()} }

func (d *digest) Write(b []byte) (int, error) {
	d.bytes += int64(len(b))
	return d.hash.Write(b)
}

func (d *digest) info(name string, rows int64) fileInfo {
	return fileInfo{Name: name, Rows: rows, Bytes: d.bytes, SHA256: hex.EncodeToString(d.hash.Sum(nil))}
}

// summed is where a file's bytes go: into it, and into its sum.
func (w *writer) summed(s *staged) io.Writer {
	if w.plans == nil {
		return s.file
	}
	s.sum = newDigest()
	return io.MultiWriter(s.file, s.sum)
}

// info describes a published file. One that an earlier execution has made is
// read for it.
func (w *writer) info(ctx context.Context, s *staged) (fileInfo, error) {
	if s.done || s.sum == nil {
		s.sum = newDigest()
		if err := readAll(ctx, w.store, s.target, s.sum); err != nil {
			return fileInfo{}, err
		}
	}
	return s.sum.info(path.Base(s.target), int64(len(s.rows))), nil
}

// readAll copies a published file.
func readAll(ctx context.Context, st store, name string, to io.Writer) error {
	f, err := st.Open(ctx, name)
	if err != nil {
		return err
	}
	_, err = io.CopyBuffer(to, io.NewSectionReader(f, 0, f.Size()), make([]byte, 1<<20))
	return errors.Join(err, f.Close())
}
