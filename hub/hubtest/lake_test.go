package hubtest

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/entrepot-hub/entrepot/connectors/conntest"
	"github.com/entrepot-hub/entrepot/connectors/format"
)

// TestKilledLakeIsExact kills the hub again and again while it loads a topic
// into hourly Parquet files on a disk, in S3 (moto) and in HDFS (Hadoop): rows
// = distinct keys = source, and nothing unfinished is left.
func TestKilledLakeIsExact(t *testing.T) {
	for name, make := range map[string]func(*testing.T) lake{"file": fileLake, "s3": s3Lake, "hdfs": hdfsLake} {
		t.Run(name, func(t *testing.T) { killedLake(t, make(t)) })
	}
}

// lake is a store, looked into by other means than the sink's.
type lake struct {
	sink     string                            // fields of the sink that say where it is
	files    func() (map[string]string, error) // names below the root, each with what read wants
	read     func(string) ([]byte, error)
	leftover func() (int, error) // what is unfinished
	rows     int                 // of the short form: enough to be killed at
	limit    time.Duration       // until rows come again after a kill
}

func killedLake(t *testing.T, l lake) {
	total := fullRows(l.rows)
	input := inputFile(t, total, func(i int) string {
		at := time.UnixMilli(1431856800000 + int64(i)*3600_000*hours/int64(total)).UTC()
		return fmt.Sprintf(`{"id":%d,"at":%q}`, i, at.Format(time.RFC3339))
	})
	n := jobsNode(t, fmt.Sprintf(`
topics:
  - {name: rows, partitions: 6}
connectors:
  - name: rows-in
    source: {type: file, path: %q, follow: false}
    transforms: [{parse: {format: json, time: {field: at}}}]
    topic: rows
    key: string(value.id)
  - name: rows-out
    topic: rows
    sink: {type: files, %s, partition_by: "dt={date(ts)}/hr={hour(ts)}", columns: [{name: id, type: int64}, {name: at, type: timestamp}], roll: {rows: 2000, every: 1s},
      manifest: {lateness: 1s, idle: 2s, reissue: 1s}, compact: {target: 64MiB, after: 2s}}
`, input, l.sink), "LAKE_KEY=hunter2")
	strikes := kills(t, 3)
	rows := load{n: n, what: "rows are loaded", total: total, count: counter(n, "rows-out", "written"), limit: l.limit, late: 60 * time.Millisecond}
	rows.kill(t, strikes)
	rows.done(t, 3*time.Minute, caughtUp(n, "rows-out"))
	if got, err := rows.count(); got != total || err != nil {
		t.Errorf("the sink counts %d rows, %v, want %d", got, err, total)
	}
	l.closed(t, total)
	n.Kill()
	l.check(t, total, strikes)
}

// hours is how many folders the rows lie in.
const hours = 4

// folderManifest is what the test wants of a _MANIFEST.json.
type folderManifest struct {
	Version    int
	Folder     string
	Totals     struct{ Records, Rows, Files int }
	Partitions []struct{ Partition, Records, Rows int }
	Files      []struct {
		Name, SHA256 string
		Rows, Bytes  int
	}
}

// closed waits until every hour has a manifest with the counts of the source,
// its small files are merged, and what a manifest lists is what is there.
func (l lake) closed(t *testing.T, total int) {
	t.Helper()
	Until(t, 2*time.Minute, "every hour is closed and merged", func() error {
		if why := l.open(total); why != "" {
			return errors.New(why)
		}
		if left, err := l.leftover(); err != nil || left > 0 { // a merged file loses its other name last
			return fmt.Errorf("%d unfinished, %v", left, err)
		}
		return nil
	})
}

// open says why not every hour is closed, or "".
func (l lake) open(total int) string {
	files, err := l.files()
	if err != nil {
		return err.Error()
	}
	closed, versions, listed := 0, 0, 0
	for name, at := range files {
		if path.Base(name) != "_MANIFEST.json" {
			continue
		}
		text, err := l.read(at)
		if err != nil {
			return err.Error()
		}
		var m folderManifest
		if err := json.Unmarshal(text, &m); err != nil {
			return err.Error()
		}
		if m.Totals.Records != total/hours || m.Totals.Rows != total/hours || len(m.Partitions) != 6 || len(m.Files) != 6 {
			return fmt.Sprintf("%s, version %d: %d records, %d rows of %d partitions in %d files, want %d in 6", m.Folder, m.Version, m.Totals.Records, m.Totals.Rows, len(m.Partitions), len(m.Files), total/hours)
		}
		for _, f := range m.Files {
			at, there := files[path.Join(path.Dir(name), f.Name)]
			if !there {
				return f.Name + " is in the manifest and not in the folder"
			}
			text, err := l.read(at)
			if err != nil {
				return err.Error()
			}
			rows, err := format.ParquetRows(bytes.NewReader(text), int64(len(text)))
			if err != nil || int(rows) != f.Rows || len(text) != f.Bytes || fmt.Sprintf("%x", sha256.Sum256(text)) != f.SHA256 {
				return fmt.Sprintf("%s has %d rows in %d bytes, or another sum: %v", f.Name, rows, len(text), err)
			}
		}
		if _, there := files[path.Join(path.Dir(name), "_SUCCESS")]; !there {
			return m.Folder + " has no _SUCCESS"
		}
		closed, versions, listed = closed+1, versions+m.Version, listed+len(m.Files)
	}
	data := 0
	for name := range files {
		if strings.HasSuffix(name, ".parquet") {
			data++
		}
	}
	if closed != hours || data != listed {
		return fmt.Sprintf("%d of %d hours are closed; %d files, %d in manifests", closed, hours, data, listed)
	}
	return ""
}

func (l lake) check(t *testing.T, total, strikes int) {
	t.Helper()
	ids, files, err := l.ids("")
	if err != nil {
		t.Fatal(err)
	}
	rows := len(ids)
	ids = slices.Compact(ids)
	left, err := l.leftover()
	if err != nil {
		t.Fatal(err)
	}
	if rows != total || len(ids) != total || ids[0] != 0 || ids[total-1] != int64(total-1) || left != 0 {
		t.Errorf("%d rows, %d distinct keys, want %d of both; %d unfinished, want 0", rows, len(ids), total, left)
	}
	conntest.Figures(t, "%d kills, source %d = rows %d = distinct keys %d, in %d files; %d unfinished", strikes, total, rows, len(ids), files, left)
}

// ids are those of all rows in the files with part in their names, sorted.
func (l lake) ids(part string) (ids []int64, files int, err error) {
	all, err := l.files()
	if err != nil {
		return nil, 0, err
	}
	for name, at := range all {
		if !strings.Contains(name, part) || !strings.HasSuffix(name, ".parquet") {
			continue
		}
		text, err := l.read(at)
		if err != nil {
			return nil, 0, fmt.Errorf("%s: %w", name, err)
		}
		some, err := format.ParquetInts(bytes.NewReader(text), int64(len(text)), "id")
		if err != nil {
			return nil, 0, fmt.Errorf("%s: %w", name, err)
		}
		ids = append(ids, some...)
		files++
	}
	slices.Sort(ids)
	return ids, files, nil
}

func fileLake(t *testing.T) lake {
	root := filepath.Join(t.TempDir(), "lake")
	return lake{
		rows:  200_000,
		limit: time.Minute,
		sink:  fmt.Sprintf("url: %q", "file://"+root),
		files: func() (map[string]string, error) {
			all := map[string]string{}
			err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
				if err == nil && !d.IsDir() && !strings.Contains(path, "/_tmp/") {
					all[path] = path
				}
				return err
			})
			return all, err
		},
		read: os.ReadFile,
		leftover: func() (int, error) {
			all, err := filepath.Glob(root + "/_tmp/*/*.parquet")
			return len(all), err
		},
	}
}

// get reads a URL that is answered with 200.
func get(url string) ([]byte, error) { return getAs(url, "") }

func getAs(url, login string) ([]byte, error) {
	req, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	if login != "" {
		req.Header.Set("Authorization", login)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = res.Body.Close() }()
	text, err := io.ReadAll(res.Body)
	if err == nil && res.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %.200s", res.Status, text)
	}
	return text, err
}

func s3Lake(t *testing.T) lake {
	base := conntest.Moto(t) + "/" + fmt.Sprintf("lake%d", time.Now().UnixNano())
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, base, nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	if err := res.Body.Close(); err != nil || res.StatusCode != http.StatusOK {
		t.Fatal(res.Status, err)
	}
	at, _ := url.Parse(base)
	// moto wants to see a signature and does not check it.
	read := func(url string) ([]byte, error) {
		return getAs(url, "AWS4-HMAC-SHA256 Credential=key/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0")
	}
	return lake{
		rows:  60_000,
		limit: time.Minute,
		sink:  fmt.Sprintf(`url: "s3:/%s/deep", s3: {endpoint: "http://%s", path_style: true, access_key: key, secret_key: "${env:LAKE_KEY}"}`, at.Path, at.Host),
		files: func() (map[string]string, error) {
			all, next := map[string]string{}, ""
			for {
				var page struct {
					Contents              []struct{ Key string }
					NextContinuationToken string
				}
				text, err := read(base + "?list-type=2&prefix=deep/" + next)
				if err == nil {
					err = xml.Unmarshal(text, &page)
				}
				for _, o := range page.Contents {
					all[o.Key] = base + (&url.URL{Path: "/" + o.Key}).EscapedPath()
				}
				if page.NextContinuationToken == "" || err != nil {
					return all, err
				}
				next = "&continuation-token=" + url.QueryEscape(page.NextContinuationToken)
			}
		},
		read: read,
		leftover: func() (int, error) {
			var page struct {
				Upload []struct{ Key string }
			}
			text, err := read(base + "?uploads")
			if err == nil {
				err = xml.Unmarshal(text, &page)
			}
			return len(page.Upload), err
		},
	}
}

func hdfsLake(t *testing.T) lake {
	rpc, web := conntest.HDFS(t)
	root := fmt.Sprintf("/lake%d", time.Now().UnixNano())
	address := func(path, op string) string {
		return "http://" + web + "/webhdfs/v1" + (&url.URL{Path: path}).EscapedPath() + "?user.name=x&op=" + op
	}
	var list func(dir string) (map[string]string, error)
	list = func(dir string) (map[string]string, error) {
		text, err := get(address(dir, "LISTSTATUS"))
		if err != nil {
			return nil, err
		}
		var answer struct {
			FileStatuses struct {
				FileStatus []struct{ PathSuffix, Type string }
			}
		}
		if err := json.Unmarshal(text, &answer); err != nil {
			return nil, err
		}
		all := map[string]string{}
		for _, f := range answer.FileStatuses.FileStatus {
			path := dir + "/" + f.PathSuffix
			if f.Type == "FILE" {
				all[path] = address(path, "OPEN")
				continue
			}
			inner, err := list(path)
			if err != nil {
				return nil, err
			}
			for name, at := range inner {
				all[name] = at
			}
		}
		return all, nil
	}
	some := func(unfinished bool) (map[string]string, error) {
		all, err := list(root)
		for name := range all {
			if strings.Contains(name, "/_tmp/") != unfinished || unfinished && !strings.HasSuffix(name, ".parquet") {
				delete(all, name)
			}
		}
		return all, err
	}
	return lake{
		rows:  60_000,
		limit: 3 * time.Minute, // who dies over a claim of a name holds it for one
		sink:  fmt.Sprintf(`url: "hdfs://%s%s"`, rpc, root),
		files: func() (map[string]string, error) { return some(false) },
		read:  get,
		leftover: func() (int, error) {
			all, err := some(true)
			return len(all), err
		},
	}
}
