package file

import (
	"cmp"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// rotationSuffix is what log rotation appends to a name: .1, .2.gz,
// -20150517, .2015-05-17, -20150517-1431859200.gz, .20150517T100000.
var rotationSuffix = regexp.MustCompile(`[._-][0-9][0-9T._:-]*(?:\.gz)?$`)

// rotationBase is the name that a rotated file had, or "" when the name does
// not look like one of a rotated file. All suffixes are tried, the longest
// first, as app-1-20150517 may be app-1 or app.
func rotationBase(name string, ok func(base string) bool) string {
	for i := 1; i < len(name); i++ {
		if m := rotationSuffix.FindStringIndex(name[i:]); m != nil && m[0] == 0 && ok(name[:i]) {
			return name[:i]
		}
	}
	return ""
}

// sibling is a file that rotation made.
type sibling struct {
	path   string
	suffix string
	mtime  int64 // nanoseconds
	info   os.FileInfo
}

// siblings lists the rotated files of base in the order in which they were
// written. A compressed file whose original is still there is left out: it is
// being written.
func siblings(base string, keep func(path string) bool) ([]sibling, error) {
	entries, err := os.ReadDir(filepath.Dir(base))
	if err != nil {
		return nil, err
	}
	names := map[string]bool{}
	for _, e := range entries {
		names[e.Name()] = true
	}
	var all []sibling
	for _, e := range entries {
		suffix, ok := strings.CutPrefix(e.Name(), filepath.Base(base))
		path := filepath.Join(filepath.Dir(base), e.Name())
		if m := rotationSuffix.FindStringIndex(suffix); !ok || m == nil || m[0] != 0 || !keep(path) {
			continue
		}
		if plain, gz := strings.CutSuffix(e.Name(), ".gz"); gz && names[plain] {
			continue
		}
		info, err := os.Stat(path)
		if err != nil || !info.Mode().IsRegular() {
			continue // gone since the listing, or nothing to read
		}
		all = append(all, sibling{path: path, suffix: strings.TrimSuffix(suffix, ".gz"), mtime: info.ModTime().UnixNano(), info: info})
	}
	slices.SortFunc(all, older)
	return all, nil
}

// older orders by the names where these tell, since a file's time may have
// been touched: .2 is older than .1, and dates grow.
func older(a, b sibling) int {
	x, xIsCount := count(a.suffix)
	y, yIsCount := count(b.suffix)
	switch {
	case xIsCount && yIsCount && x != y:
		return cmp.Compare(y, x)
	case !xIsCount && !yIsCount && len(a.suffix) == len(b.suffix):
		return cmp.Compare(a.suffix, b.suffix)
	}
	return cmp.Or(cmp.Compare(a.mtime, b.mtime), cmp.Compare(a.path, b.path))
}

// count reads the suffix of a rotation that counts, not dates.
func count(suffix string) (int, bool) {
	if len(suffix) > 4 { // a year has four digits
		return 0, false
	}
	n, err := strconv.Atoi(suffix[1:])
	return n, err == nil
}
