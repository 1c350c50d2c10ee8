package format

import (
	"encoding/base64"
	"fmt"
	"math"
	"math/big"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/format"
)

// maxScale is more than any database has.
const maxScale = 1000

// checkPhysical refuses a schema whose logical types do not fit the physical
// ones below them: the library decodes by the one and counts on the other.
func checkPhysical(f *parquet.File, leaves []*parquet.Column) error {
	n := 0
	for _, e := range f.Metadata().Schema {
		if !e.Type.Valid {
			continue
		}
		if n >= len(leaves) {
			return fmt.Errorf("the file is damaged: its schema has more than %d columns", len(leaves))
		}
		kind, t := parquet.Kind(e.Type.V), leaves[n].Type()
		if t.Kind() != kind || kind == parquet.FixedLenByteArray && (e.TypeLength.V < 1 || t.Length() != int(e.TypeLength.V)) {
			return fmt.Errorf("column %q cannot be a %s of %s", e.Name, t, kind)
		}
		for _, g := range f.Metadata().RowGroups {
			if n >= len(g.Columns) || g.Columns[n].MetaData.Type != e.Type.V {
				return fmt.Errorf("the file is damaged: column %q has another type in a row group than in the schema", e.Name)
			}
		}
		if l := t.LogicalType(); l != nil {
			if d, ok := l.Value.(*format.DecimalType); ok && (d.Scale < 0 || d.Scale > maxScale) {
				return fmt.Errorf("column %q has a scale of %d, want 0 to %d", e.Name, d.Scale, maxScale)
			}
		}
		n++
	}
	if n != len(leaves) {
		return fmt.Errorf("the file is damaged: its schema has %d columns and %d types", len(leaves), n)
	}
	return nil
}

func leavesOf(c *parquet.Column) (all []*parquet.Column) {
	if c.Leaf() {
		return []*parquet.Column{c}
	}
	for _, child := range c.Columns() {
		all = append(all, leavesOf(child)...)
	}
	return all
}

type leafText = func(dst []byte, v parquet.Value) ([]byte, error)

// leaf says how the values of a column become JSON.
func (r *ParquetReader) leaf(c *parquet.Column, path string) (leafText, error) {
	t := c.Type()
	if l := t.LogicalType(); l != nil && l.Value != nil {
		if leaf := r.logical(l, t, path); leaf != nil {
			return leaf, nil
		}
	}
	switch t.Kind() {
	case parquet.Boolean:
		return func(dst []byte, v parquet.Value) ([]byte, error) { return strconv.AppendBool(dst, v.Boolean()), nil }, nil
	case parquet.Int32:
		return func(dst []byte, v parquet.Value) ([]byte, error) {
			return strconv.AppendInt(dst, int64(v.Int32()), 10), nil
		}, nil
	case parquet.Int64:
		return func(dst []byte, v parquet.Value) ([]byte, error) { return strconv.AppendInt(dst, v.Int64(), 10), nil }, nil
	case parquet.Int96:
		return leafInt96, nil
	case parquet.Float:
		return func(dst []byte, v parquet.Value) ([]byte, error) {
			return appendFloat(dst, float64(v.Float()), 32), nil
		}, nil
	case parquet.Double:
		return func(dst []byte, v parquet.Value) ([]byte, error) { return appendFloat(dst, v.Double(), 64), nil }, nil
	}
	return leafBytes, nil
}

// logical is nil for types that the physical one tells as well.
func (r *ParquetReader) logical(l *format.LogicalType, t parquet.Type, path string) leafText {
	whole := func(v parquet.Value) int64 {
		if t.Kind() == parquet.Int32 {
			return int64(v.Int32())
		}
		return v.Int64()
	}
	switch x := l.Value.(type) {
	case *format.StringType, *format.EnumType:
		return func(dst []byte, v parquet.Value) ([]byte, error) {
			return appendUTF8(dst, v.ByteArray(), path, r.loose)
		}
	case *format.JsonType:
		return func(dst []byte, v parquet.Value) ([]byte, error) {
			return appendEmbedded(dst, v.ByteArray(), path, r.loose)
		}
	case *format.UUIDType:
		if t.Length() == 16 {
			return func(dst []byte, v parquet.Value) ([]byte, error) {
				return append(appendUUID(append(dst, '"'), v.ByteArray()), '"'), nil
			}
		}
	case *format.DateType:
		return func(dst []byte, v parquet.Value) ([]byte, error) {
			return append(appendDate(append(dst, '"'), int64(v.Int32())), '"'), nil
		}
	case *format.DecimalType:
		scale := int(x.Scale)
		return func(dst []byte, v parquet.Value) ([]byte, error) {
			return appendScaled(dst, unscaled(v), scale), nil
		}
	case *format.IntType:
		if !x.IsSigned {
			return func(dst []byte, v parquet.Value) ([]byte, error) {
				if t.Kind() == parquet.Int32 {
					return strconv.AppendUint(dst, uint64(uint32(v.Int32())), 10), nil
				}
				return strconv.AppendUint(dst, uint64(v.Int64()), 10), nil
			}
		}
	case *format.TimeType:
		unit := unitOf(x.Unit)
		return func(dst []byte, v parquet.Value) ([]byte, error) {
			n := whole(v)
			if !r.loose && (n < 0 || n >= dayLength*(int64(time.Second)/unit)) {
				return dst, poisonf(path, "%d is no time of the day", n)
			}
			return append(appendClock(append(dst, '"'), n*unit), '"'), nil
		}
	case *format.TimestampType:
		unit, zone := unitOf(x.Unit), ""
		if x.IsAdjustedToUTC {
			zone = "Z"
		}
		perSecond := int64(time.Second) / unit
		return func(dst []byte, v parquet.Value) ([]byte, error) {
			n := whole(v)
			s := floorDiv(n, perSecond)
			return append(appendTime(append(dst, '"'), s, (n-s*perSecond)*unit, zone), '"'), nil
		}
	}
	return nil
}

// unitOf is a unit of time in nanoseconds.
func unitOf(u format.TimeUnit) int64 {
	switch u.Value.(type) {
	case *format.MilliSeconds:
		return int64(time.Millisecond)
	case *format.MicroSeconds:
		return int64(time.Microsecond)
	}
	return 1
}

// appendUTF8 writes a string. With loose set, what is none is in base64.
func appendUTF8(dst, text []byte, path string, loose bool) ([]byte, error) {
	switch {
	case plainText(text):
		return append(append(append(dst, '"'), text...), '"'), nil
	case utf8.Valid(text):
		return jsontext.AppendQuote(dst, text)
	case loose:
		return appendBase64(dst, text), nil
	}
	return dst, poisonf(path, "it is not UTF-8: %q", clip(text))
}

// appendEmbedded writes JSON as it is. With loose set, what is none is a string.
func appendEmbedded(dst, text []byte, path string, loose bool) ([]byte, error) {
	if v := jsontext.Value(text); v.IsValid() {
		return append(dst, text...), nil
	}
	if loose {
		return appendUTF8(dst, text, path, loose)
	}
	return dst, poisonf(path, "it is not JSON: %s", clip(text))
}

func appendBase64(dst, b []byte) []byte {
	return append(base64.StdEncoding.AppendEncode(append(dst, '"'), b), '"')
}

func leafBytes(dst []byte, v parquet.Value) ([]byte, error) {
	return appendBase64(dst, v.ByteArray()), nil
}

// leafInt96 is the timestamp that old writers make: nanoseconds of a Julian day.
func leafInt96(dst []byte, v parquet.Value) ([]byte, error) {
	const unixEpoch = 2_440_588 // as a Julian day
	n := v.Int96()
	nanos := int64(uint64(n[1])<<32 | uint64(n[0]))
	return append(appendTime(append(dst, '"'), (int64(n[2])-unixEpoch)*dayLength, nanos, "Z"), '"'), nil
}

// appendFloat writes the shortest number that is this float, or the text that
// stands for what JSON has no number for.
func appendFloat(dst []byte, f float64, bits int) []byte {
	switch {
	case math.IsNaN(f):
		return append(dst, `"NaN"`...)
	case math.IsInf(f, 1):
		return append(dst, `"Infinity"`...)
	case math.IsInf(f, -1):
		return append(dst, `"-Infinity"`...)
	}
	form := byte('f')
	if size := math.Abs(f); size != 0 && (size < 1e-4 || bits == 32 && size >= 1e6 || size >= 1e15) {
		form = 'e' // where PostgreSQL changes to it
	}
	return strconv.AppendFloat(dst, f, form, -1, bits)
}

// appendScaled writes a decimal as a JSON string, with all digits of its scale.
func appendScaled(dst []byte, n *big.Int, scale int) []byte {
	dst = append(dst, '"')
	if n.Sign() < 0 {
		dst = append(dst, '-')
	}
	digits := new(big.Int).Abs(n).String()
	if missing := scale + 1 - len(digits); missing > 0 {
		digits = strings.Repeat("0", missing) + digits
	}
	dst = append(dst, digits[:len(digits)-max(scale, 0)]...)
	if scale > 0 {
		dst = append(append(dst, '.'), digits[len(digits)-scale:]...)
	}
	return append(dst, '"')
}
