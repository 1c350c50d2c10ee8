package files

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
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
	disk    disk
	folder  string // of the versions
	tmp     string // a name for what is being written, of this task alone
	topic   string
	base    format.Schema // columns that are there from the beginning
	version int           // 0: none yet
	schema  format.Schema
}

// load reads the newest version.
func (p *pinned) load() error {
	names, err := p.disk.List(p.folder)
	if err != nil {
		return classify("list "+p.folder, err)
	}
	newest := 0
	for _, name := range names {
		if v, ok := p.versionOf(name); ok {
			newest = max(newest, v)
		}
	}
	if p.schema == nil {
		p.schema = p.base
	}
	if newest <= p.version {
		return nil
	}
	path := p.file(newest)
	text, err := p.disk.ReadFile(path)
	if err != nil {
		return classify("read "+path, err)
	}
	schema, err := format.DecodeSchema(text)
	if err != nil {
		return connectors.Fatalf("the pinned columns in %s cannot be read: %w", path, err)
	}
	p.version, p.schema = newest, schema
	return nil
}

func (p *pinned) versionOf(name string) (int, bool) {
	inner, ok := strings.CutPrefix(name, p.topic+".")
	digits, json := strings.CutSuffix(inner, ".json")
	v, err := strconv.Atoi(digits)
	return v, ok && json && err == nil && name == filepath.Base(p.file(v))
}

func (p *pinned) file(version int) string {
	return filepath.Join(p.folder, fmt.Sprintf("%s.%06d.json", p.topic, version))
}

// extend pins a column for every field of the messages that has none and is
// not null everywhere, unless another task has just done so. It reports
// whether there are other columns now than before.
func (p *pinned) extend(messages []connectors.Message) (changed bool, err error) {
	before := p.version
	for {
		if err := p.load(); err != nil {
			return false, err
		}
		in := format.NewInference(p.schema)
		for i := range messages {
			_ = in.Add(&messages[i]) // what is no record has no columns, and is refused later
		}
		next := in.Schema()
		if len(next) == len(p.schema) {
			return p.version != before, nil
		}
		taken, err := p.pin(next)
		if err != nil {
			return false, classify("pin the columns in "+p.folder, err)
		}
		if !taken {
			p.version, p.schema = p.version+1, next
			return true, nil
		}
	}
}

// pin makes the schema the next version; taken reports that another task was
// first.
func (p *pinned) pin(s format.Schema) (taken bool, err error) {
	text, err := s.Encode()
	if err != nil {
		return false, err
	}
	for _, dir := range []string{p.folder, filepath.Dir(p.tmp)} {
		if err := mkdirs(p.disk, dir); err != nil {
			return false, err
		}
	}
	if err := removeIfThere(p.disk, p.tmp); err != nil {
		return false, err
	}
	if err := writeSynced(p.disk, p.tmp, append(text, '\n')); err != nil {
		return false, err
	}
	err = p.disk.Link(p.tmp, p.file(p.version+1))
	if taken = errors.Is(err, os.ErrExist); err != nil && !taken {
		return false, err
	}
	return taken, errors.Join(p.disk.SyncDir(p.folder), p.disk.Remove(p.tmp))
}

func writeSynced(d disk, path string, text []byte) error {
	f, err := d.Create(path)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	return errors.Join(err, f.Sync(), f.Close())
}

func removeIfThere(d disk, path string) error {
	if err := d.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}
