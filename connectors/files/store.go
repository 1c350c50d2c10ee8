package files

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/user"
	"path"
	"strings"

	"github.com/entrepot-hub/entrepot/connectors"
)

// store is a place for files, as far as this package uses one: a disk, a
// bucket or a file system on the network. Names are relative to the URL's
// folder, with slashes, "" for the folder itself.
//
// An error that wraps os.ErrExist or os.ErrNotExist says so; fault gives any
// of them its class.
type store interface {
	// Create begins a file that nobody sees before it is published as target.
	// When the context ends, so may writing it.
	// tmp is a name of this writer alone, for stores that need one.
	Create(ctx context.Context, tmp, target string) (pending, error)
	Exists(ctx context.Context, name string) (bool, error)
	// Read gives a whole small file.
	Read(ctx context.Context, name string) ([]byte, error)
	// List gives the names in a folder; none when there is no folder.
	List(ctx context.Context, folder string) ([]string, error)
	// Prepare makes folders for files to be published in.
	Prepare(ctx context.Context, folders []string) error
	// Settle makes what was published in the folders durable.
	Settle(ctx context.Context, folders []string) error
	// PutNew publishes a small file at once, or fails with os.ErrExist. Either way
	// the name is durable then, and nothing is left at tmp.
	PutNew(ctx context.Context, tmp, name string, text []byte) error
	// Put writes a small file at once, in place of one that may be there: readers
	// see the one or the other.
	Put(ctx context.Context, tmp, name string, text []byte) error
	// Open reads a published file at any place; the context ends that too.
	Open(ctx context.Context, name string) (content, error)
	// Remove takes a published file away; it may be gone already.
	Remove(ctx context.Context, name string) error
	// Sweep removes unpublished files that mine says are the caller's. Their
	// writers, should they still be there, cannot publish them any more.
	Sweep(ctx context.Context, tmpFolder string, mine func(tmpOrTarget string) bool) error
	// fault wraps an error with what was done, and gives it its class.
	fault(what, name string, err error) error
	// Close releases connections; tmpFolder may go when it is empty.
	Close(tmpFolder string) error
}

// pending is a file without a name.
type pending interface {
	io.Writer
	// Complete makes the content durable.
	Complete(ctx context.Context) error
	// Publish gives the file its name; os.ErrExist when that is taken.
	Publish(ctx context.Context) error
	// Discard forgets the file, or what is left of it after Publish. It may be
	// called at any time and more than once.
	Discard(ctx context.Context) error
}

// location is a parsed URL.
type location struct {
	scheme string
	hosts  []string // of hdfs, webhdfs, swebhdfs
	bucket string   // of s3
	dir    string   // file: an absolute path; s3: a prefix without slashes at the ends; hdfs: an absolute path
}

// String is the URL again.
func (l location) String() string {
	switch l.scheme {
	case "file":
		return "file://" + l.dir
	case "s3":
		return strings.TrimSuffix("s3://"+l.bucket+"/"+l.dir, "/")
	}
	return l.scheme + "://" + strings.Join(l.hosts, ",") + l.dir
}

// schemes are the kinds of store, with the form of their URLs.
const schemeForms = "file:///absolute/path, s3://bucket/prefix, hdfs://namenode:8020/path, webhdfs://namenode:9870/path or swebhdfs://namenode:9871/path"

func parseLocation(raw string) (location, error) {
	scheme, rest, ok := strings.Cut(raw, "://")
	if !ok {
		return location{}, fmt.Errorf("%q is not a URL, want %s", raw, schemeForms)
	}
	l := location{scheme: scheme}
	switch scheme {
	case "file":
		dir, err := pathOf(raw)
		l.dir = dir
		return l, err
	case "s3":
		bucket, prefix, _ := strings.Cut(rest, "/")
		l.bucket, l.dir = bucket, strings.Trim(prefix, "/")
		if bucket == "" || strings.ContainsAny(bucket, "@:?#") {
			return l, fmt.Errorf("%q has no bucket, want s3://bucket/prefix; endpoint and keys go below s3", raw)
		}
		return l, plainPath(raw, l.dir)
	case "hdfs", "webhdfs", "swebhdfs":
		hosts, dir, _ := strings.Cut(rest, "/")
		if hosts == "" || strings.ContainsAny(hosts, "@?#") {
			return l, fmt.Errorf("%q has no namenode, want %s://host:port/path, or host:port,host:port of a pair", raw, scheme)
		}
		l.hosts, l.dir = strings.Split(hosts, ","), path.Clean("/"+dir)
		for _, h := range l.hosts {
			if host, port, ok := strings.Cut(h, ":"); !ok || host == "" || port == "" {
				return l, fmt.Errorf("%q: the namenode %q has no port, want host:port", raw, h)
			}
		}
		if l.dir == "/" {
			return l, fmt.Errorf("%q is the root of the file system, want a folder below it", raw)
		}
		return l, plainPath(raw, l.dir[1:])
	}
	return l, fmt.Errorf("%s:// is not supported, want %s", scheme, schemeForms)
}

// plainPath refuses what would be read otherwise by somebody on the way.
func plainPath(raw, dir string) error {
	for part := range strings.SplitSeq(dir, "/") {
		if dir != "" && (part == "" || part == "." || part == "..") || strings.ContainsAny(part, "?#%\x00\\") {
			return fmt.Errorf("%q: the folder %q cannot be: no empty ones, no . or .., and none of ? # %% \\", raw, part)
		}
	}
	return nil
}

// openStore connects. Secrets are revealed here.
func openStore(ctx context.Context, l location, cfg connectors.Config) (store, error) {
	switch l.scheme {
	case "file":
		return &localStore{root: l.dir, disk: osDisk{}}, nil
	case "s3":
		return openS3(ctx, l, cfg.Object("s3"))
	}
	name := cfg.Object("hdfs").String("user")
	if name == "" {
		name = processUser()
	}
	if l.scheme == "hdfs" {
		return openHDFS(ctx, l, name)
	}
	token, err := cfg.Object("hdfs").Secret("delegation").Reveal()
	if err != nil {
		return nil, connectors.Fatalf("hdfs.delegation: %w", err)
	}
	return openWeb(l, name, token), nil
}

// processUser is whom HDFS takes a client for that does not say: the user of
// the process, as Hadoop's own clients do.
func processUser() string {
	if name := os.Getenv("HADOOP_USER_NAME"); name != "" {
		return name
	}
	if u, err := user.Current(); err == nil {
		return u.Username
	}
	return "entrepot"
}
