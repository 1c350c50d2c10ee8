package files

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/entrepot-hub/entrepot/connectors"
	"github.com/entrepot-hub/entrepot/connectors/format"
)

// schemaFolder holds the pinned columns, a file for each version:
// TOPIC.000001.json.
const schemaFolder = "_schema"

// pinned is a topic's columns when they are inferred: those of the newest
// version in _schema. Versions are only added, by a link that fails if another
// task was first, so all tasks agree.
type pinned struct {
	store   store
	tmp     string // a name for what is being written, of this task alone
	topic   string
	base    format.Schema // columns that are there from the beginning
	version int           // 0: none yet
	schema  format.Schema

	types   map[string]format.Type // that the config gives to fields
	check   func(name string) error
	headers map[string]bool // schema headers that are in the columns
}

// pinReader is what a store needs for its pinned columns to be read.
type pinReader interface {
	List(ctx context.Context, folder string) ([]string, error)
	Read(ctx context.Context, name string) ([]byte, error)
	fault(what, name string, err error) error
}

// readPinned gives a topic's columns of the newest version after one; none
// when there is no such.
func readPinned(ctx context.Context, st pinReader, topic string, after int) (version int, s format.Schema, err error) {
	names, err := st.List(ctx, schemaFolder)
	if err != nil {
		return 0, nil, st.fault("list", schemaFolder, err)
	}
	for _, name := range names {
		if v, ok := pinnedVersion(topic, name); ok {
			version = max(version, v)
		}
	}
	if version <= after {
		return version, nil, nil
	}
	name := pinnedName(topic, version)
	text, err := st.Read(ctx, name)
	if err != nil {
		return 0, nil, st.fault("read", name, err)
	}
	if s, err = format.DecodeSchema(text); err != nil {
		return 0, nil, connectors.Fatalf("the pinned columns in %s cannot be read: %w", name, err)
	}
	return version, s, nil
}

// load reads the newest version.
func (p *pinned) load(ctx context.Context) error {
	newest, schema, err := readPinned(ctx, p.store, p.topic, p.version)
	if err != nil {
		return err
	}
	if p.schema == nil {
		p.schema = p.base
	}
	if schema == nil {
		return nil
	}
	for _, c := range schema {
		if t, ok := p.types[c.Name]; ok && t != c.Type {
			return connectors.Fatalf("types says that %q is %s, but it is pinned as %s in %s, and files have it so: take it out of types, or load into another folder", c.Name, t, c.Type, p.file(newest))
		}
	}
	p.version, p.schema = newest, schema
	return nil
}

func pinnedVersion(topic, name string) (int, bool) {
	inner, ok := strings.CutPrefix(name, topic+".")
	digits, json := strings.CutSuffix(inner, ".json")
	v, err := strconv.Atoi(digits)
	return v, ok && json && err == nil && name == path.Base(pinnedName(topic, v))
}

func pinnedName(topic string, version int) string {
	return path.Join(schemaFolder, fmt.Sprintf("%s.%06d.json", topic, version))
}

func (p *pinned) file(version int) string { return pinnedName(p.topic, version) }

// maxHeaders bounds what is remembered; tables change seldom.
const maxHeaders = 1000

// news reports whether a record has a schema header that was not looked at
// yet: its table may have a wider type than the pinned column.
func (p *pinned) news(messages []connectors.Message) (found bool) {
	if len(p.headers) > maxHeaders {
		clear(p.headers)
	}
	for i := range messages {
		for _, h := range messages[i].Headers {
			if h.Key == format.SchemaHeader && !p.headers[string(h.Value)] {
				p.headers[string(h.Value)], found = true, true
			}
		}
	}
	return found
}

// extend pins a column for every field of the messages that has none and is
// not null everywhere, and makes those wider whose records say so, unless
// another task has just done it. It reports whether there are other columns now
// than before.
func (p *pinned) extend(ctx context.Context, messages []connectors.Message) (changed bool, err error) {
	before := p.version
	for {
		if err := p.load(ctx); err != nil {
			return false, err
		}
		in := format.NewInference(p.schema)
		in.Typed(p.types, p.check)
		for i := range messages {
			_ = in.Add(&messages[i]) // what is no record has no columns, and is refused later
		}
		next := in.Schema()
		if slices.EqualFunc(next, p.schema, func(a, b format.Column) bool { return a.Name == b.Name && a.Type == b.Type }) {
			return p.version != before, nil
		}
		taken, err := p.pin(ctx, next)
		if err != nil {
			return false, p.store.fault("pin the columns in", schemaFolder, err)
		}
		if !taken {
			p.version, p.schema = p.version+1, next
			return true, nil
		}
	}
}

// pin makes the schema the next version; taken reports that another task was
// first.
func (p *pinned) pin(ctx context.Context, s format.Schema) (taken bool, err error) {
	text, err := s.Encode()
	if err != nil {
		return false, err
	}
	if err = p.store.PutNew(ctx, p.tmp, p.file(p.version+1), append(text, '\n')); errors.Is(err, os.ErrExist) {
		return true, nil
	}
	return false, err
}
