package postgres

import (
	"bytes"
	"errors"
	"math"
	"strconv"

	"github.com/entrepot-hub/entrepot/connectors/format"
)

// decimal is a decimal number as it was written: digits * 10^exp, digits
// without zeros at either end (none at all for zero).
type decimal struct {
	negative bool
	digits   []byte
	exp      int
	places   int // digits after the point as written
}

// parseDecimal reads what JSON allows, and zeros in front.
func parseDecimal(text []byte) (d decimal, ok bool) {
	mantissa, exp, scientific := text, []byte(nil), false
	if i := bytes.IndexAny(text, "eE"); i >= 0 {
		mantissa, exp, scientific = text[:i], text[i+1:], true
	}
	if scientific {
		n, err := strconv.Atoi(string(exp))
		if err != nil || n > 1_000_000 || n < -1_000_000 {
			return d, false
		}
		d.exp = n
	}
	if len(mantissa) > 0 && mantissa[0] == '-' {
		d.negative, mantissa = true, mantissa[1:]
	}
	whole, fraction, point := bytes.Cut(mantissa, []byte("."))
	if len(whole) == 0 || point && len(fraction) == 0 || !allDigits(whole) || !allDigits(fraction) {
		return d, false
	}
	d.digits = whole
	if point {
		d.digits = append(append(make([]byte, 0, len(mantissa)), whole...), fraction...)
	}
	d.exp -= len(fraction)
	d.places = max(0, -d.exp)
	d.digits = bytes.TrimLeft(d.digits, "0")
	trimmed := bytes.TrimRight(d.digits, "0")
	d.exp += len(d.digits) - len(trimmed)
	d.digits = trimmed
	return d, true
}

func allDigits(b []byte) bool {
	for _, c := range b {
		if c < '0' || c > '9' {
			return false
		}
	}
	return true
}

func (d decimal) zero() bool { return len(d.digits) == 0 }

func (d decimal) equal(o decimal) bool {
	return bytes.Equal(d.digits, o.digits) && (d.zero() || d.exp == o.exp && d.negative == o.negative)
}

// appendKey writes the number so that equal numbers are equal bytes.
func (d decimal) appendKey(dst []byte) []byte {
	if d.zero() {
		return append(dst, '0')
	}
	if d.negative {
		dst = append(dst, '-')
	}
	return strconv.AppendInt(append(append(dst, d.digits...), 'e'), int64(d.exp), 10)
}

// Bounds of numeric without precision.
const (
	maxWholeDigits = 131072
	maxPlaces      = 16383
)

func (d decimal) fits(t sqlType) bool {
	if !t.bounded {
		return len(d.digits)+d.exp <= maxWholeDigits && d.places <= maxPlaces
	}
	return d.zero() || d.exp >= -t.scale && len(d.digits)+d.exp <= t.precision-t.scale
}

var (
	errWantNumber = errors.New("a number")
	errWantFits   = errors.New("a number within its precision and scale")
	errWantDouble = errors.New("a number that it holds without loss")
)

// appendNumeric passes a number, or text of one, through digit by digit.
func (t sqlType) appendNumeric(dst, raw []byte) ([]byte, error) {
	text := format.Text(raw)
	if raw[0] == '"' && (string(text) == "NaN" || !t.bounded && (string(text) == "Infinity" || string(text) == "-Infinity")) {
		return append(dst, text...), nil
	}
	d, ok := parseDecimal(text)
	switch {
	case !ok:
		return dst, errWantNumber
	case !d.fits(t):
		return dst, errWantFits
	}
	return append(dst, text...), nil
}

// appendFloat passes a number through that a float of so many bits keeps: its
// shortest form has the same digits.
func appendFloat(dst, raw []byte, bits int) ([]byte, error) {
	if raw[0] == '"' {
		switch text := format.Text(raw); string(text) {
		case "NaN", "Infinity", "-Infinity":
			return append(dst, text...), nil
		}
		return dst, errWantNumber
	}
	d, ok := parseDecimal(raw)
	f, err := strconv.ParseFloat(string(raw), bits)
	if !ok || err != nil {
		return dst, errWantDouble
	}
	safe, least := 15, 1e-300 // any 15 digits survive in 64 bits, any 6 in 32
	if bits == 32 {
		safe, least = 6, 1e-37
	}
	if len(d.digits) > safe || math.Abs(f) < least && !d.zero() {
		if back, _ := parseDecimal(strconv.AppendFloat(nil, f, 'e', -1, bits)); !back.equal(d) {
			return dst, errWantDouble
		}
	}
	return append(dst, raw...), nil
}

var (
	errWantInt2 = errors.New("a whole number from -32768 to 32767")
	errWantInt4 = errors.New("a whole number from -2147483648 to 2147483647")
	errWantInt8 = errors.New("a whole number from -9223372036854775808 to 9223372036854775807")
)

// appendInt writes a whole number of so many bits; out is the complaint.
func appendInt(dst, raw []byte, bits int, out error) ([]byte, error) {
	n, err := strconv.ParseInt(string(raw), 10, bits)
	if err != nil {
		return dst, out
	}
	return strconv.AppendInt(dst, n, 10), nil
}
