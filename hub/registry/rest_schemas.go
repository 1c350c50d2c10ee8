package registry

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"

	"github.com/entrepot-hub/entrepot/hub/registry/schema"
)

// schemaBody is what a client sends of a schema.
type schemaBody struct {
	Schema     string          `json:"schema"`
	Type       schema.Type     `json:"schemaType"`
	References []Reference     `json:"references"`
	Metadata   json.RawMessage `json:"metadata"`
	RuleSet    json.RawMessage `json:"ruleSet"`
	ID         int             `json:"id"`
	Version    int             `json:"version"`
}

// schemaAnswer is what a client is told of one. Avro goes without saying.
type schemaAnswer struct {
	Subject    string          `json:"subject,omitempty"`
	Version    int             `json:"version,omitempty"`
	ID         int             `json:"id,omitempty"`
	MaxID      int             `json:"maxId,omitempty"`
	Type       schema.Type     `json:"schemaType,omitempty"`
	References []Reference     `json:"references,omitempty"`
	Metadata   json.RawMessage `json:"metadata,omitempty"`
	RuleSet    json.RawMessage `json:"ruleSet,omitempty"`
	Schema     string          `json:"schema"`
	Deleted    bool            `json:"deleted,omitempty"`
}

func tell(v *Version) schemaAnswer {
	a := schemaAnswer{Subject: v.Subject, Version: v.Version, ID: v.ID, Type: v.Type, References: v.References, Metadata: v.Metadata, RuleSet: v.RuleSet, Schema: v.Schema, Deleted: v.Deleted}
	if a.Type == schema.Avro {
		a.Type = ""
	}
	return a
}

// told is a version in the format that the query asks for.
func told(r *request, s *state, v *Version) schemaAnswer {
	a := tell(v)
	if r.URL.Query().Get("format") == "serialized" && v.Type == schema.Protobuf {
		if parsed, err := s.parse(v); err == nil {
			a.Schema = parsed.Serialized()
		}
	}
	return a
}

// candidate reads the request's schema. Parsing takes place outside the lock.
func (r *request) candidate(subject string, live bool) (candidate, error) {
	var b schemaBody
	if err := r.body(&b); err != nil {
		return candidate{}, err
	}
	if b.Type == "" {
		b.Type = schema.Avro
	}
	c := candidate{subject: subject, references: b.References, metadata: some(b.Metadata), ruleSet: some(b.RuleSet), id: b.ID, version: b.Version}
	var deps []schema.Dependency
	normalize := r.flag("normalize")
	err := r.reg.read(r.Context(), func(s *state) (err error) {
		normalize = normalize || s.normalizes(subject)
		if c.references, err = s.resolve(b.References, live); err != nil {
			return err
		}
		deps, err = s.dependencies(c.references)
		return err
	})
	if err != nil {
		return c, err
	}
	if c.parsed, err = schema.Parse(b.Type, b.Schema, deps); err == nil && normalize {
		c.parsed, err = c.parsed.Normalize(deps)
	}
	return c, err
}

// some drops the JSON null, and puts the rest in one form.
func some(raw json.RawMessage) json.RawMessage {
	var v any
	if json.Unmarshal(raw, &v) != nil || v == nil {
		return nil
	}
	return encode(v)
}

// resolve replaces "the latest" in references by its number; with live, what
// they name must not be deleted.
func (s *state) resolve(references []Reference, live bool) ([]Reference, error) {
	out := make([]Reference, 0, len(references))
	for _, r := range references {
		v, err := s.version(r.Subject, max(r.Version, 0), !live)
		if err != nil || r.Name == "" {
			return nil, fail(codeInvalidSchema, "No schema reference found for subject %q and version %d under the name %q", r.Subject, r.Version, r.Name)
		}
		out = append(out, Reference{r.Name, r.Subject, v.Version})
	}
	return out, nil
}

func registerSchema(r *request) (any, error) {
	c, err := r.candidate(r.subject(), true)
	if err != nil {
		return nil, err
	}
	var id int
	err = r.reg.write(r.Context(), func(s *state) (out []entry, err error) {
		if _, err = s.resolve(c.references, true); err != nil {
			return nil, err // one was deleted meanwhile
		}
		id, out, err = s.register(c)
		return out, err
	}, func(s *state) bool { return s.has(c, id) })
	return map[string]int{"id": id}, err
}

func lookupSchema(r *request) (any, error) {
	c, err := r.candidate(r.subject(), false)
	if err != nil {
		return nil, err
	}
	return look(r, func(s *state) (schemaAnswer, error) {
		v, err := s.lookup(c, r.flag("deleted"))
		if err != nil {
			return schemaAnswer{}, err
		}
		return tell(v), nil
	})
}

func listSchemas(r *request) (any, error) {
	return look(r, func(s *state) ([]schemaAnswer, error) {
		all := []schemaAnswer{}
		for _, subject := range s.matching(r) {
			versions := s.versions(subject, r.flag("deleted"))
			if r.flag("latestOnly") && len(versions) > 0 {
				versions = versions[len(versions)-1:]
			}
			for _, v := range versions {
				all = append(all, tell(v))
			}
		}
		return page(r, all), nil
	})
}

// matching are the subjects under the query's prefix, and in the context that
// the path names.
func (s *state) matching(r *request) (all []string) {
	prefix := strings.TrimPrefix(r.URL.Query().Get("subjectPrefix"), ":*:")
	within, only := r.Context().Value(contextKey{}).(string)
	for _, subject := range slices.Sorted(maps.Keys(s.subjects)) {
		if strings.HasPrefix(subject, prefix) && (!only || contextOf(subject) == within) {
			all = append(all, subject)
		}
	}
	return all
}

// found are the versions with the path's ID, live ones first.
func (r *request) found(s *state) ([]*Version, error) {
	id, err := r.id()
	if err != nil {
		return nil, err
	}
	return s.byID(r.context(), id)
}

func getByID(r *request) (any, error) {
	return look(r, func(s *state) (schemaAnswer, error) {
		all, err := r.found(s)
		if err != nil {
			return schemaAnswer{}, err
		}
		a := told(r, s, all[0])
		a.Subject, a.Version, a.ID, a.Deleted = "", 0, 0, false
		if r.flag("fetchMaxId") {
			a.MaxID = s.maxIDs[r.context()]
		}
		return a, nil
	})
}

func getSchemaByID(r *request) (any, error) {
	return look(r, func(s *state) (any, error) {
		all, err := r.found(s)
		if err != nil {
			return nil, err
		}
		return rawText(told(r, s, all[0]).Schema), nil
	})
}

func getSubjectsByID(r *request) (any, error) {
	return look(r, func(s *state) ([]string, error) {
		all, err := r.found(s)
		names := []string{}
		for _, v := range all {
			if (!v.Deleted || r.flag("deleted")) && !slices.Contains(names, v.Subject) {
				names = append(names, v.Subject)
			}
		}
		return page(r, names), err
	})
}

func getVersionsByID(r *request) (any, error) {
	type one struct {
		Subject string `json:"subject"`
		Version int    `json:"version"`
	}
	return look(r, func(s *state) ([]one, error) {
		all, err := r.found(s)
		out := []one{}
		for _, v := range all {
			if !v.Deleted || r.flag("deleted") {
				out = append(out, one{v.Subject, v.Version})
			}
		}
		return page(r, out), err
	})
}

func listContexts(r *request) (any, error) {
	return look(r, func(s *state) ([]string, error) {
		all := map[string]bool{defaultContext: true}
		for subject := range s.subjects {
			all[contextOf(subject)] = true
		}
		return page(r, slices.Sorted(maps.Keys(all))), nil
	})
}
