package format

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/entrepot-hub/entrepot/connectors"
)

// valueTypes are the types that texts of CSV and regexp can be given.
var valueTypes = []string{"string", "int", "float", "bool", "json"}

// ParserFields are the keys of a `parse:` transform.
func ParserFields() []connectors.Field {
	return []connectors.Field{
		{
			Name: "format", Kind: connectors.KindString, Required: true, Options: []string{"combined", "common", "json", "csv", "regexp"},
			Description: "how the value is written: an access log line (combined, common), a JSON value, one CSV record, or a line that a regular expression takes apart", Example: "combined",
		},
		{Name: "pattern", Kind: connectors.KindString, Description: "regexp: the expression, which has to match the whole value; each named group becomes a field, null when the group took no part", Example: `(?P<level>\w+) (?P<text>.*)`},
		{Name: "columns", Kind: connectors.KindStrings, Description: "csv: the names of the columns, in order", Example: "[id, name]"},
		{Name: "delimiter", Kind: connectors.KindString, Default: ",", Description: "csv: the character between columns", Example: ";", Check: checkDelimiter},
		{Name: "types", Kind: connectors.KindStringMap, Description: "csv, regexp: type of a field (" + strings.Join(valueTypes, ", ") + "; string when not given); an empty text of another type than string becomes null", Example: "{id: int}", Check: checkTypes},
		{Name: "time", Kind: connectors.KindObject, Description: "json, csv, regexp: the field that holds the record's time; without it the record keeps the time it has", Fields: []connectors.Field{
			{Name: "field", Kind: connectors.KindString, Required: true, Description: "name of the field", Example: "created"},
			{Name: "layout", Kind: connectors.KindString, Default: "rfc3339", Description: "rfc3339, unix (seconds), unix_ms, unix_us, or a Go reference layout; a layout without a zone is read as UTC", Example: "2006-01-02 15:04:05"},
		}},
	}
}

func checkDelimiter(v any) error {
	if s := v.(string); len(s) != 1 || strings.Contains("\"\r\n", s) || s[0] >= 0x80 {
		return fmt.Errorf("%q is not one character other than a quote or the end of a line", s)
	}
	return nil
}

func checkTypes(v any) error {
	for field, typ := range v.(map[string]string) {
		if !slices.Contains(valueTypes, typ) {
			return fmt.Errorf("%q is not a type for %q, want one of %s", typ, field, strings.Join(valueTypes, ", "))
		}
	}
	return nil
}

// NewParser makes a parser of the config of a `parse:` transform. Its errors
// say what is wrong with the config.
func NewParser(cfg connectors.Config) (Parser, error) {
	for _, only := range []struct{ field, format string }{{"pattern", "regexp"}, {"columns", "csv"}, {"delimiter", "csv"}} {
		if cfg.Has(only.field) && cfg.String("format") != only.format {
			return nil, fmt.Errorf("%s belongs to format %s, not to %s", only.field, only.format, cfg.String("format"))
		}
	}
	when, err := newClock(cfg)
	if err != nil {
		return nil, err
	}
	switch cfg.String("format") {
	case "combined", "common":
		if cfg.Has("types") || cfg.Has("time") {
			return nil, fmt.Errorf("format %s has its types and its time already: leave out types and time", cfg.String("format"))
		}
		return &accessLog{combined: cfg.String("format") == "combined"}, nil
	case "json":
		if cfg.Has("types") {
			return nil, fmt.Errorf("types belong to the formats csv and regexp: JSON has its own")
		}
		return &jsonParser{clock: when}, nil
	case "csv":
		return newCSVParser(cfg, when)
	}
	return newRegexpParser(cfg, when)
}

// clock reads a record's time from one of its fields.
type clock struct{ field, layout string }

func newClock(cfg connectors.Config) (*clock, error) {
	if !cfg.Has("time") {
		return nil, nil
	}
	c := &clock{field: cfg.Object("time").String("field"), layout: cfg.Object("time").String("layout")}
	switch c.layout {
	case "rfc3339", "unix", "unix_ms", "unix_us":
		return c, nil
	}
	sample := time.Date(2031, 11, 28, 17, 49, 53, 0, time.UTC)
	if back, err := time.Parse(c.layout, sample.Format(c.layout)); err != nil || back.Year() != 2031 || back.Day() != 28 {
		return nil, fmt.Errorf("time.layout %q does not hold a whole date: want rfc3339, unix, unix_ms, unix_us or a layout such as 2006-01-02 15:04:05", c.layout)
	}
	return c, nil
}

// read sets the timestamp from a JSON object. A null or absent field leaves
// it; a text that is no time is an error.
func (c *clock) read(m *connectors.Message, object []byte) error {
	if c == nil {
		return nil
	}
	raw, err := Lookup(object, c.field)
	if err != nil {
		return err
	}
	text := Text(raw)
	if text == nil {
		return nil
	}
	ms, err := c.millis(string(text))
	if err != nil {
		return connectors.Poisonf("field %q: the time is %q, want %s", c.field, clip(text), c.layout)
	}
	m.Timestamp = ms
	return nil
}

func (c *clock) millis(text string) (int64, error) {
	units := map[string]int64{"unix": 1000, "unix_ms": 1}
	switch c.layout {
	case "unix", "unix_ms":
		return scaled(text, units[c.layout])
	case "unix_us":
		us, err := scaled(text, 1)
		return floorDiv(us, 1000), err
	}
	layout := c.layout
	if layout == "rfc3339" {
		layout = time.RFC3339
	}
	t, err := time.Parse(layout, text)
	if err != nil {
		return 0, err
	}
	return t.UnixMilli(), nil
}

func floorDiv(a, b int64) int64 {
	q := a / b
	if a%b < 0 {
		q--
	}
	return q
}
