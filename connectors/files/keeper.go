package files

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path"
	"slices"
	"time"

	"github.com/entrepot-hub/entrepot/connectors"
	"github.com/entrepot-hub/entrepot/record"
)

// OpenKeeper implements connectors.Keeping: the keeper closes folders.
func (Sink) OpenKeeper(ctx context.Context, task connectors.TaskContext) (connectors.Keeper, error) {
	s, err := settingsOf(task.Config)
	if err != nil {
		return nil, connectors.Fatal(err)
	}
	if s.closing == nil {
		return nil, nil
	}
	st, err := openStore(ctx, s.location, task.Config)
	if err != nil {
		return nil, err
	}
	return newKeeper(task, s, st), nil
}

// keeper closes the folders of a job, and merges their small files. What it
// knows it has from the ledger and the manifests: it can be killed at any
// point, and any number of them can be at work. See docs/adr for why.
type keeper struct {
	settings
	store   store
	job     string
	site    string
	logger  *slog.Logger
	now     func() time.Time
	ledger  string
	tmp     string
	unique  string
	book    *book
	tide    tide
	shelves map[string]*shelf
	next    time.Time // of the look into the ledger
}

// shelf is what the keeper knows of a folder.
type shelf struct {
	newest  *manifest // nil: none yet
	settled bool      // newest is published, and nothing is left to do for now
	again   time.Time // when there may be: for a version that waits, or files to merge
	came    int       // entries that had come when it was settled
	trouble string    // why it cannot be closed, as last logged
}

func newKeeper(task connectors.TaskContext, s settings, st store) *keeper {
	return &keeper{
		settings: s, store: st, job: task.Job, site: task.Site, logger: task.Logger, now: task.Clock,
		ledger: ledgerOf(task.Job), tmp: path.Join(tmpFolder, escape(task.Job, true)), unique: uniqueName(),
		book: newBook(), tide: tide{idle: s.closing.idle}, shelves: map[string]*shelf{},
	}
}

// Close implements connectors.Keeper.
func (k *keeper) Close(context.Context) error { return k.store.Close(k.tmp) }

// lookEvery is the longest pause between two looks into the ledger.
const lookEvery = 10 * time.Second

// Keep implements connectors.Keeper.
func (k *keeper) Keep(ctx context.Context, at []connectors.Standing) error {
	now := k.now()
	k.tide.see(now, at)
	if now.Before(k.next) || len(at) == 0 {
		return nil
	}
	k.next = now.Add(min(lookEvery, k.closing.idle/2))
	if err := k.catchUp(ctx); err != nil {
		return err
	}
	mark := k.tide.watermark(now, at, k.book.last)
	if mark == noTime {
		return nil
	}
	view := view{now: now, mark: mark, topic: at[0].Partition.Topic, below: k.book.upTo()}
	for _, s := range at {
		view.below[s.Partition] = max(view.below[s.Partition], s.Loaded)
	}
	var failed error
	for _, folder := range k.book.closable(mark.add(-k.closing.lateness)) {
		if err := k.visit(ctx, folder, view); err != nil {
			failed = errors.Join(failed, err)
			if ctx.Err() != nil || connectors.ClassOf(err) == connectors.ClassFatal {
				return failed
			}
		}
	}
	if failed == nil {
		failed = k.forget(ctx)
	}
	return failed
}

// view is what one call of Keep sees.
type view struct {
	now   time.Time
	mark  instant // the watermark
	topic string
	below map[record.TopicPartition]int64 // everything below was in the ledger when it was read
}

// catchUp reads what is new in the ledger. A listing is no moment: it can have
// an entry that was put while it was read, and not the one that was put before
// that. So whatever is new is taken from a second listing, up to where the first
// one went: all of that was there when the second one began.
func (k *keeper) catchUp(ctx context.Context) error {
	names, ends, err := k.entries(ctx)
	if err != nil {
		return err
	}
	if slices.ContainsFunc(names, func(o offsets) bool { _, known := k.book.names[o.name()]; return !known }) {
		if names, _, err = k.entries(ctx); err != nil {
			return err
		}
	}
	there := map[string]bool{}
	for _, o := range names {
		name := o.name()
		there[name] = true
		if _, known := k.book.names[name]; known || o.to > ends[o.TopicPartition] {
			continue
		}
		full := path.Join(k.ledger, name)
		text, err := k.store.Read(ctx, full)
		if errors.Is(err, os.ErrNotExist) { // another keeper was done with it
			continue
		}
		if err != nil {
			return k.store.fault("read", full, err)
		}
		e, err := decodeEntry(full, text)
		if err != nil {
			return err
		}
		k.book.add(e)
	}
	for name := range k.book.names {
		if !there[name] {
			k.book.drop(name)
		}
	}
	return nil
}

// entries lists the ledger, and finds where it ends for each partition.
func (k *keeper) entries(ctx context.Context) (all []offsets, ends map[record.TopicPartition]int64, err error) {
	names, err := k.store.List(ctx, k.ledger)
	if err != nil {
		return nil, nil, k.store.fault("list", k.ledger, err)
	}
	ends = map[record.TopicPartition]int64{}
	for _, name := range names {
		if o, ok := parseName(name); ok {
			all = append(all, o)
			ends[o.TopicPartition] = max(ends[o.TopicPartition], o.to)
		}
	}
	return all, ends, nil
}

// visit does what is due for a folder whose time is over, unless it is known
// that there is nothing.
func (k *keeper) visit(ctx context.Context, folder string, v view) error {
	s := k.shelves[folder]
	if s == nil {
		s = &shelf{}
		k.shelves[folder] = s
	}
	if s.settled && s.came == k.book.came[folder] && (s.again.IsZero() || v.now.Before(s.again)) {
		return nil
	}
	s.settled, s.again = false, time.Time{}
	trouble, err := k.settle(ctx, folder, s, v)
	if err != nil {
		return fmt.Errorf("close folder %s: %w", folder, err)
	}
	if trouble != s.trouble && trouble != "" {
		k.logger.Warn("a folder's counts do not agree: it has no manifest until they do", "folder", folder, "reason", trouble)
	}
	s.trouble, s.came = trouble, k.book.came[folder]
	s.settled = trouble == ""
	return nil
}

// forget removes ledger entries that are in manifests. The newest of each
// partition stays: its plan may come again.
func (k *keeper) forget(ctx context.Context) error {
	done := k.book.done(func(folder string) *manifest {
		if s := k.shelves[folder]; s != nil && s.settled && s.again.IsZero() {
			return s.newest
		}
		return nil
	})
	for _, name := range done {
		full := path.Join(k.ledger, name)
		if err := k.store.Remove(ctx, full); err != nil {
			return k.store.fault("remove", full, err)
		}
		k.book.drop(name)
	}
	for folder := range k.shelves {
		if len(k.book.folders[folder]) == 0 {
			delete(k.shelves, folder)
		}
	}
	return nil
}

// put publishes a small file at a name that nobody has, and reports whether
// that was taken.
func (k *keeper) put(ctx context.Context, name string, text []byte) (taken bool, err error) {
	err = k.store.PutNew(ctx, k.tmpName("new"), name, text)
	if errors.Is(err, os.ErrExist) {
		return true, nil
	}
	if err != nil {
		return false, k.store.fault("publish", name, err)
	}
	return false, nil
}

// tmpName is one that the sweep of the topic's first partition removes.
func (k *keeper) tmpName(what string) string {
	return path.Join(k.tmp, fmt.Sprintf("%s+%s+%s.json", what, k.unique, rangeName(k.anyPartition(), 0, 0)))
}

func (k *keeper) anyPartition() record.TopicPartition {
	var all []record.TopicPartition
	for tp := range k.book.last {
		all = append(all, tp)
	}
	slices.SortFunc(all, func(a, b record.TopicPartition) int {
		return offsets{TopicPartition: a}.compare(offsets{TopicPartition: b})
	})
	return all[0]
}
