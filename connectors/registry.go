package connectors

import "fmt"

// Registry is the list of connectors that a hub can run, by the `type:` of
// their Spec. It is made once, as a literal, and never changed.
type Registry struct {
	Sources map[string]Source
	Sinks   map[string]Sink
}

// Source finds a source, or says which ones there are.
func (r Registry) Source(typ string) (Source, error) {
	if s, ok := r.Sources[typ]; ok {
		return s, nil
	}
	return nil, fmt.Errorf("unknown source type %q, want one of %s", typ, list(r.SourceTypes()))
}

// Sink finds a sink, or says which ones there are.
func (r Registry) Sink(typ string) (Sink, error) {
	if s, ok := r.Sinks[typ]; ok {
		return s, nil
	}
	return nil, fmt.Errorf("unknown sink type %q, want one of %s", typ, list(r.SinkTypes()))
}

// SourceTypes lists the names, sorted.
func (r Registry) SourceTypes() []string { return sortedKeys(r.Sources) }

// SinkTypes lists the names, sorted.
func (r Registry) SinkTypes() []string { return sortedKeys(r.Sinks) }
