package files

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/entrepot-hub/entrepot/connectors"
	"github.com/entrepot-hub/entrepot/connectors/format"
)

// Source is the files source: it reads what the sink, or any other program,
// has put into folders.
type Source struct{}

// Spec implements connectors.Source.
func (Source) Spec() connectors.Spec {
	return connectors.Spec{
		Type:      "files",
		Summary:   "Reads Parquet, Avro, NDJSON and CSV files below a folder, on a disk, in S3 or in HDFS, each once, and looks for new ones.",
		Guarantee: "exactly-once into the hub (position within the file, in the same transaction as the records; a file that changes is refused)",
		Since:     "0.1",
		Fields:    sourceFields(),
	}
}

func sourceFields() []connectors.Field {
	sink := connectors.Spec{Fields: fields()}
	of := func(name string) connectors.Field { f, _ := sink.Field(name); return f }
	url := of("url")
	url.Description = "the folder to read: " + schemeForms + ". Files and folders whose names begin with _ or . are passed over"
	return []connectors.Field{
		url, of("s3"), of("hdfs"),
		{
			Name: "glob", Kind: connectors.KindString, Default: "**", Check: checkGlob, Example: "dt=2015-*/**/*.parquet",
			Description: "which files below the folder: * and ? within a name, ** for any number of folders",
		},
		{
			Name: "format", Kind: connectors.KindString, Default: "auto", Options: []string{"auto", "parquet", "avro", "ndjson", "csv"}, Example: "csv",
			Description: "auto tells it by the end of the name: .parquet, .avro, .ndjson, .jsonl, .csv; of ndjson and csv also with .gz behind it, which is unpacked with any format that is given",
		},
		{Name: "columns", Kind: connectors.KindObjects, Example: "[{name: id, type: int64}]", Description: "csv: types of columns that are no strings; without it they are taken from _schema, where the sink has pinned them", Fields: []connectors.Field{
			{Name: "name", Kind: connectors.KindString, Required: true, Example: "city", Description: "name in the header"},
			{Name: "type", Kind: connectors.KindString, Required: true, Check: checkType, Example: "decimal(12,2)", Description: format.TypeForms},
		}},
		{Name: "delimiter", Kind: connectors.KindString, Default: ",", Check: checkDelimiter, Example: ";", Description: "csv: the character between columns"},
		{
			Name: "nulls", Kind: connectors.KindString, Default: "keep", Options: []string{"keep", "omit"}, Example: "omit",
			Description: "parquet, avro, csv: write columns without a value as null, or leave them out of the record",
		},
		{
			Name: "metadata_columns", Kind: connectors.KindStrings, Check: checkMetadata, Example: "[key, timestamp]",
			Description: "columns _topic, _partition, _offset, _timestamp, _key that the sink has added: they are taken out of the value, and _key and _timestamp become the record's own",
		},
		{
			Name: "follow", Kind: connectors.KindBool, Default: true, Example: "false",
			Description: "look for new files for ever; false ends when all that were there are read",
		},
		{Name: "discover_interval", Kind: connectors.KindDuration, Default: 10 * time.Second, Min: int64(time.Millisecond), Max: int64(24 * time.Hour), Example: "1m", Description: "how often to look for new files"},
		{
			Name: "min_age", Kind: connectors.KindDuration, Default: time.Duration(0), Max: int64(24 * time.Hour), Example: "30s",
			Description: "leave files alone until nothing was written to them for so long; for programs that write them in place. A file that changes after it was listed stops the job",
		},
		{
			Name: "require_success", Kind: connectors.KindBool, Default: false, Example: "true",
			Description: "read only files in folders that hold a file _SUCCESS, to which nothing is added any more",
		},
		{
			Name: "merged", Kind: connectors.KindString, Default: "refuse", Options: []string{"refuse", "read"}, Example: "read",
			Description: "files that the sink's compact has made of others. A job that runs on has listed the others, and leaves these out; it stops when it has listed some of them alone, as the rest came and went between two looks. Of one that it finds at its start it cannot know whether it has read the parts: refuse stops it, read takes the rows for new ones",
		},
		{
			Name: "bad_files", Kind: connectors.KindString, Default: "stop", Options: []string{"stop", "dead_letter"}, Example: "dead_letter",
			Description: "a file that is damaged, cut off or of another format: stop the job, or send a dead letter that names it and the place, and go on with others. The rows before that place are in the topic",
		},
		{Name: "max_record", Kind: connectors.KindSize, Default: int64(1 << 20), Min: 1, Max: 64 << 20, Example: "4MiB", Description: "ndjson, csv: a longer row is a dead letter"},
		{Name: "parallel", Kind: connectors.KindInt, Default: int64(4), Min: 1, Max: 64, Example: "1", Description: "how many files are read at the same time; each takes the memory of a page of each of its columns, or of a block"},
	}
}

func checkDelimiter(v any) error {
	if s := v.(string); len(s) != 1 || strings.Contains("\"\r\n", s) || s[0] >= 0x80 {
		return fmt.Errorf("%q is not one character other than a quote or the end of a line", s)
	}
	return nil
}

// sourceSettings are the fields of the config, parsed.
type sourceSettings struct {
	location
	cfg      connectors.Config
	glob     glob
	format   string
	types    map[string]format.Type
	meta     map[string]format.Meta // by column
	omit     bool
	follow   bool
	every    time.Duration
	minAge   time.Duration
	success  bool
	tolerant bool
	most     int
	merged   bool // read what was merged
}

func sourceSettingsOf(cfg connectors.Config) (s sourceSettings, err error) {
	s = sourceSettings{
		cfg: cfg, format: cfg.String("format"), omit: cfg.String("nulls") == "omit", follow: cfg.Bool("follow"),
		every: cfg.Duration("discover_interval"), minAge: cfg.Duration("min_age"), success: cfg.Bool("require_success"),
		tolerant: cfg.String("bad_files") == "dead_letter", merged: cfg.String("merged") == "read", most: int(cfg.Size("max_record")),
		meta: map[string]format.Meta{},
	}
	if s.location, err = parseLocation(cfg.String("url")); err != nil {
		return s, fieldError{"url", err}
	}
	both := settings{location: s.location}
	if err := both.store(cfg); err != nil {
		return s, err
	}
	if s.glob, err = parseGlob(cfg.String("glob")); err != nil {
		return s, fieldError{"glob", err}
	}
	for _, c := range cfg.Objects("columns") {
		if s.types == nil {
			s.types = map[string]format.Type{}
		}
		if s.types[c.String("name")], err = format.ParseType(c.String("type")); err != nil {
			return s, fieldError{"columns", err}
		}
	}
	if s.types != nil && s.format != "auto" && s.format != "csv" {
		return s, fieldError{"columns", fmt.Errorf("files of format %s have their types themselves: leave this out", s.format)}
	}
	for _, name := range cfg.Strings("metadata_columns") {
		c := metaColumns[name]
		s.meta[c.Name] = c.Meta
	}
	return s, nil
}

// Validate implements connectors.Source.
func (Source) Validate(ctx context.Context, cfg connectors.Config, probe connectors.Probe) []connectors.Finding {
	s, err := sourceSettingsOf(cfg)
	if err != nil {
		if f, ok := errors.AsType[fieldError](err); ok {
			return []connectors.Finding{{Field: f.field, Message: err.Error()}}
		}
		return []connectors.Finding{{Message: err.Error()}}
	}
	if probe != connectors.ProbeLive {
		return nil
	}
	l, err := openLibrary(ctx, s)
	if err != nil {
		return []connectors.Finding{{Field: "url", Message: err.Error()}}
	}
	defer func() { _ = l.Close(tmpFolder) }()
	found, err := s.list(ctx, l, time.Now(), mergers{})
	if err != nil {
		return []connectors.Finding{{Field: "url", Message: err.Error(), Warning: s.follow && errors.Is(err, os.ErrNotExist)}}
	}
	if len(found) == 0 {
		return []connectors.Finding{{Field: "glob", Message: fmt.Sprintf("no file below %s matches %s at present", s.location, s.glob), Warning: true}}
	}
	return nil
}

// Parallel implements connectors.Finite.
func (Source) Parallel(cfg connectors.Config) int { return int(cfg.Int("parallel")) }

// openLibrary connects. Secrets are revealed here.
func openLibrary(ctx context.Context, s sourceSettings) (library, error) {
	st, err := openStore(ctx, s.location, s.cfg)
	if err != nil {
		return nil, err
	}
	switch st := st.(type) {
	case *localStore:
		return diskLibrary{st}, nil
	case *s3Store:
		return bucketLibrary{st}, nil
	case *hdfsStore:
		return hdfsLibrary{st}, nil
	case *webStore:
		return webLibrary{st}, nil
	}
	return nil, connectors.Fatalf("%s cannot be read", s.location)
}

// kinds tells formats by the ends of names.
var kinds = map[string]string{".parquet": "parquet", ".avro": "avro", ".ndjson": "ndjson", ".jsonl": "ndjson", ".csv": "csv"}

// kindOf is a file's format, and whether it is packed as a whole.
func (s sourceSettings) kindOf(name string) (kind string, gzip bool, err error) {
	kind = s.format
	bare, gzip := strings.CutSuffix(name, ".gz")
	if kind == "auto" {
		kind = kinds[strings.ToLower(path.Ext(bare))]
	}
	gzip = gzip && (kind == "ndjson" || kind == "csv")
	if kind == "" {
		return "", false, connectors.Fatalf("the end of %s tells no format: leave it out with glob, or write format", s.whole(name))
	}
	return kind, gzip, nil
}

// whole is a file's URL.
func (s sourceSettings) whole(name string) string {
	return strings.TrimSuffix(s.location.String(), "/") + "/" + name
}

// mergers are the merged files of each folder's newest manifest, by folder. A
// version does not change, so it is read once and not with every listing.
type mergers map[string]merger

type merger struct {
	version int
	files   []listed
}

// mark says of a folder's files what its manifest tells: which were made of
// others, and which are in them.
func (s mergers) mark(ctx context.Context, l library, folder string, into []shelved, names []string) error {
	version := newestVersion(names)
	if version == 0 || len(into) == 0 {
		return nil
	}
	if s[folder].version != version {
		name := path.Join(folder, versionName(version))
		text, err := l.Read(ctx, name)
		if err != nil {
			return l.fault("read", name, err)
		}
		m, err := decodeManifest(name, text)
		if err != nil {
			return err
		}
		newest := merger{version: version}
		for _, f := range m.Files {
			if f.Merged > 0 {
				newest.files = append(newest.files, f)
			}
		}
		s[folder] = newest
	}
	for _, f := range s[folder].files {
		for i := range into {
			base := path.Base(into[i].name)
			if base == f.Name {
				into[i].merged = f.Merged
			} else if o, ok := parseName(base); ok && o.within(f.offsets()) {
				into[i].part = true
			}
		}
	}
	return nil
}

// list is the files that are there to be read, by name. known has the manifests
// of former listings.
func (s sourceSettings) list(ctx context.Context, l library, now time.Time, known mergers) ([]shelved, error) {
	var all []shelved
	err := walk(ctx, l, "", 0, func(folder string, files []shelved, names []string) error {
		if s.success && !slices.Contains(names, successName) {
			return nil
		}
		files = slices.DeleteFunc(files, func(e shelved) bool {
			return !s.glob.match(e.name) || s.minAge > 0 && now.Sub(e.mtime) < s.minAge
		})
		all = append(all, files...)
		return known.mark(ctx, l, folder, all[len(all)-len(files):], names)
	})
	if err != nil {
		return nil, err
	}
	for _, e := range all {
		if _, _, err := s.kindOf(e.name); err != nil {
			return nil, err
		}
	}
	slices.SortFunc(all, func(a, b shelved) int { return strings.Compare(a.name, b.name) })
	return all, nil
}
