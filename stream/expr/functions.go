package expr

import (
	"fmt"
	"time"

	"github.com/expr-lang/expr"
)

// functions are ours, and the list of those of the language that are taken
// away or replaced:
//
//	now               reads the clock
//	date, timezone    use the machine's zone data; date(t) here means the day of t
//	fromJSON          rounds integers; json(text) keeps them
//	keys, values, toPairs   have the order of a Go map; here that of the names
func functions() []expr.Option {
	return []expr.Option{
		expr.DisableBuiltin("now"), expr.DisableBuiltin("timezone"), expr.DisableBuiltin("fromJSON"),
		expr.DisableBuiltin("date"), expr.DisableBuiltin("keys"), expr.DisableBuiltin("values"), expr.DisableBuiltin("toPairs"),
		timeFunction("date", func(t time.Time) any { return t.UTC().Format(time.DateOnly) }, new(func(time.Time) string)),
		timeFunction("hour", func(t time.Time) any { return t.UTC().Format("15") }, new(func(time.Time) string)),
		timeFunction("unix_ms", func(t time.Time) any { return int(t.UnixMilli()) }, new(func(time.Time) int)),
		expr.Function("format_time", formatTime, new(func(time.Time, string) string)),
		expr.Function("parse_time", parseTime, new(func(string, string) time.Time), new(func(any, string) time.Time)),
		expr.Function("json", parseJSON, new(func(string) any), new(func(any) any)),
		expr.Function("keys", keys, new(func(any) []any)),
		expr.Function("values", values, new(func(any) []any)),
	}
}

func timeFunction(name string, fn func(time.Time) any, shape any) expr.Option {
	return expr.Function(name, func(args ...any) (any, error) {
		t, ok := args[0].(time.Time)
		if !ok {
			return nil, fmt.Errorf("%s needs a time, not %s", name, describe(args[0]))
		}
		return fn(t), nil
	}, shape)
}

// layouts are names for the common forms of a time.
func layout(name string) string {
	switch name {
	case "rfc3339":
		return time.RFC3339Nano
	case "clf": // access logs: 17/May/2015:10:05:03 +0000
		return "02/Jan/2006:15:04:05 -0700"
	case "sql":
		return time.DateTime
	}
	return name
}

func formatTime(args ...any) (any, error) {
	t, ok := args[0].(time.Time)
	if !ok {
		return nil, fmt.Errorf("format_time needs a time, not %s", describe(args[0]))
	}
	return t.UTC().Format(layout(args[1].(string))), nil
}

func parseTime(args ...any) (any, error) {
	text, ok := args[0].(string)
	if !ok {
		return nil, fmt.Errorf("parse_time needs a text, not %s", describe(args[0]))
	}
	t, err := time.ParseInLocation(layout(args[1].(string)), text, time.UTC)
	if err != nil {
		return nil, fmt.Errorf("parse_time: %.60q is not of the form %q", text, layout(args[1].(string)))
	}
	return t.UTC(), nil
}

func parseJSON(args ...any) (any, error) {
	text, ok := args[0].(string)
	if !ok {
		return nil, fmt.Errorf("json needs a text, not %s", describe(args[0]))
	}
	return decode([]byte(text), everything)
}

func keys(args ...any) (any, error) {
	object, ok := args[0].(map[string]any)
	if !ok {
		return nil, fmt.Errorf("keys needs an object, not %s", describe(args[0]))
	}
	return widen(sortedKeys(object)), nil
}

func values(args ...any) (any, error) {
	object, ok := args[0].(map[string]any)
	if !ok {
		return nil, fmt.Errorf("values needs an object, not %s", describe(args[0]))
	}
	out := make([]any, 0, len(object))
	for _, name := range sortedKeys(object) {
		out = append(out, object[name])
	}
	return out, nil
}
