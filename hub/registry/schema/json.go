package schema

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// jsonSchema is a JSON Schema with the documents that it refers to.
type jsonSchema struct {
	doc  any
	deps []jsonDoc
}

type jsonDoc struct {
	name string
	doc  any
}

// rootURL is where a schema without an $id stands while it is compiled.
const rootURL = "registry:///schema.json"

func parseJSON(text string, deps []Dependency) (*Schema, error) {
	doc, err := decodeJSON(text)
	if err != nil {
		return nil, err
	}
	s := &jsonSchema{doc: doc}
	for _, d := range deps {
		dep, err := decodeJSON(d.Text)
		if err != nil {
			return nil, fmt.Errorf("the schema that it refers to as %s: %w", d.Name, err)
		}
		s.deps = append(s.deps, jsonDoc{d.Name, dep})
	}
	if err := s.compile(); err != nil {
		return nil, err
	}
	var compact bytes.Buffer
	if err := json.Compact(&compact, []byte(text)); err != nil {
		return nil, err
	}
	return &Schema{Text: compact.String(), Identity: compact.String(), impl: s}, nil
}

// compile checks the schema against its draft's own schema, and that every
// $ref leads somewhere. Draft 7 is what clients mean when they do not say.
func (s *jsonSchema) compile() error {
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft7)
	c.UseRegexpEngine(anyPattern)
	c.UseLoader(refLoader{s.deps})
	if err := c.AddResource(rootURL, s.doc); err != nil {
		return err
	}
	if _, err := c.Compile(rootURL); err != nil {
		return errors.New(strings.ReplaceAll(err.Error(), rootURL, ""))
	}
	return nil
}

func (s *jsonSchema) normalized() string { return jsonText(s.doc) }

// refLoader gives the compiler the referenced schemas and nothing else: no
// file is opened and no host is asked.
type refLoader struct{ deps []jsonDoc }

func (l refLoader) Load(url string) (any, error) {
	if d, ok := findDoc(l.deps, url); ok {
		return d.doc, nil
	}
	return nil, errors.New("no reference of that name is given; list it under references with its subject and version")
}

// findDoc finds the document for a $ref, as written or as resolved against the
// referring schema's own URL.
func findDoc(deps []jsonDoc, url string) (jsonDoc, bool) {
	for _, d := range deps {
		if d.name == url {
			return d, true
		}
	}
	for _, d := range deps {
		if strings.HasSuffix(url, "/"+strings.TrimPrefix(d.name, "./")) {
			return d, true
		}
	}
	return jsonDoc{}, false
}

// anyPattern takes every pattern: they are in JavaScript's dialect, which Go's
// expressions do not cover, and nothing is matched against them here.
func anyPattern(pattern string) (jsonschema.Regexp, error) { return patternText(pattern), nil }

type patternText string

func (p patternText) MatchString(string) bool { return true }
func (p patternText) String() string          { return string(p) }
