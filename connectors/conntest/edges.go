package conntest

import (
	"fmt"
	"strings"
)

// EdgeColumn is a column of PostgreSQL with values that systems like to get
// wrong. Each has its form in SQL and in the record that the CDC source makes
// of it by default, so that a sink can be tried with or without a server.
type EdgeColumn struct {
	Name, Type string // as PostgreSQL has it
	Cases      []EdgeCase
}

// EdgeCase is one value.
type EdgeCase struct{ SQL, JSON string }

// Edges is the table of edge cases. Enum types have to be made first; see
// EdgeStatements.
func Edges() []EdgeColumn {
	same := func(values ...string) (all []EdgeCase) { // JSON strings that SQL reads as they are
		for _, v := range values {
			all = append(all, EdgeCase{"'" + v + "'", `"` + v + `"`})
		}
		return all
	}
	bare := func(values ...string) (all []EdgeCase) { // numbers and truths
		for _, v := range values {
			all = append(all, EdgeCase{v, v})
		}
		return all
	}
	return []EdgeColumn{
		{"small", "smallint", bare("-32768", "0", "32767")},
		{"big", "bigint", []EdgeCase{{"'-9223372036854775808'", "-9223372036854775808"}, {"9007199254740993", "9007199254740993"}, {"9223372036854775807", "9223372036854775807"}}},
		{"yes", "boolean", bare("true", "false")},
		{"money_like", "numeric(20,5)", same("12345678901234.56789", "-0.00001", "0.00000")},
		{"wide", "numeric(76,10)", same("123456789012345678901234567890123456789012345678901234567890123456.0123456789")},
		{"free", "numeric", same("NaN", "Infinity", "-Infinity", "0.1000", "123456789012345678901234567890.000000000000000000001")},
		{"single", "real", []EdgeCase{{"'1e-37'", "1e-37"}, {"0.1", "0.1"}, {"'NaN'", `"NaN"`}}},
		{"double", "double precision", []EdgeCase{{"0.1", "0.1"}, {"'-Infinity'", `"-Infinity"`}, {"'1.7976931348623157e308'", "1.7976931348623157e+308"}, {"'NaN'", `"NaN"`}}},
		{"instant", "timestamptz", []EdgeCase{
			{"'2015-05-17 10:05:03.000001+02'", `"2015-05-17T08:05:03.000001Z"`}, {"'1969-12-31 23:59:59.999999+00'", `"1969-12-31T23:59:59.999999Z"`},
			{"'infinity'", `"infinity"`}, {"'-infinity'", `"-infinity"`}, {"'294276-12-31 23:59:59+00'", `"294276-12-31T23:59:59Z"`}, {"'0044-03-15 12:00:00+00 BC'", `"0044-03-15T12:00:00Z BC"`},
		}},
		{"local", "timestamp", []EdgeCase{
			{"'2015-05-17 10:05:03.1'", `"2015-05-17T10:05:03.1"`}, {"'infinity'", `"infinity"`}, {"'1900-01-01 00:00:00'", `"1900-01-01T00:00:00"`}, {"'0044-03-15 12:00:00 BC'", `"0044-03-15T12:00:00 BC"`},
		}},
		{"day", "date", same("2015-05-17", "1582-10-15", "infinity", "5874897-12-31", "0044-03-15 BC")},
		{"clock", "time", same("00:00:00", "24:00:00", "23:59:59.999999")},
		{"clock_tz", "timetz", same("10:05:03.1+02", "24:00:00-15:59")},
		{"span", "interval", same("1 year 2 mons 3 days 04:05:06.789", "-1 mons +2 days", "00:00:00")},
		{"words", "text", []EdgeCase{
			{"''", `""`}, {`E'a"b\\c\nd\te\rf'`, `"a\"b\\c\nd\te\rf"`}, {"'żółć 🦥'", `"żółć 🦥"`}, {"'__unchanged'", `"__unchanged"`}, {`'\N'`, `"\\N"`}, {"'null'", `"null"`},
		}},
		{"padded", "char(5)", same("ab   ")},
		{"doc", "jsonb", []EdgeCase{
			{`'{"n": 12345678901234567890123, "f": 1.10}'`, `{"f": 1.10, "n": 12345678901234567890123}`}, {`'[]'`, `[]`}, {`'"text"'`, `"text"`}, {`'{"e": "\\u0041 \" 🦥"}'`, `{"e": "\\u0041 \" 🦥"}`},
		}},
		{"raw_doc", "json", []EdgeCase{{`'{"z": 1,  "a": 9007199254740993}'`, `{"z": 1,  "a": 9007199254740993}`}, {`'1e400'`, `1e400`}}},
		{"id128", "uuid", same("0b8e31cc-6d5c-4f6e-9d4f-0a3c6f1e2b7d")},
		{"address", "inet", same("10.0.0.1", "2001:db8::1", "10.0.0.0/8")},
		{"feeling", "edge_mood", same("happy", "sad")},
		{"bytes", "bytea", []EdgeCase{{`'\x'`, `""`}, {`'\x00ff5c'`, `"AP9c"`}}},
		{"ints", "int[]", []EdgeCase{{"'{1,NULL,3}'", "[1,null,3]"}, {"'{}'", "[]"}, {"'{{1,2},{3,4}}'", "[[1,2],[3,4]]"}, {"'[2:3]={1,2}'", `"[2:3]={1,2}"`}}},
		{"texts", "text[]", []EdgeCase{{`ARRAY['a,b', 'NULL', NULL, '', E'q"\\']`, `["a,b","NULL",null,"","q\"\\"]`}, {`'{{a,b},{c,d}}'`, `[["a","b"],["c","d"]]`}}},
		{"amounts", "numeric(10,2)[]", []EdgeCase{{"'{1.10,NaN}'", `["1.10","NaN"]`}}},
		{"times", "timestamptz[]", []EdgeCase{{`'{"2015-05-17 10:05:03+00",infinity}'`, `["2015-05-17T10:05:03Z","infinity"]`}}},
		{"docs", "jsonb[]", []EdgeCase{{`ARRAY['{"a": [1, "x,y"]}'::jsonb, NULL]`, `[{"a": [1, "x,y"]},null]`}, {`ARRAY['[1]'::jsonb, '"x"']`, `[[1],"x"]`}, {`'{{1,2},{3,4}}'`, `"{{1,2},{3,4}}"`}}},
		{"blobs", "bytea[]", []EdgeCase{{`ARRAY['\x5c22'::bytea, '\x']`, `["XCI=",""]`}}},
		{"moods", "edge_mood[]", []EdgeCase{{`'{happy,sad}'`, `["happy","sad"]`}}},
		{"range", "int4range", same("[1,10)", "empty")},
		{"bits", "bit(3)", same("101")},
	}
}

// edgeRows is the number of rows: as many as the longest list of cases, and
// one that is NULL in all columns.
func edgeRows() int {
	n := 0
	for _, c := range Edges() {
		n = max(n, len(c.Cases))
	}
	return n + 1
}

// EdgeStatements make the table, with the columns id and those of Edges, and
// fill it.
func EdgeStatements(table string) []string {
	columns := []string{"id int PRIMARY KEY"}
	for _, c := range Edges() {
		columns = append(columns, c.Name+" "+c.Type)
	}
	all := []string{
		"CREATE TYPE edge_mood AS ENUM ('sad', 'happy')",
		fmt.Sprintf("CREATE TABLE %s (%s)", table, strings.Join(columns, ", ")),
	}
	for i := range edgeRows() {
		values := []string{fmt.Sprint(i)}
		for _, c := range Edges() {
			v := "NULL"
			if i < len(c.Cases) {
				v = c.Cases[i].SQL
			}
			values = append(values, v)
		}
		all = append(all, fmt.Sprintf("INSERT INTO %s VALUES (%s)", table, strings.Join(values, ", ")))
	}
	return all
}

// EdgeRecords are the values of the records that the CDC source makes of the
// table's rows, without what it says of them itself.
func EdgeRecords() []string {
	all := make([]string, edgeRows())
	for i := range all {
		fields := []string{fmt.Sprintf(`"id":%d`, i)}
		for _, c := range Edges() {
			v := "null"
			if i < len(c.Cases) {
				v = c.Cases[i].JSON
			}
			fields = append(fields, fmt.Sprintf("%q:%s", c.Name, v))
		}
		all[i] = "{" + strings.Join(fields, ",") + "}"
	}
	return all
}
