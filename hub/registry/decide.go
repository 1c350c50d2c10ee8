package registry

import (
	"cmp"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode"

	"github.com/entrepot-hub/entrepot/hub/registry/schema"
)

// The decisions: each looks at the state and returns the records that make it
// so, or an *Error. Nothing changes until the records come back from the topic.

// candidate is a schema that is not in the state.
type candidate struct {
	subject    string
	parsed     *schema.Schema
	references []Reference
	metadata   json.RawMessage
	ruleSet    json.RawMessage
	id         int // > 0: the ID it has to get (mode IMPORT)
	version    int // > 0: the version it has to get
}

// maxReferences bounds what one schema draws in.
const maxReferences = 1000

// dependencies are the texts behind references, in an order in which each one
// refers only to those before it.
func (s *state) dependencies(references []Reference) ([]schema.Dependency, error) {
	var out []schema.Dependency
	done := map[string]bool{}
	var visit func(all []Reference, path []string) error
	visit = func(all []Reference, path []string) error {
		for _, r := range all {
			if done[r.Name] {
				continue
			}
			here := fmt.Sprintf("%s version %d", r.Subject, r.Version)
			if slices.Contains(path, here) || len(path) > 100 || len(out) >= maxReferences {
				return fail(codeInvalidSchema, "the references go in a circle or are too many, at %s", here)
			}
			v, err := s.version(r.Subject, max(r.Version, 0), true)
			if err != nil {
				return fail(codeInvalidSchema, "No schema reference found for subject %q and version %d", r.Subject, r.Version)
			}
			if err := visit(v.References, append(slices.Clip(path), here)); err != nil {
				return err
			}
			done[r.Name] = true
			out = append(out, schema.Dependency{Name: r.Name, Text: v.Schema})
		}
		return nil
	}
	return out, visit(references, nil)
}

// parse reads a version's schema.
func (s *state) parse(v *Version) (*schema.Schema, error) {
	deps, err := s.dependencies(v.References)
	if err != nil {
		return nil, err
	}
	return schema.Parse(v.Type, v.Schema, deps)
}

// identityOf is equal for two registrations of the same schema: the text in
// canonical form, what it refers to, and what rides along.
func identityOf(typ schema.Type, canonical string, references []Reference, metadata, ruleSet json.RawMessage) string {
	sorted := slices.SortedFunc(slices.Values(references), func(a, b Reference) int { return cmp.Compare(a.Name, b.Name) })
	sum := sha256.Sum256(encode([]any{typ, []byte(canonical), sorted, metadata, ruleSet}))
	return string(sum[:])
}

func (s *state) identity(v *Version) string {
	if v.identity == "" {
		canonical := v.Schema
		if parsed, err := s.parse(v); err == nil {
			canonical = parsed.Identity
		}
		v.identity = identityOf(v.Type, canonical, v.References, v.Metadata, v.RuleSet)
	}
	return v.identity
}

func (c candidate) identity() string {
	return identityOf(c.parsed.Type, c.parsed.Identity, c.references, c.metadata, c.ruleSet)
}

// lookup finds a schema under its subject.
func (s *state) lookup(c candidate, deleted bool) (*Version, error) {
	all := s.versions(c.subject, deleted)
	if len(all) == 0 {
		return nil, subjectNotFound(c.subject)
	}
	want := c.identity()
	for _, v := range slices.Backward(all) {
		if s.identity(v) == want {
			return v, nil
		}
	}
	return nil, fail(codeSchemaNotFound, "Schema not found")
}

// register gives a schema an ID and a version under a subject. A schema that
// the subject has already keeps both.
func (s *state) register(c candidate) (id int, out []entry, err error) {
	if err := checkSubject(c.subject); err != nil {
		return 0, nil, err
	}
	have, err := s.lookup(c, false)
	if err == nil && (c.id <= 0 || c.id == have.ID) && (c.version <= 0 || c.version == have.Version) {
		return have.ID, nil, nil
	}
	mode := s.mode(c.subject)
	switch {
	case mode == ReadOnly:
		return 0, nil, fail(codeNotPermitted, "Subject %s is in read-only mode", c.subject)
	case c.id > 0 && mode != Import:
		return 0, nil, fail(codeNotPermitted, "Subject %s is not in import mode", c.subject)
	case c.id <= 0 && mode != ReadWrite:
		return 0, nil, fail(codeNotPermitted, "Subject %s is not in read-write mode", c.subject)
	}
	if mode == Import {
		return s.importVersion(c)
	}
	next := s.nextVersion(c.subject)
	if c.version > 0 && c.version != next {
		return 0, nil, fail(codeInvalidVersion, "Version %d cannot be given: the next version of subject %s is %d", c.version, c.subject, next)
	}
	if bad := s.incompatible(c.parsed, s.level(c.subject), s.versions(c.subject, false)); len(bad) > 0 {
		return 0, nil, fail(codeIncompatible, "Schema being registered is incompatible with an earlier schema for subject %q, details: [%s]", c.subject, strings.Join(bad, "; "))
	}
	id = s.idFor(c)
	return id, []entry{c.entry(id, next)}, nil
}

// importVersion keeps the ID, and the version if one is given.
func (s *state) importVersion(c candidate) (int, []entry, error) {
	want := c.identity()
	for _, v := range s.ids[contextOf(c.subject)][c.id] {
		if s.identity(v) != want {
			return 0, nil, fail(codeNotPermitted, "Overwrite new schema with id %d is not permitted.", c.id)
		}
	}
	version := c.version
	if version <= 0 {
		version = s.nextVersion(c.subject)
	}
	if v, ok := s.subjects[c.subject][version]; ok && v.ID != c.id {
		return 0, nil, fail(codeNotPermitted, "Subject %s has version %d already, with id %d", c.subject, version, v.ID)
	}
	return c.id, []entry{c.entry(c.id, version)}, nil
}

func (c candidate) entry(id, version int) entry {
	v := schemaValue{
		Subject: c.subject, Version: version, ID: id, References: c.references, Schema: c.parsed.Text,
		Metadata: c.metadata, RuleSet: c.ruleSet,
	}
	if c.parsed.Type != schema.Avro {
		v.Type = c.parsed.Type
	}
	return entry{schemaKey(c.subject, version), encode(v)}
}

// nextVersion is above every version that the subject has, soft-deleted ones
// included: what was given out is not given out again.
func (s *state) nextVersion(subject string) int {
	next := 1
	for n := range s.subjects[subject] {
		next = max(next, n+1)
	}
	return next
}

// idFor is the ID that the schema has under any subject of the context, else
// one above every ID ever given out there.
func (s *state) idFor(c candidate) int {
	context, want := contextOf(c.subject), c.identity()
	for _, id := range slices.Sorted(maps.Keys(s.ids[context])) {
		for _, v := range s.ids[context][id] {
			if v.Type == c.parsed.Type && s.identity(v) == want {
				return id
			}
		}
	}
	return s.maxIDs[context] + 1
}

// checkSubject refuses names that no client can mean.
func checkSubject(subject string) error {
	if subject == "" || len(subject) > 4096 || strings.ContainsFunc(subject, unicode.IsControl) || strings.ContainsRune(subject, unicode.ReplacementChar) ||
		subject == "__GLOBAL" || subject == "__EMPTY" {
		return fail(codeInvalidSubject, "The specified subject %.100q is not a valid subject.", subject)
	}
	return nil
}

// deleteVersion deletes softly, so that the ID can still be read, or for good
// what is deleted softly.
func (s *state) deleteVersion(subject string, n int, permanent bool) (int, []entry, error) {
	if err := s.writable(subject); err != nil {
		return 0, nil, err
	}
	v, err := s.version(subject, n, n > 0 || permanent)
	if err != nil {
		return 0, nil, err
	}
	switch {
	case !permanent && v.Deleted:
		return 0, nil, fail(codeVersionDeleted, "Subject '%s' Version %d was soft deleted. Set permanent=true to delete permanently", subject, v.Version)
	case permanent && !v.Deleted:
		return 0, nil, fail(codeVersionNotDeleted, "Subject '%s' Version %d was not deleted first before being permanently deleted", subject, v.Version)
	}
	if err := s.unreferenced(v, permanent); err != nil {
		return 0, nil, err
	}
	if permanent {
		return v.Version, []entry{s.keepIDs(), {schemaKey(subject, v.Version), nil}}, nil
	}
	gone := v.schemaValue
	gone.Deleted = true
	if gone.Type == schema.Avro {
		gone.Type = ""
	}
	return v.Version, []entry{{schemaKey(subject, v.Version), encode(gone)}}, nil
}

func (s *state) writable(subject string) error {
	if s.mode(subject) == ReadOnly {
		return fail(codeNotPermitted, "Subject %s is in read-only mode", subject)
	}
	return nil
}

// unreferenced refuses to delete what others use: for good, also what deleted
// schemas use, since those can still be read by ID.
func (s *state) unreferenced(v *Version, permanent bool) error {
	for _, user := range s.referrers(v.Subject, v.Version, permanent) {
		if user.Subject != v.Subject || user.Version != v.Version {
			return fail(codeReferenced, "One or more references exist to the schema {subject=%s,version=%d}: %s version %d.", v.Subject, v.Version, user.Subject, user.Version)
		}
	}
	return nil
}

// has reports whether the state has the schema under its subject with the ID,
// and no other schema with the ID.
func (s *state) has(c candidate, id int) bool {
	want := c.identity()
	for _, v := range s.ids[contextOf(c.subject)][id] {
		if s.identity(v) != want {
			return false
		}
	}
	v, err := s.lookup(c, false)
	return err == nil && v.ID == id
}

// keepIDs is the record that outlives the schemas whose IDs it keeps.
func (s *state) keepIDs() entry { return entry{noopKey(), encode(noopValue{s.maxIDs})} }

// deleteSubject deletes all versions and returns them. Its own level and mode
// go with them.
func (s *state) deleteSubject(subject string, permanent bool) (gone []int, out []entry, err error) {
	if err := s.writable(subject); err != nil {
		return nil, nil, err
	}
	all, live := s.versions(subject, true), s.versions(subject, false)
	switch {
	case len(all) == 0:
		return nil, nil, subjectNotFound(subject)
	case !permanent && len(live) == 0:
		return nil, nil, fail(codeSubjectDeleted, "Subject '%s' was soft deleted. Set permanent=true to delete permanently", subject)
	case permanent && len(live) > 0:
		return nil, nil, fail(codeSubjectNotDeleted, "Subject '%s' was not deleted first before being permanently deleted", subject)
	}
	for _, v := range all {
		if user := s.outsideUser(v, permanent); user != nil {
			return nil, nil, fail(codeReferenced, "One or more references exist to the schema {subject=%s,version=%d}: %s version %d.", subject, v.Version, user.Subject, user.Version)
		}
	}
	if !permanent {
		all = live
		last := live[len(live)-1].Version
		out = append(out, entry{subjectKey(keyDeleteSubject, subject), encode(deleteValue{subject, last})})
	} else {
		out = append(out, s.keepIDs(), entry{subjectKey(keyDeleteSubject, subject), nil})
	}
	for _, v := range all {
		gone = append(gone, v.Version)
		if permanent {
			out = append(out, entry{schemaKey(subject, v.Version), nil})
		}
	}
	if _, ok := s.configs[subject]; ok {
		out = append(out, entry{subjectKey(keyConfig, subject), nil})
	}
	if _, ok := s.modes[subject]; ok {
		out = append(out, entry{subjectKey(keyMode, subject), nil})
	}
	return gone, out, nil
}

// outsideUser is a version of another subject that uses v; those of the same
// subject go together with it.
func (s *state) outsideUser(v *Version, permanent bool) *Version {
	for _, user := range s.referrers(v.Subject, v.Version, permanent) {
		if user.Subject != v.Subject {
			return user
		}
	}
	return nil
}
