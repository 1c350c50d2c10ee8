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

// valueKinds are the kinds by their numbers on the wire, which never change.
func valueKinds() map[ValueKind]connectors.Kind {
	return map[ValueKind]connectors.Kind{
		ValueKind_VALUE_TEXT: connectors.KindString, ValueKind_VALUE_WHOLE: connectors.KindInt, ValueKind_VALUE_NUMBER: connectors.KindFloat,
		ValueKind_VALUE_TRUTH: connectors.KindBool, ValueKind_VALUE_DURATION: connectors.KindDuration, ValueKind_VALUE_SIZE: connectors.KindSize,
		ValueKind_VALUE_SECRET: connectors.KindSecret, ValueKind_VALUE_TEXTS: connectors.KindStrings, ValueKind_VALUE_TEXT_MAP: connectors.KindStringMap,
		ValueKind_VALUE_SECRET_MAP: connectors.KindSecretMap, ValueKind_VALUE_OBJECT: connectors.KindObject, ValueKind_VALUE_OBJECTS: connectors.KindObjects,
	}
}

func valueKind(k connectors.Kind) ValueKind {
	for v, one := range valueKinds() {
		if one == k {
			return v
		}
	}
	return ValueKind_VALUE_UNSPECIFIED
}

func fromFields(fields []connectors.Field) []*Field {
	var out []*Field
	for _, f := range fields {
		out = append(out, &Field{
			Name: f.Name, ValueKind: valueKind(f.Kind), Description: f.Description, Example: f.Example, Since: f.Since,
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
			Name: x.GetName(), Kind: valueKinds()[x.GetValueKind()], Description: x.GetDescription(), Example: x.GetExample(), Since: x.GetSince(),
			Required: x.GetRequired(), Options: x.GetOptions(), Min: x.GetMin(), Max: x.GetMax(),
		}
		if f.Kind == 0 {
			return nil, fmt.Errorf("field %q has value_kind %d, which this hub does not know", f.Name, x.GetValueKind())
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
