package connect

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/entrepot-hub/entrepot/connectors"
	"github.com/entrepot-hub/entrepot/connectors/strict"
)

// Issue is what is wrong with one key of a configuration.
type Issue struct {
	Key     string // "" for the whole
	Message string
}

// Document is a connector as the text of a jobs file, each key on a line of its
// own, so that what is said of a line is known to be of a key.
type Document struct {
	Text  []byte
	lines map[int]place
}

// place is what a line holds.
type place struct {
	key    string // of the configuration
	prefix string // of the keys beside it, with a dot; "" at the top
}

// Nest makes a jobs file of a flat configuration. Issues are of what cannot be
// written at all; the rest is for who reads jobs files to find.
func Nest(reg connectors.Registry, name string, flat map[string]string) (Document, []Issue) {
	p, err := FindPlugin(reg, flat[keyClass])
	if err != nil {
		return Document{}, []Issue{{keyClass, err.Error()}}
	}
	root := &branch{}
	root.child("name", keyName).leaf = quote(name)
	root.child(p.Kind, keyClass).child("type", keyClass).leaf = quote(p.Type)
	var issues []Issue
	for _, key := range slices.Sorted(maps.Keys(flat)) {
		path := key
		switch {
		case key == keyName || key == keyClass:
			continue
		case key == keyTasks && flat["tasks"] != "":
			continue
		case key == keyTasks:
			path = "tasks"
		case foreign[key] != "":
			issues = append(issues, Issue{key, foreign[key]})
			continue
		case key == keyTopic && p.Kind == "sink" && flat["topic"] == "":
			path = "topic"
		}
		if err := put(root, p.Shape(), path, flat[key], key); err != nil {
			issues = append(issues, Issue{key, err.Error()})
		}
	}
	d := Document{lines: map[int]place{}}
	w := &writer{lines: d.lines, line: 2}
	w.out.WriteString("connectors:\n-\n")
	w.branch(root, "  ", "")
	d.Text = w.out.Bytes()
	return d, issues
}

// put takes the value of one key to its place. What has no place goes where a
// reader will stumble over it, and say what would be right.
func put(at *branch, fields []connectors.Field, path, value, key string) error {
	first, rest, deeper := strings.Cut(path, ".")
	i := slices.IndexFunc(fields, func(f connectors.Field) bool { return f.Name == first })
	switch {
	case i < 0:
		at.child(path, key).leaf = quote(value)
		return nil
	case deeper && (fields[i].Kind == connectors.KindObject || fields[i].Kind.Texts()):
		inner := at.child(first, key)
		if inner.leaf != "" {
			return fmt.Errorf("%s is given as a whole: want all of it there, or each key of it by itself", inner.key)
		}
		if fields[i].Kind == connectors.KindObject {
			return put(inner, fields[i].Fields, rest, value, key)
		}
		inner.child(rest, key).leaf = quote(value)
		return nil
	case deeper:
		at.child(path, key).leaf = quote(value)
		return nil
	}
	text, err := leaf(fields[i], value)
	at.child(first, key).leaf = text
	return err
}

// leaf writes a value as its field wants it.
func leaf(f connectors.Field, value string) (string, error) {
	switch f.Kind {
	case connectors.KindInt, connectors.KindFloat, connectors.KindBool:
		if v := strings.TrimSpace(value); json.Valid([]byte(v)) && v != "null" && !strings.ContainsAny(v, `"[{`) {
			return v, nil
		}
	case connectors.KindStrings:
		if strings.HasPrefix(strings.TrimSpace(value), "[") {
			return inline(value)
		}
		items := []string{}
		for item := range strings.SplitSeq(value, ",") {
			if item = strings.TrimSpace(item); item != "" {
				items = append(items, quote(item))
			}
		}
		return "[" + strings.Join(items, ", ") + "]", nil
	case connectors.KindStringMap, connectors.KindSecretMap, connectors.KindObject, connectors.KindObjects:
		return inline(value)
	}
	return quote(value), nil
}

// inline puts JSON on one line.
func inline(value string) (string, error) {
	var b bytes.Buffer
	if err := json.Compact(&b, []byte(value)); err != nil {
		return `""`, fmt.Errorf("want JSON: %w", err)
	}
	// A colon wants a space behind it in YAML; JSON takes one anywhere.
	return spaced(b.String()), nil
}

// spaced puts a space behind each colon and comma that is not in a text.
func spaced(s string) string {
	var b strings.Builder
	quoted, escaped := false, false
	for _, r := range s {
		b.WriteRune(r)
		switch {
		case escaped:
			escaped = false
		case quoted && r == '\\':
			escaped = true
		case r == '"':
			quoted = !quoted
		case !quoted && (r == ':' || r == ','):
			b.WriteByte(' ')
		}
	}
	return b.String()
}

// quote writes a text so that both JSON and YAML read it as that text.
func quote(s string) string {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(s); err != nil {
		panic(fmt.Sprintf("connect: a text cannot be written as JSON: %v", err))
	}
	return strings.TrimSuffix(b.String(), "\n")
}

var missing = regexp.MustCompile(`^missing key "([^"]+)"$`)

// Issues tells what a reader of the document has said of its lines, by key.
func (d Document) Issues(errs strict.Errors) []Issue {
	all := make([]Issue, len(errs))
	for i, e := range errs {
		at := d.lines[e.Line]
		all[i] = Issue{at.key, e.Msg}
		// A mapping is where its first key is, so what it misses is beside that.
		if m := missing.FindStringSubmatch(e.Msg); m != nil {
			all[i].Key = at.prefix + m[1]
		}
		if e.Hint != "" {
			all[i].Message += "; " + e.Hint
		}
	}
	return all
}

// branch is a mapping of a document, or a value in it.
type branch struct {
	name, key string
	leaf      string // in JSON; "" for a mapping
	children  []*branch
}

func (b *branch) child(name, key string) *branch {
	for _, c := range b.children {
		if c.name == name {
			return c
		}
	}
	c := &branch{name: name, key: key}
	b.children = append(b.children, c)
	return c
}

type writer struct {
	out   bytes.Buffer
	line  int
	lines map[int]place
}

func (w *writer) branch(b *branch, indent, prefix string) {
	for _, c := range b.children {
		w.line++
		w.lines[w.line] = place{c.key, prefix}
		fmt.Fprintf(&w.out, "%s%s: %s\n", indent, quote(c.name), c.leaf)
		if c.leaf == "" {
			w.branch(c, indent+"  ", prefix+c.name+".")
		}
	}
}
