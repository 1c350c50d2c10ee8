package expr

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/entrepot-hub/entrepot/record"
	"github.com/go-json-experiment/json/jsontext"
)

func input(value string) *Input {
	return &Input{
		Topic: "clicks", Partition: 3,
		Record: &record.Record{
			Offset: 42, Timestamp: time.Date(2015, 5, 17, 10, 5, 3, 0, time.UTC).UnixMilli(),
			Key: []byte("k1"), Value: []byte(value),
			Headers: []record.Header{{Key: "h", Value: []byte("one")}, {Key: "h", Value: []byte("two")}},
		},
	}
}

const sample = `{"status":404,"path":"/a b","bytes":9007199254740993,"ratio":0.5,"agent":null,` +
	`"tags":["x","y"],"\u00fcnï":1,"q\"t":2,"nested":{"a":{"b":7}},"huge":123456789012345678901234567890}`

func TestEval(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{`value.status`, `404`},
		{`value.status < 500`, `true`},
		{`value.status >= 400 && value.path startsWith "/a"`, `true`},
		{`value.bytes + 1`, `9007199254740994`},
		{`value.bytes == 9007199254740993`, `true`},
		{`value.huge`, `123456789012345678901234567890`},
		{`[value.huge]`, `[123456789012345678901234567890]`},
		{`string(value.huge)`, `"123456789012345678901234567890"`},
		{`value.huge == value.huge and value.huge != 1`, `true`},
		{`value.ünï + value["q\"t"]`, `3`},
		{`value.missing`, `null`},
		{`value.agent ?? "none"`, `"none"`},
		{`value.nested.a.b * 2`, `14`},
		{`value?.nope?.deep`, `null`},
		{`value["nested"].a`, `{"b":7}`},
		{`len(value.tags)`, `2`},
		{`map(value.tags, upper(#))`, `["X","Y"]`},
		{`value.tags[1]`, `"y"`},
		{`value.ratio`, `0.5`},
		{`{"z": 1, "a": value.status}`, `{"a":404,"z":1}`},
		{`date(ts) + "/" + hour(ts)`, `"2015-05-17/10"`},
		{`unix_ms(ts)`, `1431857103000`},
		{`ts`, `"2015-05-17T10:05:03Z"`},
		{`parse_time("17/May/2015:12:05:03 +0200", "clf") == ts`, `true`},
		{`format_time(ts, "2006")`, `"2015"`},
		{`keys({"b": 1, "a": 2})`, `["a","b"]`},
		{`json('{"n": 9007199254740993}').n`, `9007199254740993`},
		{`topic + "-" + string(partition) + "@" + string(offset)`, `"clicks-3@42"`},
		{`key`, `"k1"`},
		{`headers.h`, `"two"`},
		{`headers.none ?? "-"`, `"-"`},
		{`text startsWith "{"`, `true`},
		{`let p = value.path; p + p`, `"/a b/a b"`},
	} {
		p, err := Compile(Any, c.text)
		if err != nil {
			t.Errorf("%s: %v", c.text, err)
			continue
		}
		for range 2 { // the second run uses what the first has left behind
			got, err := p.JSON(input(sample))
			if err != nil || string(got) != c.want {
				t.Errorf("%s = %s, %v; want %s", c.text, got, err, c.want)
			}
		}
	}
}

func TestCompileErrorsPointAtTheColumn(t *testing.T) {
	for _, c := range []struct {
		kind   Kind
		text   string
		column int
		say    string
	}{
		{Bool, `value.status <`, 14, "unexpected token"},
		{Bool, `valu.status < 5`, 1, "unknown name valu"},
		{Bool, `"text"`, 0, "expected bool"},
		{Any, `1 + nosuch(2)`, 5, "unknown name nosuch"},
		{Any, `now()`, 1, "now"},
		{Any, `fromJSON(text)`, 1, "fromJSON"},
		{Any, `timezone("Europe/Berlin")`, 1, "timezone"},
		{Any, `ts.Local()`, 4, "Local"},
		{Any, `$env["value"]`, 1, "$env"},
		{Any, `date("2020-01-01")`, 6, "time.Time"},
		{Any, `1 +
 * 2`, 2, "unexpected token"},
		{Any, ``, 1, "unexpected"},
		{Any, strings.Repeat("1+", 9000) + "1", 1, "bytes"},
	} {
		_, err := Compile(c.kind, c.text)
		var e *Error
		if !errors.As(err, &e) || e.Column != c.column || !strings.Contains(e.Message, c.say) {
			t.Errorf("%.40s: %v (column %d); want column %d and %q", c.text, err, e.Column, c.column, c.say)
		}
	}
}

func TestRunErrorsAreErrors(t *testing.T) {
	for _, c := range []struct{ text, value, say string }{
		{`value.a < 5`, `{}`, "expression"},
		{`value.a.b.c == 1`, `{"a":1}`, "cannot fetch"},
		{`value.a == 1`, `not json`, "not JSON"},
		{`value.a == 1`, `{"a":1`, "ends too early"},
		{`value.a == 1`, `{"a":1} x`, "not JSON"},
		{`value.a > 1`, `{"a":123456789012345678901}`, "expr.Number"},
		{`value.a`, `{"a":"x"}`, "true or false"},
		{`value.a[5] == 1`, `{"a":[1]}`, "out of range"},
		{`len(1..1000000) + len(1..1000000) == 1`, `{}`, "memory budget"},
	} {
		p, err := Compile(Bool, c.text)
		if err != nil {
			t.Errorf("%s: %v", c.text, err)
			continue
		}
		if _, err = p.Bool(input(c.value)); err == nil || !strings.Contains(err.Error(), c.say) {
			t.Errorf("%s on %s: %v; want %q", c.text, c.value, err, c.say)
		}
	}
}

func TestFilterDoesNotDecodeWhatItDoesNotName(t *testing.T) {
	p, err := Compile(Bool, `value.a == 1`)
	if err != nil {
		t.Fatal(err)
	}
	if ok, err := p.Bool(input(`{"huge":123456789012345678901,"a":1}`)); !ok || err != nil {
		t.Fatalf("got %v, %v", ok, err)
	}
}

func TestText(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{`value.path`, "/a b"}, {`value.status`, "404"}, {`value.ratio`, "0.5"}, {`true`, "true"}, {`value.missing`, "<nil>"}, {`""`, ""},
	} {
		p, _ := Compile(Text, c.text)
		got, err := p.Text(input(sample))
		shown := string(got)
		if got == nil {
			shown = "<nil>"
		}
		if err != nil || shown != c.want {
			t.Errorf("%s = %q, %v; want %q", c.text, shown, err, c.want)
		}
	}
	p, _ := Compile(Text, `value.tags`)
	if _, err := p.Text(input(sample)); err == nil || !strings.Contains(err.Error(), "a list of 2") {
		t.Errorf("a list as a key: %v", err)
	}
}

func TestInputSeesANewRecordAfterReset(t *testing.T) {
	p, _ := Compile(Any, `value.a + 1`)
	in := input(`{"a":1}`)
	for i, want := range []string{"2", "3"} {
		in.Record.Value = []byte([]string{`{"a":1}`, `{"a":2}`}[i])
		in.Reset()
		if got, err := p.JSON(in); string(got) != want || err != nil {
			t.Errorf("record %d: %s, %v; want %s", i, got, err, want)
		}
	}
}

func TestShareDecodesOnce(t *testing.T) {
	a, _ := Compile(Any, `value.nested.a.b + 1`)
	b, _ := Compile(Any, `value.status`)
	c, _ := Compile(Any, `len(value.nested)`)
	d, _ := Compile(Any, `topic`)
	Share(a, nil, b, c, d)
	in := input(sample)
	for _, want := range []struct {
		p    *Program
		json string
	}{{a, "8"}, {b, "404"}, {c, "1"}, {d, `"clicks"`}, {a, "8"}} {
		if got, err := want.p.JSON(in); string(got) != want.json || err != nil {
			t.Errorf("%s = %s, %v; want %s", want.p, got, err, want.json)
		}
	}
	if a.needs.value != b.needs.value || d.needs.value != nil {
		t.Error("they do not share, or one that needs no value decodes it")
	}
}

func TestAssignKeepsTheRestByteForByte(t *testing.T) {
	got, err := Assign([]byte(` { "a" : 1.10, "b":12345678901234567890123 , "c":{"x": 1}, "a":2 }`),
		[]string{"b", "new", "a"}, []jsontext.Value{[]byte(`"B"`), []byte(`[1]`), []byte(`null`)})
	want := `{"a":null,"b":"B","c":{"x": 1},"new":[1]}`
	if err != nil || string(got) != want {
		t.Errorf("got  %s, %v\nwant %s", got, err, want)
	}
	for _, bad := range []string{``, `[1]`, `{"a":`, `{"a":1}}`, `{"a" 1}`} {
		if _, err := Assign([]byte(bad), nil, nil); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}

func TestProgramIsSafeForManyGoroutines(t *testing.T) {
	p, _ := Compile(Any, `value.status + 1`)
	done := make(chan string)
	for range 8 {
		go func() {
			in, last := input(sample), ""
			for range 500 {
				got, _ := p.JSON(in)
				last = string(got)
			}
			done <- last
		}()
	}
	for range 8 {
		if got := <-done; got != "405" {
			t.Errorf("got %s", got)
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(sample)
	f.Add(`{"a":[{"b":null},1e999,-0,"\ud800"]}`)
	p, err := Compile(Any, `[value.a, value.status, value]`)
	if err != nil {
		f.Fatal(err)
	}
	path, _ := Compile(Any, `value.a.b`)
	f.Fuzz(func(t *testing.T, text string) {
		in := input(text)
		if out, err := p.JSON(in); err == nil && !out.IsValid() {
			t.Errorf("%q gave invalid JSON %q", text, out)
		}
		if out, err := path.JSON(in); err == nil && !out.IsValid(lenient()) {
			t.Errorf("%q gave invalid JSON %q", text, out)
		}
		if out, err := Assign([]byte(text), []string{"a"}, []jsontext.Value{[]byte("1")}); err == nil && !jsontext.Value(out).IsValid(lenient()) {
			t.Errorf("%q gave invalid JSON %q", text, out)
		}
	})
}

func FuzzCompile(f *testing.F) {
	f.Add(`value.status < 500 and headers.h == "x"`)
	f.Add(`map(value.tags, {let x = #; x})`)
	f.Fuzz(func(t *testing.T, text string) {
		p, err := Compile(Any, text)
		if err != nil {
			var e *Error
			if !errors.As(err, &e) {
				t.Errorf("%q: %T", text, err)
			}
			return
		}
		first, err1 := p.JSON(input(sample))
		again, err2 := p.JSON(input(sample))
		if string(first) != string(again) || (err1 == nil) != (err2 == nil) {
			t.Errorf("%q is not deterministic: %s, %v; then %s, %v", text, first, err1, again, err2)
		}
	})
}

func BenchmarkFilter(b *testing.B) {
	p, _ := Compile(Bool, `value.status < 500`)
	in := input(sample)
	b.ReportAllocs()
	for b.Loop() {
		in.Reset()
		if _, err := p.Bool(in); err != nil {
			b.Fatal(err)
		}
	}
}
