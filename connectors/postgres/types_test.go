package postgres

import (
	"fmt"
	"strings"
	"testing"
)

// TestValuesOfTypes writes each value into a column of the type and reads it
// back as text: want, or a refusal with what follows the "!".
func TestValuesOfTypes(t *testing.T) {
	long := strings.Repeat("9", 131072)
	cases := map[string][][2]string{
		"smallint": {{`32767`, "32767"}, {`-32768`, "-32768"}, {`32768`, "!from -32768 to 32767, got 32768"}},
		"integer":  {{`-2147483648`, "-2147483648"}, {`2147483648`, "!whole number from"}, {`-0`, "0"}},
		"bigint": {
			{`9223372036854775807`, "9223372036854775807"},
			{`-9223372036854775808`, "-9223372036854775808"},
			{`9223372036854775808`, "!got 9223372036854775808"},
			{`1.5`, "!got 1.5"},
			{`1.0`, "!got 1.0"},
			{`1e3`, "!got 1e3"},
			{`"1"`, `!got "1"`},
			{`true`, "!got true"},
			{`[1]`, "!got [1]"},
			{`null`, "NULL"},
			{``, "NULL"},
		},
		"numeric": {
			{`123456789012345678901234567890.123456789012345678901234567890`, "123456789012345678901234567890.123456789012345678901234567890"},
			{`1.10`, "1.10"},
			{`"0.1"`, "0.1"},
			{`"-007.50"`, "-7.50"},
			{`1e3`, "1000"},
			{`1.5E-3`, "0.0015"},
			{`"NaN"`, "NaN"},
			{`"abc"`, "!want a number"},
			{`"0x1F"`, "!want a number"},
			{`"1_0"`, "!want a number"},
			{`""`, "!want a number"},
			{`" 1"`, "!want a number"},
			{`"."`, "!want a number"},
			{`"1."`, "!want a number"},
			{`"+1"`, "!want a number"},
			{`false`, "!want a number"},
			{long, long},
			{long + "9", "!want a number within"},
			{`1e999999`, "!within"},
			{`1e99999999999`, "!want a number"},
			{`1e-16383`, "0." + strings.Repeat("0", 16382) + "1"},
			{`1e-16384`, "!within"},
		},
		"numeric(5,2)":  {{`999.99`, "999.99"}, {`-0.10`, "-0.10"}, {`1.100`, "1.10"}, {`1000`, "!numeric(5,2): want a number within its precision and scale, got 1000"}, {`0.001`, "!within"}, {`1.005`, "!within"}, {`9.9e1`, "99.00"}, {`0`, "0.00"}, {`0e-9`, "0.00"}},
		"numeric(3,-2)": {{`99900`, "99900"}, {`50`, "!within"}, {`100000`, "!within"}},
		"numeric(2,4)":  {{`0.0099`, "0.0099"}, {`0.01`, "!within"}},
		"double precision": {
			{`0.1`, "0.1"},
			{`1e308`, "1e+308"},
			{`1e309`, "!without loss, got 1e309"},
			{`1e-400`, "!without loss"},
			{`5e-324`, "5e-324"},
			{`123456789.123456789`, "!without loss"},
			{`9007199254740993`, "!without loss"},
			{`9007199254740992`, "9.007199254740992e+15"},
			{`-0.0`, "-0"},
			{`"Infinity"`, "Infinity"},
			{`"NaN"`, "NaN"},
			{`"1.5"`, "!want a number"},
			{`true`, "!without loss"},
		},
		"real": {{`0.1`, "0.1"}, {`16777217`, "!without loss"}, {`16777216`, "1.6777216e+07"}, {`1e39`, "!without loss"}, {`1.1754944e-38`, "1.1754944e-38"}, {`1.17549435e-38`, "!without loss"}},
		"text": {
			{`"plain"`, "plain"},
			{`""`, ""},
			{`"\u00e9\ud83d\ude00"`, "é😀"},
			{`"a\u0000b"`, `!\u0000, which PostgreSQL cannot keep, got "a\u0000b"`},
			{`"\\u0000"`, `\u0000`},
			{`"\\N"`, `\N`},
			{`"\\."`, `\.`},
			{`"\u0001\u007f\u2028"`, "\x01\x7f\u2028"},
			{`5`, "!want a string, got 5"},
			{`{"a":1}`, `!want a string, got {"a":1}`},
			{`true`, "!want a string"},
			{`"null"`, "null"},
		},
		"character varying(3)":        {{`"abc"`, "abc"}, {`"äöü"`, "äöü"}, {`"abcd"`, "!a shorter text"}, {`"abc "`, "!a shorter text"}},
		"character(3)":                {{`"ab"`, "ab "}, {`"abcd"`, "!a shorter text"}},
		"boolean":                     {{`true`, "true"}, {`false`, "false"}, {`1`, "!want true or false, got 1"}, {`"true"`, "!want true or false"}},
		"timestamp with time zone":    {{`"2015-05-17T10:05:03Z"`, "2015-05-17 10:05:03+00"}, {`"2015-05-17T10:05:03.000001+02:00"`, "2015-05-17 08:05:03.000001+00"}, {`"2015-05-17T10:05:03.1234567Z"`, "!no more digits"}, {`"2015-05-17T10:05:03.1234560Z"`, "2015-05-17 10:05:03.123456+00"}, {`"2015-05-17T10:05:03"`, "!with its zone"}, {`"2015-02-29T00:00:00Z"`, "!with its zone"}, {`"0000-01-01T00:00:00Z"`, "!with its zone"}, {`"0001-01-01T00:00:00Z"`, "0001-01-01 00:00:00+00"}, {`"9999-12-31T23:59:59.999999-12:00"`, "10000-01-01 11:59:59.999999+00"}, {`1431857103`, "!with its zone"}, {`"infinity"`, "infinity"}, {`"infinit"`, "!with its zone"}, {`"10000-01-01T00:00:00"`, "!with its zone"}, {`"294276-12-31T23:59:59.1234567Z"`, "!with its zone"}, {`"294276-12-31T23:59:59.5Z"`, "294276-12-31 23:59:59.5+00"}, {`"2015-05-17T10:05:03,5Z"`, "!with its zone"}},
		"timestamp(3) with time zone": {{`"2015-05-17T10:05:03.123Z"`, "2015-05-17 10:05:03.123+00"}, {`"2015-05-17T10:05:03.1234Z"`, "!no more digits than it keeps"}},
		"timestamp without time zone": {{`"2015-05-17T10:05:03.5"`, "2015-05-17 10:05:03.5"}, {`"2015-05-17 10:05:03"`, "2015-05-17 10:05:03"}, {`"2015-05-17T10:05:03Z"`, "!without a zone"}, {`"2015-05-17"`, "!without a zone"}, {`"2015-05-17T10:05:03.0000001"`, "!without a zone"}},
		"date":                        {{`"2015-05-17"`, "2015-05-17"}, {`"2015-5-17"`, "!a date such as"}, {`"2015-13-01"`, "!a date"}, {`"0000-01-01"`, "!a date"}, {`16572`, "!a date"}},
		"jsonb":                       {{`{"b":[1,2.50,1e2],"a":{"n":null}}`, `{"a": {"n": null}, "b": [1, 2.50, 100]}`}, {`"text"`, `"text"`}, {`12345678901234567890123`, "12345678901234567890123"}, {`"a\u0000b"`, `!\u0000`}, {`{"\u0000":1}`, `!\u0000`}, {`"\\u0000"`, `"\\u0000"`}, {`"\\\u0000"`, `!\u0000`}, {`true`, "true"}, {`null`, "NULL"}, {"[\t1,\n2]", "[1, 2]"}},
		"json":                        {{`{"b":1,  "a":1.50}`, `{"b":1,  "a":1.50}`}},
		"uuid":                        {{`"0B8E31CC-6D5C-4F6E-9D4F-0A3C6F1E2B7D"`, "0b8e31cc-6d5c-4f6e-9d4f-0a3c6f1e2b7d"}, {`"0b8e31cc6d5c4f6e9d4f0a3c6f1e2b7d"`, "0b8e31cc-6d5c-4f6e-9d4f-0a3c6f1e2b7d"}, {`"0b8e31cc"`, "!a UUID such as"}, {`"0b8e31cc-6d5c-4f6e-9d4f0a3c6f1e2b7d-"`, "!a UUID"}, {`"gb8e31cc6d5c4f6e9d4f0a3c6f1e2b7d"`, "!a UUID"}, {`5`, "!a UUID"}},
		"bytea":                       {{`"AAEC/w=="`, `\x000102ff`}, {`""`, `\x`}, {`"AAEC/w"`, "!base64"}, {`"AA\nEC"`, "!base64"}, {`"\\x00"`, "!base64"}},
		"inet":                        {{`"10.0.0.1"`, "10.0.0.1/32"}, {`"10.0.0"`, `!invalid input syntax for type inet: "10.0.0"`}, {`{"a":1}`, "!invalid input"}},
		"interval":                    {{`"1 day 2:03"`, "1 day 02:03:00"}},
		"mood":                        {{`"fine"`, "fine"}, {`"odd"`, `!enum mood: "odd"`}},
		"positive":                    {{`5`, "5"}, {`-5`, "!positive_check"}, {`"x"`, "!invalid input syntax"}},
		"text[]":                      {{`"{a,NULL,\"b c\"}"`, `{a,NULL,"b c"}`}, {`["a",null,"b\"c\\"]`, `{a,NULL,"b\"c\\"}`}, {`[["a"],["b"]]`, "{{a},{b}}"}, {`[["a"],"b"]`, "!malformed array literal"}, {`7`, "!an array"}, {`["a\u0000"]`, "!u0000"}},
	}
	r := newRig(t)
	r.exec(`CREATE TYPE mood AS ENUM ('fine')`, `CREATE DOMAIN positive AS integer CHECK (VALUE > 0)`, fmt.Sprintf("ALTER DATABASE %s SET timezone = 'UTC'", r.text("SELECT current_database()")))
	r = rigAt(t, r.dsn)
	n := 0
	for typ, values := range cases {
		t.Run(typ, func(t *testing.T) {
			n++
			table := fmt.Sprintf("values%d", n)
			r.exec(fmt.Sprintf("CREATE TABLE %s (id bigint PRIMARY KEY, v %s)", table, typ))
			w := r.writer(map[string]any{"table": table, "mode": "upsert", "key": []string{"id"}, "offsets_table": table + "_offsets"})
			at := int64(0)
			for i, c := range values {
				value := fmt.Sprintf(`{"id":%d,"v":%s}`, i, c[0])
				if c[0] == "" {
					value = fmt.Sprintf(`{"id":%d}`, i)
				}
				complaint, refused := strings.CutPrefix(c[1], "!")
				got := refusals(t, w, at, value)[at]
				switch {
				case refused && (!strings.Contains(got, complaint) || !strings.Contains(got, `"v"`) && !strings.Contains(got, "refuses the row")):
					t.Errorf("%s: got %q, want a refusal with %q", clip([]byte(c[0])), got, complaint)
				case !refused && got != "":
					t.Errorf("%s: refused: %s", clip([]byte(c[0])), got)
				case !refused:
					at++
					if text := r.text(fmt.Sprintf("SELECT coalesce(v::text, 'NULL') || CASE WHEN pg_typeof(v)::text = 'character' THEN ' ' ELSE '' END FROM %s WHERE id = %d", table, i)); text != c[1] {
						t.Errorf("%s: the table has %q, want %q", clip([]byte(c[0])), clip([]byte(text)), clip([]byte(c[1])))
					}
				}
			}
		})
	}
}

func TestTypesOfTheConfig(t *testing.T) {
	for in, want := range map[string]string{
		"INT8": "bigint", "timestamptz": "timestamp with time zone", "Double  Precision": "double precision", "decimal( 12 , 2 )": "numeric(12,2)",
		"numeric(12)": "numeric(12,0)", "numeric(0,0)": "", "numeric(2,3)": "", "numeric(2000,2)": "", "varchar": "", "": "", "text[]": "",
	} {
		if got := canonicalType(in); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
	for choice := range strings.SplitSeq(strings.ReplaceAll(typeChoice, "precision,scale", "12;2"), ", ") {
		if choice = strings.ReplaceAll(choice, ";", ","); checkType(choice) != nil {
			t.Error(checkType(choice))
		}
	}
}

// FuzzValue looks for JSON values that crash the encoder, or make text that
// would end its field of COPY or its line.
func FuzzValue(f *testing.F) {
	for _, s := range []string{`1`, `-0.0e+5`, `"a\u0000"`, `"\\u0000"`, `{"a":[1,null,"\t"]}`, `"2015-05-17T10:05:03.1+02:00"`, `"AAEC"`, `"0b8e31cc-6d5c-4f6e-9d4f-0a3c6f1e2b7d"`, `1e999999999`, "[\t1,\n2]"} {
		f.Add([]byte(s))
	}
	var columns []column
	for name := range kinds {
		columns = append(columns, column{name: name, path: []string{"v"}, typ: typeOf(name, name, -1, true)})
	}
	columns = append(columns, column{name: "bounded", path: []string{"v"}, typ: typeOf("numeric(5,2)", "numeric", (5<<16|2)+4, true)},
		column{name: "other", path: []string{"v"}, typ: typeOf("inet", "inet", -1, true)},
		column{name: "array", path: []string{"v"}, typ: typeOf("text[]", "text[]", -1, true)}, column{name: "array of json", path: []string{"v"}, typ: typeOf("jsonb[]", "jsonb[]", -1, true)})
	f.Fuzz(func(t *testing.T, value []byte) {
		for _, c := range columns {
			one := &target{columns: []column{c}}
			r, wrong := newEncoder(one).encode(batchOf(0, `{"v":`+string(value)+`}`).Messages)
			if len(wrong) > 0 {
				continue
			}
			if text := string(r.text); strings.Count(text, "\t") != 3 || strings.Count(text, "\n") != 1 || strings.ContainsAny(text, "\r\x00") {
				t.Fatalf("%s: %q became %q", c.name, value, text)
			}
		}
	})
}
