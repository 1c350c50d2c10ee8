package files

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/entrepot-hub/entrepot/connectors"
	"github.com/entrepot-hub/entrepot/connectors/format"
)

// settings are the fields of the config, parsed.
type settings struct {
	location  location
	format    string
	partition *template
	inferred  bool
	schema    format.Schema // declared columns; with inferred only the metadata columns
	lenient   bool
	skipNull  bool
	codec     string
	types     map[string]format.Type // of single fields, with inferred
	lossy     format.Lossy
	closing   *closing // nil without manifests
}

var metaColumns = map[string]format.Column{
	"topic":     {Name: "_topic", Meta: format.MetaTopic, Type: format.Type{Kind: format.TypeString}},
	"partition": {Name: "_partition", Meta: format.MetaPartition, Type: format.Type{Kind: format.TypeInt64}},
	"offset":    {Name: "_offset", Meta: format.MetaOffset, Type: format.Type{Kind: format.TypeInt64}},
	"timestamp": {Name: "_timestamp", Meta: format.MetaTimestamp, Type: format.Type{Kind: format.TypeTimestamp}},
	"key":       {Name: "_key", Meta: format.MetaKey, Type: format.Type{Kind: format.TypeString}},
}

var metaNames = []string{"topic", "partition", "offset", "timestamp", "key"}

// settingsOf parses a config; its errors name the field they are about.
func settingsOf(cfg connectors.Config) (settings, error) {
	s := settings{
		format: cfg.String("format"), codec: cfg.String("compression"),
		lenient: cfg.String("extra") == "ignore", skipNull: cfg.String("tombstones") == "skip",
	}
	var err error
	if s.codec, err = codecOf(s.format, s.codec); err != nil {
		return s, fieldError{"compression", err}
	}
	if s.location, err = parseLocation(cfg.String("url")); err != nil {
		return s, fieldError{"url", err}
	}
	if err := s.store(cfg); err != nil {
		return s, err
	}
	if s.partition, err = parseTemplate(cfg.String("partition_by")); err != nil {
		return s, fieldError{"partition_by", err}
	}
	if s.closing, err = closingOf(cfg, s.partition); err != nil {
		return s, err
	}
	return s, s.columns(cfg)
}

// store checks what belongs to one kind of store.
func (s *settings) store(cfg connectors.Config) error {
	for field, schemes := range map[string][]string{"s3": {"s3"}, "hdfs": {"hdfs", "webhdfs", "swebhdfs"}} {
		if cfg.Has(field) && !slices.Contains(schemes, s.location.scheme) {
			return fieldError{field, fmt.Errorf("url is a %s:// URL: leave this out, or choose a url of %s", s.location.scheme, strings.Join(schemes, ", "))}
		}
	}
	if s.location.scheme == "s3" {
		if err := checkS3(cfg.Object("s3")); err != nil {
			return fieldError{"s3", err}
		}
	}
	if s.location.scheme == "hdfs" && cfg.Object("hdfs").Has("delegation") {
		return fieldError{"hdfs.delegation", errors.New("hdfs:// knows no delegation tokens: use a webhdfs:// URL")}
	}
	return nil
}

// codecOf fills in the default of a format.
func codecOf(kind, codec string) (string, error) {
	if codec == "" {
		return codecs[kind][0], nil
	}
	if !slices.Contains(codecs[kind], codec) {
		return "", fmt.Errorf("%s files cannot be compressed with %s, want one of %s", kind, codec, strings.Join(codecs[kind], ", "))
	}
	return codec, nil
}

// codecs are what a format can be compressed with; the first is its default.
var codecs = map[string][]string{
	"parquet": format.ParquetCodecs, "avro": format.AvroCodecs, "ndjson": {"none", "gzip"}, "csv": {"none", "gzip"},
}

// columns decides where the schema comes from.
func (s *settings) columns(cfg connectors.Config) error {
	if s.format == "ndjson" {
		for _, f := range []string{"columns", "schema", "metadata_columns", "extra", "types", "allow_lossy"} {
			if cfg.Has(f) {
				return fieldError{f, errors.New("format ndjson writes records as they are: leave this out, or choose parquet, avro or csv")}
			}
		}
		return nil
	}
	for _, c := range cfg.Objects("columns") {
		typ, err := format.ParseType(c.String("type"))
		if err != nil {
			return fieldError{"columns", err}
		}
		col := format.Column{Name: c.String("name"), Type: typ}
		if c.Has("from") {
			col.From = strings.Split(c.String("from"), ".")
		}
		s.schema = append(s.schema, col)
	}
	switch known, ok := format.KnownSchema(cfg.String("schema")); {
	case len(s.schema) > 0 && cfg.Has("schema"):
		return fieldError{"schema", errors.New("there are columns already: leave one of the two out")}
	case ok:
		s.schema = known
	case len(s.schema) == 0:
		s.inferred = true
	}
	for _, name := range cfg.Strings("metadata_columns") {
		s.schema = append(s.schema, metaColumns[name])
	}
	if err := s.typesOf(cfg); err != nil {
		return err
	}
	if s.inferred && len(s.schema) == 0 {
		return nil
	}
	if err := s.schema.Check(); err != nil {
		return fieldError{"columns", err}
	}
	return nil
}

// typesOf reads what is said of single fields, and what may be lost.
func (s *settings) typesOf(cfg connectors.Config) (err error) {
	if s.lossy, err = format.ParseLossy(cfg.Strings("allow_lossy")); err != nil {
		return fieldError{"allow_lossy", err}
	}
	if cfg.Has("types") && !s.inferred {
		return fieldError{"types", errors.New("the columns have their types already: leave this out, or leave out columns and schema")}
	}
	s.types = map[string]format.Type{}
	for name, text := range cfg.StringMap("types") {
		if s.types[name], err = format.ParseType(text); err != nil {
			return fieldError{"types", fmt.Errorf("%q: %w", name, err)}
		}
	}
	if s.format != "avro" {
		return nil
	}
	for _, c := range s.schema {
		if err := format.CheckAvroName(c.Name); err != nil {
			return fieldError{"columns", err}
		}
	}
	return nil
}

// fieldError is an error about one field.
type fieldError struct {
	field string
	err   error
}

func (e fieldError) Error() string { return e.field + ": " + e.err.Error() }
func (e fieldError) Unwrap() error { return e.err }

// pathOf is the folder of a file:// URL.
func pathOf(raw string) (string, error) {
	_, rest, _ := strings.Cut(raw, "://")
	if !strings.HasPrefix(rest, "/") {
		return "", fmt.Errorf("%q names the host %q, want three slashes: file:///%s", raw, strings.SplitN(rest, "/", 2)[0], rest)
	}
	path, err := url.PathUnescape(rest)
	if err != nil || strings.ContainsRune(path, 0) {
		return "", fmt.Errorf("%q is not a URL: a percent sign is not followed by two digits of 0-9 a-f (write %%25 for a percent sign)", raw)
	}
	if path = filepath.Clean(path); path == "/" {
		return "", fmt.Errorf("%q is the root of the file system, want a folder below it", raw)
	}
	return path, nil
}

func checkURL(v any) error {
	_, err := parseLocation(v.(string))
	return err
}

func checkTemplate(v any) error {
	_, err := parseTemplate(v.(string))
	return err
}

func checkType(v any) error {
	_, err := format.ParseType(v.(string))
	return err
}

func checkTypes(v any) error {
	for name, text := range v.(map[string]string) {
		if _, err := format.ParseType(text); err != nil {
			return fmt.Errorf("%q: %w", name, err)
		}
	}
	return nil
}

func checkLossy(v any) error {
	_, err := format.ParseLossy(v.([]string))
	return err
}

func checkMetadata(v any) error {
	for i, name := range v.([]string) {
		if !slices.Contains(metaNames, name) {
			return fmt.Errorf("%q is not one of %s", name, strings.Join(metaNames, ", "))
		}
		if slices.Contains(v.([]string)[:i], name) {
			return fmt.Errorf("%q is there twice", name)
		}
	}
	return nil
}

// Validate implements connectors.Sink.
func (Sink) Validate(_ context.Context, cfg connectors.Config, probe connectors.Probe) []connectors.Finding {
	s, err := settingsOf(cfg)
	if err != nil {
		if f, ok := errors.AsType[fieldError](err); ok {
			return []connectors.Finding{{Field: f.field, Message: err.Error()}}
		}
		return []connectors.Finding{{Message: err.Error()}}
	}
	if probe != connectors.ProbeLive {
		return nil
	}
	if s.location.scheme != "file" {
		return nil
	}
	if info, err := os.Stat(s.location.dir); err == nil && !info.IsDir() {
		return []connectors.Finding{{Field: "url", Message: fmt.Sprintf("%s is a file, want a folder", s.location.dir)}}
	} else if err != nil && !errors.Is(err, os.ErrNotExist) {
		return []connectors.Finding{{Field: "url", Message: err.Error()}}
	}
	return nil
}

// Batching implements connectors.Sink.
func (Sink) Batching(cfg connectors.Config) connectors.Limits {
	roll := cfg.Object("roll")
	return connectors.Limits{Records: int(roll.Int("rows")), Bytes: int(roll.Size("bytes")), Wait: roll.Duration("every")}
}
