package ctl

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/entrepot-hub/entrepot/storage"
	"github.com/entrepot-hub/entrepot/storage/vfs"
)

func (c *cli) logCommand() *cobra.Command {
	return noun("log", "Look into, check, export and repair the logs of a node that does not run",
		c.reading(c.logVerify()), c.reading(c.logDump()), c.reading(c.logExport()), c.reading(c.logRepair()))
}

func (c *cli) logVerify() *cobra.Command {
	return &cobra.Command{
		Use:   "verify DIR",
		Short: "Read every byte of the logs and check it; tells torn from damaged",
		Long: `Read every byte of every log in DIR, a node's data directory or one log's, and
check all checksums and the order. Nothing is changed. "torn" is what a crash
leaves of bytes that nobody was told are safe, and is no damage. "decayed" is an
index that has changed: it says nothing that the records do not, and the running
node writes it anew when it next checks its disk. With damage or decay the exit
status is 1.`,
		Example: "  entrepot log verify ./entrepot-data",
		Args:    exactly("DIR"),
		RunE: func(_ *cobra.Command, args []string) error {
			dir, err := existing(args[0])
			if err != nil {
				return err
			}
			report, err := storage.Verify(vfs.OS(), dir)
			if err != nil {
				return err
			}
			if err := c.print(report, func(w io.Writer) { writeReport(w, report) }); err != nil {
				return err
			}
			if report.Damaged() {
				return errShown
			}
			return nil
		},
	}
}

func writeReport(w io.Writer, r storage.Report) {
	t := newTable("no logs", "LOG", "STATE", ">SEGMENTS", ">BATCHES", ">RECORDS", ">LOG START", ">NEXT OFFSET", ">BYTES", "DETAIL")
	for _, l := range r.Logs {
		var batches, records uint64
		var bytes int64
		for _, s := range l.Segments {
			batches, records, bytes = batches+s.Batches, records+s.Records, bytes+s.Bytes
		}
		name, detail := l.Log, l.Detail
		if name == "" {
			name = l.Dir
		}
		if l.Quarantined != "" {
			detail = "quarantined: " + l.Quarantined
		}
		t.row(name, l.State, grouped(int64(len(l.Segments))), grouped(int64(batches)), grouped(int64(records)),
			grouped(l.BaseOffset), grouped(l.NextOffset), grouped(bytes), dash(detail))
	}
	t.write(w)
}

func (c *cli) logDump() *cobra.Command {
	return &cobra.Command{
		Use:     "dump PATH",
		Short:   "Print the frames of a segment file, or of all segments of a log's directory",
		Long:    "Print a line for the header of each segment and each frame in it, and where and\nwhy it ends. With --json each line is an object.",
		Example: "  entrepot log dump ./entrepot-data/LOG/SEGMENT",
		Args:    exactly("PATH"),
		RunE: func(_ *cobra.Command, args []string) error {
			path, err := existing(args[0])
			if err != nil {
				return err
			}
			return storage.Dump(vfs.OS(), path, c.out, c.json)
		},
	}
}

func (c *cli) logExport() *cobra.Command {
	return &cobra.Command{
		Use:   "export DIR OUT",
		Short: "Write logs as plain Kafka segments, which Kafka's own tools read",
		Long: `Write the logs in DIR, a node's data directory or one log's, as
OUT/TOPIC-PARTITION/<base offset>.log with plain Kafka batches. Everything up to
the first damage is written; with damage the exit status is 1. Nothing that is
there is overwritten.`,
		Example: "  entrepot log export ./entrepot-data /tmp/kafka-segments",
		Args:    exactly("DIR", "OUT"),
		RunE: func(_ *cobra.Command, args []string) error {
			dir, err := existing(args[0])
			if err != nil {
				return err
			}
			if err := os.MkdirAll(args[1], 0o755); err != nil {
				return fmt.Errorf("export to %s: %w", args[1], err)
			}
			all, err := storage.Export(vfs.OS(), dir, filepath.ToSlash(args[1]))
			if printed := c.print(append([]storage.Exported{}, all...), func(w io.Writer) { writeExported(w, all) }); printed != nil {
				return printed
			}
			return errors.Join(err, damagedExport(all))
		},
	}
}

func writeExported(w io.Writer, all []storage.Exported) {
	t := newTable("nothing was written", "LOG", ">FILES", ">BATCHES", ">RECORDS", ">LOG START", ">NEXT OFFSET", ">BYTES", "WRITTEN TO")
	for _, e := range all {
		t.row(e.Log, grouped(int64(e.Files)), grouped(int64(e.Batches)), grouped(int64(e.Records)), grouped(e.BaseOffset), grouped(e.NextOffset), grouped(e.Bytes), e.Dir)
	}
	t.write(w)
}

func damagedExport(all []storage.Exported) error {
	for _, e := range all {
		if e.Damage != "" {
			return fmt.Errorf("log %s is damaged, what follows offset %d is not in the export: %s", e.Log, e.NextOffset, e.Damage)
		}
	}
	return nil
}

// existing finds a mistyped path before storage says that it is no log.
func existing(path string) (string, error) {
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return "", usagef("%s: no such file or directory", path)
	}
	return filepath.ToSlash(filepath.Clean(path)), nil
}
