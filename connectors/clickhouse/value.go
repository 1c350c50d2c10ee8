package clickhouse

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/entrepot-hub/entrepot/connectors/format"
)

// errors of value complete "want …".
var (
	errWantText     = errors.New("a string (as: json takes any JSON, as: base64 bytes)")
	errWantString   = errors.New("a string")
	errWantBool     = errors.New("true or false")
	errWantUUID     = errors.New("a UUID such as 0b8e31cc-6d5c-4f6e-9d4f-0a3c6f1e2b7d")
	errWantIPv4     = errors.New("an IPv4 address such as 192.0.2.1")
	errWantIPv6     = errors.New("an IP address such as 2001:db8::1")
	errWantLabel    = errors.New("one of the enum's labels")
	errWantBase64   = errors.New("bytes as base64")
	errWantArray    = errors.New("an array")
	errWantObject   = errors.New("an object")
	errWantNotNull  = errors.New("a value, as it is not Nullable; null is never made a default")
	errWantNotNone  = errors.New("a value, as it cannot be NULL (allow_lossy: [null_to_empty] makes it empty)")
	errWantDate     = errors.New("a date from 1970-01-01 to 2149-06-06")
	errWantDate32   = errors.New("a date from 1900-01-01 to 2299-12-31")
	errWantSeconds  = errors.New("a time with its zone, in whole seconds (allow_lossy: [time_to_precision] cuts them), from 1970-01-01T00:00:00Z to 2106-02-07T06:28:15Z")
	errWantInstant  = errors.New("a time with its zone, from 1900-01-01T00:00:00Z to 2262-04-11T23:47:16Z, of no more digits than it keeps (allow_lossy: [time_to_precision] cuts them)")
	errWantNumber   = errors.New("a number")
	errWantFloat    = errors.New("a number, and not the text of one (allow_lossy: [numeric_to_double] takes it, rounded)")
	errWantFraction = errors.New("a number that it holds without loss (allow_lossy: [numeric_to_double] rounds)")
)

// value makes of a raw JSON value what the driver takes for the type, nil for
// null. Nothing is rounded, cut or guessed.
func (t *chType) value(raw []byte) (any, error) {
	if len(raw) == 0 || raw[0] == 'n' {
		if t.nullable {
			return nil, nil
		}
		if t.kind == kindArray || t.kind == kindMap {
			if t.lossy.empty {
				return t.zero(), nil
			}
			return nil, errWantNotNone
		}
		return nil, errWantNotNull
	}
	switch t.kind {
	case kindInt, kindUInt:
		return t.integer(raw)
	case kindBigInt:
		return t.bigInteger(raw)
	case kindFloat:
		f, err := exactFloat(raw, t.bits, t.lossy.round)
		if t.bits == 32 {
			return float32(f), err
		}
		return f, err
	case kindBool:
		if raw[0] != 't' && raw[0] != 'f' {
			return nil, errWantBool
		}
		return raw[0] == 't', nil
	case kindDecimal:
		return t.decimal(string(format.Text(raw)))
	case kindArray:
		return t.array(raw)
	case kindMap:
		return t.mapping(raw)
	case kindTuple:
		return t.tupleOf(raw)
	}
	if raw[0] != '"' {
		if t.kind == kindString {
			return nil, errWantText
		}
		_, err := t.fromText("?")
		if err == nil {
			err = errWantString
		}
		return nil, err
	}
	return t.fromText(string(format.Text(raw)))
}

func (t *chType) fromText(text string) (any, error) {
	switch t.kind {
	case kindFixed:
		if len(text) != t.length {
			return nil, fmt.Errorf("a string of %d bytes", t.length)
		}
	case kindUUID:
		return canonicalUUID(text)
	case kindEnum:
		if !t.labels[text] {
			return nil, errWantLabel
		}
	case kindIPv4:
		if a, err := netip.ParseAddr(text); err != nil || !a.Is4() {
			return nil, errWantIPv4
		}
	case kindIPv6:
		a, err := netip.ParseAddr(text)
		if err != nil || a.Zone() != "" {
			return nil, errWantIPv6
		}
		return netip.AddrFrom16(a.As16()).String(), nil
	case kindDate:
		return t.date(text)
	case kindDateTime:
		return t.instant(text)
	}
	return text, nil
}

func canonicalUUID(text string) (string, error) {
	plain := text
	if len(text) == 36 && text[8] == '-' && text[13] == '-' && text[18] == '-' && text[23] == '-' {
		plain = strings.ReplaceAll(text, "-", "")
	}
	id, err := hex.DecodeString(plain)
	if err != nil || len(id) != 16 {
		return "", errWantUUID
	}
	return fmt.Sprintf("%x-%x-%x-%x-%x", id[:4], id[4:6], id[6:8], id[8:10], id[10:]), nil
}

// fromBase64 is the value of a String or FixedString column of as: base64.
func (t *chType) fromBase64(raw []byte) (any, error) {
	text := format.Text(raw)
	b, err := base64.StdEncoding.Strict().DecodeString(string(text))
	if raw[0] != '"' || err != nil || bytes.ContainsAny(text, "\r\n") {
		return nil, errWantBase64
	}
	if t.kind == kindFixed && len(b) != t.length {
		return nil, fmt.Errorf("%d bytes as base64", t.length)
	}
	return string(b), nil
}

func (t *chType) integer(raw []byte) (any, error) {
	if t.kind == kindUInt && t.bits == 8 { // how truths are kept without Bool
		switch string(raw) {
		case "true":
			return uint8(1), nil
		case "false":
			return uint8(0), nil
		}
	}
	if t.kind == kindUInt {
		n, err := strconv.ParseUint(string(raw), 10, t.bits)
		if err != nil {
			return nil, fmt.Errorf("a whole number from 0 to %d", ^uint64(0)>>(64-t.bits))
		}
		switch t.bits {
		case 8:
			return uint8(n), nil
		case 16:
			return uint16(n), nil
		case 32:
			return uint32(n), nil
		}
		return n, nil
	}
	n, err := strconv.ParseInt(string(raw), 10, t.bits)
	if err != nil {
		high := int64(^uint64(0) >> (65 - t.bits))
		return nil, fmt.Errorf("a whole number from %d to %d", -high-1, high)
	}
	switch t.bits {
	case 8:
		return int8(n), nil
	case 16:
		return int16(n), nil
	case 32:
		return int32(n), nil
	}
	return n, nil
}

func (t *chType) bigInteger(raw []byte) (any, error) {
	n, ok := new(big.Int), false
	if len(raw) <= 80 && len(bytes.Trim(raw, "-0123456789")) == 0 {
		n, ok = n.SetString(string(raw), 10)
	}
	bits := t.bits
	if !t.unsigned {
		bits--
	}
	low, high := new(big.Int), new(big.Int).Lsh(big.NewInt(1), uint(bits))
	if !t.unsigned {
		low.Neg(high)
	}
	if !ok || n.Cmp(low) < 0 || n.Cmp(high) >= 0 {
		return nil, fmt.Errorf("a whole number of %d bits", t.bits)
	}
	return n, nil
}

// exactFloat reads a number that a float of so many bits keeps: its shortest
// form has the same digits. Rounded, it may also be the text of a decimal.
func exactFloat(raw []byte, bits int, round bool) (float64, error) {
	if raw[0] == '"' {
		text := string(format.Text(raw))
		switch text {
		case "NaN", "Infinity", "-Infinity":
			return strconv.ParseFloat(text, bits)
		}
		if !round || text == "" || strings.Trim(text, "0123456789+-.eE") != "" {
			return 0, errWantFloat
		}
		raw = []byte(text)
	}
	f, err := strconv.ParseFloat(string(raw), bits)
	if err != nil || raw[0] == 't' || raw[0] == 'f' {
		return 0, errWantFraction
	}
	if !round && normal(string(raw)) != normal(strconv.FormatFloat(f, 'e', -1, bits)) {
		return 0, errWantFraction
	}
	return f, nil
}

// normal brings a JSON number to one form: sign, digits without zeros at
// either end, decimal exponent.
func normal(s string) string {
	mantissa, exponent, _ := strings.Cut(strings.ToLower(s), "e")
	exp, _ := strconv.Atoi(exponent)
	mantissa, negative := strings.CutPrefix(mantissa, "-")
	whole, fraction, _ := strings.Cut(mantissa, ".")
	digits := strings.TrimLeft(whole+fraction, "0")
	exp -= len(fraction)
	trimmed := strings.TrimRight(digits, "0")
	exp += len(digits) - len(trimmed)
	if trimmed == "" {
		return "0"
	}
	return fmt.Sprintf("%t %s %d", negative, trimmed, exp)
}

// decimal passes a number through as digits, within precision and scale.
func (t *chType) decimal(text string) (any, error) {
	mantissa, exponent, scientific := strings.Cut(strings.ToLower(text), "e")
	exp, err := strconv.Atoi(exponent)
	if scientific && (err != nil || exp > 1000 || exp < -1000) {
		return nil, errWantNumber
	}
	digits, _ := strings.CutPrefix(mantissa, "-")
	whole, fraction, point := strings.Cut(digits, ".")
	if whole == "" || point && fraction == "" || len(text) > 1000 || strings.Trim(whole+fraction, "0123456789") != "" {
		return nil, errWantNumber
	}
	significant := strings.TrimLeft(whole+fraction, "0")
	exp -= len(fraction)
	trimmed := strings.TrimRight(significant, "0")
	exp += len(significant) - len(trimmed)
	if trimmed != "" && (exp < -t.scale || len(trimmed)+exp > t.precision-t.scale) {
		return nil, fmt.Errorf("a number within its precision and scale")
	}
	return text, nil
}

// date is at midnight in UTC, as the driver cuts it.
func (t *chType) date(text string) (any, error) {
	d, err := time.Parse(time.DateOnly, text)
	if t.bits == 16 {
		if err != nil || d.Year() < 1970 || d.After(time.Date(2149, 6, 6, 0, 0, 0, 0, time.UTC)) {
			return nil, errWantDate
		}
		return d, nil
	}
	if err != nil || d.Year() < 1900 || d.Year() > 2299 {
		return nil, errWantDate32
	}
	return d, nil
}

// The instants that a DateTime64 and the driver both hold.
var (
	firstInstant = time.Date(1900, 1, 1, 0, 0, 0, 0, time.UTC)
	lastInstant  = time.Unix(0, 1<<63-1)
	lastSecond   = time.Unix(1<<32-1, 0)
)

// instant reads RFC 3339. A time without a zone is one of the column's, if
// that is UTC; in others some times are there twice and some not at all.
func (t *chType) instant(text string) (any, error) {
	at, err := time.Parse(time.RFC3339Nano, text)
	if err != nil && isUTC(t.zone.String()) {
		at, err = time.Parse("2006-01-02T15:04:05.999999999", strings.Replace(text, " ", "T", 1))
	}
	unit := 1_000_000_000
	for range t.scale {
		unit /= 10
	}
	if t.lossy.cut {
		at = at.Truncate(time.Duration(unit))
	}
	bad := err != nil || at.Nanosecond()%unit != 0 || strings.Contains(text, ",")
	if t.bits == 32 {
		if bad || at.Unix() < 0 || at.After(lastSecond) {
			return nil, errWantSeconds
		}
		return at, nil
	}
	if bad || at.Before(firstInstant) || at.After(lastInstant) {
		return nil, errWantInstant
	}
	return at, nil
}

func isUTC(zone string) bool {
	switch zone {
	case "UTC", "Etc/UTC", "UCT", "Etc/UCT", "Zulu", "Etc/Zulu", "Universal", "Etc/Universal":
		return true
	}
	return false
}
