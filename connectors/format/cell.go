package format

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"math/big"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/parquet-go/parquet-go"

	"github.com/entrepot-hub/entrepot/connectors"
)

// Lossy is a set of losses that are wanted.
type Lossy uint8

// What can be lost, and only where it is wanted.
const (
	LossInfinity  Lossy = 1 << iota // an infinite date or time is null
	LossNaN                         // a decimal that is not a number, or infinite, is null
	LossDouble                      // a number that a double cannot hold is rounded
	LossNanos                       // what is below a microsecond is cut off
	LossUnchanged                   // what a record leaves as it was is null
)

var lossNames = []string{"infinity_to_null", "nan_to_null", "numeric_to_double", "nanoseconds_to_microseconds", "unchanged_to_null"}

// ParseLossy reads the names of losses.
func ParseLossy(names []string) (Lossy, error) {
	var l Lossy
	for _, name := range names {
		i := slices.Index(lossNames, name)
		if i < 0 {
			return 0, fmt.Errorf("%q is not a loss, want one of %s", name, strings.Join(lossNames, ", "))
		}
		l |= 1 << i
	}
	return l, nil
}

// cell converts a column's raw JSON, which is not null, to a Parquet value.
// Its error is of class Poison and names the column.
func (c Column) cell(raw []byte, l Lossy) (parquet.Value, error) {
	v, err := c.Type.convert(raw, l)
	if err != nil {
		return v, c.misfit(raw, err)
	}
	return v, nil
}

func (c Column) misfit(raw []byte, want error) error {
	return connectors.Poisonf("column %q is %s: want %w, got %s", c.Name, c.Type, want, clip(raw))
}

// errors of convert complete "want …".
var (
	errWantString    = errors.New("a string")
	errWantInt       = errors.New("a whole number of 64 bits")
	errWantInt32     = errors.New("a whole number of 32 bits")
	errWantNumber    = errors.New("a number (allow_lossy: [numeric_to_double] takes its text, too)")
	errWantBool      = errors.New("true or false")
	errWantTimestamp = errors.New("a time such as 2015-05-17T10:05:03.000001Z")
	errWantLocal     = errors.New("a time without a zone such as 2015-05-17T10:05:03.000001")
	errWantDate      = errors.New("a date such as 2015-05-17")
	errWantTime      = errors.New("a time of the day such as 10:05:03.000001, before 24:00")
	errWantDecimal   = errors.New("a decimal number within precision and scale")
	errNotANumber    = errors.New("a number; NaN and infinity have no place there (allow_lossy: [nan_to_null] makes them null)")
	errWantUUID      = errors.New("a UUID such as 0b8e31cc-6d5c-4f6e-9d4f-0a3c6f1e2b7d")
	errWantBytes     = errors.New("bytes in base64")
	errWantList      = errors.New("a list")
	errWantJSON      = errors.New("JSON of that")
)

// convert gives the value of one element: a list's column converts them one by
// one. What is lost because l wants it is null.
func (t Type) convert(raw []byte, l Lossy) (parquet.Value, error) {
	text := raw[0] == '"'
	switch t.Kind {
	case TypeInt64, TypeInt32:
		return t.whole(raw)
	case TypeDouble, TypeFloat:
		return t.floating(raw, l)
	case TypeBool:
		if raw[0] != 't' && raw[0] != 'f' {
			return parquet.Value{}, errWantBool
		}
		return parquet.BooleanValue(raw[0] == 't'), nil
	case TypeJSON:
		return parquet.ByteArrayValue(raw), nil
	case TypeDecimal:
		return t.decimal(string(Text(raw)), l)
	}
	if !text {
		return parquet.Value{}, t.wantText()
	}
	return t.convertText(Text(raw), l)
}

// wantText is what to say to a value that is no string.
func (t Type) wantText() error {
	switch t.Kind {
	case TypeString:
		return errWantString
	case TypeTimestamp:
		return errWantTimestamp
	case TypeLocal:
		return errWantLocal
	case TypeDate:
		return errWantDate
	case TypeTime:
		return errWantTime
	case TypeUUID:
		return errWantUUID
	}
	return errWantBytes
}

func (t Type) convertText(text []byte, l Lossy) (parquet.Value, error) {
	timely := t.Kind == TypeTimestamp || t.Kind == TypeLocal || t.Kind == TypeDate
	switch {
	case t.Kind == TypeString:
		return parquet.ByteArrayValue(text), nil
	case timely && infinite(text) && l&LossInfinity != 0:
		return parquet.NullValue(), nil
	case timely && infinite(text):
		return parquet.Value{}, errInfinite
	}
	switch t.Kind {
	case TypeTimestamp:
		us, err := micros(time.RFC3339Nano, text, l, errWantTimestamp)
		return parquet.Int64Value(us), err
	case TypeLocal:
		us, err := micros(localLayout, text, l, errWantLocal)
		return parquet.Int64Value(us), err
	case TypeDate:
		d, err := days(text)
		return parquet.Int32Value(d), err
	case TypeTime:
		us, err := clockMicros(text, l)
		return parquet.Int64Value(us), err
	case TypeUUID:
		b, err := parseUUID(text)
		return parquet.FixedLenByteArrayValue(b), err
	}
	b, err := base64.StdEncoding.Strict().AppendDecode([]byte{}, text)
	if err != nil || bytes.ContainsAny(text, "\r\n") { // which the decoder passes over
		return parquet.Value{}, errWantBytes
	}
	return parquet.ByteArrayValue(b), nil
}

func parseUUID(text []byte) ([]byte, error) {
	b := make([]byte, 0, 16)
	if len(text) != 36 {
		return nil, errWantUUID
	}
	for i, part := range bytes.Split(text, []byte("-")) {
		if want := [...]int{8, 4, 4, 4, 12}; i >= len(want) || len(part) != want[i] {
			return nil, errWantUUID
		}
		var err error
		if b, err = hex.AppendDecode(b, part); err != nil {
			return nil, errWantUUID
		}
	}
	return b, nil
}

func (t Type) whole(raw []byte) (parquet.Value, error) {
	if t.Kind == TypeInt32 {
		n, err := strconv.ParseInt(string(raw), 10, 32)
		if err != nil || string(raw) == "-0" {
			return parquet.Value{}, errWantInt32
		}
		return parquet.Int32Value(int32(n)), nil
	}
	n, err := strconv.ParseInt(string(raw), 10, 64)
	if err != nil || string(raw) == "-0" {
		return parquet.Value{}, errWantInt
	}
	return parquet.Int64Value(n), nil
}

// floating converts a number, or one of the texts that stand for what JSON has
// no number for.
func (t Type) floating(raw []byte, l Lossy) (parquet.Value, error) {
	var f float64
	switch text := string(Text(raw)); {
	case raw[0] != '"':
	case text == "NaN":
		return t.float(math.NaN()), nil
	case text == "Infinity":
		return t.float(math.Inf(1)), nil
	case text == "-Infinity":
		return t.float(math.Inf(-1)), nil
	case l&LossDouble == 0 || !isDecimal(text):
		return parquet.Value{}, errWantNumber
	}
	if l&LossDouble != 0 {
		bits := 64
		if t.Kind == TypeFloat {
			bits = 32
		}
		f, err := strconv.ParseFloat(string(Text(raw)), bits)
		if err != nil { // too large
			return parquet.Value{}, errWantNumber
		}
		return t.float(f), nil
	}
	var err error
	if t.Kind == TypeFloat {
		f, err = exactFloat(raw)
	} else {
		f, err = exactDouble(raw)
	}
	return t.float(f), err
}

func (t Type) float(f float64) parquet.Value {
	if t.Kind == TypeFloat {
		return parquet.FloatValue(float32(f))
	}
	return parquet.DoubleValue(f)
}

// appendCells adds a column's value with its levels: one, or one for each
// element of a list. raw is nil for null.
func (c Column) appendCells(dst []parquet.Value, raw []byte, index int, l Lossy) ([]parquet.Value, error) {
	if raw == nil {
		return append(dst, parquet.NullValue().Level(0, 0, index)), nil
	}
	if c.Type.List {
		return c.appendList(dst, raw, index, l)
	}
	v, err := c.cell(raw, l)
	if err != nil {
		return dst, err
	}
	level := 1
	if v.IsNull() {
		level = 0
	}
	return append(dst, v.Level(0, level, index)), nil
}

// Levels of a list's values: its elements are Optional within Repeated within
// Optional.
const (
	levelEmpty   = 1
	levelNull    = 2
	levelElement = 3
)

func (c Column) appendList(dst []parquet.Value, raw []byte, index int, l Lossy) ([]parquet.Value, error) {
	if raw[0] != '[' {
		return dst, c.misfit(raw, errWantList)
	}
	begin, repetition := len(dst), 0
	err := eachElement(raw, func(elem []byte) error {
		v, level := parquet.NullValue(), levelNull
		if elem[0] != 'n' {
			var err error
			if v, err = c.Type.elem().convert(elem, l); err != nil {
				return c.misfit(raw, fmt.Errorf("elements that are each %w", err))
			}
			if !v.IsNull() {
				level = levelElement
			}
		}
		dst = append(dst, v.Level(repetition, level, index))
		repetition = 1
		return nil
	})
	if err == nil && len(dst) == begin {
		dst = append(dst, parquet.NullValue().Level(0, levelEmpty, index))
	}
	return dst, err
}

// decimal converts exactly: to an int32 up to 9 digits, an int64 up to 18, else
// to 16 bytes of big-endian two's complement.
func (t Type) decimal(text string, l Lossy) (parquet.Value, error) {
	if text == "NaN" || text == "Infinity" || text == "-Infinity" {
		if l&LossNaN != 0 {
			return parquet.NullValue(), nil
		}
		return parquet.Value{}, errNotANumber
	}
	if _, err := strconv.ParseFloat(text, 64); len(text) > 100 || err != nil || !isDecimal(text) {
		return parquet.Value{}, errWantDecimal
	}
	r, ok := new(big.Rat).SetString(text)
	if !ok {
		return parquet.Value{}, errWantDecimal
	}
	r.Mul(r, new(big.Rat).SetInt(pow10(t.Scale)))
	n := r.Num()
	if !r.IsInt() || n.CmpAbs(pow10(t.Precision)) >= 0 {
		return parquet.Value{}, errWantDecimal
	}
	switch {
	case t.Precision <= 9:
		return parquet.Int32Value(int32(n.Int64())), nil
	case t.Precision <= 18:
		return parquet.Int64Value(n.Int64()), nil
	}
	if n.Sign() < 0 {
		n = new(big.Int).Add(n, new(big.Int).Lsh(big.NewInt(1), 128))
	}
	return parquet.FixedLenByteArrayValue(n.FillBytes(make([]byte, 16))), nil
}

// isDecimal allows digits, a sign, a point and a small exponent, and nothing
// else that parsers of numbers take (Inf, hexadecimal, underscores).
func isDecimal(s string) bool {
	mantissa, exp, _ := bytes.Cut(bytes.ToLower([]byte(s)), []byte("e"))
	return len(bytes.Trim(mantissa, "+-.0123456789")) == 0 && len(bytes.Trim(exp, "+-0123456789")) == 0 && len(exp) <= 4
}

func pow10(n int) *big.Int { return new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(n)), nil) }

// metaCell is the value of a column that comes from the record. Its error is
// of class Poison.
func (c Column) metaCell(m *connectors.Message) (parquet.Value, error) {
	switch c.Meta {
	case MetaTopic:
		return parquet.ByteArrayValue([]byte(m.Partition.Topic)), nil
	case MetaPartition:
		return parquet.Int64Value(int64(m.Partition.Partition)), nil
	case MetaOffset:
		return parquet.Int64Value(m.Offset), nil
	case MetaTimestamp:
		if m.Timestamp > math.MaxInt64/1000 || m.Timestamp < math.MinInt64/1000 {
			return parquet.Value{}, connectors.Poisonf("column %q: the record's time, %d ms, is out of range", c.Name, m.Timestamp)
		}
		if m.Timestamp != connectors.NoTimestamp {
			return parquet.Int64Value(m.Timestamp * 1000), nil
		}
	case MetaKey:
		if !utf8.Valid(m.Key) {
			return parquet.Value{}, connectors.Poisonf("column %q: the record's key is not UTF-8", c.Name)
		}
		if m.Key != nil {
			return parquet.ByteArrayValue(m.Key), nil
		}
	}
	return parquet.NullValue(), nil
}

// node is the column's place in a Parquet schema.
func (c Column) node() parquet.Node {
	if c.Type.List {
		return parquet.Optional(parquet.List(parquet.Optional(c.Type.leaf())))
	}
	return parquet.Optional(c.Type.leaf())
}

func (t Type) leaf() parquet.Node {
	switch t.Kind {
	case TypeString:
		return parquet.Encoded(parquet.String(), &parquet.RLEDictionary)
	case TypeInt64:
		return parquet.Leaf(parquet.Int64Type)
	case TypeInt32:
		return parquet.Leaf(parquet.Int32Type)
	case TypeDouble:
		return parquet.Leaf(parquet.DoubleType)
	case TypeFloat:
		return parquet.Leaf(parquet.FloatType)
	case TypeBool:
		return parquet.Leaf(parquet.BooleanType)
	case TypeTimestamp:
		return parquet.TimestampAdjusted(parquet.Microsecond, true)
	case TypeLocal:
		return parquet.TimestampAdjusted(parquet.Microsecond, false)
	case TypeTime:
		return parquet.TimeAdjusted(parquet.Microsecond, false)
	case TypeDate:
		return parquet.Date()
	case TypeUUID:
		return parquet.UUID()
	case TypeBytes:
		return parquet.Leaf(parquet.ByteArrayType)
	case TypeDecimal:
		return parquet.Decimal(t.Scale, t.Precision, t.decimalType())
	}
	return parquet.JSON()
}

// decimalType is the smallest that holds the precision.
func (t Type) decimalType() parquet.Type {
	switch {
	case t.Precision <= 9:
		return parquet.Int32Type
	case t.Precision <= 18:
		return parquet.Int64Type
	}
	return parquet.FixedLenByteArrayType(16)
}
