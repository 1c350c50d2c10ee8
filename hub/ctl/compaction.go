package ctl

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/entrepot-hub/entrepot/hub/admin"
)

// compactionRow is one line of `node compaction`.
type compactionRow struct {
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
	Bytes     int64  `json:"bytes"`
	admin.Compaction
}

func (c *cli) nodeCompaction() *cobra.Command {
	return &cobra.Command{
		Use:   "compaction",
		Short: "Show what has become of compacted topics on a node",
		Long: `Show what has become of compacted topics on a node: below which offset each key
has one record at most, how many bytes wait, and what passes have made of what
they read since the node started.`,
		Example: "  entrepot node compaction --admin http://127.0.0.1:8080",
		Args:    exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			var st admin.Status
			if err := c.get(cmd.Context(), "/v1/status", &st); err != nil {
				return err
			}
			rows := compactionRows(st)
			return c.print(rows, func(w io.Writer) { writeCompaction(w, rows) })
		},
	}
}

func compactionRows(st admin.Status) []compactionRow {
	rows := []compactionRow{}
	for _, t := range st.Topics {
		for _, p := range t.Partitions {
			if p.Compaction != nil && p.HighWatermark > 0 {
				rows = append(rows, compactionRow{t.Name, p.ID, p.Bytes, *p.Compaction})
			}
		}
	}
	return rows
}

func writeCompaction(w io.Writer, rows []compactionRow) {
	t := newTable("no compacted topic has records", "TOPIC", ">PARTITION", ">ON DISK", ">CLEAN BELOW", ">DIRTY", ">PASSES", ">READ", ">LEFT", "LAST")
	for _, r := range rows {
		last := "-"
		if !r.Last.IsZero() {
			last = stamp(r.Last)
		}
		if r.LastError != "" {
			last += " failed: " + r.LastError
		}
		t.row(r.Topic, fmt.Sprint(r.Partition), size(r.Bytes), grouped(r.CleanBelow), size(r.DirtyBytes), fmt.Sprint(r.Passes), size(r.BeforeBytes), size(r.AfterBytes), last)
	}
	t.write(w)
}
