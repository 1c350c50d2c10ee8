package schema

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/twmb/avro"
)

// avroSchema is an Avro schema: compatibility is the specification's schema
// resolution, which says what a reader makes of a writer's data.
type avroSchema struct {
	parsed *avro.Schema
	text   string
}

func parseAvro(text string, deps []Dependency) (*Schema, error) {
	var cache avro.SchemaCache
	for _, d := range deps {
		if _, err := cache.Parse(d.Text); err != nil {
			return nil, fmt.Errorf("the schema that it refers to as %s: %w", d.Name, err)
		}
	}
	// A bare type name is a schema, but is no JSON.
	if !json.Valid([]byte(text)) {
		text = `"` + text + `"`
	}
	parsed, err := cache.Parse(text)
	if err != nil {
		return nil, err
	}
	doc, err := decodeJSON(text)
	if err != nil {
		return nil, err
	}
	canonical := avroText(doc)
	return &Schema{Text: canonical, Identity: canonical, impl: &avroSchema{parsed, canonical}}, nil
}

func (s *avroSchema) normalized() string { return s.text }

func (s *avroSchema) reads(writer impl) []string {
	err := avro.CheckCompatibility(writer.(*avroSchema).parsed, s.parsed)
	if err == nil {
		return nil
	}
	if bad, ok := errors.AsType[*avro.CompatibilityError](err); ok {
		at := bad.Path
		if at == "" {
			at = "the schema"
		}
		return []string{fmt.Sprintf("%s: %s (reader %s, writer %s)", at, bad.Detail, orNone(bad.ReaderType), orNone(bad.WriterType))}
	}
	return []string{err.Error()}
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}

// decodeJSON reads one JSON value and keeps numbers as they are written.
func decodeJSON(text string) (any, error) {
	dec := json.NewDecoder(bytes.NewReader([]byte(text)))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil {
		return nil, err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("something follows the JSON value")
	}
	return v, nil
}
