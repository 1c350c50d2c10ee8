package files

import (
	"context"
	"fmt"
	"path/filepath"
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
	return openOn(ctx, task, partitions, osDisk{})
}

func openOn(ctx context.Context, task connectors.TaskContext, partitions []record.TopicPartition, d disk) (*writer, error) {
	s, err := settingsOf(task.Config)
	if err != nil {
		return nil, connectors.Fatal(err)
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	w := &writer{
		settings: s, disk: d, task: task.Task, pins: map[string]*pinned{},
		tmp: filepath.Join(s.dir, tmpFolder, escape(task.Job, true)),
	}
	return w, w.sweep(partitions)
}

// writer is the sink's connectors.Writer. It holds nothing between plans but
// what it knows of pinned columns.
type writer struct {
	settings
	disk disk
	task string
	tmp  string             // folder of the job's temporary files
	pins map[string]*pinned // by topic
}

// sweep removes temporary files of these partitions. One that a former owner
// still writes loses its name, and so can never be published.
func (w *writer) sweep(partitions []record.TopicPartition) error {
	names, err := w.disk.List(w.tmp)
	if err != nil {
		return classify("list "+w.tmp, err)
	}
	for _, name := range names {
		words := strings.Split(name, "+") // see tmpName
		if len(words) < 4 || !slices.ContainsFunc(partitions, func(tp record.TopicPartition) bool {
			return words[2] == tp.Topic && words[3] == strconv.Itoa(int(tp.Partition))
		}) {
			continue
		}
		if err := removeIfThere(w.disk, filepath.Join(w.tmp, name)); err != nil {
			return classify("remove a leftover", err)
		}
	}
	return nil
}

// Resume implements connectors.Writer: plan and offset are in the hub.
func (*writer) Resume(context.Context, record.TopicPartition) (int64, bool, error) {
	return 0, false, nil
}

// Close implements connectors.Writer.
func (w *writer) Close(context.Context) error {
	_ = w.disk.Remove(w.tmp) // goes only when it is empty; others may use it
	return nil
}

func (w *writer) extension() string {
	if w.format != "parquet" && w.codec == "gzip" {
		return w.format + ".gz"
	}
	return w.format
}

// fileName is what a plan's files are called, in whatever folder.
func (w *writer) fileName(p connectors.Plan) string {
	return fmt.Sprintf("%s+%d+%d+%d.%s", p.Partition.Topic, p.Partition.Partition, p.From, p.To, w.extension())
}

// tmpName differs between owners of a partition (by the plan's epoch), so that
// one who comes back after a long pause does not write into another's file.
func (w *writer) tmpName(p connectors.Plan, n int) string {
	return fmt.Sprintf("%d+%d+%s", p.Epoch, n, w.fileName(p))
}
