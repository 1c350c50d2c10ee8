package demo

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/entrepot-hub/entrepot/connectors/format"
)

// lake is what lies in the Parquet folders, counted from the files' own
// footers.
type lake struct {
	rows  int64
	files int
	hours map[string]int64 // rows by folder: 2015-05-17/10
}

// readLake counts the files below dir, which are in folders dt=…/hr=….
func readLake(dir string) (*lake, error) {
	l := &lake{hours: map[string]int64{}}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && strings.HasPrefix(d.Name(), "_"):
			return fs.SkipDir // what is still being written
		case d.IsDir() || filepath.Ext(path) != ".parquet":
			return nil
		}
		n, err := parquetRows(path)
		if err != nil {
			return err
		}
		hour, err := hourOf(dir, path)
		if err != nil {
			return err
		}
		l.rows += n
		l.files++
		l.hours[hour] += n
		return nil
	})
	if os.IsNotExist(err) {
		return l, nil
	}
	return l, err
}

func parquetRows(path string) (int64, error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	n, err := format.ParquetRows(f, info.Size())
	if err != nil {
		return 0, fmt.Errorf("%s: %w", path, err)
	}
	return n, nil
}

// hourOf turns …/dt=2015-05-17/hr=10/x.parquet into 2015-05-17/10.
func hourOf(dir, path string) (string, error) {
	rel, err := filepath.Rel(dir, filepath.Dir(path))
	if err != nil {
		return "", err
	}
	day, hour, ok := strings.Cut(filepath.ToSlash(rel), "/")
	day, isDay := strings.CutPrefix(day, "dt=")
	hour, isHour := strings.CutPrefix(hour, "hr=")
	if !ok || !isDay || !isHour {
		return "", fmt.Errorf("%s is not in a folder dt=…/hr=…", path)
	}
	return day + "/" + hour, nil
}
