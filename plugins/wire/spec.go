package wire

import (
	"fmt"

	"github.com/entrepot-hub/entrepot/connectors"
)

// FromSpec is a spec on the wire. Checks of fields stay behind: the plugin makes
// them when it validates.
func FromSpec(s connectors.Spec) *Spec {
	return &Spec{Type: s.Type, Summary: s.Summary, Guarantee: s.Guarantee, Since: s.Since, Fields: fromFields(s.Fields)}
}

func fromFields(fields []connectors.Field) []*Field {
	var out []*Field
	for _, f := range fields {
		out = append(out, &Field{
			Name: f.Name, ValueKind: uint32(f.Kind), Description: f.Description, Example: f.Example, Since: f.Since,
			Required: f.Required, Default: fromPlain(f.Default), Options: f.Options, Min: f.Min, Max: f.Max, Fields: fromFields(f.Fields),
		})
	}
	return out
}

// Spec is the way back of FromSpec. It fails on what no config could fill.
func (x *Spec) Spec() (connectors.Spec, error) {
	fields, err := toFields(x.GetFields(), 0)
	if err != nil {
		return connectors.Spec{}, fmt.Errorf("connector %q: %w", x.GetType(), err)
	}
	return connectors.Spec{Type: x.GetType(), Summary: x.GetSummary(), Guarantee: x.GetGuarantee(), Since: x.GetSince(), Fields: fields}, nil
}

// maxDepth bounds how deep fields lie in fields.
const maxDepth = 8

func toFields(all []*Field, depth int) ([]connectors.Field, error) {
	if depth > maxDepth {
		return nil, fmt.Errorf("fields lie more than %d deep in fields", maxDepth)
	}
	var out []connectors.Field
	for _, x := range all {
		f := connectors.Field{
			Name: x.GetName(), Kind: connectors.Kind(x.GetValueKind()), Description: x.GetDescription(), Example: x.GetExample(), Since: x.GetSince(),
			Required: x.GetRequired(), Options: x.GetOptions(), Min: x.GetMin(), Max: x.GetMax(),
		}
		if f.Kind < connectors.KindString || f.Kind > connectors.KindObjects || x.GetValueKind() > uint32(connectors.KindObjects) {
			return nil, fmt.Errorf("field %q has value_kind %d, want %d to %d", f.Name, x.GetValueKind(), connectors.KindString, connectors.KindObjects)
		}
		if f.Name == "" || indexOf(out, f.Name) >= 0 {
			return nil, fmt.Errorf("field %q is there twice or has no name", f.Name)
		}
		var err error
		if f.Fields, err = toFields(x.GetFields(), depth+1); err != nil {
			return nil, fmt.Errorf("field %q: %w", f.Name, err)
		}
		if f.Default, err = x.GetDefault().value(f); err != nil {
			return nil, fmt.Errorf("field %q: default: %w", f.Name, err)
		}
		if f.Default != nil {
			if err := f.CheckValue(f.Default); err != nil {
				return nil, fmt.Errorf("the default of field %w", err)
			}
		}
		out = append(out, f)
	}
	return out, nil
}
