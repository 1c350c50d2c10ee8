package files

import (
	"context"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/entrepot-hub/entrepot/connectors"
	"github.com/entrepot-hub/entrepot/record"
)

// tmpFolder holds what has no name yet, in a folder for each job.
const tmpFolder = "_tmp"

// Open implements connectors.Sink. It removes what a crash has left of these
// partitions.
func (Sink) Open(ctx context.Context, task connectors.TaskContext, partitions []record.TopicPartition) (connectors.Writer, error) {
	s, err := settingsOf(task.Config)
	if err != nil {
		return nil, connectors.Fatal(err)
	}
	st, err := openStore(ctx, s.location, task.Config)
	if err != nil {
		return nil, err
	}
	return openOn(ctx, task, partitions, s, st)
}

func openOn(ctx context.Context, task connectors.TaskContext, partitions []record.TopicPartition, s settings, st store) (connectors.Writer, error) {
	w := &writer{
		settings: s, store: st, task: task.Task, job: task.Job, site: task.Site, pins: map[string]*pinned{},
		tmp: path.Join(tmpFolder, escape(task.Job, true)),
	}
	err := ctx.Err()
	if err == nil {
		err = w.sweep(ctx, partitions)
	}
	if err == nil && s.closing != nil {
		w.plans, err = openPlans(ctx, task, partitions, s.closing.clock, st)
	}
	if err != nil {
		_ = st.Close(w.tmp)
		return nil, err
	}
	return w, nil
}

// writer is the sink's connectors.Writer. It holds nothing between plans but
// what it knows of pinned columns.
type writer struct {
	settings
	store store
	task  string
	job   string
	site  string
	tmp   string             // folder of the job's temporary files
	pins  map[string]*pinned // by topic
	plans *plans             // nil without manifests
}

// sweep removes what was not published of these partitions. One that a former
// owner still writes loses its name, and so can never be published.
func (w *writer) sweep(ctx context.Context, partitions []record.TopicPartition) error {
	err := w.store.Sweep(ctx, w.tmp, func(name string) bool {
		words := strings.Split(name, "+") // see tmpName and fileName
		if n := len(words); n >= 6 {
			words = words[n-4:]
		}
		return len(words) == 4 && slices.ContainsFunc(partitions, func(tp record.TopicPartition) bool {
			return words[0] == tp.Topic && words[1] == strconv.Itoa(int(tp.Partition))
		})
	})
	if err != nil {
		return w.store.fault("remove leftovers in", w.tmp, err)
	}
	return nil
}

// Resume implements connectors.Writer: plan and offset are in the hub.
func (*writer) Resume(context.Context, record.TopicPartition) (int64, bool, error) {
	return 0, false, nil
}

// Close implements connectors.Writer.
func (w *writer) Close(context.Context) error {
	return w.store.Close(w.tmp)
}

func (w *writer) extension() string {
	if w.format != "parquet" && w.codec == "gzip" {
		return w.format + ".gz"
	}
	return w.format
}

// fileName is what a plan's files are called, in whatever folder.
func (w *writer) fileName(p connectors.Plan) string {
	return offsets{p.Partition, p.From, p.To, w.extension()}.name()
}

// tmpName differs between owners of a partition (by the plan's epoch), so that
// one who comes back after a long pause does not write into another's file.
func (w *writer) tmpName(p connectors.Plan, n int) string {
	return fmt.Sprintf("%d+%d+%s", p.Epoch, n, w.fileName(p))
}
