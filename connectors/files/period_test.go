package files

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/entrepot-hub/entrepot/connectors"
	"github.com/entrepot-hub/entrepot/connectors/conntest"
	"github.com/entrepot-hub/entrepot/record"
)

// TestClock: each template has the period of its finest unit, and one whose
// folders would come again has none.
func TestClock(t *testing.T) {
	m := connectors.Message{
		Partition: tp, Timestamp: time.Date(2016, 2, 29, 23, 30, 0, 0, time.UTC).UnixMilli(),
		Value: []byte(`{"at":"2015-12-31T23:59:59-01:00","bad":"x","null":null}`),
	}
	for text, want := range map[string]string{
		"dt={date(ts)}/hr={hour(ts)}":                        "2016-02-29T23:00:00Z 2016-03-01T00:00:00Z",
		"{topic}/dt={date(ts)}":                              "2016-02-29T00:00:00Z 2016-03-01T00:00:00Z",
		"y={year(ts)}/m={month(ts)}":                         "2016-02-01T00:00:00Z 2016-03-01T00:00:00Z",
		"y={year(ts)}":                                       "2016-01-01T00:00:00Z 2017-01-01T00:00:00Z",
		"{year(value.at)}/{month(value.at)}/{day(value.at)}": "2016-01-01T00:00:00Z 2016-01-02T00:00:00Z",
		"dt={date(value.bad)}":                               "none",
		"dt={date(value.null)}":                              "none",
		"":                                                   "there is no time in partition_by",
		"k={key}":                                            "there is no time in partition_by",
		"hr={hour(ts)}":                                      "{hour} needs {day} too",
		"y={year(ts)}/d={day(ts)}":                           "{day} needs {month} too",
		"dt={date(ts)}/hr={hour(value.at)}":                  "follows two times",
	} {
		tmpl, err := parseTemplate(text)
		if err != nil {
			t.Fatal(err)
		}
		got := "none"
		c, err := tmpl.clock()
		if err != nil {
			got = err.Error()
		} else if at, ok := c.at(&m); ok {
			from, to := c.period(at)
			got = from.String() + " " + to.String()
			if at < from || at >= to {
				t.Errorf("%s: %s is not in its period", text, at)
			}
		}
		if !strings.Contains(got, want) {
			t.Errorf("%q: %s, want %s", text, got, want)
		}
	}
	if _, ok := (clock{part: part{name: "ts"}}).at(&connectors.Message{Timestamp: connectors.NoTimestamp}); ok {
		t.Error("a record without a time has one")
	}
}

func TestClosingConfig(t *testing.T) {
	for want, values := range map[string]map[string]any{
		"manifest: there is no time":   {"manifest": map[string]any{}},
		"compact: only closed folders": {"compact": map[string]any{}, "partition_by": "dt={date(ts)}"},
		"":                             {"manifest": map[string]any{}, "compact": map[string]any{}, "partition_by": "dt={date(ts)}"},
	} {
		values["url"] = "file:///x"
		found := (Sink{}).Validate(t.Context(), conntest.Config(t, Sink{}.Spec(), values), connectors.ProbeNone)
		if got := len(found); (want == "") != (got == 0) || got > 0 && (!strings.HasPrefix(found[0].Message, want) || found[0].Field != strings.SplitN(want, ":", 2)[0]) {
			t.Errorf("%v: %+v, want %q", values, found, want)
		}
	}
	keeper, err := Sink{}.OpenKeeper(t.Context(), conntest.Task(conntest.Config(t, Sink{}.Spec(), map[string]any{"url": "file:///x"})))
	if keeper != nil || err != nil {
		t.Errorf("without manifests there is a keeper: %v, %v", keeper, err)
	}
}

// TestOtherJobsManifest: two jobs cannot close one folder.
func TestOtherJobsManifest(t *testing.T) {
	l := hourOf(t, nil)
	if err := l.keeper(l.store()).Keep(t.Context(), l.standings()); err != nil {
		t.Fatal(err)
	}
	other := l.keeper(l.store())
	other.job = "other"
	err := other.visit(t.Context(), "dt=2015-05-17/hr=00", view{now: l.now, topic: "clicks"})
	if connectors.ClassOf(err) != connectors.ClassFatal || !strings.Contains(err.Error(), "has the manifest of job conntest") {
		t.Errorf("%v", err)
	}
}

// TestMerges: neighbours of one partition, up to the target's size; what has it
// is left alone.
func TestMerges(t *testing.T) {
	var m manifest
	add := func(p int32, sizes ...int64) {
		for i, n := range sizes {
			o := offsets{record.TopicPartition{Topic: "t", Partition: p}, int64(i), int64(i + 1), ""}
			m.Files = append(m.Files, listed{fileInfo: fileInfo{Name: rangeName(o.TopicPartition, o.from, o.to) + ".csv", Bytes: n, Rows: n}, Topic: "t", Partition: p, From: o.from, To: o.to})
		}
	}
	add(0, 10, 20, 80, 100, 30, 5, 200, 7)
	add(1, 60, 60, 60)
	var got []string
	for _, g := range m.merges(100) {
		got = append(got, g.name())
	}
	if want := "t+0+0+3.csv t+0+4+6.csv t+1+0+2.csv"; strings.Join(got, " ") != want {
		t.Errorf("merged are %v, want %s", got, want)
	}
}

// FuzzLedger: entries and manifests from outside are read or refused, and what
// is read is written as it was.
func FuzzLedger(f *testing.F) {
	l := tallies{clock: clock{part: part{name: "ts"}, unit: "15"}, high: noTime, now: 1 << 60, all: map[string]*tally{}}
	l.add("dt=2015-05-17/hr=10", &connectors.Message{Timestamp: 1431857103000, Offset: 5}, counts{Records: 1, Filtered: 1})
	e := l.entry(plan(5, 6))
	text, err := encodeLedger(e)
	if err != nil {
		f.Fatal(err)
	}
	f.Add("_ledger/x/clicks+3+5+6.json", text)
	b := newBook()
	b.add(e)
	m := (*manifest)(nil).with(manifest{Folder: "dt=2015-05-17/hr=10"}, b.since("dt=2015-05-17/hr=10", nil), b.upTo())
	if text, err = encodeLedger(m); err != nil {
		f.Fatal(err)
	}
	f.Add("dt=2015-05-17/hr=10/_MANIFEST.000001.json", text)
	f.Fuzz(func(t *testing.T, name string, text []byte) {
		if o, ok := parseName(name); ok && rangeName(o.TopicPartition, o.from, o.to)+"."+o.ext != name {
			t.Errorf("%q is read as %+v", name, o)
		}
		if e, err := decodeEntry(name, text); err == nil {
			again, err := encodeLedger(e)
			if second, err2 := decodeEntry(name, again); err != nil || err2 != nil || !same(e, second) {
				t.Errorf("%s became %s: %v %v", text, again, err, err2)
			}
		} else if connectors.ClassOf(err) != connectors.ClassFatal {
			t.Errorf("class %v: %v", connectors.ClassOf(err), err)
		}
		if m, err := decodeManifest(name, text); err == nil {
			_ = m.compare([]string{name}, func(string) bool { return true }, nil)
			_ = m.merges(100)
		}
	})
}

func same(a, b any) bool {
	x, _ := json.Marshal(a)
	y, _ := json.Marshal(b)
	return string(x) == string(y)
}
