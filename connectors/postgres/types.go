package postgres

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/entrepot-hub/entrepot/connectors/format"
)

// kind says how a JSON value becomes text of a PostgreSQL type.
type kind uint8

const (
	kindOther kind = iota // the server's input function decides
	kindInt2
	kindInt4
	kindInt8
	kindNumeric
	kindFloat4
	kindFloat8
	kindText
	kindBool
	kindTimestampTZ
	kindTimestamp
	kindDate
	kindJSON
	kindJSONB
	kindUUID
	kindBytea
	kindArray
)

// sqlType is the type of a column of a table that exists.
type sqlType struct {
	kind  kind
	shown string // as PostgreSQL prints it: numeric(12,2)
	cast  string // the same without its bounds, for a cast that cuts nothing: numeric

	bounded          bool // numeric with precision and scale
	precision, scale int  // decimal digits, as PostgreSQL defines them
	runes            int  // the most characters a text may have; 0 is no bound
	fraction         int  // decimal digits of seconds, at most 6

	elem *sqlType // of an array

	// exact says that two keys are equal in the table just when the texts
	// made for them here are.
	exact bool
}

// kinds finds the kind by the name PostgreSQL prints, without its bounds.
var kinds = map[string]kind{
	"smallint": kindInt2, "integer": kindInt4, "bigint": kindInt8, "numeric": kindNumeric, "real": kindFloat4,
	"double precision": kindFloat8, "text": kindText, "character varying": kindText, "bpchar": kindText, "boolean": kindBool,
	"timestamp with time zone": kindTimestampTZ, "timestamp without time zone": kindTimestamp, "date": kindDate,
	"json": kindJSON, "jsonb": kindJSONB, "uuid": kindUUID, "bytea": kindBytea,
}

// typeOf makes a type of what the catalog says of a column. typmod is the
// number in which PostgreSQL keeps a type's bounds, -1 for none.
func typeOf(shown, cast string, typmod int, deterministic bool) sqlType {
	if of, ok := strings.CutSuffix(cast, "[]"); ok {
		elem := typeOf(strings.TrimSuffix(shown, "[]"), of, typmod, deterministic)
		return sqlType{kind: kindArray, shown: shown, cast: cast, elem: &elem}
	}
	t := sqlType{kind: kinds[cast], shown: shown, cast: cast, fraction: 6}
	switch t.kind {
	case kindNumeric:
		if typmod >= 4 {
			t.bounded, t.precision, t.scale = true, (typmod-4)>>16&0xffff, ((typmod-4)&0x7ff^1024)-1024
		}
	case kindText:
		if typmod >= 4 {
			t.runes = typmod - 4
		}
	case kindTimestamp, kindTimestampTZ:
		if typmod >= 0 {
			t.fraction = typmod
		}
	}
	switch t.kind {
	case kindOther, kindFloat4, kindFloat8, kindJSON, kindJSONB:
	case kindText:
		t.exact = deterministic && cast != "bpchar" // where spaces at the end do not count
	default:
		t.exact = true
	}
	return t
}

// typeChoice lists what a config may say.
const typeChoice = "smallint, integer, bigint, numeric, numeric(precision,scale), real, double precision, text, boolean, timestamptz, timestamp, date, json, jsonb, uuid, bytea"

var aliases = map[string]string{
	"int2": "smallint", "int4": "integer", "int": "integer", "int8": "bigint", "decimal": "numeric", "float4": "real", "float8": "double precision",
	"bool": "boolean", "timestamptz": "timestamp with time zone", "timestamp": "timestamp without time zone",
}

var boundedNumeric = regexp.MustCompile(`^(?:numeric|decimal) *\( *([0-9]{1,4}) *(?:, *([0-9]{1,4}) *)?\)$`)

// canonicalType brings a type of the config to the form in which PostgreSQL
// prints it; "" when it is not a choice.
func canonicalType(s string) string {
	s = strings.Join(strings.Fields(strings.ToLower(s)), " ")
	if long, ok := aliases[s]; ok {
		s = long
	}
	if m := boundedNumeric.FindStringSubmatch(s); m != nil {
		precision, _ := strconv.Atoi(m[1])
		scale, _ := strconv.Atoi(m[2]) // none is 0
		if precision < 1 || precision > 1000 || scale > precision {
			return ""
		}
		return fmt.Sprintf("numeric(%d,%d)", precision, scale)
	}
	if _, ok := kinds[s]; !ok || s == "bpchar" || s == "character varying" {
		return ""
	}
	return s
}

// inferredTypes are the columns made for what was found in records.
var inferredTypes = map[format.TypeKind]string{
	format.TypeString: "text", format.TypeInt64: "bigint", format.TypeDouble: "double precision", format.TypeBool: "boolean",
	format.TypeTimestamp: "timestamp with time zone", format.TypeJSON: "jsonb",
}
