package expr

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/go-json-experiment/json/jsontext"
)

// maxDepth bounds how deep a result may be nested.
const maxDepth = 64

// encode appends the JSON of an expression's result. Fields come in the order
// of their names, times as RFC 3339 in UTC, durations as seconds.
func encode(b jsontext.Value, v any, depth int) (jsontext.Value, error) {
	if depth > maxDepth {
		return nil, fmt.Errorf("the result is nested deeper than %d", maxDepth)
	}
	switch v := v.(type) {
	case nil:
		return append(b, "null"...), nil
	case bool:
		return strconv.AppendBool(b, v), nil
	case string:
		return jsontext.AppendQuote(b, v)
	case int:
		return strconv.AppendInt(b, int64(v), 10), nil
	case float64:
		return encodeFloat(b, v)
	case time.Time:
		return jsontext.AppendQuote(b, v.UTC().Format(time.RFC3339Nano))
	case time.Duration:
		return encodeFloat(b, v.Seconds())
	case []any:
		return encodeList(b, v, depth)
	case map[string]any:
		return encodeObject(b, v, depth)
	}
	return encodeOther(b, v, depth)
}

func encodeFloat(b jsontext.Value, f float64) (jsontext.Value, error) {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return nil, errors.New("the result is not a finite number")
	}
	if f == math.Trunc(f) && math.Abs(f) < 1e15 {
		return strconv.AppendFloat(b, f, 'f', -1, 64), nil
	}
	return strconv.AppendFloat(b, f, 'g', -1, 64), nil
}

func encodeList(b jsontext.Value, list []any, depth int) (jsontext.Value, error) {
	b = append(b, '[')
	var err error
	for i, v := range list {
		if i > 0 {
			b = append(b, ',')
		}
		if b, err = encode(b, v, depth+1); err != nil {
			return nil, err
		}
	}
	return append(b, ']'), nil
}

func encodeObject(b jsontext.Value, object map[string]any, depth int) (jsontext.Value, error) {
	var err error
	b = append(b, '{')
	for i, name := range sortedKeys(object) {
		if i > 0 {
			b = append(b, ',')
		}
		if b, err = jsontext.AppendQuote(b, name); err != nil {
			return nil, err
		}
		b = append(b, ':')
		if b, err = encode(b, object[name], depth+1); err != nil {
			return nil, err
		}
	}
	return append(b, '}'), nil
}

// encodeOther covers the typed lists and numbers that functions of the
// language return.
func encodeOther(b jsontext.Value, v any, depth int) (jsontext.Value, error) {
	switch v := v.(type) {
	case []string:
		return encodeList(b, widen(v), depth)
	case []int:
		return encodeList(b, widen(v), depth)
	case []float64:
		return encodeList(b, widen(v), depth)
	case map[string]string:
		wide := make(map[string]any, len(v))
		for k, s := range v {
			wide[k] = s
		}
		return encodeObject(b, wide, depth)
	case map[any]any:
		wide := make(map[string]any, len(v))
		for k, x := range v {
			name, ok := k.(string)
			if !ok {
				return nil, fmt.Errorf("the name of a field has to be a text, not %s", describe(k))
			}
			wide[name] = x
		}
		return encodeObject(b, wide, depth)
	case Number:
		return append(b, v...), nil
	case int64:
		return strconv.AppendInt(b, v, 10), nil
	case int32:
		return strconv.AppendInt(b, int64(v), 10), nil
	case uint8:
		return strconv.AppendUint(b, uint64(v), 10), nil
	case time.Month:
		return strconv.AppendInt(b, int64(v), 10), nil
	case time.Weekday:
		return strconv.AppendInt(b, int64(v), 10), nil
	case []byte:
		return jsontext.AppendQuote(b, v)
	}
	return nil, fmt.Errorf("the result %s has no JSON", describe(v))
}

func widen[T any](list []T) []any {
	out := make([]any, len(list))
	for i, v := range list {
		out[i] = v
	}
	return out
}

func sortedKeys(object map[string]any) []string {
	names := make([]string, 0, len(object))
	for name := range object {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// Assign returns the JSON object text with fields set: those that are there
// keep their place, new ones come at the end in the order given. Everything
// else is copied byte for byte, so that numbers keep their digits.
func Assign(text []byte, names []string, values []jsontext.Value) ([]byte, error) {
	out := make([]byte, 0, len(text)+64)
	out = append(out, '{')
	put := func(name string, value jsontext.Value) {
		if len(out) > 1 {
			out = append(out, ',')
		}
		out, _ = jsontext.AppendQuote(out, name) // names were checked when compiled, or came out of valid JSON
		out = append(append(out, ':'), value...)
	}
	done := make([]bool, len(names))
	err := eachField(text, func(name string, value jsontext.Value) {
		if i := slices.Index(names, name); i >= 0 {
			if done[i] {
				return
			}
			done[i], value = true, values[i]
		}
		put(name, value)
	})
	if err != nil {
		return nil, notJSON(err)
	}
	for i, name := range names {
		if !done[i] {
			put(name, values[i])
		}
	}
	return append(out, '}'), nil
}
