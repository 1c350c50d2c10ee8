package registry

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/entrepot-hub/entrepot/hub/registry/schema"
)

// Reference is what a schema says of another one that it uses.
type Reference struct {
	Name    string `json:"name"`
	Subject string `json:"subject"`
	Version int    `json:"version"`
}

// Version is a schema under a subject. It does not change; a later record of
// the same key replaces it.
type Version struct {
	schemaValue
	identity string // once it was asked for
}

// state is all that the topic says, as a value: apply takes one record after
// the other, and everything else asks. The same records give the same state,
// also after compaction.
type state struct {
	subjects map[string]map[int]*Version
	ids      map[string]map[int][]*Version // by context, then ID
	maxIDs   map[string]int                // by context: the highest ID ever seen
	configs  map[string]configValue        // by subject; "" for all
	modes    map[string]string
}

func newState() *state {
	return &state{
		subjects: map[string]map[int]*Version{}, ids: map[string]map[int][]*Version{}, maxIDs: map[string]int{},
		configs: map[string]configValue{}, modes: map[string]string{},
	}
}

// defaultContext is the context of subjects that name none. A subject names
// one as :.context:subject, and each context numbers its schemas by itself.
const defaultContext = "."

func contextOf(subject string) string {
	if rest, ok := strings.CutPrefix(subject, ":."); ok {
		if name, _, ok := strings.Cut(rest, ":"); ok {
			return "." + name
		}
	}
	return defaultContext
}

// apply takes the next record of the topic. An error means that the record is
// passed over, as on every node.
func (s *state) apply(key, value []byte) error {
	k, err := decodeKey(key)
	if err != nil {
		return err
	}
	switch k.Keytype {
	case keySchema:
		return s.applySchema(k, value)
	case keyConfig:
		return applySetting(k, value, func(subject string, v *configValue) {
			delete(s.configs, subject)
			if v != nil {
				s.configs[subject] = *v
			}
		})
	case keyMode:
		return applySetting(k, value, func(subject string, v *modeValue) {
			delete(s.modes, subject)
			if v != nil {
				s.modes[subject] = v.Mode
			}
		})
	case keyDeleteSubject:
		return applySetting(k, value, func(subject string, v *deleteValue) {
			if v == nil {
				return
			}
			for n, old := range s.subjects[subject] {
				if n <= v.Version && !old.Deleted {
					next := *old
					next.Deleted = true
					s.put(&next)
				}
			}
		})
	case keyClearSubject:
		for n := range s.subjects[k.subject()] {
			s.drop(k.subject(), n)
		}
	case keyNoop:
		return applySetting(k, value, func(_ string, v *noopValue) {
			if v == nil {
				return
			}
			for context, id := range v.MaxIDs {
				s.maxIDs[context] = max(s.maxIDs[context], id)
			}
		})
	}
	return nil
}

// applySetting hands on a value, or nil for a tombstone.
func applySetting[V any](k recordKey, value []byte, set func(subject string, v *V)) error {
	if value == nil {
		set(k.subject(), nil)
		return nil
	}
	v := new(V)
	if err := json.Unmarshal(value, v); err != nil {
		return fmt.Errorf("the value of %s %q: %w", k.Keytype, k.subject(), err)
	}
	set(k.subject(), v)
	return nil
}

func (s *state) applySchema(k recordKey, value []byte) error {
	if value == nil {
		s.drop(k.subject(), k.Version)
		return nil
	}
	v := &Version{}
	if err := json.Unmarshal(value, &v.schemaValue); err != nil {
		return fmt.Errorf("the value of schema %q version %d: %w", k.subject(), k.Version, err)
	}
	if v.ID < 0 || len(v.Schema) > 16*schema.MaxBytes {
		return fmt.Errorf("the value of schema %q version %d has ID %d and %d bytes", k.subject(), k.Version, v.ID, len(v.Schema))
	}
	v.Subject, v.Version = k.subject(), k.Version
	if v.Type == "" {
		v.Type = schema.Avro
	}
	s.put(v)
	return nil
}

func (s *state) put(v *Version) {
	s.drop(v.Subject, v.Version)
	if s.subjects[v.Subject] == nil {
		s.subjects[v.Subject] = map[int]*Version{}
	}
	s.subjects[v.Subject][v.Version] = v
	context := contextOf(v.Subject)
	if s.ids[context] == nil {
		s.ids[context] = map[int][]*Version{}
	}
	s.ids[context][v.ID] = append(s.ids[context][v.ID], v)
	s.maxIDs[context] = max(s.maxIDs[context], v.ID)
}

// drop forgets a version, but not that its ID was in use.
func (s *state) drop(subject string, version int) {
	old, ok := s.subjects[subject][version]
	if !ok {
		return
	}
	delete(s.subjects[subject], version)
	if len(s.subjects[subject]) == 0 {
		delete(s.subjects, subject)
	}
	all := s.ids[contextOf(subject)]
	all[old.ID] = slices.DeleteFunc(all[old.ID], func(v *Version) bool { return v == old })
	if len(all[old.ID]) == 0 {
		delete(all, old.ID)
	}
}

// versions are a subject's, in order; with deleted, the soft-deleted ones too.
func (s *state) versions(subject string, deleted bool) []*Version {
	all := s.subjects[subject]
	out := make([]*Version, 0, len(all))
	for _, n := range slices.Sorted(maps.Keys(all)) {
		if v := all[n]; deleted || !v.Deleted {
			out = append(out, v)
		}
	}
	return out
}

// version finds one; 0 is the latest.
func (s *state) version(subject string, n int, deleted bool) (*Version, error) {
	all := s.versions(subject, deleted)
	if len(all) == 0 {
		return nil, subjectNotFound(subject)
	}
	if n == 0 {
		return all[len(all)-1], nil
	}
	if v, ok := s.subjects[subject][n]; ok && (deleted || !v.Deleted) {
		return v, nil
	}
	return nil, versionNotFound(fmt.Sprint(n))
}

// byID are the versions that have the ID, live ones first, by subject and
// version.
func (s *state) byID(context string, id int) ([]*Version, error) {
	all := slices.Clone(s.ids[context][id])
	if len(all) == 0 {
		return nil, fail(codeSchemaNotFound, "Schema %d not found", id)
	}
	slices.SortFunc(all, func(a, b *Version) int {
		if a.Deleted != b.Deleted {
			if b.Deleted {
				return -1
			}
			return 1
		}
		if c := strings.Compare(a.Subject, b.Subject); c != 0 {
			return c
		}
		return a.Version - b.Version
	})
	return all, nil
}

// scopes are where a setting of a subject is looked for, nearest first.
func scopes(subject string) []string {
	if context := contextOf(subject); context != defaultContext {
		return []string{subject, ":" + context + ":", ""}
	}
	return []string{subject, ""}
}

// level is the compatibility level that holds for a subject.
func (s *state) level(subject string) string {
	for _, scope := range scopes(subject) {
		if c, ok := s.configs[scope]; ok && c.Level != "" {
			return c.Level
		}
	}
	return Backward
}

// normalizes reports whether schemas of the subject are normalized unasked.
func (s *state) normalizes(subject string) bool {
	for _, scope := range scopes(subject) {
		if c, ok := s.configs[scope]; ok && c.Normalize != nil {
			return *c.Normalize
		}
	}
	return false
}

func (s *state) mode(subject string) string {
	for _, scope := range scopes(subject) {
		if m, ok := s.modes[scope]; ok {
			return m
		}
	}
	return ReadWrite
}

// referrers are the versions that refer to one; with deleted, the soft-deleted
// ones too.
func (s *state) referrers(subject string, version int, deleted bool) (all []*Version) {
	for _, name := range slices.Sorted(maps.Keys(s.subjects)) {
		for _, v := range s.versions(name, deleted) {
			if slices.ContainsFunc(v.References, func(r Reference) bool { return r.Subject == subject && r.Version == version }) {
				all = append(all, v)
			}
		}
	}
	return all
}
