package clickhouse

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/entrepot-hub/entrepot/connectors"
)

// schemaHeader is where the PostgreSQL sources describe the table of a record
// (their field schema_header).
const schemaHeader = "pg-schema"

// fromHeader makes columns of the first record that describes its table; none
// when no record does. keys are those that tell the table's rows apart.
func fromHeader(messages []connectors.Message, modern bool) (columns []declared, keys []string, err error) {
	for i := range messages {
		for _, h := range messages[i].Headers {
			if h.Key == schemaHeader {
				return described(h.Value, modern)
			}
		}
	}
	return nil, nil, nil
}

func described(header []byte, modern bool) (columns []declared, keys []string, err error) {
	var s struct {
		Columns []struct {
			Name string `json:"name"`
			Type string `json:"type"`
			Key  bool   `json:"key"`
		} `json:"columns"`
	}
	if err := json.Unmarshal(header, &s); err != nil {
		return nil, nil, connectors.Fatal(fmt.Errorf("the header %s is not a schema: %w", schemaHeader, err))
	}
	for _, c := range s.Columns {
		d := declared{name: c.Name, path: []string{c.Name}}
		d.typ, d.as = ofPostgres(c.Type, modern)
		columns = append(columns, d)
		if c.Key {
			keys = append(keys, c.Name)
		}
	}
	return columns, keys, nil
}

var boundedNumeric = regexp.MustCompile(`^numeric\((\d+),(\d+)\)$`)

// ofPostgres is the column that keeps all values of a type of PostgreSQL as
// they are, or refuses the few that it cannot hold (infinity, years after
// 2299, NaN in a numeric with bounds). A server of 2018 has no such column for
// times and wide decimals: there they are kept as text. Arrays are kept as
// JSON, because an Array cannot be NULL and has one number of dimensions.
func ofPostgres(shown string, modern bool) (typ, as string) {
	if m := boundedNumeric.FindStringSubmatch(shown); m != nil {
		precision, _ := strconv.Atoi(m[1])
		scale, _ := strconv.Atoi(m[2])
		if precision <= 38 && scale <= precision || modern && precision <= 76 && scale <= precision {
			return fmt.Sprintf("Decimal(%d, %d)", precision, scale), ""
		}
		return "String", ""
	}
	switch {
	case strings.HasSuffix(shown, "[]"), shown == "json", shown == "jsonb":
		return "String", "json"
	case modern && strings.HasPrefix(shown, "timestamp"):
		return "DateTime64(6, 'UTC')", ""
	case modern && shown == "date":
		return "Date32", ""
	case modern && shown == "boolean":
		return "Bool", ""
	}
	switch shown {
	case "smallint":
		return "Int16", ""
	case "integer":
		return "Int32", ""
	case "bigint", "oid":
		return "Int64", ""
	case "boolean":
		return "UInt8", ""
	case "real":
		return "Float32", ""
	case "double precision":
		return "Float64", ""
	case "uuid":
		return "UUID", ""
	case "bytea":
		return "String", "base64"
	}
	return "String", ""
}
