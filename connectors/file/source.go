package file

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/entrepot-hub/entrepot/connectors"
)

// Splits implements connectors.Source: one split for each log, named by the
// path of its newest file.
func (Source) Splits(ctx context.Context, cfg connectors.Config) (<-chan []connectors.Split, error) {
	s := settingsOf(cfg)
	first, err := s.logs()
	if err != nil {
		return nil, err
	}
	if len(first) == 0 && !s.follow {
		return nil, connectors.Fatalf("no file matches %s", s.path)
	}
	out := make(chan []connectors.Split, 1)
	out <- splitsOf(first)
	if !s.isGlob() || !s.follow {
		close(out)
		return out, nil
	}
	go s.watch(ctx, first, out)
	return out, nil
}

// logs lists the logs that match the path. A file that a rotation made of
// another name that matches, whether that exists just now or not, is part of
// the other.
func (s settings) logs() ([]string, error) {
	if !s.isGlob() {
		return []string{s.path}, nil
	}
	matches, err := filepath.Glob(s.path)
	if err != nil {
		return nil, connectors.Fatal(err)
	}
	var all []string
	for _, path := range matches {
		if info, err := os.Stat(path); err != nil || !info.Mode().IsRegular() || s.excluded(path) {
			continue
		}
		if base := rotationBase(path, s.included); base != "" {
			path = base
		}
		all = append(all, path)
	}
	slices.Sort(all)
	return slices.Compact(all), nil
}

// included reports whether a path belongs to what the config names.
func (s settings) included(path string) bool {
	ok, err := filepath.Match(s.path, path)
	return ok && err == nil && !s.excluded(path)
}

func (s settings) excluded(path string) bool {
	return slices.ContainsFunc(s.exclude, func(glob string) bool {
		ok, _ := filepath.Match(glob, filepath.Base(path)) // the pattern was checked with the config
		return ok
	})
}

// watch sends the list again when it changes. A log that is missing once may
// be between two steps of a rotation; it leaves the list the second time.
func (s settings) watch(ctx context.Context, sent []string, out chan<- []connectors.Split) {
	defer close(out)
	tick := time.NewTicker(s.discover)
	defer tick.Stop()
	before := sent
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		now, err := s.logs()
		if err != nil {
			continue // a folder that cannot be listed now; the next look tells
		}
		list := slices.Concat(now, before)
		slices.Sort(list)
		list = slices.Compact(slices.DeleteFunc(list, func(p string) bool { return !slices.Contains(now, p) && !slices.Contains(sent, p) }))
		before = now
		if slices.Equal(list, sent) {
			continue
		}
		select {
		case out <- splitsOf(list):
			sent = list
		case <-ctx.Done():
			return
		}
	}
}

func splitsOf(paths []string) []connectors.Split {
	all := make([]connectors.Split, len(paths))
	for i, p := range paths {
		all[i] = connectors.Split{ID: p}
	}
	return all
}

// Open implements connectors.Source.
func (Source) Open(ctx context.Context, task connectors.TaskContext, split connectors.Split, from connectors.Position) (connectors.Reader, error) {
	r := &reader{log: task.Logger.With("file", split.ID), clock: task.Clock, base: split.ID}
	r.settings = settingsOf(task.Config)
	if from != nil {
		pos, err := decodePosition(from)
		if err != nil {
			return nil, err
		}
		r.from = &pos
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	// A file that is not there yet is waited for; one that may not be read,
	// or is none, is told at once.
	if err := r.start(); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	return r, nil
}
