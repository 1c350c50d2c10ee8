package format

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"math/big"

	"github.com/parquet-go/parquet-go"
	"github.com/twmb/avro"
	"github.com/twmb/avro/ocf"

	"github.com/entrepot-hub/entrepot/connectors"
)

// AvroCodecs are the names that NewAvro knows.
var AvroCodecs = []string{"deflate", "snappy", "zstd", "none"}

const (
	avroBlock   = 256 << 10 // bytes of a block, before it is compressed
	avroDeflate = 6
)

// Avro writes one object container file. Its columns are unions of null and a
// type, with the logical types of the specification.
type Avro struct {
	schema Schema
	split  *splitter
	w      *ocf.Writer
	cells  []parquet.Value
	row    []byte
}

// NewAvro begins a file. codec is one of AvroCodecs; lenient is as in
// NewParquet. The marker between blocks, which others draw at random, is made
// of name, so that the same rows under the same name give the same bytes.
func NewAvro(w io.Writer, s Schema, codec string, lenient bool, name string) (*Avro, error) {
	if err := s.Check(); err != nil {
		return nil, err
	}
	for _, c := range s {
		if err := CheckAvroName(c.Name); err != nil {
			return nil, err
		}
	}
	text, err := s.avro()
	if err != nil {
		return nil, err
	}
	parsed, err := avro.Parse(text)
	if err != nil {
		return nil, fmt.Errorf("the columns as an Avro schema: %w", err)
	}
	c, err := avroCodec(codec)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(append([]byte(name+"\x00"), text...))
	out, err := ocf.NewWriter(w, parsed, ocf.WithCodec(c), ocf.WithBlockBytes(avroBlock), ocf.WithSyncMarker([avroSync]byte(sum[:avroSync])), ocf.WithSchema(text))
	if err != nil {
		return nil, err
	}
	return &Avro{schema: s, split: newSplitter(s, lenient), w: out}, nil
}

func avroCodec(name string) (ocf.Codec, error) {
	switch name {
	case "deflate":
		return ocf.DeflateCodec(avroDeflate), nil
	case "snappy":
		return ocf.SnappyCodec(), nil
	case "zstd":
		return ocf.ZstdCodec(nil, nil)
	case "none":
		return ocf.NopCloser(noCodec{}), nil
	}
	return nil, fmt.Errorf("unknown compression %q, want one of %v", name, AvroCodecs)
}

// noCodec is the codec null, which the library does not export.
type noCodec struct{}

func (noCodec) Name() string                        { return "null" }
func (noCodec) Compress(b []byte) ([]byte, error)   { return b, nil }
func (noCodec) Decompress(b []byte) ([]byte, error) { return b, nil }
func (noCodec) Close() error                        { return nil }

// CheckAvroName refuses names that Avro does not allow. Its error is of class
// Poison.
func CheckAvroName(name string) error {
	for i := range len(name) {
		c := name[i]
		letter := c == '_' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
		if !letter && (i == 0 || c < '0' || c > '9') {
			return connectors.Poisonf("field %q: a name in Avro has letters, digits and _ alone, and no digit at its beginning; name it otherwise with columns and from", name)
		}
	}
	if name == "" {
		return connectors.Poisonf("a field has an empty name")
	}
	return nil
}

// Allow says what may be lost.
func (a *Avro) Allow(l Lossy) { a.split.lossy = l }

// Append implements Table.
func (a *Avro) Append(m *connectors.Message) error {
	raws, err := a.split.split(m)
	if err != nil {
		return err
	}
	if a.cells, err = a.schema.appendRow(a.cells[:0], m, raws, a.split.lossy); err != nil {
		return err
	}
	a.row = a.row[:0]
	for i, rest := 0, a.cells; i < len(a.schema); i++ {
		n := 1
		for n < len(rest) && rest[n].Column() == i {
			n++
		}
		a.row = a.schema[i].Type.appendAvro(a.row, rest[:n])
		rest = rest[n:]
	}
	_, err = a.w.Write(a.row)
	return err
}

// Close implements Table.
func (a *Avro) Close() error { return a.w.Close() }

// appendAvro writes a column's values in Avro's binary form.
func (t Type) appendAvro(b []byte, values []parquet.Value) []byte {
	null := values[0].IsNull() && !t.List || t.List && values[0].DefinitionLevel() == 0
	if null {
		return append(b, 0) // the branch null
	}
	b = append(b, 2)
	if !t.List {
		return t.appendAvroValue(b, values[0])
	}
	if values[0].DefinitionLevel() == levelEmpty {
		return append(b, 0)
	}
	b = binary.AppendVarint(b, int64(len(values)))
	for _, v := range values {
		if v.IsNull() {
			b = append(b, 0)
			continue
		}
		b = t.appendAvroValue(append(b, 2), v)
	}
	return append(b, 0) // no more blocks
}

func (t Type) appendAvroValue(b []byte, v parquet.Value) []byte {
	switch t.Kind {
	case TypeInt32, TypeDate:
		return binary.AppendVarint(b, int64(v.Int32()))
	case TypeInt64, TypeTimestamp, TypeLocal, TypeTime:
		return binary.AppendVarint(b, v.Int64())
	case TypeDouble:
		return binary.LittleEndian.AppendUint64(b, math.Float64bits(v.Double()))
	case TypeFloat:
		return binary.LittleEndian.AppendUint32(b, math.Float32bits(v.Float()))
	case TypeBool:
		if v.Boolean() {
			return append(b, 1)
		}
		return append(b, 0)
	case TypeDecimal:
		return appendAvroBytes(b, twosComplement(unscaled(v)))
	case TypeUUID:
		return appendAvroBytes(b, appendUUID(nil, v.ByteArray()))
	}
	return appendAvroBytes(b, v.ByteArray())
}

func appendAvroBytes(b, value []byte) []byte {
	return append(binary.AppendVarint(b, int64(len(value))), value...)
}

// unscaled is the number that a decimal's value holds.
func unscaled(v parquet.Value) *big.Int {
	switch v.Kind() {
	case parquet.Int32:
		return big.NewInt(int64(v.Int32()))
	case parquet.Int64:
		return big.NewInt(v.Int64())
	}
	return fromTwosComplement(v.ByteArray())
}

// fromTwosComplement reads big-endian bytes.
func fromTwosComplement(b []byte) *big.Int {
	n := new(big.Int).SetBytes(b)
	if len(b) > 0 && b[0]&0x80 != 0 {
		n.Sub(n, new(big.Int).Lsh(big.NewInt(1), uint(8*len(b))))
	}
	return n
}

// twosComplement is the shortest big-endian form.
func twosComplement(n *big.Int) []byte {
	size := n.BitLen()/8 + 1
	if n.Sign() >= 0 {
		return n.FillBytes(make([]byte, size))
	}
	size = new(big.Int).Not(n).BitLen()/8 + 1
	return new(big.Int).Add(n, new(big.Int).Lsh(big.NewInt(1), uint(8*size))).FillBytes(make([]byte, size))
}

// avro is the schema as JSON, always with the same bytes.
func (s Schema) avro() (string, error) {
	type field struct {
		Name    string `json:"name"`
		Type    [2]any `json:"type"`
		Default any    `json:"default"`
	}
	fields := make([]field, len(s))
	for i, c := range s {
		fields[i] = field{Name: c.Name, Type: [2]any{"null", c.Type.avro()}}
	}
	b, err := json.Marshal(struct {
		Type   string  `json:"type"`
		Name   string  `json:"name"`
		Fields []field `json:"fields"`
	}{"record", "row", fields})
	return string(b), err
}

// avroType is a type with its attributes.
type avroType struct {
	Type        string `json:"type"`
	LogicalType string `json:"logicalType,omitempty"`
	SQLType     string `json:"sqlType,omitempty"` // JSON, as BigQuery has it
	Precision   int    `json:"precision,omitempty"`
	Scale       int    `json:"scale,omitempty"`
	Items       any    `json:"items,omitempty"`
}

func (t Type) avro() any {
	if t.List {
		return avroType{Type: "array", Items: [2]any{"null", t.elem().avro()}}
	}
	logical := map[TypeKind]avroType{
		TypeTimestamp: {Type: "long", LogicalType: "timestamp-micros"}, TypeLocal: {Type: "long", LogicalType: "local-timestamp-micros"},
		TypeTime: {Type: "long", LogicalType: "time-micros"}, TypeDate: {Type: "int", LogicalType: "date"},
		TypeDecimal: {Type: "bytes", LogicalType: "decimal", Precision: t.Precision, Scale: t.Scale},
		TypeUUID:    {Type: "string", LogicalType: "uuid"}, TypeJSON: {Type: "string", SQLType: "JSON"},
	}
	if l, ok := logical[t.Kind]; ok {
		return l
	}
	return [...]string{TypeString: "string", TypeInt64: "long", TypeDouble: "double", TypeBool: "boolean", TypeInt32: "int", TypeFloat: "float", TypeBytes: "bytes"}[t.Kind]
}

// appendUUID writes 16 bytes in the form that people know.
func appendUUID(b, id []byte) []byte {
	return fmt.Appendf(b, "%x-%x-%x-%x-%x", id[:4], id[4:6], id[6:8], id[8:10], id[10:])
}
