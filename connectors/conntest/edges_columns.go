package conntest

import (
	"fmt"
	"strings"
	"testing"
)

// BeyondColumns are the edge cases that the logical type of a column cannot
// hold, by column and number, with a part of why. Everything else can.
func BeyondColumns() map[string]map[int]string {
	return map[string]map[int]string{
		"instant": {2: "infinity", 3: "infinity", 4: "292,000 years"},
		"local":   {1: "infinity"},
		"day":     {2: "infinity"},
		"clock":   {1: "before 24:00"},
		"ints":    {2: "whole number of 32 bits", 3: "a list"},
		"texts":   {1: "a string"},
		"amounts": {0: "NaN"},
		"times":   {0: "infinity"},
		"docs":    {2: "a list"},
	}
}

// inDuckDB is what DuckDB reads of each column: its type, and the values that
// are not null as DuckDB prints them.
func inDuckDB() map[string][2]string {
	return map[string][2]string{
		"small":      {"INTEGER", `["-32768","0","32767"]`},
		"big":        {"BIGINT", `["-9223372036854775808","9007199254740993","9223372036854775807"]`},
		"yes":        {"BOOLEAN", `["true","false"]`},
		"money_like": {"DECIMAL(20,5)", `["12345678901234.56789","-0.00001","0.00000"]`},
		"wide":       {"VARCHAR", `["123456789012345678901234567890123456789012345678901234567890123456.0123456789"]`},
		"free":       {"VARCHAR", `["NaN","Infinity","-Infinity","0.1000","123456789012345678901234567890.000000000000000000001"]`},
		"single":     {"FLOAT", `["1e-37","0.1","nan"]`},
		"double":     {"DOUBLE", `["0.1","-inf","1.7976931348623157e+308","nan"]`},
		"instant":    {"TIMESTAMP WITH TIME ZONE", `["2015-05-17 08:05:03.000001+00","1969-12-31 23:59:59.999999+00","0044-03-15 (BC) 12:00:00+00"]`},
		"local":      {"TIMESTAMP", `["2015-05-17 10:05:03.1","1900-01-01 00:00:00","0044-03-15 (BC) 12:00:00"]`},
		"day":        {"DATE", `["2015-05-17","1582-10-15","5874897-12-31","0044-03-15 (BC)"]`},
		"clock":      {"TIME", `["00:00:00","23:59:59.999999"]`},
		"clock_tz":   {"VARCHAR", `["10:05:03.1+02","24:00:00-15:59"]`},
		"span":       {"VARCHAR", `["1 year 2 mons 3 days 04:05:06.789","-1 mons +2 days","00:00:00"]`},
		"words":      {"VARCHAR", `["","a\"b\\c\nd\te\rf","żółć 🦥","__unchanged","\\N","null"]`},
		"padded":     {"VARCHAR", `["ab   "]`},
		"doc":        {"JSON", `["{\"f\": 1.10, \"n\": 12345678901234567890123}","[]","\"text\"","{\"e\": \"\\\\u0041 \\\" 🦥\"}"]`},
		"raw_doc":    {"JSON", `["{\"z\": 1,  \"a\": 9007199254740993}","1e400"]`},
		"id128":      {"UUID", `["0b8e31cc-6d5c-4f6e-9d4f-0a3c6f1e2b7d"]`},
		"address":    {"VARCHAR", `["10.0.0.1","2001:db8::1","10.0.0.0/8"]`},
		"feeling":    {"VARCHAR", `["happy","sad"]`},
		"bytes":      {"BLOB", `["","\\x00\\xFF\\x5C"]`},
		"ints":       {"INTEGER[]", `["[1, NULL, 3]","[]"]`},
		"texts":      {"VARCHAR[]", `["['a,b', 'NULL', NULL, '', 'q\"\\\\']"]`},
		"docs":       {"JSON[]", `["[{\"a\": [1, \"x,y\"]}, NULL]","[[1], \"x\"]"]`},
		"blobs":      {"BLOB[]", `["[\\x5C\\x22, '']"]`},
		"moods":      {"VARCHAR[]", `["[happy, sad]"]`},
		"range":      {"VARCHAR", `["[1,10)","empty"]`},
		"bits":       {"VARCHAR", `["101"]`},
	}
}

// SameInDuckDB compares a table of edge cases, those beyond columns null in it,
// with what DuckDB has to read. query answers with the table's file for
// read_parquet(FILE).
func SameInDuckDB(t testing.TB, query func(string) string) {
	t.Helper()
	want := inDuckDB()
	var parts []string
	for _, c := range Edges() {
		if _, there := want[c.Name]; there { // the others hold nothing but what columns cannot
			parts = append(parts, fmt.Sprintf("SELECT '%[1]s', any_value(typeof(%[1]s)), to_json(list(%[1]s::VARCHAR ORDER BY id) FILTER (%[1]s IS NOT NULL)) FROM read_parquet(FILE)", c.Name))
		}
	}
	lines := strings.Split(query(strings.Join(parts, " UNION ALL ")), "\n")
	for _, line := range lines {
		words := strings.SplitN(line, "|", 3)
		if w := want[words[0]]; len(words) != 3 || words[1] != w[0] || words[2] != w[1] {
			t.Errorf("DuckDB reads %q\nwant %s %s", words, w[0], w[1])
		}
	}
	if len(lines) != len(want) {
		t.Errorf("DuckDB reads %d columns, want %d", len(lines), len(want))
	}
}
