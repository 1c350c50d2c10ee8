package files

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/entrepot-hub/entrepot/connectors"
	"github.com/entrepot-hub/entrepot/record"
)

// planFolder holds, for each job and partition, the plans that were begun last:
// _plans/JOB/TOPIC+PARTITION/FROM.json. The hub's own note of a plan is of one
// site; this one is where every site that may load the same records finds it.
//
// A plan is begun by making its file, which fails when there is one: of several
// owners that begin at the same offset one decides where the plan ends, and the
// others see it. The file of the newest plan and of the one before are kept. So
// an owner that was away, begins at an offset that is long past and finds no
// file in its way, finds a later one behind it.
const planFolder = "_plans"

// begun is what such a file says.
type begun struct {
	From  int64  `json:"from"`
	To    int64  `json:"to"`
	ID    string `json:"id"`
	Site  string `json:"site"`
	Epoch int64  `json:"epoch"` // of the owner at that site
}

func (w *writer) plansOf(tp record.TopicPartition) string {
	return path.Join(planFolder, escape(w.job, true), fmt.Sprintf("%s+%d", tp.Topic, tp.Partition))
}

func planFile(from int64) string { return fmt.Sprintf("%020d.json", from) }

// begin writes the plan down before any of its files has a name. done: another
// owner has begun it before and executed it meanwhile, and its files may have
// been merged since.
func (w *writer) begin(ctx context.Context, p connectors.Plan) (done bool, err error) {
	folder := w.plansOf(p.Partition)
	name, tmp := path.Join(folder, planFile(p.From)), path.Join(w.tmp, fmt.Sprintf("%d+plan-%s+%s", p.Epoch, w.site, w.fileName(p)))
	text, err := json.Marshal(begun{p.From, p.To, p.ID, w.site, p.Epoch})
	if err != nil {
		return false, fmt.Errorf("encode the plan %s: %w", p, err)
	}
	err = w.store.PutNew(ctx, tmp, name, append(text, '\n'))
	made := err == nil
	if errors.Is(err, os.ErrExist) {
		err = w.agree(ctx, p, name, tmp, text)
	} else if err != nil {
		err = w.store.fault("begin", name, err)
	}
	if err != nil {
		return false, err
	}
	all, err := w.begunFrom(ctx, folder)
	if err != nil {
		return false, err
	}
	if n := len(all); n > 0 && all[n-1] > p.From {
		if made { // or the next owner to look would take it for what comes after
			_ = w.store.Remove(ctx, name)
		}
		later, err := w.readBegun(ctx, path.Join(folder, planFile(all[n-1])))
		if err != nil {
			return false, err
		}
		return false, w.late(later, p)
	}
	for i := 0; i+1 < len(all) && all[i+1] < p.From; i++ {
		if err := w.store.Remove(ctx, path.Join(folder, planFile(all[i]))); err != nil {
			return false, w.store.fault("remove", planFile(all[i]), err)
		}
	}
	if made || w.plans == nil {
		return false, nil
	}
	return w.inLedger(ctx, p)
}

// agree looks at the plan that was begun at the offset before. Its own owner
// may make it shorter: the rest has been found to hold a record that cannot be
// written.
func (w *writer) agree(ctx context.Context, p connectors.Plan, name, tmp string, text []byte) error {
	b, err := w.readBegun(ctx, name)
	switch {
	case err != nil:
		return err
	case b.To == p.To:
		return nil
	case b.Site == w.site && b.Epoch == p.Epoch && p.To < b.To:
		if err := w.store.Put(ctx, tmp, name, append(text, '\n')); err != nil {
			return w.store.fault("begin", name, err)
		}
		return nil
	}
	return w.late(b, p)
}

// late is the error of a plan that another owner was quicker with. Of two owners
// the one of the lower epoch stops, and of the same epoch the one whose site's
// name is the lower, so that of several one goes on; it only has to ask again
// where the others got to.
func (w *writer) late(b begun, p connectors.Plan) error {
	err := fmt.Errorf("site %s has begun to load offsets %d to %d in its epoch %d, and this plan is %s of site %s in epoch %d",
		b.Site, b.From, b.To-1, b.Epoch, p, w.site, p.Epoch)
	if b.Epoch > p.Epoch || b.Epoch == p.Epoch && b.Site > w.site {
		return connectors.Fatal(fmt.Errorf("%w: %w", connectors.ErrFenced, err))
	}
	return connectors.Retry(0, err)
}

// Last implements connectors.Remembering.
func (w *writer) Last(ctx context.Context, tp record.TopicPartition) (connectors.Plan, bool, error) {
	folder := w.plansOf(tp)
	all, err := w.begunFrom(ctx, folder)
	if err != nil || len(all) == 0 {
		return connectors.Plan{}, false, err
	}
	b, err := w.readBegun(ctx, path.Join(folder, planFile(all[len(all)-1])))
	return connectors.Plan{Partition: tp, From: b.From, To: b.To, ID: b.ID, Epoch: b.Epoch}, err == nil, err
}

// begunFrom lists where the plans that were begun last begin, in order.
func (w *writer) begunFrom(ctx context.Context, folder string) ([]int64, error) {
	names, err := w.store.List(ctx, folder)
	if err != nil {
		return nil, w.store.fault("list", folder, err)
	}
	var all []int64
	for _, name := range names {
		digits, ok := strings.CutSuffix(name, ".json")
		if from, err := strconv.ParseInt(digits, 10, 64); ok && err == nil && name == planFile(from) {
			all = append(all, from)
		}
	}
	slices.Sort(all)
	return all, nil
}

func (w *writer) readBegun(ctx context.Context, name string) (b begun, err error) {
	text, err := w.store.Read(ctx, name)
	if errors.Is(err, os.ErrNotExist) { // its owner has gone on just now
		return b, connectors.Retry(0, fmt.Errorf("read %s: %w", name, err))
	}
	if err != nil {
		return b, w.store.fault("read", name, err)
	}
	if err := json.Unmarshal(text, &b); err != nil || b.To <= b.From || path.Base(name) != planFile(b.From) {
		return b, connectors.Fatalf("%s does not say which plan was begun (%.100q): if nothing else loads into this folder, remove the file", name, text)
	}
	return b, nil
}
