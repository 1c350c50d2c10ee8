package strict

import (
	"fmt"
	"reflect"
	"strings"
	"time"

	"github.com/entrepot-hub/entrepot/connectors"
)

// Schema is a part of a JSON Schema, draft 2020-12.
type Schema = map[string]any

// Patterns of scalars as scalar.go reads them. A text with a reference can
// become any text.
const (
	durationPattern = `^(0|[0-9]+d|([0-9]+(\.[0-9]*)?|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h)(([0-9]+(\.[0-9]*)?|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h))*)$`
	sizePattern     = `^ *[0-9][0-9.]* *([KMGT]iB|[kKMGT]B|B)? *$`
	refPattern      = `\$\{(env|file):[^}]+\}`
)

// SchemaOf describes what Decode reads into a struct, its present values being
// the defaults. A Node, which its owner reads later, may be anything.
func SchemaOf(v any) Schema { return schemaOf(reflect.ValueOf(v)) }

func schemaOf(v reflect.Value) Schema {
	switch v.Type() {
	case typeNode:
		return Schema{}
	case typeSecret:
		return Schema{"type": "string"}
	case typeDuration:
		return withDefault(durationSchema(), v)
	case typeSize:
		return withDefault(sizeSchema(), v)
	}
	switch v.Kind() {
	case reflect.Struct:
		return structSchema(v)
	case reflect.Pointer:
		if v.IsNil() {
			v = reflect.New(v.Type().Elem())
		}
		return orNull(schemaOf(v.Elem()))
	case reflect.Slice:
		return Schema{"type": []string{"array", "null"}, "items": schemaOf(reflect.New(v.Type().Elem()).Elem())}
	case reflect.Map:
		return Schema{"type": []string{"object", "null"}, "additionalProperties": schemaOf(reflect.New(v.Type().Elem()).Elem())}
	case reflect.String:
		return withDefault(Schema{"type": "string"}, v)
	case reflect.Bool:
		return withDefault(Schema{"type": "boolean"}, v)
	case reflect.Float32, reflect.Float64:
		return withDefault(Schema{"type": "number"}, v)
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return withDefault(Schema{"type": "integer"}, v)
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return withDefault(Schema{"type": "integer", "minimum": 0}, v)
	}
	panic(fmt.Sprintf("strict: no schema of a %s", v.Type()))
}

// structSchema allows the keys of a struct and no others.
func structSchema(v reflect.Value) Schema {
	properties, required := Schema{}, []string{}
	settable := reflect.New(v.Type()).Elem()
	settable.Set(v)
	for _, f := range fieldsOf(settable, Pos{}) {
		properties[f.name] = schemaOf(f.value)
		if f.required {
			required = append(required, f.name)
		}
	}
	s := Schema{"type": []string{"object", "null"}, "properties": properties, "additionalProperties": false}
	if len(required) > 0 {
		s["required"], s["type"] = required, "object"
	}
	return s
}

// orNull is a schema that takes an empty value, too.
func orNull(s Schema) Schema {
	if one, ok := s["type"].(string); ok {
		s["type"] = []string{one, "null"}
	}
	return s
}

func withDefault(s Schema, v reflect.Value) Schema {
	if v.IsZero() {
		return s
	}
	s["default"] = v.Interface()
	switch x := v.Interface().(type) {
	case time.Duration:
		s["default"] = x.String()
	case Size:
		s["default"] = int64(x)
	}
	return s
}

func durationSchema() Schema {
	return Schema{"anyOf": []Schema{{"type": "string", "pattern": durationPattern}, {"const": 0}}}
}

func sizeSchema() Schema {
	return Schema{"anyOf": []Schema{{"type": "string", "pattern": sizePattern}, {"type": "integer", "minimum": 0}}}
}

// SchemaOfFields describes a connector's mapping.
func SchemaOfFields(fields []connectors.Field) Schema {
	properties, required := Schema{}, []string{}
	for _, f := range fields {
		properties[f.Name] = schemaOfField(f)
		if f.Required {
			required = append(required, f.Name)
		}
	}
	s := Schema{"type": "object", "properties": properties, "additionalProperties": false}
	if len(required) > 0 {
		s["required"] = required
	}
	return s
}

func schemaOfField(f connectors.Field) Schema {
	s := kindSchema(f)
	s["description"] = f.Description
	if f.Example != "" {
		s["description"] = strings.TrimSuffix(f.Description, ".") + ". Such as " + f.Example
	}
	switch v := f.Default.(type) {
	case nil:
	case time.Duration:
		s["default"] = v.String()
	default:
		s["default"] = v
	}
	if f.Min != 0 || f.Max != 0 {
		if f.Kind == connectors.KindInt {
			s["minimum"], s["maximum"] = f.Min, f.Max
		}
	}
	return s
}

func kindSchema(f connectors.Field) Schema {
	switch f.Kind {
	case connectors.KindInt:
		return Schema{"type": "integer"}
	case connectors.KindFloat:
		return Schema{"type": "number"}
	case connectors.KindBool:
		return Schema{"type": "boolean"}
	case connectors.KindDuration:
		return durationSchema()
	case connectors.KindSize:
		return sizeSchema()
	case connectors.KindStrings:
		return Schema{"type": "array", "items": Schema{"type": "string"}}
	case connectors.KindStringMap, connectors.KindSecretMap:
		return Schema{"type": "object", "additionalProperties": Schema{"type": "string"}}
	case connectors.KindObject:
		return SchemaOfFields(f.Fields)
	case connectors.KindObjects:
		return Schema{"type": "array", "items": SchemaOfFields(f.Fields)}
	}
	if len(f.Options) > 0 {
		return Schema{"anyOf": []Schema{{"enum": f.Options}, {"type": "string", "pattern": refPattern}}}
	}
	return Schema{"type": "string"}
}
