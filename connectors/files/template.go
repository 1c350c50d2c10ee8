package files

import (
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/entrepot-hub/entrepot/connectors"
	"github.com/entrepot-hub/entrepot/connectors/format"
)

// hiveNull is the folder of a null, as Hive names it.
const hiveNull = "__HIVE_DEFAULT_PARTITION__"

// maxSegment is how long a folder's name may be, in bytes, on common file
// systems.
const maxSegment = 255

// template gives the folder of a record. It is a list of literals and
// expressions:
//
//	template   = { literal | "{" expression "}" }
//	expression = name | function "(" name ")"
//	name       = "ts" | "topic" | "partition" | "key" | "value" "." field { "." field }
//	function   = "date" | "hour" | "year" | "month" | "day"
type template struct {
	parts []part
	// hourly says that the folder depends on nothing but the partition and
	// the hour, so that it is made once an hour and not once a record.
	hourly bool
	hours  map[hourKey]string
}

type hourKey struct {
	topic     string
	partition int32
	hour      int64
}

// part is a literal, or an expression when name is set.
type part struct {
	literal string
	name    string   // ts, topic, partition, key, value
	path    []string // after value
	layout  string   // of a function's result
	leads   bool     // the expression begins a folder's name
}

var functions = map[string]string{"date": time.DateOnly, "hour": "15", "year": "2006", "month": "01", "day": "02"}

// parseTemplate reads a template. Its errors say at which character.
func parseTemplate(text string) (*template, error) {
	t := &template{hourly: true, hours: map[hourKey]string{}}
	for at := 0; at < len(text); {
		open := strings.IndexByte(text[at:], '{')
		if open < 0 {
			open = len(text) - at
		}
		if literal := text[at : at+open]; literal != "" {
			if i := strings.IndexByte(literal, '}'); i >= 0 {
				return nil, fmt.Errorf("character %d: a } without a {", at+i+1)
			}
			t.parts = append(t.parts, part{literal: literal})
		}
		if at += open; at == len(text) {
			break
		}
		length := strings.IndexByte(text[at:], '}')
		if length < 0 {
			return nil, fmt.Errorf("character %d: the { is not closed", at+1)
		}
		p, err := parseExpression(strings.TrimSpace(text[at+1 : at+length]))
		if err != nil {
			return nil, fmt.Errorf("character %d: %w", at+1, err)
		}
		p.leads = at == 0 || text[at-1] == '/'
		t.hourly = t.hourly && (p.name == "ts" || p.name == "topic" || p.name == "partition")
		t.parts = append(t.parts, p)
		at += length + 1
	}
	return t, checkSegments(text)
}

func parseExpression(text string) (part, error) {
	fn, inner, call := strings.Cut(text, "(")
	p := part{}
	if call {
		arg, closed := strings.CutSuffix(inner, ")")
		layout, known := functions[strings.TrimSpace(fn)]
		if !closed || !known {
			return p, fmt.Errorf("{%s}: want date(ts), hour(ts), year(ts), month(ts) or day(ts)", text)
		}
		p.layout, text = layout, strings.TrimSpace(arg)
	}
	name, path, dotted := strings.Cut(text, ".")
	p.name = name
	switch {
	case name == "value" && dotted && !strings.Contains("."+path+".", ".."):
		p.path = strings.Split(path, ".")
	case !dotted && name == "ts" && !call:
		return p, fmt.Errorf("{ts}: want a function of it, such as date(ts) or hour(ts)")
	case !dotted && name == "ts":
	case !dotted && !call && (name == "topic" || name == "partition" || name == "key"):
	default:
		return p, fmt.Errorf("{%s}: want topic, partition, key, value.FIELD, or date, hour, year, month, day of ts or value.FIELD", text)
	}
	return p, nil
}

// checkSegments refuses folders that would lie elsewhere, or that readers of
// tables pass over.
func checkSegments(text string) error {
	if text == "" {
		return nil
	}
	for s := range strings.SplitSeq(text, "/") {
		switch {
		case s == "":
			return fmt.Errorf("%q has an empty folder name: no slash at either end, and none twice", text)
		case s[0] == '.' || s[0] == '_':
			return fmt.Errorf("folder %q begins with %q, which readers pass over", s, s[:1])
		case strings.ContainsAny(s, "\x00\\"):
			return fmt.Errorf("folder %q has a character that no folder should have", s)
		}
	}
	return nil
}

// folder is the relative path of a record's folder, "" for none. Its error is
// of class Poison.
func (t *template) folder(m *connectors.Message) (string, error) {
	if len(t.parts) == 0 {
		return "", nil
	}
	const hour = int64(time.Hour / time.Millisecond)
	key := hourKey{m.Partition.Topic, m.Partition.Partition, m.Timestamp / hour}
	if t.hourly && m.Timestamp >= 0 {
		if f, ok := t.hours[key]; ok {
			return f, nil
		}
	}
	f, err := t.render(m)
	if err != nil {
		return "", err
	}
	if t.hourly && m.Timestamp >= 0 && len(t.hours) < 10000 {
		t.hours[key] = f
	}
	return f, nil
}

func (t *template) render(m *connectors.Message) (string, error) {
	var b strings.Builder
	for _, p := range t.parts {
		if p.name == "" {
			b.WriteString(p.literal)
			continue
		}
		text, null, err := p.eval(m)
		switch {
		case err != nil:
			return "", err
		case null || text == "":
			b.WriteString(hiveNull)
		default:
			b.WriteString(escape(text, p.leads))
		}
	}
	for s := range strings.SplitSeq(b.String(), "/") {
		if len(s) > maxSegment {
			return "", connectors.Poisonf("the folder %.40q… has %d bytes, at most %d can be", s, len(s), maxSegment)
		}
	}
	return b.String(), nil
}

// eval is the text of an expression for a record.
func (p part) eval(m *connectors.Message) (text string, null bool, err error) {
	switch p.name {
	case "topic":
		return m.Partition.Topic, false, nil
	case "partition":
		return strconv.Itoa(int(m.Partition.Partition)), false, nil
	case "key":
		if !utf8.Valid(m.Key) {
			return "", false, connectors.Poisonf("partition_by: the key is not UTF-8")
		}
		return string(m.Key), m.Key == nil, nil
	case "ts":
		if m.Timestamp == connectors.NoTimestamp {
			return "", true, nil
		}
		return p.formatTime(time.UnixMilli(m.Timestamp))
	}
	return p.evalValue(m)
}

func (p part) evalValue(m *connectors.Message) (text string, null bool, err error) {
	raw, err := format.Lookup(m.Value, p.path...)
	if err != nil {
		return "", false, err
	}
	value := format.Text(raw)
	switch {
	case value == nil:
		return "", true, nil
	case raw[0] == '{' || raw[0] == '[':
		return "", false, connectors.Poisonf("partition_by: value.%s is not a single value", strings.Join(p.path, "."))
	case p.layout == "":
		return string(value), false, nil
	}
	t, err := time.Parse(time.RFC3339Nano, string(value))
	if err != nil || raw[0] != '"' {
		return "", false, connectors.Poisonf("partition_by: value.%s is %.40q, want a time such as 2015-05-17T10:05:03Z", strings.Join(p.path, "."), value)
	}
	return p.formatTime(t)
}

func (p part) formatTime(t time.Time) (string, bool, error) {
	t = t.UTC()
	if y := t.Year(); y < 0 || y > 9999 {
		return "", false, connectors.Poisonf("partition_by: the year %d has no four digits", y)
	}
	return t.Format(p.layout), false, nil
}

// escape does what Hive does to a value in a folder's name: %XX for characters
// that are special to file systems and shells. A value that begins a name
// cannot make it one that is passed over, or one of the parent.
func escape(s string, leads bool) string {
	const special, hex = "\"#%'*/:=?\\{[]^\x7f", "0123456789ABCDEF"
	var b strings.Builder
	for i := range len(s) {
		c := s[i]
		if c < ' ' || strings.IndexByte(special, c) >= 0 || i == 0 && leads && (c == '.' || c == '_') {
			b.WriteString(string([]byte{'%', hex[c>>4], hex[c&15]}))
			continue
		}
		b.WriteByte(c)
	}
	return b.String()
}
