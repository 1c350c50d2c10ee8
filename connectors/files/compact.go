package files

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/entrepot-hub/entrepot/connectors"
	"github.com/entrepot-hub/entrepot/connectors/format"
)

// merged are files that are complete and have no name yet.
type merged struct {
	keeper *keeper
	files  []pending
	names  []string
}

// publish gives the files their names, after the version that has them stands.
func (m *merged) publish(ctx context.Context, folder string) error {
	if m == nil {
		return nil
	}
	if err := m.keeper.store.Prepare(ctx, []string{folder}); err != nil {
		return m.keeper.store.fault("make folders for", folder, err)
	}
	for i, f := range m.files {
		if err := f.Publish(ctx); err != nil && !errors.Is(err, os.ErrExist) {
			return m.keeper.store.fault("publish", m.names[i], err)
		}
	}
	if err := m.keeper.store.Settle(ctx, []string{folder}); err != nil {
		return m.keeper.store.fault("make durable", folder, err)
	}
	return nil
}

// drop forgets what is not published.
func (m *merged) drop(ctx context.Context) {
	if m == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), dropTimeout)
	defer cancel()
	for _, f := range m.files {
		_ = f.Discard(ctx)
	}
}

// compact writes the merged files of a folder, without names, and finds the
// version that has them in place of their parts; nil when none can be merged.
// The caller drops the files.
func (k *keeper) compact(ctx context.Context, m *manifest, base manifest, groups []merge) (next *manifest, files *merged, err error) {
	files = &merged{keeper: k}
	made := map[string]fileInfo{}
	var done []merge
	for len(groups) > 0 {
		g := groups[0]
		groups = groups[1:]
		info, err := k.make(ctx, m.Folder, g, files)
		if errors.Is(err, format.ErrDifferentColumns) { // the columns changed on the way: those before and after
			groups = append(g.halves(), groups...)
			continue
		}
		if err != nil {
			return nil, files, err
		}
		made[g.name()] = info
		done = append(done, g)
	}
	if len(done) == 0 {
		return nil, files, nil
	}
	r := m.replaced(base, made, done)
	return &r, files, r.check()
}

// halves splits a group in two, of those parts that have a neighbour left.
func (g merge) halves() (all []merge) {
	for _, parts := range [][]listed{g.parts[:len(g.parts)/2], g.parts[len(g.parts)/2:]} {
		if len(parts) > 1 {
			all = append(all, mergeOf(parts))
		}
	}
	return all
}

// make writes one merged file.
func (k *keeper) make(ctx context.Context, folder string, g merge, files *merged) (fileInfo, error) {
	target := path.Join(folder, g.name())
	f, err := k.store.Create(ctx, path.Join(k.tmp, fmt.Sprintf("merged+%s+%s", k.unique, g.name())), target)
	if err != nil {
		return fileInfo{}, k.store.fault("create", target, err)
	}
	files.files, files.names = append(files.files, f), append(files.names, target)
	sum := newDigest()
	rows, err := k.merge(ctx, folder, g, io.MultiWriter(f, sum))
	if errors.Is(err, format.ErrDifferentColumns) {
		files.files, files.names = files.files[:len(files.files)-1], files.names[:len(files.names)-1]
		return fileInfo{}, errors.Join(err, f.Discard(ctx))
	}
	if err == nil {
		err = f.Complete(ctx)
	}
	if err != nil {
		return fileInfo{}, k.store.fault("write", target, err)
	}
	if rows != g.rows {
		return fileInfo{}, connectors.Fatalf("the parts of %s have %d rows, the manifest says %d", target, rows, g.rows)
	}
	return sum.info(g.name(), rows), nil
}

// remake makes a merged file that a version has decided and nobody has
// published: its parts are all there still. Where this program does not write
// the bytes that the other one did, there is a next version that says so.
func (k *keeper) remake(ctx context.Context, m *manifest, f listed, names []string, v view) (trouble string, err error) {
	g := merge{offsets: f.offsets(), rows: f.Rows}
	g.ext = ext(f.Name)
	rows, parts := int64(0), []offsets{}
	for _, name := range names {
		if o, ok := parseName(name); ok && o.ext == g.ext && o.within(g.offsets) {
			parts = append(parts, o)
		}
	}
	for _, o := range parts {
		if slices.ContainsFunc(parts, o.within) {
			continue // of what was merged before, and had come back
		}
		l := listed{fileInfo: fileInfo{Name: o.name()}, Topic: o.Topic, Partition: o.Partition, From: o.from, To: o.to}
		if l.Rows, _, err = countRows(ctx, k.store, path.Join(m.Folder, l.Name)); err != nil {
			return "", k.store.fault("count the rows of", l.Name, err)
		}
		rows += l.Rows
		g.parts = append(g.parts, l)
	}
	if rows != f.Rows {
		return fmt.Sprintf("%s is missing, and its parts have %d rows of %d", f.Name, rows, f.Rows), nil
	}
	slices.SortFunc(g.parts, func(a, b listed) int { return a.offsets().compare(b.offsets()) })
	files := &merged{keeper: k}
	defer func() { files.drop(ctx) }()
	info, err := k.make(ctx, m.Folder, g, files)
	if err != nil {
		return "", err
	}
	if info != f.fileInfo {
		next := *m
		next.Version, next.Reason, next.Site, next.Issued = m.Version+1, reasonCompacted, k.site, instantOf(v.now)
		next.Files = slices.Clone(m.Files)
		next.Files[slices.IndexFunc(m.Files, func(l listed) bool { return l.Name == f.Name })].fileInfo = info
		next.sum()
		text, err := encodeLedger(next)
		if err != nil {
			return "", connectors.Fatal(err)
		}
		if taken, err := k.put(ctx, path.Join(m.Folder, versionName(next.Version)), text); err != nil || taken {
			return "", errors.Join(err, connectors.Retry(0, fmt.Errorf("the version after %d was made by another keeper", m.Version)))
		}
	}
	return "", files.publish(ctx, m.Folder)
}

// merge copies the rows of a group's files, in their order.
func (k *keeper) merge(ctx context.Context, folder string, g merge, w io.Writer) (rows int64, err error) {
	open := func(i int) (content, error) { return k.store.Open(ctx, path.Join(folder, g.parts[i].Name)) }
	if g.ext == "parquet" {
		return format.MergeParquet(w, k.codec, len(g.parts), func(i int, whole bool) (format.Part, error) {
			if !whole {
				return open(i)
			}
			text, err := k.store.Read(ctx, path.Join(folder, g.parts[i].Name))
			return inMemory{bytes.NewReader(text)}, err
		})
	}
	finish := func() error { return nil }
	if strings.HasSuffix(g.ext, ".gz") {
		z := gzip.NewWriter(w)
		w, finish = z, z.Close
	}
	header := ""
	for i := range g.parts {
		err := readRows(open, i, g.ext, func(r io.Reader) error {
			var n int64
			var err error
			switch {
			case g.ext == "avro":
				header, n, err = format.MergeAvro(w, r, header)
			case strings.HasPrefix(g.ext, "csv"):
				header, n, err = format.MergeCSV(w, r, header)
			default:
				n, err = format.MergeLines(w, r)
			}
			rows += n
			return err
		})
		if err != nil {
			return rows, err
		}
	}
	return rows, finish()
}

// inMemory is a file that was read whole.
type inMemory struct{ *bytes.Reader }

func (inMemory) Close() error { return nil }

// readRows hands over the lines of a file, without compression.
func readRows(open func(i int) (content, error), i int, ext string, read func(io.Reader) error) error {
	f, err := open(i)
	if err != nil {
		return err
	}
	r := io.Reader(io.NewSectionReader(f, 0, f.Size()))
	if strings.HasSuffix(ext, ".gz") {
		z, err := gzip.NewReader(r)
		if err != nil {
			return errors.Join(err, f.Close())
		}
		r = z
	}
	return errors.Join(read(r), f.Close())
}

// countRows asks a file how many rows it has: the footer of Parquet, the blocks
// of Avro, the lines of the others.
func countRows(ctx context.Context, st store, name string) (rows, size int64, err error) {
	f, err := st.Open(ctx, name)
	if err != nil {
		return 0, 0, err
	}
	size = f.Size()
	switch kind := ext(name); strings.TrimSuffix(kind, ".gz") {
	case "parquet":
		rows, err = format.ParquetRows(f, size)
		return rows, size, errors.Join(err, f.Close())
	case "avro":
		err = readRows(func(int) (content, error) { return f, nil }, 0, kind, func(r io.Reader) (err error) {
			rows, err = format.CountAvro(r)
			return err
		})
	case "csv":
		err = readRows(func(int) (content, error) { return f, nil }, 0, kind, func(r io.Reader) (err error) {
			_, rows, err = format.CountCSV(r)
			return err
		})
	default:
		err = readRows(func(int) (content, error) { return f, nil }, 0, kind, func(r io.Reader) (err error) {
			rows, err = format.CountLines(r)
			return err
		})
	}
	return rows, size, err
}
