package clickhouse

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/entrepot-hub/entrepot/connectors"
)

// TestValuesOfTypes writes each value into a column of the type and reads it
// back as text: one of those between bars, or a refusal with what follows "!".
func TestValuesOfTypes(t *testing.T) { onServers(t, testValuesOfTypes) }

func testValuesOfTypes(t *testing.T, newRig func(testing.TB) *rig) {
	cases := map[string][][2]string{
		"Int8":                          {{`127`, "127"}, {`-128`, "-128"}, {`128`, "!from -128 to 127, got 128"}, {`1.0`, "!got 1.0"}, {`null`, "!never made a default, got null"}, {``, "!never made a default"}},
		"UInt8":                         {{`255`, "255"}, {`true`, "1"}, {`-1`, "!from 0 to 255"}},
		"Int64":                         {{`9007199254740993`, "9007199254740993"}, {`-9223372036854775808`, "-9223372036854775808"}, {`9223372036854775808`, "!whole number"}, {`"1"`, "!whole number"}},
		"UInt64":                        {{`18446744073709551615`, "18446744073709551615"}, {`18446744073709551616`, "!from 0 to 18446744073709551615"}},
		"Nullable(Int32)":               {{`null`, "NULL"}, {``, "NULL"}, {`5`, "5"}, {`2147483648`, "!to 2147483647"}},
		"Float64":                       {{`0.1`, "0.1"}, {`9007199254740993`, "!without loss"}, {`"NaN"`, "nan"}, {`"-Infinity"`, "-inf"}, {`1e400`, "!without loss"}},
		"Float32":                       {{`0.5`, "0.5"}, {`16777217`, "!without loss"}},
		"Decimal(9, 2)":                 {{`"1234567.89"`, "1234567.89"}, {`12.34e3`, "12340.00|12340"}, {`"0.001"`, "!within its precision and scale"}, {`10000000`, "!within"}, {`"NaN"`, "!a number"}},
		"String":                        {{`"żółć 🦥"`, "żółć 🦥"}, {`""`, ""}, {`{"a":1}`, "!as: json"}, {`5`, "!a string"}},
		"Nullable(String)":              {{`null`, "NULL"}, {`"null"`, "null"}},
		"FixedString(3)":                {{`"abc"`, "abc"}, {`"ab"`, "!a string of 3 bytes"}},
		"UUID":                          {{`"0B8E31CC-6D5C-4F6E-9D4F-0A3C6F1E2B7D"`, "0b8e31cc-6d5c-4f6e-9d4f-0a3c6f1e2b7d"}, {`"x"`, "!a UUID"}},
		"Date":                          {{`"2015-05-17"`, "2015-05-17"}, {`"1969-12-31"`, "!from 1970-01-01"}, {`"infinity"`, "!a date"}},
		"DateTime":                      {{`"2015-05-17T10:05:03+02:00"`, "2015-05-17 08:05:03"}, {`"1969-12-31T23:59:59Z"`, "!from 1970"}, {`"2106-02-07T06:28:16Z"`, "!to 2106"}, {`"2015-05-17T10:05:03.5Z"`, "!whole seconds"}, {`"2015-05-17T10:05:03"`, "2015-05-17 10:05:03"}},
		"Enum8('sad' = 1, 'it''s' = 2)": {{`"sad"`, "sad"}, {`"odd"`, "!one of the enum's labels, got \"odd\""}, {`1`, "!labels"}},
		"Array(Nullable(Int32))":        {{`[1,null,3]`, "[1,NULL,3]"}, {`[]`, "[]"}, {`[1,"x"]`, "!at element 2"}, {`{}`, "!an array"}},
		"Array(Array(String))":          {{`[["a,b"],[]]`, `[['a,b'],[]]`}},
		"Tuple(Int32, String)":          {{`[1,"x"]`, "(1,'x')"}, {`[1]`, "!2 elements"}},
	}
	r := newRig(t)
	if r.tokens() {
		maps.Copy(cases, casesOfToday())
	}
	n := 0
	for typ, values := range cases {
		t.Run(typ, func(t *testing.T) {
			n++
			table := fmt.Sprintf("values%d", n)
			r.exec(fmt.Sprintf("CREATE TABLE %s (id Int64, v %s, _topic String, _partition Int32, _offset Int64) ENGINE = MergeTree ORDER BY id", table, strings.ReplaceAll(typ, "''", `\'`)))
			w := r.writer(map[string]any{"table": table})
			at := int64(0)
			for i, c := range values {
				value := fmt.Sprintf(`{"id":%d,"v":%s}`, i, c[0])
				if c[0] == "" {
					value = fmt.Sprintf(`{"id":%d}`, i)
				}
				wrong, err := w.Write(t.Context(), planOf(at, at+1, 1), batchOf(at, value))
				if err != nil {
					t.Fatalf("%s: %v", c[0], err)
				}
				complaint, refused := strings.CutPrefix(c[1], "!")
				switch {
				case refused && (len(wrong) != 1 || !strings.Contains(wrong[0].Error(), complaint) || !strings.Contains(wrong[0].Error(), `column "v" is`) || connectors.ClassOf(wrong[0].Err) != connectors.ClassPoison):
					t.Errorf("%s: got %v, want a refusal with %q", c[0], wrong, complaint)
				case !refused && len(wrong) > 0:
					t.Errorf("%s: refused: %v", c[0], wrong)
				case !refused:
					at++
					if text := r.text(fmt.Sprintf("SELECT ifNull(toString(v), 'NULL') FROM %s WHERE id = %d", table, i)); !slices.Contains(strings.Split(c[1], "|"), text) {
						t.Errorf("%s: the table has %q, want %q", c[0], text, c[1])
					}
				}
			}
		})
	}
}

// casesOfToday are of types that came after 2018.
func casesOfToday() map[string][][2]string {
	return map[string][][2]string{
		"Bool":                                    {{`true`, "true"}, {`1`, "!true or false"}},
		"Int256":                                  {{`-57896044618658097711785492504343953926634992332820282019728792003956564819968`, "-57896044618658097711785492504343953926634992332820282019728792003956564819968"}, {`57896044618658097711785492504343953926634992332820282019728792003956564819968`, "!of 256 bits"}},
		"Decimal(76, 10)":                         {{`"123456789012345678901234567890123456789012345678901234567890123456.0123456789"`, "123456789012345678901234567890123456789012345678901234567890123456.0123456789"}, {`"0.00000000001"`, "!within"}, {`"1234567890123456789012345678901234567890123456789012345678901234567"`, "!within"}},
		"Date32":                                  {{`"1900-01-01"`, "1900-01-01"}, {`"2299-12-31"`, "2299-12-31"}, {`"1899-12-31"`, "!from 1900"}, {`"2300-01-01"`, "!to 2299"}},
		"DateTime64(6, 'UTC')":                    {{`"1900-01-01T00:00:00.000001Z"`, "1900-01-01 00:00:00.000001"}, {`"2015-05-17T10:05:03.1"`, "2015-05-17 10:05:03.100000"}, {`"2015-05-17T10:05:03.1234567Z"`, "!no more digits"}, {`"1899-12-31T23:59:59Z"`, "!from 1900"}, {`"2262-04-12T00:00:00Z"`, "!to 2262"}},
		"DateTime64(3, 'Europe/Warsaw')":          {{`"2015-10-25T00:30:00.125Z"`, "2015-10-25 02:30:00.125"}, {`"2015-10-25T01:30:00.125Z"`, "2015-10-25 02:30:00.125"}, {`"2015-10-25T02:30:00.125"`, "!with its zone"}},
		"Nullable(DateTime64(9, 'UTC'))":          {{`null`, "NULL"}, {`"2015-05-17T10:05:03.123456789Z"`, "2015-05-17 10:05:03.123456789"}},
		"LowCardinality(Nullable(String))":        {{`null`, "NULL"}, {`""`, ""}, {`"a"`, "a"}},
		"LowCardinality(String)":                  {{`null`, "!never made a default"}, {`"a"`, "a"}},
		"Map(String, Nullable(Int8))":             {{`{"z":1,"a":null}`, "{'z':1,'a':NULL}"}, {`{"z":128}`, "!at key \"z\""}, {`null`, "!null_to_empty"}},
		"Map(UInt8, Array(String))":               {{`{"1":["x"]}`, "{1:['x']}"}, {`{"x":[]}`, "!as key \"x\""}},
		"Array(Nullable(Decimal(10, 2)))":         {{`["1.10",null]`, "[1.1,NULL]"}, {`["NaN"]`, "!at element 1"}},
		"Array(LowCardinality(Nullable(String)))": {{`["a",null,"a"]`, "['a',NULL,'a']"}},
		"Tuple(a Int32, b Nullable(String))":      {{`{"b":null,"a":1}`, "(1,NULL)"}, {`{"a":null,"b":""}`, "!at element 1"}},
		"IPv4":                                    {{`"192.0.2.1"`, "192.0.2.1"}, {`"::1"`, "!an IPv4 address"}},
		"IPv6":                                    {{`"2001:db8::1"`, "2001:db8::1"}, {`"192.0.2.1"`, "::ffff:192.0.2.1"}},
		"Enum16('a' = -300, 'b' = 300)":           {{`"b"`, "b"}, {`"c"`, "!labels"}},
	}
}

// TestNullAndDefault: NULL is NULL also where the column has a default, and a
// table with one says that the config has to decide. A JSON column is refused.
func TestNullAndDefault(t *testing.T) {
	r := newEngineRig(t)
	r.exec("CREATE TABLE t (id Int64, v Nullable(String) DEFAULT 'given', w String DEFAULT 'filled', _topic String, _partition Int32, _offset Int64) ENGINE = MergeTree ORDER BY id")
	_, err := r.open(map[string]any{"table": "t"})
	wantClass(t, err, connectors.ClassFatal, "columns with a default (v, w)")
	put(t, r.writer(map[string]any{"table": "t", "columns": []map[string]any{{"name": "id"}, {"name": "v"}}}), 0, `{"id":1,"v":null}`, `{"id":2}`, `{"id":3,"v":"x"}`)
	r.want("SELECT toString(groupArray((id, v, w))) FROM (SELECT * FROM t ORDER BY id)", "[(1,NULL,'filled'),(2,NULL,'filled'),(3,'x','filled')]")
	r.exec("CREATE TABLE j (id Int64, v JSON) ENGINE = MergeTree ORDER BY id")
	_, err = r.open(map[string]any{"table": "j", "exactly_once": "none"})
	wantClass(t, err, connectors.ClassFatal, `column "v"`, "keep the value in a String")
}

// TestRefusals: what cannot be exact is refused, with what would be right.
func TestRefusals(t *testing.T) { onServers(t, testRefusals) }

func testRefusals(t *testing.T, newRig func(testing.TB) *rig) {
	r := newRig(t)
	r.exec("CREATE TABLE plain (id Int64, name String) ENGINE = MergeTree ORDER BY id",
		"CREATE TABLE logged (id Int64, name String, _topic String, _partition Int32, _offset Int64) ENGINE = Log",
		"CREATE TABLE replacing (id Int64, name String, v Int64, _topic String, _partition Int32, _offset Int64) ENGINE = ReplacingMergeTree(v) ORDER BY id",
		"CREATE TABLE marked (id Int64, name String, gone Int8, v Int64, _topic String, _partition Int32, _offset Int64) ENGINE = ReplacingMergeTree(v) ORDER BY id")
	window := "its window is 0: ALTER TABLE"
	if !r.tokens() {
		window = "22.2 or later"
		r.exec("CREATE TABLE old (id Int64, name String, day Date, v Int64) ENGINE = ReplacingMergeTree(day, (id), 8192, v)")
	} else {
		r.exec("CREATE TABLE old (id Int64, name String, day Date, v Int64) ENGINE = ReplacingMergeTree ORDER BY id")
	}
	for _, c := range []struct {
		fields map[string]any
		texts  []string
	}{
		{map[string]any{"table": "plain"}, []string{"no column _topic", "three ways out", "exactly_once: token", "exactly_once: version", "exactly_once: none"}},
		{map[string]any{"table": "plain", "exactly_once": "token"}, []string{window}},
		{map[string]any{"table": "plain", "exactly_once": "version"}, []string{"want a ReplacingMergeTree"}},
		{map[string]any{"table": "logged"}, []string{"its engine, Log, does not keep"}},
		{map[string]any{"table": "replacing"}, []string{"its engine, ReplacingMergeTree"}},
		{map[string]any{"table": "replacing", "exactly_once": "version", "columns": []map[string]any{{"name": "id"}}}, []string{`version column "v"`}},
		{map[string]any{"table": "marked", "exactly_once": "version", "deleted": "gone"}, []string{`column "gone"`, "is Int8, and deleted wants UInt8 or Bool"}},
		{map[string]any{"table": "old", "exactly_once": "version"}, []string{"no version column"}},
		{map[string]any{"table": "nothing"}, []string{"does not exist", "create: true"}},
		{map[string]any{"table": "nothing", "create": true, "columns": []map[string]any{{"name": "id"}}}, []string{`column "id" has no type`}},
		{map[string]any{"table": "plain", "exactly_once": "none", "columns": []map[string]any{{"name": "nmae"}}}, []string{`no column "nmae"`}},
		{map[string]any{"table": "plain", "exactly_once": "none", "columns": []map[string]any{{"name": "id", "type": "Int32"}}}, []string{"is Int64, but columns says Int32"}},
	} {
		_, err := r.open(c.fields)
		wantClass(t, err, connectors.ClassFatal, c.texts...)
		if got := (Sink{}).Validate(t.Context(), r.config(c.fields), connectors.ProbeLive); len(got) != 1 || got[0].Warning {
			t.Errorf("%v: Validate found %v", c.fields, got)
		}
	}
	put(t, r.writer(map[string]any{"table": "plain", "exactly_once": "none"}), 0, `{"id":1,"name":"a"}`)
	put(t, r.writer(map[string]any{"table": "replacing", "exactly_once": "version"}), 0, `{"id":1,"name":"a","v":1}`)
	got := Sink{}.Validate(t.Context(), r.config(map[string]any{"table": "plain", "exactly_once": "none"}), connectors.ProbeLive)
	if len(got) != 1 || !got[0].Warning || !strings.Contains(got[0].Message, "not Nullable") {
		t.Errorf("a column that is not Nullable: %v", got)
	}
}

// TestDeletedRows: a tombstone, and a record that says it is a delete.
func TestDeletedRows(t *testing.T) { onServers(t, testDeletedRows) }

func testDeletedRows(t *testing.T, newRig func(testing.TB) *rig) {
	r := newRig(t)
	r.exec("CREATE TABLE rows (id Int64, name String, _deleted UInt8, _topic String, _partition Int32, _offset Int64) ENGINE = ReplacingMergeTree(_offset) ORDER BY id")
	w := r.writer(map[string]any{"table": "rows", "exactly_once": "version", "deleted": "_deleted"})
	put(t, w, 0, `{"id":1,"name":"a","__op":"c"}`, `{"id":2,"name":"b"}`, `{"id":3,"name":"c"}`, `{"id":1}=`, `{"id":2,"__op":"d"}`)
	r.want("SELECT toString(groupArray((id, name, _deleted))) FROM (SELECT * FROM rows FINAL ORDER BY id)", "[(1,'',1),(2,'',1),(3,'c',0)]")
	wrong, err := w.Write(t.Context(), planOf(5, 8, 1), batchOf(5, `7=`, `{"nr":1}=`, `{"id":4,"__unchanged":["name"]}`))
	if err != nil || len(wrong) != 3 || !strings.Contains(wrong[2].Error(), "REPLICA IDENTITY FULL") {
		t.Errorf("refused %v, %v", wrong, err)
	}
	r.exec("CREATE TABLE alive (id Int64, name Nullable(String), _topic String, _partition Int32, _offset Int64) ENGINE = MergeTree ORDER BY id")
	wrong, err = r.writer(map[string]any{"table": "alive"}).Write(t.Context(), planOf(0, 1, 1), batchOf(0, `{"id":2,"__op":"d"}`))
	if err != nil || len(wrong) != 1 || !strings.Contains(wrong[0].Error(), "its row was deleted") {
		t.Errorf("refused %v, %v", wrong, err)
	}
}

// TestDebeziumEnvelope: the row that a change is about, taken by name or of after
// and before; what is not in it is not NULL, and a row that is gone is no row.
func TestDebeziumEnvelope(t *testing.T) { onServers(t, testDebeziumEnvelope) }

func testDebeziumEnvelope(t *testing.T, newRig func(testing.TB) *rig) {
	const end = `,"source":{"connector":"postgresql","lsn":7},"ts_ms":5`
	changed := func(before, after, op, more string) string {
		return `{"before":` + before + `,"after":` + after + end + `,"op":"` + op + `"` + more + `}`
	}
	records := []string{
		changed("null", `{"id":1,"name":"a","op":5}`, "r", ""), changed("null", `{"id":2,"name":null,"op":6}`, "c", ""), changed(`{"id":1}`, `{"id":1,"name":"b","op":7}`, "u", `,"transaction":null`),
		changed(`{"id":2,"name":"old","op":6}`, "null", "d", ""), changed("null", `{"id":3,"name":"c","op":8}`, "c", ""), `{"id":3}=`,
	}
	bad := []string{changed("null", `{"id":4,"op":1}`, "u", `,"__unchanged":["name"]`), changed("null", "null", "t", "")}
	gone := changed(`{"id":5}`, "null", "d", "")
	r := newRig(t)
	for i, fields := range []map[string]any{
		{},
		{"columns": []map[string]any{{"name": "id", "from": "after.id"}, {"name": "name", "from": "after.name"}, {"name": "op", "from": "after.op"}}},
	} {
		table := fmt.Sprintf("changes%d", i)
		r.exec("CREATE TABLE " + table + " (id Int64, name Nullable(String), op Nullable(Int64), _deleted UInt8, _topic String, _partition Int32, _offset Int64) ENGINE = ReplacingMergeTree(_offset) ORDER BY id")
		fields["table"], fields["exactly_once"] = table, "version"
		refused := func(want ...string) {
			t.Helper()
			wrong, err := r.writer(fields).Write(t.Context(), planOf(6, 9, 1), batchOf(6, append(bad, gone)...))
			if err != nil || len(wrong) != len(want) {
				t.Fatalf("%s: refused %v, %v, want %d", table, wrong, err, len(want))
			}
			for j, part := range want {
				if !strings.Contains(wrong[j].Error(), part) {
					t.Errorf("%s: refused as %v, want %q", table, wrong[j], part)
				}
			}
		}
		refused("REPLICA IDENTITY FULL", "TRUNCATE", "its row was deleted")
		fields["deleted"] = "_deleted"
		refused("REPLICA IDENTITY FULL", "TRUNCATE")
		put(t, r.writer(fields), 0, records...)
		put(t, r.writer(fields), 6, gone)
		r.want("SELECT toString(groupArray((id, ifNull(name, '-'), ifNull(op, 0), _deleted))) FROM (SELECT * FROM "+table+" FINAL ORDER BY id)",
			"[(1,'b',7,0),(2,'old',6,1),(3,'-',0,1),(5,'-',0,1)]")
	}
	r.exec("CREATE TABLE log (after Nullable(String), op String, lsn Int64, _topic String, _partition Int32, _offset Int64) ENGINE = MergeTree ORDER BY _offset")
	log := r.writer(map[string]any{"table": "log", "columns": []map[string]any{{"name": "after", "as": "json"}, {"name": "op"}, {"name": "lsn", "from": "source.lsn"}}})
	put(t, log, 0, records[1], gone, bad[1])
	r.want("SELECT toString(groupArray((ifNull(after, '-'), op, lsn))) FROM log", `[('{"id":2,"name":null,"op":6}','c',7),('-','d',7),('-','t',7)]`)
}

// TestWideDecimal compares in the server: 18.16 prints such numbers wrongly.
func TestWideDecimal(t *testing.T) { onServers(t, testWideDecimal) }

func testWideDecimal(t *testing.T, newRig func(testing.TB) *rig) {
	r := newRig(t)
	r.exec("CREATE TABLE wide (v Decimal(38, 10), _topic String, _partition Int32, _offset Int64) ENGINE = MergeTree ORDER BY _offset")
	put(t, r.writer(map[string]any{"table": "wide"}), 0, `{"v":"-1234567890123456789012345678.0123456789"}`)
	r.want("SELECT toString(v = toDecimal128('-1234567890123456789012345678.0123456789', 10)) FROM wide", "1")
}

// TestNothingToMakeATableOf: until there is a table, a record that has no
// value to make a column of is not passed over.
func TestNothingToMakeATableOf(t *testing.T) { onServers(t, testNothingToMakeATableOf) }

func testNothingToMakeATableOf(t *testing.T, newRig func(testing.TB) *rig) {
	r := newRig(t)
	w := r.writer(map[string]any{"table": "found", "create": true, "deleted": "_deleted"})
	wrong, err := w.Write(t.Context(), planOf(0, 3, 1), batchOf(0, `{"id":7}=`, `{}`, `{"id":null}`))
	if err != nil || len(wrong) != 2 || wrong[0].Offset != 1 || wrong[1].Offset != 2 || connectors.ClassOf(wrong[0].Err) != connectors.ClassPoison {
		t.Fatalf("refused %v, %v", wrong, err)
	}
	put(t, w, 0, `{"id":7}=`)
	put(t, w, 3, `{"id":1}`)
	r.want("SELECT toString(groupArray((id, _deleted, _offset))) FROM found", "[(1,0,3)]")
}

// TestZeroIsTheServers: what a deleted row has in an enum is what the server
// itself would put there.
func TestZeroIsTheServers(t *testing.T) { onServers(t, testZeroIsTheServers) }

func testZeroIsTheServers(t *testing.T, newRig func(testing.TB) *rig) {
	r := newRig(t)
	r.exec("CREATE TABLE t (n Int64, e Enum8('b' = 3, 'z' = -1, 'a' = 5)) ENGINE = Memory", "INSERT INTO t (n) SELECT 1")
	typ, err := parseType(r.text("SELECT type FROM system.columns WHERE database = currentDatabase() AND table = 't' AND name = 'e'"), time.UTC)
	if err != nil {
		t.Fatal(err)
	}
	for range 20 {
		r.want("SELECT toString(e) FROM t", fmt.Sprint(typ.zero()))
	}
}

// FuzzValue: no type that a server may print, and no record, ends the process.
// A value that is taken has the type's shape.
func FuzzValue(f *testing.F) {
	for _, c := range [][2]string{
		{"Nullable(Int32)", `null`}, {"UInt8", `true`}, {"Float32", `0.5`}, {"Decimal(9, 2)", `"1e3"`}, {"Int256", `-1`}, {"FixedString(3)", `"abc"`}, {"DateTime64(3, 'UTC')", `"2015-05-17T10:05:03.1Z"`},
		{"Enum8('sad' = 1, 'it\\'s' = 2)", `"sad"`}, {"Map(UInt8, Array(String))", `{"1":["x"]}`}, {"Map(UInt8, String)", `{"tomato":"x"}`}, {"Tuple(a Int32, b LowCardinality(String))", `{"a":1,"b":"x"}`}, {"IPv6", `"::1"`}, {"UUID", `"0b8e31cc-6d5c-4f6e-9d4f-0a3c6f1e2b7d"`},
	} {
		f.Add(c[0], c[1])
	}
	f.Fuzz(func(t *testing.T, shown, raw string) {
		typ, err := parseType(shown, time.UTC)
		if err != nil || !jsontext.Value(raw).IsValid() {
			return
		}
		typ.zero()
		v, err := typ.value([]byte(strings.TrimSpace(raw)))
		if err == nil && v == nil && !typ.nullable {
			t.Errorf("%s took %s for null", shown, raw)
		}
		if p, ok := v.(*pairs); ok && err == nil && typ.elems[0].kind == kindUInt {
			for _, k := range p.keys {
				if !strings.Contains(raw, fmt.Sprint(k)) && !strings.Contains(raw, "true") && !strings.Contains(raw, "false") && !strings.Contains(raw, `\`) {
					t.Errorf("%s took %s for the key %v", shown, raw, k)
				}
			}
		}
	})
}
