package registry

import (
	"fmt"
	"slices"
	"strings"

	"github.com/entrepot-hub/entrepot/hub/registry/schema"
)

// The compatibility levels. BACKWARD: the new schema reads what the latest
// wrote; FORWARD: the latest reads what the new one writes; FULL: both;
// …_TRANSITIVE: for all versions, not just the latest.
const (
	Backward = "BACKWARD"
	none     = "NONE"
)

var levels = []string{none, Backward, "BACKWARD_TRANSITIVE", "FORWARD", "FORWARD_TRANSITIVE", "FULL", "FULL_TRANSITIVE"}

// The modes. IMPORT takes schemas with the IDs and versions that they have
// elsewhere, and does not ask for compatibility.
const (
	ReadWrite = "READWRITE"
	ReadOnly  = "READONLY"
	Import    = "IMPORT"
)

// incompatible lists why a schema may not follow versions at a level.
func (s *state) incompatible(c *schema.Schema, level string, versions []*Version) (bad []string) {
	direction, transitive := strings.CutSuffix(level, "_TRANSITIVE")
	if direction == none || len(versions) == 0 {
		return nil
	}
	if !transitive {
		versions = versions[len(versions)-1:]
	}
	for _, v := range slices.Backward(versions) {
		old, err := s.parse(v)
		if err != nil {
			bad = append(bad, fmt.Sprintf("version %d cannot be read: %v", v.Version, err))
			continue
		}
		if direction == Backward || direction == "FULL" {
			for _, why := range c.Reads(old) {
				bad = append(bad, fmt.Sprintf("the new schema does not read data of version %d: %s", v.Version, why))
			}
		}
		if direction == "FORWARD" || direction == "FULL" {
			for _, why := range old.Reads(c) {
				bad = append(bad, fmt.Sprintf("version %d does not read data of the new schema: %s", v.Version, why))
			}
		}
	}
	return bad
}

// setLevel decides a change of configuration.
func (s *state) setLevel(subject string, c configValue) ([]entry, error) {
	if c.Level != "" && !slices.Contains(levels, c.Level) {
		return nil, fail(codeInvalidLevel, "Invalid compatibility level. Valid values are %s", strings.Join(levels, ", "))
	}
	if err := s.settable(subject); err != nil {
		return nil, err
	}
	old := s.configs[subject]
	if c.Level == "" {
		c.Level = old.Level
	}
	if c.Normalize == nil {
		c.Normalize = old.Normalize
	}
	return []entry{{subjectKey(keyConfig, subject), encode(c)}}, nil
}

func (s *state) settable(subject string) error {
	if subject == "" {
		return nil
	}
	if err := checkSubject(subject); err != nil {
		return err
	}
	return s.writable(subject)
}

// unsetLevel takes a subject's own configuration away.
func (s *state) unsetLevel(subject string) (old configValue, out []entry, err error) {
	old, ok := s.configs[subject]
	if !ok && subject != "" {
		return old, nil, fail(codeNoSubjectConfig, "Subject '%s' does not have subject-level compatibility configured", subject)
	}
	if old.Level == "" {
		old.Level = Backward
	}
	return old, []entry{{subjectKey(keyConfig, subject), nil}}, nil
}

// setMode decides a change of mode. IMPORT wants nothing to be there yet, so
// that no ID means two schemas; force takes that upon the caller.
func (s *state) setMode(subject, mode string, force bool) ([]entry, error) {
	if mode != ReadWrite && mode != ReadOnly && mode != Import {
		return nil, fail(codeInvalidMode, "Invalid mode. Valid values are READWRITE, READONLY, IMPORT")
	}
	if subject != "" {
		if err := checkSubject(subject); err != nil {
			return nil, err
		}
	}
	if mode == Import && !force && s.mode(subject) != Import {
		if subject == "" && len(s.subjects) > 0 || len(s.subjects[subject]) > 0 {
			return nil, fail(codeNotPermitted, "Cannot import since found existing subjects")
		}
	}
	return []entry{{subjectKey(keyMode, subject), encode(modeValue{mode})}}, nil
}

func (s *state) unsetMode(subject string) (old string, out []entry, err error) {
	old, ok := s.modes[subject]
	if !ok && subject != "" {
		return "", nil, fail(codeNoSubjectMode, "Subject '%s' does not have subject-level mode configured", subject)
	}
	if old == "" {
		old = ReadWrite
	}
	return old, []entry{{subjectKey(keyMode, subject), nil}}, nil
}
