package format_test

import (
	"math"
	"strings"
	"testing"

	"github.com/entrepot-hub/entrepot/connectors"
	"github.com/entrepot-hub/entrepot/connectors/format"
)

func TestJSONParser(t *testing.T) {
	p := parser(t, map[string]any{"format": "json", "time": map[string]any{"field": "at"}})
	m, err := parse(t, p, "{\"at\": \"2015-05-17T10:05:03.5+01:00\",\n \"big\": 12345678901234567890123, \"f\": 1.10}")
	if want := `{"at":"2015-05-17T10:05:03.5+01:00","big":12345678901234567890123,"f":1.10}`; err != nil || string(m.Value) != want || m.Timestamp != 1431853503500 {
		t.Errorf("got %s at %d, %v", m.Value, m.Timestamp, err)
	}
	if m, err = parse(t, p, `{"x":1}`); err != nil || m.Timestamp != connectors.NoTimestamp {
		t.Errorf("without a time: %d, %v", m.Timestamp, err)
	}
	for in, want := range map[string]string{
		``:                   "the value is empty",
		`{"at":"yesterday"}`: `field "at": the time is "yesterday", want rfc3339`,
		`{"a":1,"a":2}`:      "duplicate",
		`[1]`:                "not a JSON object",
		`{"a":1} {}`:         "not JSON",
		"{\"a\":\"\xff\"}":   "not JSON: invalid UTF-8",
	} {
		if _, err := parse(t, p, in); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", in, err, want)
		}
	}
}

func TestCSVParser(t *testing.T) {
	p := parser(t, map[string]any{
		"format": "csv", "columns": []string{"id", "name", "ok", "price", "extra"},
		"types": map[string]string{"id": "int", "ok": "bool", "price": "float", "extra": "json"}, "time": map[string]any{"field": "id", "layout": "unix"},
	})
	for in, want := range map[string]string{
		`7,"a ""b"", c",true,1.50,"{""x"": 1}"`:   `{"id":7,"name":"a \"b\", c","ok":true,"price":1.50,"extra":{"x":1}}`,
		"7,,,,\r":                                 `{"id":7,"name":"","ok":null,"price":null,"extra":null}`,
		`007,"",,"",null`:                         `{"id":7,"name":"","ok":null,"price":null,"extra":null}`,
		"-12345678901234567890,\"two\nlines\",,,": "the time is",
	} {
		m, err := parse(t, p, in)
		if strings.HasPrefix(want, "{") && (err != nil || string(m.Value) != want) {
			t.Errorf("%s\n got %s, %v\nwant %s", in, m.Value, err, want)
		}
		if !strings.HasPrefix(want, "{") && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v", in, err)
		}
	}
	for in, want := range map[string]string{
		"1,2,true":        "3 columns, want 5",
		"":                "1 columns, want 5",
		"1,a,,,,,":        "7 columns, want 5",
		`1,a"b,,,`:        "column 2 has a quote in the middle",
		`1,"ab,,,`:        "column 2 has no closing quote",
		`1,"ab"c,,,`:      "column 2 goes on after its closing quote",
		`x,a,,,`:          `field "id": want a whole number, got "x"`,
		`+1,a,,,`:         `field "id": want a whole number`,
		`1,a,maybe,,`:     `field "ok": want true or false, got "maybe"`,
		`1,a,,.5,`:        `field "price": want a number, got ".5"`,
		`1,a,,,{`:         `field "extra": want JSON`,
		"1,a\xffb,true,,": `field "name" is not UTF-8`,
	} {
		if _, err := parse(t, p, in); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", in, err, want)
		}
	}
}

func TestRegexpParser(t *testing.T) {
	p := parser(t, map[string]any{
		"format": "regexp", "pattern": `(?P<at>\S+) (?P<level>[A-Z]+)(?: \[(?P<n>\d+)\])?: (?P<text>.*)`,
		"types": map[string]string{"n": "int"}, "time": map[string]any{"field": "at", "layout": "2006-01-02T15:04:05"},
	})
	m, err := parse(t, p, "2015-05-17T10:05:03 WARN [12]: a \"b\"\r")
	if want := `{"at":"2015-05-17T10:05:03","level":"WARN","n":12,"text":"a \"b\""}`; err != nil || m.Timestamp != 1431857103000 || !strings.HasPrefix(string(m.Value), want[:60]) {
		t.Errorf("got %s at %d, %v", m.Value, m.Timestamp, err)
	}
	m, err = parse(t, p, "2015-05-17T10:05:03 WARN: x")
	if want := `{"at":"2015-05-17T10:05:03","level":"WARN","n":null,"text":"x"}`; err != nil || string(m.Value) != want {
		t.Errorf("got %s, %v", m.Value, err)
	}
	if _, err := parse(t, p, "nothing"); err == nil || !strings.Contains(err.Error(), `the pattern does not match "nothing"`) {
		t.Errorf("got %v", err)
	}
}

func TestParserConfig(t *testing.T) {
	for want, values := range map[string]map[string]any{
		"pattern belongs to format regexp":    {"format": "json", "pattern": "x"},
		"columns belongs to format csv":       {"format": "combined", "columns": []string{"a"}},
		"has its types and its time already":  {"format": "combined", "types": map[string]string{"a": "int"}},
		"types belong to":                     {"format": "json", "types": map[string]string{"a": "int"}},
		"csv needs columns":                   {"format": "csv"},
		"needs a pattern":                     {"format": "regexp"},
		"pattern: error parsing regexp":       {"format": "regexp", "pattern": "("},
		"no named group":                      {"format": "regexp", "pattern": "(a)"},
		"is there twice":                      {"format": "csv", "columns": []string{"a", "a"}},
		`types names the field "b"`:           {"format": "csv", "columns": []string{"a"}, "types": map[string]string{"b": "int"}},
		`time.field is "b"`:                   {"format": "csv", "columns": []string{"a"}, "time": map[string]any{"field": "b"}},
		"does not hold a whole date":          {"format": "json", "time": map[string]any{"field": "b", "layout": "15:04"}},
		`"xml" is not one of`:                 {"format": "xml"},
		`"number" is not a type for "a"`:      {"format": "csv", "columns": []string{"a"}, "types": map[string]string{"a": "number"}},
		`not one character other than a quot`: {"format": "csv", "columns": []string{"a"}, "delimiter": "ab"},
	} {
		cfg, err := connectors.NewConfig(format.ParserFields(), values)
		if err == nil {
			_, err = format.NewParser(cfg)
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: %v, want %s", values, err, want)
		}
	}
}

func TestNumbers(t *testing.T) {
	for in, want := range map[string]any{
		"0": int64(0), "-5": int64(-5), "9223372036854775807": int64(math.MaxInt64), "9007199254740993": int64(9007199254740993),
		"1.5": 1.5, "0.1": 0.1, "1e3": 1000.0, "0.30000000000000004": 0.30000000000000004, "1e300": 1e300,
		"9223372036854775808": 9223372036854775808.0, // a power of two: the float has just this value
		"9223372036854775809": format.Number("9223372036854775809"), "0.1234567890123456789": format.Number("0.1234567890123456789"),
		"1e999": format.Number("1e999"), "100000000000000000000": 1e20, "0.0": 0.0,
	} {
		got, err := format.Decode([]byte(in))
		if err != nil || got != want {
			if n, ok := want.(float64); !ok || got != format.Number(in) || n != 9223372036854775808.0 {
				t.Errorf("%s gives %T %v, %v", in, got, got, err)
			}
		}
	}
	b, err := format.Append(nil, map[string]any{"b": format.Number("1e999"), "a": int64(9007199254740993), "c": nil})
	if err != nil || string(b) != `{"a":9007199254740993,"b":1e999,"c":null}` {
		t.Errorf("got %s, %v", b, err)
	}
}

func TestLookup(t *testing.T) {
	doc := []byte(` {"a":{"b":{"c":[1]}},"s":"x\u00e4","n":null}`)
	for path, want := range map[string]string{"a.b": `{"c":[1]}`, "a.b.c": "[1]", "a.x": "", "a.b.c.d": "", "s": `"x\u00e4"`, "n": "null"} {
		got, err := format.Lookup(doc, strings.Split(path, ".")...)
		if err != nil || string(got) != want {
			t.Errorf("%s: %s, %v", path, got, err)
		}
	}
	if got := format.Text([]byte(`"x\u00e4"`)); string(got) != "xä" {
		t.Errorf("text %s", got)
	}
}

func TestValueIsDecodedOnce(t *testing.T) {
	m := connectors.Message{Value: []byte(`{"a":1}`)}
	v, err := format.Value(&m)
	if err != nil || v.(map[string]any)["a"] != int64(1) || m.Parsed == nil {
		t.Fatalf("%v, %v", v, err)
	}
	if err := format.SetValue(&m, map[string]any{"b": "x"}); err != nil || string(m.Value) != `{"b":"x"}` {
		t.Errorf("%s, %v", m.Value, err)
	}
	m.SetValue([]byte(`[]`))
	if v, err = format.Value(&m); err != nil || len(v.([]any)) != 0 {
		t.Errorf("%v, %v", v, err)
	}
}

func FuzzCSVParser(f *testing.F) {
	f.Add(`7,"a ""b"", c",true`)
	f.Add("\"\n\",\xff,")
	p := parser(f, map[string]any{"format": "csv", "columns": []string{"a", "b", "c"}, "types": map[string]string{"a": "int", "c": "json"}})
	f.Fuzz(func(t *testing.T, line string) {
		if m, err := parse(t, p, line); err == nil {
			if v, err := format.Decode(m.Value); err != nil || len(v.(map[string]any)) != 3 {
				t.Errorf("%q gives %s: %v", line, m.Value, err)
			}
		}
	})
}

func FuzzJSON(f *testing.F) {
	f.Add(`{"a":[1,-0,1e999,"\u0000",null,true]}`)
	f.Add(`9007199254740993`)
	f.Fuzz(func(t *testing.T, text string) {
		v, err := format.Decode([]byte(text))
		if err != nil {
			return
		}
		once, err := format.Append(nil, v)
		if err != nil {
			t.Fatalf("%q decodes to what cannot be written: %v", text, err)
		}
		back, err := format.Decode(once)
		if err != nil {
			t.Fatalf("%q is written as %s: %v", text, once, err)
		}
		if twice, err := format.Append(nil, back); err != nil || string(twice) != string(once) {
			t.Errorf("%q is written as %s, and then as %s", text, once, twice)
		}
	})
}

func BenchmarkDecode(b *testing.B) {
	p := parser(b, map[string]any{"format": "combined"})
	m, err := parse(b, p, realLog(b)[0])
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := format.Decode(m.Value); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkLookup(b *testing.B) {
	p := parser(b, map[string]any{"format": "combined"})
	m, err := parse(b, p, realLog(b)[0])
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if v, err := format.Lookup(m.Value, "status"); err != nil || string(v) != "200" {
			b.Fatal(err)
		}
	}
}
