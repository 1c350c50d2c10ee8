package format

import (
	"encoding/json"
	"strconv"
	"strings"

	"github.com/entrepot-hub/entrepot/connectors"
)

// SchemaHeader is the header in which the PostgreSQL sources say what types
// the columns of a record's table have.
const SchemaHeader = "pg-schema"

// SchemaOf is the record's schema header; nil for none.
func SchemaOf(m *connectors.Message) []byte {
	for _, h := range m.Headers {
		if h.Key == SchemaHeader {
			return h.Value
		}
	}
	return nil
}

// SchemaColumns gives the types that a schema header names, by column, as
// PostgreSQL prints them. What is no such header names none.
func SchemaColumns(header []byte) map[string]string {
	var s struct {
		Columns []struct{ Name, Type string }
	}
	if len(header) == 0 || json.Unmarshal(header, &s) != nil {
		return nil
	}
	all := make(map[string]string, len(s.Columns))
	for _, c := range s.Columns {
		all[c.Name] = c.Type
	}
	return all
}

// headerTypes gives the types that a header names, by column. A type that has
// no like is left out, and so is a column whose type depends on how the source
// writes it.
func headerTypes(header []byte) map[string]Type {
	types := map[string]Type{}
	for name, typ := range SchemaColumns(header) {
		if t, ok := postgresType(typ); ok {
			types[name] = t
		}
	}
	return types
}

var postgresTypes = map[string]TypeKind{
	"smallint": TypeInt32, "integer": TypeInt32, "bigint": TypeInt64, "oid": TypeInt64, "boolean": TypeBool,
	"real": TypeFloat, "double precision": TypeDouble, "uuid": TypeUUID, "bytea": TypeBytes, "date": TypeDate,
	"json": TypeJSON, "jsonb": TypeJSON, "text": TypeString, "character varying": TypeString, "character": TypeString, "bpchar": TypeString,
	"timestamp with time zone": TypeTimestamp, "timestamp without time zone": TypeLocal, "time without time zone": TypeTime,
	"time with time zone": TypeString, "interval": TypeString, "inet": TypeString, "cidr": TypeString, "macaddr": TypeString,
	"int4range": TypeString, "int8range": TypeString, "numrange": TypeString, "tsrange": TypeString, "tstzrange": TypeString, "daterange": TypeString,
	"bit": TypeString, "bit varying": TypeString, "xml": TypeString, "tsvector": TypeString, "money": TypeString, "name": TypeString,
}

// postgresType reads a type as PostgreSQL prints it: numeric(20,5),
// timestamp(3) with time zone, integer[]. A numeric without bounds, or with more
// than a decimal has, is told by its values, as are types that are not its own.
func postgresType(s string) (Type, bool) {
	s, list := strings.CutSuffix(s, "[]")
	base, bounds := s, ""
	if open := strings.IndexByte(s, '('); open >= 0 {
		end := strings.IndexByte(s, ')')
		if end < open {
			return Type{}, false
		}
		base, bounds = s[:open]+s[end+1:], s[open+1:end]
	}
	if base == "numeric" {
		t, ok := boundedNumeric(bounds)
		t.List = list
		return t, ok
	}
	kind, ok := postgresTypes[base]
	return Type{Kind: kind, List: list}, ok
}

// boundedNumeric reads precision and scale. A scale beyond the precision, or
// below zero, asks for more digits than are kept.
func boundedNumeric(bounds string) (Type, bool) {
	p, sc, two := strings.Cut(bounds, ",")
	precision, err := strconv.Atoi(p)
	if err != nil {
		return Type{}, false
	}
	scale := 0
	if two {
		if scale, err = strconv.Atoi(sc); err != nil {
			return Type{}, false
		}
	}
	if scale < 0 {
		precision, scale = precision-scale, 0
	}
	precision = max(precision, scale)
	return Type{Kind: TypeDecimal, Precision: precision, Scale: scale}, precision >= 1 && precision <= maxPrecision
}
