package strict

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// Size is a number of bytes, written 4096, 64KiB, 128MiB, 1GB.
type Size int64

var sizeUnits = []struct {
	name  string
	bytes int64
}{
	{"KiB", 1 << 10},
	{"MiB", 1 << 20},
	{"GiB", 1 << 30},
	{"TiB", 1 << 40},
	{"KB", 1e3},
	{"kB", 1e3},
	{"MB", 1e6},
	{"GB", 1e9},
	{"TB", 1e12},
	{"B", 1},
}

// ParseSize reads a size in bytes: a whole number, or a decimal number with a
// unit (KiB, MiB, GiB, TiB are powers of 1024; kB, MB, GB, TB of 1000; B).
func ParseSize(s string) (int64, error) {
	number, unit := strings.TrimSpace(s), int64(1)
	for _, u := range sizeUnits {
		if rest, ok := strings.CutSuffix(number, u.name); ok {
			number, unit = strings.TrimSpace(rest), u.bytes
			break
		}
	}
	bad := fmt.Errorf("want a size such as 64KiB, 128MiB or a number of bytes, got %q", short(s))
	if !plainDecimal(number) {
		return 0, bad
	}
	if n, err := strconv.ParseInt(number, 10, 64); err == nil {
		if n > math.MaxInt64/unit {
			return 0, bad
		}
		return n * unit, nil
	}
	f, err := strconv.ParseFloat(number, 64)
	if err != nil || unit == 1 || f*float64(unit) >= math.MaxInt64 {
		return 0, bad
	}
	return int64(f * float64(unit)), nil
}

func plainDecimal(s string) bool {
	return s != "" && strings.Trim(s, "0123456789.") == "" && s[0] != '.'
}

// ParseDuration reads a Go duration such as 500ms, 30s, 1h30m, and whole days
// as 7d. It is never negative, and never without a unit, except 0.
func ParseDuration(s string) (time.Duration, error) {
	bad := fmt.Errorf("want a duration such as 500ms, 30s, 1m or 7d, got %q", short(s))
	if days, ok := strings.CutSuffix(s, "d"); ok {
		n, err := strconv.ParseInt(days, 10, 64)
		if err != nil || n < 0 || n > math.MaxInt64/int64(24*time.Hour) {
			return 0, bad
		}
		return time.Duration(n) * 24 * time.Hour, nil
	}
	d, err := time.ParseDuration(s)
	if err != nil || d < 0 {
		return 0, bad
	}
	return d, nil
}

// asInt reads a whole number. Other notations than decimal are refused, since
// readers disagree on what 010 means.
func (n Node) asInt() (int64, *Error) {
	if n.kind != Int {
		return 0, n.Errorf("want a whole number, got %s", n.describe())
	}
	v, err := strconv.ParseInt(n.text, 10, 64)
	digits := strings.TrimLeft(n.text, "+-")
	if err != nil || (len(digits) > 1 && digits[0] == '0') {
		e := n.Errorf("want a whole number, got %s", n.describe())
		e.Hint = "write it in decimal, between -9223372036854775808 and 9223372036854775807, without leading zeros"
		return 0, e
	}
	return v, nil
}

func (n Node) asFloat() (float64, *Error) {
	if n.kind != Int && n.kind != Float {
		return 0, n.Errorf("want a number, got %s", n.describe())
	}
	v, err := strconv.ParseFloat(n.text, 64)
	if err != nil || math.IsInf(v, 0) || math.IsNaN(v) {
		return 0, n.Errorf("want a number, got %s", n.describe())
	}
	return v, nil
}

func (n Node) asBool() (bool, *Error) {
	if n.kind != Bool {
		e := n.Errorf("want true or false, got %s", n.describe())
		if n.kind == Text && (strings.EqualFold(n.text, "true") || strings.EqualFold(n.text, "false")) {
			e.Hint = "leave the quotes out"
		}
		return false, e
	}
	return n.text == "true", nil
}

// asText reads a text as written, references and all.
func (n Node) asText() (string, *Error) {
	if n.kind != Text {
		e := n.Errorf("want a text, got %s", n.describe())
		if n.kind == Int || n.kind == Float || n.kind == Bool {
			e.Hint = fmt.Sprintf("put it in quotes: %q", n.text)
		}
		return "", e
	}
	return n.text, nil
}

func (n Node) asSize() (int64, *Error) {
	if n.kind != Text && n.kind != Int {
		return 0, n.Errorf("want a size such as 64KiB, 128MiB or a number of bytes, got %s", n.describe())
	}
	v, err := ParseSize(n.text)
	if err != nil {
		return 0, n.Errorf("%v", err)
	}
	return v, nil
}

func (n Node) asDuration() (time.Duration, *Error) {
	if n.kind != Text && (n.kind != Int || n.text != "0") {
		return 0, n.Errorf("want a duration such as 500ms, 30s, 1m or 7d, got %s", n.describe())
	}
	v, err := ParseDuration(n.text)
	if err != nil {
		return 0, n.Errorf("%v", err)
	}
	return v, nil
}
