package format_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/entrepot-hub/entrepot/connectors"
	"github.com/entrepot-hub/entrepot/connectors/format"
)

func parser(t testing.TB, values map[string]any) format.Parser {
	t.Helper()
	cfg, err := connectors.NewConfig(format.ParserFields(), values)
	if err != nil {
		t.Fatal(err)
	}
	p, err := format.NewParser(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func parse(t testing.TB, p format.Parser, line string) (connectors.Message, error) {
	t.Helper()
	m := connectors.Message{Value: []byte(line), Timestamp: connectors.NoTimestamp}
	err := p.Parse(&m)
	if err != nil {
		if connectors.ClassOf(err) != connectors.ClassPoison {
			t.Errorf("class %v: %v", connectors.ClassOf(err), err)
		}
		if string(m.Value) != line || m.Timestamp != connectors.NoTimestamp {
			t.Errorf("a failed parse changed the message to %s", m.Value)
		}
	}
	return m, err
}

const head = `1.2.3.4 - - [17/May/2015:12:05:03 +0200] `

func TestCombined(t *testing.T) {
	p := parser(t, map[string]any{"format": "combined"})
	const start = `{"remote_addr":"1.2.3.4","ident":null,"user":null,"ts":"2015-05-17T10:05:03Z",`
	for in, want := range map[string]string{
		head + `"GET /a?b=c HTTP/1.1" 200 5 "http://r/" "curl"`:                                 start + `"method":"GET","path":"/a?b=c","protocol":"HTTP/1.1","status":200,"bytes":5,"referer":"http://r/","agent":"curl"}`,
		head + `"GET / HTTP/1.0" 304 - "-" "-"`:                                                 start + `"method":"GET","path":"/","protocol":"HTTP/1.0","status":304,"bytes":null,"referer":null,"agent":null}`,
		head + `"-" 408 0 "-" "-"`:                                                              start + `"method":null,"path":null,"protocol":null,"status":408,"bytes":0,"referer":null,"agent":null}`,
		head + `"" 400 007 "" ""`:                                                               start + `"method":null,"path":"","protocol":null,"status":400,"bytes":7,"referer":"","agent":""}`,
		head + `"GET /old" 200 1 "-" "x"`:                                                       start + `"method":"GET","path":"/old","protocol":null,"status":200,"bytes":1,"referer":null,"agent":"x"}`,
		head + `"GET /a b c HTTP/1.1" 200 1 "-" "x"`:                                            start + `"method":"GET","path":"/a b c","protocol":"HTTP/1.1","status":200,"bytes":1,"referer":null,"agent":"x"}`,
		head + `"\x16\x03\x01" 400 226 "-" "-"`:                                                 start + `"method":null,"path":"\u0016\u0003\u0001","protocol":null,"status":400,"bytes":226,"referer":null,"agent":null}`,
		head + `"\xff\xfe z" 400 226 "-" "-"`:                                                   start + `"method":null,"path":"\\xff\\xfe z","protocol":null,"status":400,"bytes":226,"referer":null,"agent":null}`,
		head + `"GET /\"q\" HTTP/1.1" 200 1 "a\\" "say \"hi\""`:                                 start + `"method":"GET","path":"/\"q\"","protocol":"HTTP/1.1","status":200,"bytes":1,"referer":"a\\","agent":"say \"hi\""}`,
		head + `"GET /a"b HTTP/1.1" 200 1 "-" "x"y"`:                                            start + `"method":"GET","path":"/a\"b","protocol":"HTTP/1.1","status":200,"bytes":1,"referer":null,"agent":"x\"y"}`,
		head + `"GET / HTTP/1.1" 200 1 "-" "cut off by the en`:                                  start + `"method":"GET","path":"/","protocol":"HTTP/1.1","status":200,"bytes":1,"referer":null,"agent":"cut off by the en"}`,
		head + "\"GET /\xc3\xa4\xff HTTP/1.1\" - 1 \"-\" \"ü\"":                                 start + `"method":"GET","path":"/ä\\xff","protocol":"HTTP/1.1","status":null,"bytes":1,"referer":null,"agent":"ü"}`,
		`::1 id al ice [29/Feb/2016:23:59:60 -0130] "PROPFIND / HTTP/2.0" 207 1 "-" "x"` + "\r": `{"remote_addr":"::1","ident":"id","user":"al ice","ts":"2016-03-01T01:30:00Z","method":"PROPFIND","path":"/","protocol":"HTTP/2.0","status":207,"bytes":1,"referer":null,"agent":"x"}`,
		`host.example - - [01/Jan/1970:00:00:00 +0000] "GET / HTTP/1.1" 200 1 "-" "\t\q\x4"`:    `{"remote_addr":"host.example","ident":null,"user":null,"ts":"1970-01-01T00:00:00Z","method":"GET","path":"/","protocol":"HTTP/1.1","status":200,"bytes":1,"referer":null,"agent":"\t\\q\\x4"}`,
	} {
		m, err := parse(t, p, in)
		if err != nil {
			t.Errorf("%s: %v", in, err)
			continue
		}
		if string(m.Value) != want {
			t.Errorf("%s\n got %s\nwant %s", in, m.Value, want)
		}
		if !json.Valid(m.Value) {
			t.Errorf("not JSON: %s", m.Value)
		}
	}
	if m, _ := parse(t, p, head+`"GET / HTTP/1.1" 200 1 "-" "x"`); m.Timestamp != time.Date(2015, 5, 17, 10, 5, 3, 0, time.UTC).UnixMilli() {
		t.Errorf("timestamp %d", m.Timestamp)
	}
}

func TestCombinedRefuses(t *testing.T) {
	p := parser(t, map[string]any{"format": "combined"})
	for in, want := range map[string]string{
		"":                           "the client address and a space after it are missing at byte 1",
		"one":                        "the client address and a space",
		"1.2.3.4 - - 17/May/2015 \"": "the user and the time in brackets is missing at byte 11",
		`1.2.3.4 - - [17/May/2015] "x" 200 1 "-" "-"`:                        `the time is "17/May/2015"`,
		`1.2.3.4 - - [31/Apr/2015:12:05:03 +0200] "x" 200 1 "-" "-"`:         `the time is "31/Apr/2015:12:05:03 +0200"`,
		`1.2.3.4 - - [00/Apr/2015:12:05:03 +0200] "x" 200 1 "-" "-"`:         `the time is`,
		`1.2.3.4 - - [11/Foo/2015:12:05:03 +0200] "x" 200 1 "-" "-"`:         `the time is`,
		`1.2.3.4 - - [11/Apr/2015:24:05:03 +0200] "x" 200 1 "-" "-"`:         `the time is`,
		`1.2.3.4 - - [01/Jan/0000:00:00:00 +0200] "x" 200 1 "-" "-"`:         `the time is`,
		head + `GET / HTTP/1.1 200 1 "-" "-"`:                                "the quote before the request is missing at byte 42",
		head + `"GET / HTTP/1.1 200 1`:                                       "the quote after the request is missing",
		head + `"GET / HTTP/1.1" OK 1 "-" "-"`:                               `the status is "OK", want three digits`,
		head + `"GET / HTTP/1.1" 200 big "-" "-"`:                            `the size is "big", want digits or a dash`,
		head + `"GET / HTTP/1.1" 200 1`:                                      "the size and a space after it are missing",
		head + `"GET / HTTP/1.1" 200 1 "-`:                                   "the quote after the referer is missing",
		head + `"GET / HTTP/1.1" 200 1 "-" "a" "b"`:                          "there is more text after the agent",
		head + `"GET / HTTP/1.1" 200 1 "-" "a" 0.01`:                         "there is more text after the agent",
		head + `"GET / HTTP/1.1" 200 12345678901234567890123456789 "-" "-"`:  "the size is",
		head + `"GET / HTTP/1.1" 200 1 "-" ` + strings.Repeat("x", 1<<10):    "the quote before the agent is missing",
		strings.Repeat("y", 1<<16) + ` - - [11/Foo/2015:12:05:03 +02] "x"  `: "the status and a space after it are missing at byte 65573",
	} {
		_, err := parse(t, p, in)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.80s\n got %v\nwant %s", in, err, want)
		}
	}
}

func TestCommon(t *testing.T) {
	p := parser(t, map[string]any{"format": "common"})
	m, err := parse(t, p, head+`"GET / HTTP/1.0" 200 2326`)
	if want := `{"remote_addr":"1.2.3.4","ident":null,"user":null,"ts":"2015-05-17T10:05:03Z","method":"GET","path":"/","protocol":"HTTP/1.0","status":200,"bytes":2326}`; err != nil || string(m.Value) != want {
		t.Errorf("got %s, %v", m.Value, err)
	}
	for _, in := range []string{head + `"GET / HTTP/1.0" 200 2326 "-" "-"`, head + `"GET / HTTP/1.0" 200 `, head + `"GET / HTTP/1.0" 200`} {
		if _, err := parse(t, p, in); err == nil {
			t.Errorf("takes %s", in)
		}
	}
}

// realLog reads the 10,000 real lines, or skips the test.
func realLog(t testing.TB) []string {
	t.Helper()
	f, err := os.Open("../../../shared/data/access-2015.log")
	if err != nil {
		t.Skipf("SKIPPED: THE REAL ACCESS LOG IS NOT HERE: %v", err)
	}
	defer f.Close()
	var lines []string
	for s := bufio.NewScanner(f); s.Scan(); {
		lines = append(lines, s.Text())
	}
	return lines
}

// TestRealLog parses every real line, and compares with a second way to read
// them: splitting at the quotes, which no line of this log has inside a field.
func TestRealLog(t *testing.T) {
	lines := realLog(t)
	if len(lines) != 10000 {
		t.Fatalf("%d lines", len(lines))
	}
	p := parser(t, map[string]any{"format": "combined"})
	hours := map[string]int{}
	for i, line := range lines {
		m, err := parse(t, p, line)
		if err != nil {
			t.Fatalf("line %d: %v", i+1, err)
		}
		var got struct {
			RemoteAddr     string `json:"remote_addr"`
			TS             time.Time
			Method, Path   string
			Protocol       string
			Status         int
			Bytes          *int64
			Referer, Agent *string
		}
		if err := json.Unmarshal(m.Value, &got); err != nil {
			t.Fatalf("line %d: %v in %s", i+1, err, m.Value)
		}
		hours[got.TS.Format("2006-01-02T15")]++
		q := strings.Split(line, `"`)
		words := strings.Fields(q[0])
		if request := got.Method + " " + got.Path + " " + got.Protocol; request != q[1] || got.RemoteAddr != words[0] || m.Timestamp != got.TS.UnixMilli() {
			t.Fatalf("line %d: %s\n%s", i+1, line, m.Value)
		}
		numbers := strings.Fields(q[2])
		if text, _ := json.Marshal(got.Bytes); strings.Replace(numbers[1], "-", "null", 1) != string(text) {
			t.Fatalf("line %d: bytes %s from %s", i+1, text, numbers[1])
		}
		if !same(got.Referer, q[3]) || !same(got.Agent, q[5]) {
			t.Fatalf("line %d: %s\n%s", i+1, line, m.Value)
		}
	}
	if len(hours) != 84 {
		t.Errorf("%d distinct hours, want 84", len(hours))
	}
}

func same(got *string, field string) bool {
	if field == "-" {
		return got == nil
	}
	return got != nil && *got == field
}

func FuzzAccessLog(f *testing.F) {
	f.Add(head + `"GET /\"q\" HTTP/1.1" 200 1 "a\\" "say \"hi\""`)
	f.Add(head + "\"GET /\xc3\xa4\xff HTTP/1.1\" - 1 \"-\" \"\\xff\\x")
	f.Add(`::1 id al ice [29/Feb/2016:23:59:60 -0130] "PROPFIND / HTTP/2.0" 207 1`)
	combined, common := parser(f, map[string]any{"format": "combined"}), parser(f, map[string]any{"format": "common"})
	f.Fuzz(func(t *testing.T, line string) {
		for _, p := range []format.Parser{combined, common} {
			m, err := parse(t, p, line)
			if err != nil {
				continue
			}
			if v, err := format.Decode(m.Value); err != nil || len(v.(map[string]any)) < 9 {
				t.Errorf("%q gives %s: %v", line, m.Value, err)
			}
			if bytes.IndexByte(m.Value, '\n') >= 0 {
				t.Errorf("%q gives more than one line", line)
			}
		}
	})
}

func BenchmarkCombined(b *testing.B) {
	lines := realLog(b)
	p := parser(b, map[string]any{"format": "combined"})
	size := 0
	for _, l := range lines {
		size += len(l)
	}
	raw := make([][]byte, len(lines))
	for i, l := range lines {
		raw[i] = []byte(l)
	}
	b.SetBytes(int64(size / len(lines)))
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		m := connectors.Message{Value: raw[n%len(raw)]}
		if err := p.Parse(&m); err != nil {
			b.Fatal(err)
		}
		n++
	}
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "lines/s")
}
