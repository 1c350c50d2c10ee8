package clickhouse

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/entrepot-hub/entrepot/connectors"
	"github.com/entrepot-hub/entrepot/connectors/conntest"
)

func (r *rig) sourceConfig(more map[string]any) connectors.Config {
	r.t.Helper()
	return conntest.Config(r.t, Source{}.Spec(), with(map[string]any{"dsn": r.dsn, "table": "events", "key": []string{"at", "id"}, "lag": time.Duration(0), "poll": 10 * time.Millisecond}, more))
}

func (r *rig) reader(from connectors.Position, more map[string]any) connectors.Reader {
	r.t.Helper()
	reader, err := Source{}.Open(r.t.Context(), conntest.Task(r.sourceConfig(more)), connectors.Split{ID: "events"}, from)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = reader.Close(context.Background()) })
	return reader
}

// next reads n records.
func next(t testing.TB, r connectors.Reader, n int) []connectors.Message {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var all []connectors.Message
	for len(all) < n {
		b, err := r.Read(ctx, connectors.Limits{Wait: time.Second})
		all = append(all, b.Messages...)
		if err != nil && (!errors.Is(err, io.EOF) || len(all) < n) {
			t.Fatalf("after %d of %d records: %v", len(all), n, err)
		}
	}
	if len(all) > n {
		t.Fatalf("%d records, want %d", len(all), n)
	}
	return all
}

// none reads for a while, and there must be nothing.
func none(t testing.TB, r connectors.Reader) {
	t.Helper()
	for range 3 {
		if b, err := r.Read(t.Context(), connectors.Limits{Wait: 20 * time.Millisecond}); err != nil || len(b.Messages) > 0 {
			t.Fatalf("%d records, %v", len(b.Messages), err)
		}
	}
}

// TestSourceKeepsTheContract: by a time and a number, by texts with zeros in
// them, and by UUIDs and days before 1970.
func TestSourceKeepsTheContract(t *testing.T) { onServers(t, testSourceKeepsTheContract) }

func testSourceKeepsTheContract(t *testing.T, newRig func(testing.TB) *rig) {
	for _, test := range []struct {
		name, at, id string // SQL for the key of row number
		types        [2]string
		today        bool
	}{
		{"time and number", "toDateTime(1431857103 + intDiv(number, 10))", "toInt32(number) - 30", [2]string{"DateTime", "Int32"}, false},
		{"number and text", "toUInt64(18446744073709551615 - intDiv(number, 7))", `concat('a\0', reverse(toString(number)), '\0\'\\')`, [2]string{"UInt64", "String"}, false},
		{"day and UUID", "toDate(number % 9)", "toUUID(concat('0b8e31cc-6d5c-4f6e-', substring(lower(hex(cityHash64(number))), 1, 4), '-', substring(hex(sipHash64(number)), 1, 12)))", [2]string{"Date", "UUID"}, false},
		{"fine time and fixed text", "addMilliseconds(toDateTime64('1969-12-31 23:59:59.997', 3, 'UTC'), intDiv(number, 10))", "toFixedString(substring(hex(number), -2), 4)", [2]string{"DateTime64(3, 'Asia/Tokyo')", "FixedString(4)"}, true},
		{"late day and small number", "addDays(toDate32('2199-12-25'), intDiv(number, 10))", "toInt8(number % 10 - 5)", [2]string{"Date32", "Int8"}, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			if test.today != newRig(t).tokens() {
				t.Skip("its types are for the other server")
			}
			conntest.Source(t, Source{}, func(t *testing.T) conntest.SourceCase {
				r := newRig(t)
				r.exec("CREATE TABLE events (n Int64, at "+test.types[0]+", id "+test.types[1]+") ENGINE = MergeTree ORDER BY (at, id)",
					"INSERT INTO events SELECT number, "+test.at+", "+test.id+" FROM numbers(8)", "INSERT INTO events SELECT number, "+test.at+", "+test.id+" FROM numbers(8, 8)")
				expr := "id"
				if test.types[1] == "UUID" {
					expr = "toString(id)"
				}
				var want []string
				for _, n := range strings.Split(strings.Trim(r.text("SELECT toString(groupArray(n)) FROM (SELECT n FROM events ORDER BY at, "+expr+")"), "[]"), ",") {
					want = append(want, `{"n":`+n+`}`)
				}
				more := map[string]any{"follow": false, "columns": []string{"n"}, "rows": 3}
				c := conntest.SourceCase{Config: r.sourceConfig(more), Want: map[string][]string{"events": want}}
				more["follow"] = true
				waiting := r.sourceConfig(more)
				c.Waiting = &waiting
				return c
			})
		})
	}
}

// TestDaysInTheServersZone: a day of the key is the same wherever the server is,
// also one that begins an hour late there.
func TestDaysInTheServersZone(t *testing.T) {
	for _, zone := range []string{"Asia/Tokyo", "America/Sao_Paulo"} {
		t.Run(zone, func(t *testing.T) {
			t.Setenv("TZ", zone)
			r := rigAt(t, conntest.OwnClickHouseEngine(t).Database(t))
			r.want("SELECT timezone()", zone)
			r.exec("CREATE TABLE events (at Date32, id Int32, day Date) ENGINE = MergeTree ORDER BY (at, id)",
				"INSERT INTO events SELECT ['1969-12-31', '2015-05-17', '2018-11-04'][number + 1], number, '2018-11-04' FROM numbers(3)")
			var days []string
			for _, m := range next(t, r.reader(nil, map[string]any{"rows": 1, "follow": false}), 3) {
				days = append(days, string(m.Value))
			}
			want := `{"at":"1969-12-31","id":0,"day":"2018-11-04"} {"at":"2015-05-17","id":1,"day":"2018-11-04"} {"at":"2018-11-04","id":2,"day":"2018-11-04"}`
			if got := strings.Join(days, " "); got != want {
				t.Errorf("got %s, want %s", got, want)
			}
		})
	}
}

// TestLateRows: a row that becomes visible behind a greater one is read, as
// long as that is not longer ago than lag; what is above waits for it.
func TestLateRows(t *testing.T) { onServers(t, testLateRows) }

func testLateRows(t *testing.T, newRig func(testing.TB) *rig) {
	r := newRig(t)
	r.exec("CREATE TABLE events (at DateTime, id Int32) ENGINE = MergeTree ORDER BY (at, id)")
	now := time.Now()
	task := conntest.Task(r.sourceConfig(map[string]any{"lag": time.Minute, "poll": 10 * time.Second, "columns": []string{"id"}}))
	task.Clock = func() time.Time { return now }
	reader, err := Source{}.Open(t.Context(), task, connectors.Split{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close(t.Context())
	tick := func(want string) {
		t.Helper()
		var got []string
		for range 3 {
			b, err := reader.Read(t.Context(), connectors.Limits{})
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range b.Messages {
				got = append(got, string(m.Value))
			}
		}
		if strings.Join(got, " ") != want {
			t.Fatalf("after %v: %q, want %q", now, got, want)
		}
		now = now.Add(20 * time.Second)
	}
	insert := func(at, id int) {
		t.Helper()
		r.exec(fmt.Sprintf("INSERT INTO events SELECT toDateTime(%d), %d", at, id))
	}
	tick("")
	insert(1000, 1)
	insert(3000, 3)
	tick("") // 20 s
	tick("") // 40 s
	insert(2000, 2)
	tick("")        // 60 s: what was visible a minute ago was nothing
	insert(4000, 4) // visible from 80 s on
	tick(`{"id":1} {"id":2} {"id":3}`)
	tick("")
	insert(3500, 35)
	tick("")
	tick(`{"id":35} {"id":4}`)
	insert(3600, 36) // too late: its place was read
	for range 6 {
		tick("")
	}
}

// TestLooksOnceInEachPoll: the question for the greatest key is not asked for
// each page, and lag counts from its answer.
func TestLooksOnceInEachPoll(t *testing.T) {
	r := newRig(t)
	r.exec("CREATE TABLE events (at DateTime, id Int32) ENGINE = MergeTree ORDER BY (at, id)", "INSERT INTO events SELECT toDateTime(1431857103), number FROM numbers(9)")
	p, dsn := conntest.NewProxy(t, r.dsn)
	var looks, seconds atomic.Int64
	p.Watch(func(chunk []byte) conntest.Verb {
		if strings.Contains(string(chunk), "DESC LIMIT 1") && looks.Add(1) == 1 {
			seconds.Add(50) // it takes that long
		}
		return conntest.Pass
	})
	task := conntest.Task(r.sourceConfig(map[string]any{"dsn": dsn, "lag": time.Minute, "poll": time.Second, "rows": 2}))
	task.Clock = func() time.Time { return time.Unix(seconds.Load(), 0) }
	reader, err := Source{}.Open(t.Context(), task, connectors.Split{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close(t.Context())
	for _, at := range []int64{0, 60, 109} {
		seconds.Store(at)
		if b, err := reader.Read(t.Context(), connectors.Limits{}); err != nil || len(b.Messages) > 0 {
			t.Fatalf("after %d s: %d records, %v", at, len(b.Messages), err)
		}
	}
	before := looks.Load()
	seconds.Store(110)
	next(t, reader, 9)
	if n := looks.Load() - before; n != 1 {
		t.Errorf("%d questions for the greatest key, want 1", n)
	}
}

// TestTwoRowsOfOneKey: within a page and at its border, rows that the key does
// not tell apart end the job; nothing of them is passed over.
func TestTwoRowsOfOneKey(t *testing.T) {
	r := newRig(t)
	r.exec("CREATE TABLE events (at DateTime, id Int32, n Int64) ENGINE = ReplacingMergeTree ORDER BY (at, id)",
		"INSERT INTO events SELECT toDateTime(1431857103), number, 1 FROM numbers(10)", "INSERT INTO events SELECT toDateTime(1431857103), 4, 2")
	for rows := 1; rows < 12; rows++ {
		reader := r.reader(nil, map[string]any{"rows": rows, "follow": false})
		seen := 0
		var err error
		for err == nil {
			var b connectors.Batch
			b, err = reader.Read(t.Context(), connectors.Limits{Wait: time.Second})
			seen += len(b.Messages)
		}
		wantClass(t, err, connectors.ClassFatal, "two rows of the key", "'4'")
		if seen > 4 {
			t.Errorf("%d rows a page: %d were given", rows, seen)
		}
	}
	if got := next(t, r.reader(nil, map[string]any{"rows": 3, "follow": false, "final": true}), 10); !strings.Contains(string(got[4].Value), `"n":2`) {
		t.Errorf("with FINAL: %s", got[4].Value)
	}
}

// TestValuesToRecords: each type becomes JSON without loss, and what the sink
// makes of that is the same again.
func TestValuesToRecords(t *testing.T) { onServers(t, testValuesToRecords) }

func testValuesToRecords(t *testing.T, newRig func(testing.TB) *rig) {
	cases := []struct{ typ, sql, want string }{
		{"Int8", "-128", "-128"}, {"UInt64", "18446744073709551615", "18446744073709551615"}, {"Nullable(Int64)", "NULL", "null"}, {"Nullable(Int64)", "9007199254740993", "9007199254740993"},
		{"Float64", "0.1", "0.1"}, {"Float64", "1e300", "1e+300"}, {"Float32", "toFloat32(0.1)", "0.1"}, {"Float64", "nan", `"NaN"`}, {"Float64", "-1 / 0", `"-Infinity"`}, {"Nullable(Float32)", "1 / 0", `"Infinity"`},
		{"Decimal(9, 2)", "toDecimal64('1.5', 2)", `"1.50"`}, {"Decimal(38, 10)", "toDecimal128('-1234567890123456789012345678.0123456789', 10)", `"-1234567890123456789012345678.0123456789"`},
		{"String", "'żółć \"🦥\"\\n'", `"żółć \"🦥\"\n"`}, {"String", "unhex('ff')", "!not UTF-8"}, {"FixedString(4)", "toFixedString('ab', 4)", `"ab\u0000\u0000"`}, {"LowCardinality(Nullable(String))", "NULL", "null"},
		{"UUID", "toUUID('0b8e31cc-6d5c-4f6e-9d4f-0a3c6f1e2b7d')", `"0b8e31cc-6d5c-4f6e-9d4f-0a3c6f1e2b7d"`}, {"Enum8('it\\'s' = 1)", "'it\\'s'", `"it's"`},
		{"Date", "toDate('2015-05-17')", `"2015-05-17"`}, {"DateTime", "toDateTime(1431857103)", `"2015-05-17T10:05:03Z"`}, {"DateTime('Asia/Tokyo')", "toDateTime(1431857103)", `"2015-05-17T10:05:03Z"`},
		{"Array(Nullable(Int32))", "[1, NULL, 3]", "[1,null,3]"}, {"Array(Array(String))", "[['a'], []]", `[["a"],[]]`}, {"Tuple(Int32, String)", "(1, 'x')", `[1,"x"]`},
	}
	r := newRig(t)
	if r.tokens() {
		cases = append(cases, []struct{ typ, sql, want string }{
			{"Bool", "true", "true"}, {"Int256", "toInt256('-57896044618658097711785492504343953926634992332820282019728792003956564819968')", "-57896044618658097711785492504343953926634992332820282019728792003956564819968"}, {"Nullable(UInt128)", "NULL", "null"}, {"Nullable(UInt128)", "7", "7"},
			{"Decimal(76, 10)", "toDecimal256('123456789012345678901234567890123456789012345678901234567890123456.0123456789', 10)", `"123456789012345678901234567890123456789012345678901234567890123456.0123456789"`},
			{"Date32", "toDate32('2299-12-31')", `"2299-12-31"`}, {"DateTime64(6, 'Europe/Warsaw')", "toDateTime64('1900-01-01 00:00:00.000001', 6, 'UTC')", `"1900-01-01T00:00:00.000001Z"`}, {"DateTime64(3)", "toDateTime64('2299-12-31 23:59:59.999', 3, 'UTC')", `"2299-12-31T23:59:59.999Z"`},
			{"Nullable(DateTime64(9, 'UTC'))", "NULL", "null"}, {"Array(DateTime64(3, 'Asia/Tokyo'))", "[toDateTime64('2299-12-31 23:59:59.999', 3, 'UTC')]", `["2299-12-31T23:59:59.999Z"]`},
			{"Map(String, Nullable(Int32))", "map('z', 1, 'a', NULL)", `{"z":1,"a":null}`}, {"Map(UInt8, Array(String))", "map(1, ['x'])", `{"1":["x"]}`}, {"Map(String, Int32)", "map('a', 1, 'a', 2)", "!two entries"},
			{"Tuple(a Int32, b Nullable(String))", "(1, NULL)", `{"a":1,"b":null}`}, {"IPv4", "toIPv4('192.0.2.1')", `"192.0.2.1"`}, {"IPv6", "toIPv6('2001:db8::1')", `"2001:db8::1"`}, {"SimpleAggregateFunction(max, Int64)", "5", "5"},
		}...)
	}
	for i, c := range cases {
		table := fmt.Sprintf("t%d", i)
		low := ""
		if strings.HasPrefix(c.typ, "LowCardinality(N") && !r.tokens() {
			continue
		}
		r.exec("CREATE TABLE "+table+" (id Int64, v "+c.typ+") ENGINE = MergeTree ORDER BY id"+low, "INSERT INTO "+table+" SELECT 1, "+c.sql)
		m := next(t, r.reader(nil, map[string]any{"table": table, "key": []string{"id"}, "follow": false}), 1)[0]
		if part, bad := strings.CutPrefix(c.want, "!"); bad {
			if m.Err == nil || !strings.Contains(m.Err.Error(), part) || connectors.ClassOf(m.Err) != connectors.ClassPoison || !strings.Contains(string(m.Original), "toInt64('1')") {
				t.Errorf("%s of %s: %q, %v, want an error with %q", c.sql, c.typ, m.Original, m.Err, part)
			}
			continue
		}
		if want := `{"id":1,"v":` + c.want + `}`; string(m.Value) != want || string(m.Key) != `{"id":1}` {
			t.Errorf("%s of %s: %s of %s, %v, want %s", c.sql, c.typ, m.Value, m.Key, m.Err, want)
			continue
		}
		r.exec("CREATE TABLE "+table+"_again AS "+table, "ALTER TABLE "+table+"_again ADD COLUMN _topic String", "ALTER TABLE "+table+"_again ADD COLUMN _partition Int32", "ALTER TABLE "+table+"_again ADD COLUMN _offset Int64")
		if strings.Contains(c.want, "2299-12-31T") { // the driver cannot write it
			continue
		}
		put(t, r.writer(map[string]any{"table": table + "_again"}), 0, string(m.Value))
		if back := next(t, r.reader(nil, map[string]any{"table": table + "_again", "key": []string{"id"}, "columns": []string{"id", "v"}, "follow": false}), 1)[0]; string(back.Value) != string(m.Value) {
			t.Errorf("%s of %s came back as %s", c.sql, c.typ, back.Value)
		}
	}
}

// TestSourceFields: columns that hold JSON and bytes, by the config and by what
// the sink noted, and what the live check says.
func TestSourceFields(t *testing.T) {
	r := newRig(t)
	r.exec("CREATE TABLE events (at DateTime, id Int32, doc Nullable(String), raw String, noted String COMMENT 'entrepot: as json', calc Int64 MATERIALIZED id * 2, word Float64, n Nullable(Int32)) ENGINE = MergeTree ORDER BY id",
		`INSERT INTO events (at, id, doc, raw, noted) SELECT toDateTime(1431857103), 1, ' {"n": 12345678901234567890} ', unhex('00ff'), '[1]'`, `INSERT INTO events (at, id, doc, raw, noted) SELECT toDateTime(1431857104), 2, 'no JSON', '', '1'`)
	got := next(t, r.reader(nil, map[string]any{"follow": false, "json": []string{"doc"}, "base64": []string{"raw"}, "columns": []string{"doc", "raw", "noted", "calc"}}), 2)
	if want := `{"doc":{"n": 12345678901234567890},"raw":"AP8=","noted":[1],"calc":2}`; string(got[0].Value) != want || string(got[0].Key) != `{"at":"2015-05-17T10:05:03Z","id":1}` || got[0].Timestamp != 1_431_857_103_000 {
		t.Errorf("got %s of %s at %d, want %s", got[0].Value, got[0].Key, got[0].Timestamp, want)
	}
	if got[1].Err == nil || !strings.Contains(got[1].Err.Error(), `column "doc"`) {
		t.Errorf("what is no JSON: %v", got[1].Err)
	}
	if f := (Source{}).Validate(t.Context(), r.sourceConfig(nil), connectors.ProbeLive); len(f) != 1 || !f[0].Warning || !strings.Contains(f[0].Message, "sorted by (id)") {
		t.Errorf("a key that is not the table's: %v", f)
	}
	for want, more := range map[string]map[string]any{
		"does not exist": {"table": "nothing"}, `no column "x"`: {"key": []string{"x"}}, "not Nullable": {"key": []string{"n"}}, "without fraction": {"key": []string{"word"}},
		"is of a String": {"json": []string{"id"}}, "in base64 too": {"json": []string{"doc"}, "base64": []string{"doc"}}, "not one of the columns": {"json": []string{"doc"}, "columns": []string{"id"}},
	} {
		_, err := Source{}.Open(t.Context(), conntest.Task(r.sourceConfig(more)), connectors.Split{}, nil)
		wantClass(t, err, connectors.ClassFatal, want)
		if f := (Source{}).Validate(t.Context(), r.sourceConfig(more), connectors.ProbeLive); len(f) == 0 || f[0].Warning {
			t.Errorf("the live check does not see: %s", want)
		}
	}
	sample, err := Source{}.Sample(t.Context(), conntest.Task(r.sourceConfig(map[string]any{"columns": []string{"id", "noted"}})), 1)
	if err != nil || len(sample.Messages) != 1 || len(sample.Fields) != 2 || sample.Fields[1].Is.Kind != connectors.LogicalJSON || string(sample.Messages[0].Value) != `{"id":1,"noted":[1]}` {
		t.Errorf("a look: %+v, %v", sample, err)
	}
	at := got[0].Position
	_, err = Source{}.Open(t.Context(), conntest.Task(r.sourceConfig(map[string]any{"key": []string{"id"}})), connectors.Split{}, at)
	wantClass(t, err, connectors.ClassFatal, "reset the job's offsets")
}
