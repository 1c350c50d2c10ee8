// Package file is the source that reads text files line by line, and follows
// them through rotation.
//
// A split is one log: the file at a path, and the older files that a log
// rotation made of it (access.log.1, access.log-20150517, access.log.2.gz).
// The reader goes through them in order, each a new generation, and never
// starts the next before the last byte of the one before. It finds its place
// again by device and inode, and by a fingerprint of the first bytes, so that
// a file may be renamed, copied and truncated, or compressed, even while
// nobody reads:
//
//   - Rename: the old inode is read to its end, and until it has been silent
//     for rotate_wait, for writers reopen late; then comes the new file.
//   - Copy and truncate: a file that is shorter than the place reached, or
//     begins otherwise, was truncated. What had not been read yet is read from
//     the copy, if there is one; then the file is read from its beginning.
//   - A line counts when its newline is there.
//
// What cannot be seen: a file truncated and written again to at least the same
// length with the same first 1 KiB, between two polls.
//
// Goroutines: Splits starts one for a glob that is followed; it ends with the
// context.
package file

import (
	"time"

	"github.com/entrepot-hub/entrepot/connectors"
)

// Source is the file source.
type Source struct{}

// Spec implements connectors.Source.
func (Source) Spec() connectors.Spec {
	return connectors.Spec{
		Type:      "file",
		Summary:   "Reads text files line by line and follows them through rotation.",
		Guarantee: "exactly-once (position by device, inode, fingerprint and offset, committed with the records)",
		Since:     "0.1",
		Fields:    fields(),
	}
}

func fields() []connectors.Field {
	return []connectors.Field{
		{
			Name: "path", Kind: connectors.KindString, Required: true, Check: checkPath, Example: "/var/log/nginx/*.log",
			Description: "file to read, or a glob (*, ?, [a-z]); a file that a log rotation made of another one that matches is read as the older part of that one; a name ending in .gz is decompressed",
		},
		{
			Name: "exclude", Kind: connectors.KindStrings, Check: checkGlobs, Example: "[\"*.tmp\"]",
			Description: "globs of file names (without folders) to leave out",
		},
		{
			Name: "follow", Kind: connectors.KindBool, Default: true, Example: "false",
			Description: "true waits for more at the end and for new files; false ends when all files were read once",
		},
		{
			Name: "final_line", Kind: connectors.KindString, Options: []string{"wait", "emit"}, Example: "emit",
			Description: "what to do with a last line that has no newline: wait for it (the default, and the only way with follow: true), or emit what is there (the default with follow: false)",
		},
		{
			Name: "empty_lines", Kind: connectors.KindString, Options: []string{"skip", "emit"}, Default: "skip", Example: "emit",
			Description: "skip passes over lines without any byte, emit makes records of them",
		},
		{
			Name: "header_lines", Kind: connectors.KindInt, Max: 1000, Example: "1",
			Description: "how many lines at the beginning of each file to pass over",
		},
		{
			Name: "max_line", Kind: connectors.KindSize, Default: int64(1 << 20), Min: 1, Max: 64 << 20, Example: "64KiB",
			Description: "a longer line goes to the dead letters, with as many of its first bytes",
		},
		{
			Name: "poll_interval", Kind: connectors.KindDuration, Default: 250 * time.Millisecond, Min: int64(time.Millisecond), Max: int64(time.Hour), Example: "1s",
			Description: "how often to look for more at the end of a file",
		},
		{
			Name: "discover_interval", Kind: connectors.KindDuration, Default: 5 * time.Second, Min: int64(time.Millisecond), Max: int64(24 * time.Hour), Example: "1m",
			Description: "how often to look for new files that match a glob",
		},
		{
			Name: "rotate_wait", Kind: connectors.KindDuration, Default: 5 * time.Second, Max: int64(time.Hour), Example: "30s",
			Description: "how long a rotated file has to be silent before the next one is begun; what a writer adds to it later than that is not read",
		},
	}
}
