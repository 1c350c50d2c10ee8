package file

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/entrepot-hub/entrepot/connectors"
)

// settings are the fields of the config, with the defaults that depend on
// others filled in.
type settings struct {
	path        string
	exclude     []string
	follow      bool
	emitFinal   bool
	emitEmpty   bool
	headerLines int64
	maxLine     int
	poll        time.Duration
	discover    time.Duration
	rotateWait  time.Duration
}

func settingsOf(cfg connectors.Config) settings {
	s := settings{
		path: filepath.Clean(cfg.String("path")), exclude: cfg.Strings("exclude"), follow: cfg.Bool("follow"),
		emitEmpty: cfg.String("empty_lines") == "emit", headerLines: cfg.Int("header_lines"), maxLine: int(cfg.Size("max_line")),
		poll: cfg.Duration("poll_interval"), discover: cfg.Duration("discover_interval"), rotateWait: cfg.Duration("rotate_wait"),
	}
	s.emitFinal = !s.follow && cfg.String("final_line") != "wait"
	return s
}

// isGlob reports whether the path is a pattern.
func (s settings) isGlob() bool { return strings.ContainsAny(s.path, "*?[") }

func checkPath(v any) error {
	if v.(string) == "" {
		return errors.New("the path is empty")
	}
	if _, err := filepath.Match(v.(string), ""); err != nil {
		return fmt.Errorf("%q is not a glob: a bracket is not closed", v)
	}
	return nil
}

func checkGlobs(v any) error {
	for _, g := range v.([]string) {
		if err := checkPath(g); err != nil {
			return err
		}
		if strings.ContainsRune(g, filepath.Separator) {
			return fmt.Errorf("%q has a folder in it, want the pattern of a file name", g)
		}
	}
	return nil
}

// Validate implements connectors.Source.
func (Source) Validate(_ context.Context, cfg connectors.Config, probe connectors.Probe) []connectors.Finding {
	s := settingsOf(cfg)
	if s.follow && cfg.String("final_line") == "emit" {
		return []connectors.Finding{{Field: "final_line", Message: "final_line: emit would cut a line that is still being written while follow is true", Hint: "set follow: false, or leave final_line out"}}
	}
	if probe != connectors.ProbeLive {
		return nil
	}
	if s.isGlob() {
		if found, err := filepath.Glob(s.path); err == nil && len(found) == 0 {
			return []connectors.Finding{{Field: "path", Message: fmt.Sprintf("no file matches %s at present", s.path), Warning: s.follow}}
		}
		return nil
	}
	info, err := os.Stat(s.path)
	switch {
	case err != nil:
		return []connectors.Finding{{Field: "path", Message: err.Error(), Warning: s.follow && errors.Is(err, os.ErrNotExist)}}
	case !info.Mode().IsRegular():
		return []connectors.Finding{{Field: "path", Message: fmt.Sprintf("%s is not a regular file", s.path)}}
	}
	return nil
}
