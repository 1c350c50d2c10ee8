package wire

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/entrepot-hub/entrepot/connectors"
)

// FromConfig is what was given of a config. reveal says what becomes of each
// secret: its text, or an error; nil hides all of them.
func FromConfig(fields []connectors.Field, cfg connectors.Config, reveal func(connectors.Secret) (string, error)) (*Object, error) {
	out := &Object{Fields: map[string]*Value{}}
	for _, f := range fields {
		if !cfg.Has(f.Name) {
			continue
		}
		v, err := fromField(f, cfg, reveal)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", f.Name, err)
		}
		out.Fields[f.Name] = v
	}
	return out, nil
}

func fromField(f connectors.Field, cfg connectors.Config, reveal func(connectors.Secret) (string, error)) (*Value, error) {
	switch f.Kind {
	case connectors.KindSecret:
		if reveal == nil {
			return &Value{Of: &Value_Hidden{Hidden: true}}, nil
		}
		s, err := reveal(cfg.Secret(f.Name))
		return &Value{Of: &Value_Text{Text: s}}, err
	case connectors.KindSecretMap:
		return fromSecretMap(cfg.SecretMap(f.Name), reveal)
	case connectors.KindObject:
		o, err := FromConfig(f.Fields, cfg.Object(f.Name), reveal)
		return &Value{Of: &Value_Object{Object: o}}, err
	case connectors.KindObjects:
		all := &Objects{}
		for i, one := range cfg.Objects(f.Name) {
			o, err := FromConfig(f.Fields, one, reveal)
			if err != nil {
				return nil, fmt.Errorf("[%d]: %w", i, err)
			}
			all.Objects = append(all.Objects, o)
		}
		return &Value{Of: &Value_Objects{Objects: all}}, nil
	}
	return fromPlain(plain(f, cfg)), nil
}

func fromSecretMap(all map[string]connectors.Secret, reveal func(connectors.Secret) (string, error)) (*Value, error) {
	if reveal == nil {
		return &Value{Of: &Value_HiddenMap{HiddenMap: &Texts{Texts: slices.Sorted(maps.Keys(all))}}}, nil
	}
	out := &TextMap{Texts: map[string]string{}}
	for name, secret := range all {
		text, err := reveal(secret)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		out.Texts[name] = text
	}
	return &Value{Of: &Value_TextMap{TextMap: out}}, nil
}

// plain is a field's value as its Go type.
func plain(f connectors.Field, cfg connectors.Config) any {
	switch f.Kind {
	case connectors.KindString:
		return cfg.String(f.Name)
	case connectors.KindInt:
		return cfg.Int(f.Name)
	case connectors.KindFloat:
		return cfg.Float(f.Name)
	case connectors.KindBool:
		return cfg.Bool(f.Name)
	case connectors.KindDuration:
		return cfg.Duration(f.Name)
	case connectors.KindSize:
		return cfg.Size(f.Name)
	case connectors.KindStrings:
		return cfg.Strings(f.Name)
	case connectors.KindStringMap:
		return cfg.StringMap(f.Name)
	}
	return nil
}

// fromPlain is a value that is neither secret nor nested; nil for any other.
func fromPlain(v any) *Value {
	switch x := v.(type) {
	case string:
		return &Value{Of: &Value_Text{Text: x}}
	case int64:
		return &Value{Of: &Value_Whole{Whole: x}}
	case time.Duration:
		return &Value{Of: &Value_Whole{Whole: int64(x)}}
	case float64:
		return &Value{Of: &Value_Number{Number: x}}
	case bool:
		return &Value{Of: &Value_Truth{Truth: x}}
	case []string:
		return &Value{Of: &Value_Texts{Texts: &Texts{Texts: x}}}
	case map[string]string:
		return &Value{Of: &Value_TextMap{TextMap: &TextMap{Texts: x}}}
	}
	return nil
}

// errHidden is what revealing a secret gives where it was not sent.
var errHidden = errors.New("secrets are not revealed to a check that may not look at the system")

func hiddenSecret() connectors.Secret {
	return connectors.LazySecret(func() (string, error) { return "", errHidden })
}

// Config is a config made of what the other side was given. It fails on what
// the fields do not allow.
func (x *Object) Config(fields []connectors.Field) (connectors.Config, error) {
	values := map[string]any{}
	for name, v := range x.GetFields() {
		i := indexOf(fields, name)
		if i < 0 {
			return connectors.Config{}, fmt.Errorf("there is no field %q", name)
		}
		value, err := v.value(fields[i])
		if err == nil {
			err = fields[i].CheckValue(value)
		}
		if err != nil {
			return connectors.Config{}, err
		}
		values[name] = value
	}
	cfg := connectors.Decoded(fields, values, nil, nil)
	for _, f := range fields {
		if f.Required && !cfg.Has(f.Name) {
			return connectors.Config{}, fmt.Errorf("field %q is missing: %s", f.Name, f.Description)
		}
	}
	return cfg, nil
}

func indexOf(fields []connectors.Field, name string) int {
	for i := range fields {
		if fields[i].Name == name {
			return i
		}
	}
	return -1
}

// value is the Go value for a field; a wrong type is left to the field's check.
func (x *Value) value(f connectors.Field) (any, error) {
	switch v := x.GetOf().(type) {
	case *Value_Hidden:
		return hiddenSecret(), nil
	case *Value_HiddenMap:
		all := map[string]connectors.Secret{}
		for _, name := range v.HiddenMap.GetTexts() {
			all[name] = hiddenSecret()
		}
		return all, nil
	case *Value_Text:
		if f.Kind == connectors.KindSecret {
			return connectors.NewSecret(v.Text), nil
		}
		return v.Text, nil
	case *Value_Whole:
		if f.Kind == connectors.KindDuration {
			return time.Duration(v.Whole), nil
		}
		return v.Whole, nil
	case *Value_Number:
		return v.Number, nil
	case *Value_Truth:
		return v.Truth, nil
	case *Value_Texts:
		return v.Texts.GetTexts(), nil
	case *Value_TextMap:
		if f.Kind == connectors.KindSecretMap {
			all := map[string]connectors.Secret{}
			for name, text := range v.TextMap.GetTexts() {
				all[name] = connectors.NewSecret(text)
			}
			return all, nil
		}
		return v.TextMap.GetTexts(), nil
	case *Value_Object:
		return v.Object.Config(f.Fields)
	case *Value_Objects:
		all := []connectors.Config{}
		for i, o := range v.Objects.GetObjects() {
			cfg, err := o.Config(f.Fields)
			if err != nil {
				return nil, fmt.Errorf("%s[%d]: %w", f.Name, i, err)
			}
			all = append(all, cfg)
		}
		return all, nil
	}
	return nil, nil
}
