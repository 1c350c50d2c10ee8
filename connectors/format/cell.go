package format

import (
	"bytes"
	"errors"
	"math"
	"math/big"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/parquet-go/parquet-go"

	"github.com/entrepot-hub/entrepot/connectors"
)

// cell converts a column's raw JSON, which is not null, to a Parquet value.
// Its error is of class Poison and names the column.
func (c Column) cell(raw []byte) (parquet.Value, error) {
	v, err := c.Type.convert(raw)
	if err != nil {
		return v, connectors.Poisonf("column %q is %s: want %w, got %s", c.Name, c.Type, err, clip(raw))
	}
	return v, nil
}

// errors of convert complete "want …".
var (
	errWantString    = errors.New("a string")
	errWantInt       = errors.New("a whole number of 64 bits")
	errWantBool      = errors.New("true or false")
	errWantTimestamp = errors.New("a time such as 2015-05-17T10:05:03.000001Z")
	errWantDate      = errors.New("a date such as 2015-05-17")
	errWantDecimal   = errors.New("a decimal number within precision and scale")
)

func (t Type) convert(raw []byte) (parquet.Value, error) {
	text := raw[0] == '"'
	switch t.Kind {
	case TypeString:
		if text {
			return parquet.ByteArrayValue(Text(raw)), nil
		}
		return parquet.Value{}, errWantString
	case TypeInt64:
		n, err := strconv.ParseInt(string(raw), 10, 64)
		if err != nil {
			return parquet.Value{}, errWantInt
		}
		return parquet.Int64Value(n), nil
	case TypeDouble:
		if text {
			return parquet.Value{}, errors.New("a number")
		}
		f, err := exactDouble(raw)
		return parquet.DoubleValue(f), err
	case TypeBool:
		if raw[0] != 't' && raw[0] != 'f' {
			return parquet.Value{}, errWantBool
		}
		return parquet.BooleanValue(raw[0] == 't'), nil
	case TypeJSON:
		return parquet.ByteArrayValue(raw), nil
	}
	return t.convertText(raw, text)
}

func (t Type) convertText(raw []byte, text bool) (parquet.Value, error) {
	switch {
	case t.Kind == TypeDecimal:
		return t.decimal(string(Text(raw)))
	case t.Kind == TypeTimestamp && text:
		us, err := parseMicros(Text(raw))
		return parquet.Int64Value(us), err
	case t.Kind == TypeDate && text:
		d, err := time.Parse(time.DateOnly, string(Text(raw)))
		if err != nil {
			return parquet.Value{}, errWantDate
		}
		return parquet.Int32Value(int32(floorDiv(d.Unix(), 24*60*60))), nil
	case t.Kind == TypeDate:
		return parquet.Value{}, errWantDate
	}
	return parquet.Value{}, errWantTimestamp
}

// parseMicros reads RFC 3339 with at most microseconds, as microseconds since
// the Unix epoch.
func parseMicros(text []byte) (int64, error) {
	t, err := time.Parse(time.RFC3339Nano, string(text))
	if err != nil || t.Nanosecond()%1000 != 0 || bytes.IndexByte(text, ',') >= 0 {
		return 0, errWantTimestamp
	}
	return t.UnixMicro(), nil
}

// decimal converts exactly: to an int32 up to 9 digits, an int64 up to 18, else
// to 16 bytes of big-endian two's complement.
func (t Type) decimal(text string) (parquet.Value, error) {
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
	var n parquet.Node
	switch c.Type.Kind {
	case TypeString:
		n = parquet.Encoded(parquet.String(), &parquet.RLEDictionary)
	case TypeInt64:
		n = parquet.Leaf(parquet.Int64Type)
	case TypeDouble:
		n = parquet.Leaf(parquet.DoubleType)
	case TypeBool:
		n = parquet.Leaf(parquet.BooleanType)
	case TypeTimestamp:
		n = parquet.TimestampAdjusted(parquet.Microsecond, true)
	case TypeDate:
		n = parquet.Date()
	case TypeDecimal:
		physical := parquet.Int64Type
		switch {
		case c.Type.Precision <= 9:
			physical = parquet.Int32Type
		case c.Type.Precision > 18:
			physical = parquet.FixedLenByteArrayType(16)
		}
		n = parquet.Decimal(c.Type.Scale, c.Type.Precision, physical)
	default:
		n = parquet.JSON()
	}
	return parquet.Optional(n)
}
