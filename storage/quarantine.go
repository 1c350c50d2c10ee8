package storage

import (
	"bytes"
	"errors"
	"fmt"
	"path"
	"strconv"

	"github.com/entrepot-hub/entrepot/record"
	"github.com/entrepot-hub/entrepot/storage/vfs"
)

// A damaged log is quarantined by a file in its directory, so that it stays so
// over restarts, until the log is removed and built anew from the leader
// (Invariant 8). Its content is for people; that it is there is what counts.
const markerName = "quarantine"

// quarantine marks the log as damaged and returns the damage, wrapped. The
// first damage found is kept.
func (l *Log) quarantine(c *record.CorruptionError) error {
	l.mu.Lock()
	known, closed := l.mu.damage, l.mu.closed
	if known == nil && !closed {
		l.mu.damage = c
	}
	l.mu.Unlock()
	if closed {
		return record.ErrStopped
	}
	if known == nil {
		l.store.log.Error("the log is damaged and quarantined", "log", l.id.String(), "file", c.File, "offset", c.Offset, "error", c.Err)
		if err := writeMarker(l.store.fs, l.dir, c); err != nil {
			l.store.log.Error("the quarantine could not be made durable", "log", l.id.String(), "error", err)
		}
	}
	return errors.Join(record.ErrQuarantined, c)
}

// Quarantine marks the log as damaged, durably, for a reason that is not in its
// bytes: it is not what it must be.
func (l *Log) Quarantine(why error) {
	_ = l.quarantine(&record.CorruptionError{File: l.dir, Err: why})
}

// loadDamage takes over damage that recovery found, now or earlier.
func (l *Log) loadDamage(r *recovery) error {
	earlier, err := readMarker(l.store.fs, l.dir)
	if err != nil {
		return err
	}
	if r.damage != nil {
		l.mu.readable = l.mu.hard.Commit
	}
	switch {
	case earlier != nil:
		l.mu.damage = earlier
	case r.damage != nil:
		_ = l.quarantine(r.damage)
	}
	return nil
}

// unreadable is the error of entries that a damaged log must not hand out.
func (l *Log) unreadable() error {
	return errors.Join(record.ErrQuarantined, l.Damage())
}

func writeMarker(fsys vfs.FS, dir string, c *record.CorruptionError) error {
	text := fmt.Sprintf("file %q\noffset %d\nreason %q\n", path.Base(c.File), c.Offset, c.Err.Error())
	return replaceFile(fsys, dir, markerName, []byte(text))
}

// readMarker returns nil when there is none.
func readMarker(fsys vfs.FS, dir string) (*record.CorruptionError, error) {
	names, err := fsys.List(dir)
	if err != nil {
		return nil, err
	}
	for _, n := range names {
		if n == markerName {
			return parseMarker(dir, readSmall(fsys, path.Join(dir, n))), nil
		}
	}
	return nil, nil
}

// parseMarker reads what it can: a marker that cannot be read is one still.
func parseMarker(dir string, b []byte) *record.CorruptionError {
	c := &record.CorruptionError{File: dir, Err: errors.New("quarantined earlier")}
	for line := range bytes.Lines(b) {
		key, value, _ := bytes.Cut(bytes.TrimSpace(line), []byte(" "))
		switch string(key) {
		case "file":
			if s, err := strconv.Unquote(string(value)); err == nil {
				c.File = path.Join(dir, s)
			}
		case "offset":
			if n, err := strconv.ParseInt(string(value), 10, 64); err == nil {
				c.Offset = n
			}
		case "reason":
			if s, err := strconv.Unquote(string(value)); err == nil {
				c.Err = errors.New(s)
			}
		}
	}
	return c
}
