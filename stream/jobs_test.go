package stream

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/entrepot-hub/entrepot/connectors"
	"github.com/entrepot-hub/entrepot/connectors/strict"
	"github.com/entrepot-hub/entrepot/storytest"
)

func testOptions() strict.Options {
	return strict.Options{Env: func(name string) (string, bool) { return "s3cret", name == "SECRET" }}
}

func testRegistry() connectors.Registry {
	return registry(newFakeSource(true, nil), newFakeSink(false, connectors.Limits{}))
}

// TestJobsFiles parses the corpus: NAME.good.yaml has to pass, NAME.bad.yaml
// to fail with the errors in NAME.bad.txt.
func TestJobsFiles(t *testing.T) {
	files, err := filepath.Glob("testdata/jobs/*.yaml")
	if err != nil || len(files) < 10 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	for _, path := range files {
		t.Run(filepath.Base(path), func(t *testing.T) {
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			_, errs := Parse([]File{{filepath.Base(path), text}}, testRegistry(), testOptions())
			if strings.HasSuffix(path, ".good.yaml") {
				if len(errs) > 0 {
					t.Error(errs)
				}
				return
			}
			storytest.Golden(t, strings.TrimSuffix(path, ".yaml")+".txt", errs.Error()+"\n")
		})
	}
}

func TestParseCompilesAll(t *testing.T) {
	text, err := os.ReadFile("testdata/jobs/all.good.yaml")
	if err != nil {
		t.Fatal(err)
	}
	jobs, errs := Parse([]File{{"all.yaml", text}}, testRegistry(), testOptions())
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	if c := jobs.Topics[0].Configs["mirror.to"]; c != "nyc,sin" || jobs.Topics[0].Partitions != 6 || jobs.Topics[1].Configs["retention.ms"] != "60000" {
		t.Errorf("topics %+v", jobs.Topics)
	}
	lake := jobs.Connectors[1]
	if lake.Start != Latest || !lake.Errors.SkipGaps || lake.Errors.MaxFailures != 10 || lake.Errors.Window != 1000 || lake.memory() != defaultMemory {
		t.Errorf("%+v", lake)
	}
	shown, err := json.Marshal(Describe(jobs.Connectors[0]))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"transforms":["parse","filter","map"]`, `"key":"value.remote_addr"`, `"password":"***"`, `"dlq":"access-log.dlq"`, `"memory":33554432`} {
		if !strings.Contains(string(shown), want) {
			t.Errorf("the description has no %s: %s", want, shown)
		}
	}
	if strings.Contains(string(shown), "s3cret") {
		t.Errorf("the description shows a secret: %s", shown)
	}
	for _, r := range Test(t.Context(), jobs) {
		if len(r.Failures) > 0 {
			t.Errorf("%+v", r)
		}
	}
}

func TestNamesAreUniqueOverFiles(t *testing.T) {
	one := "connectors: [{name: a, source: {type: lines}, topic: out}]\ntopics: [{name: t}]\n"
	_, errs := Parse([]File{{"one.yaml", []byte(one)}, {"two.yaml", []byte("\n" + one)}}, testRegistry(), testOptions())
	want := "two.yaml:2:21: connector \"a\" is here twice, the first is at one.yaml:1:21\n" +
		"two.yaml:3:17: topic \"t\" is here twice, the first is at one.yaml:2:17"
	if errs.Error() != want {
		t.Errorf("got\n%s\nwant\n%s", errs, want)
	}
}

func TestFingerprintTellsChanges(t *testing.T) {
	parse := func(text string) string { return parseOne(t, testRegistry(), text).Fingerprint }
	a := parse("connectors: [{name: a, source: {type: lines}, topic: out}]")
	if b := parse("# moved\nconnectors:\n  - name: a\n    source: {type: lines}\n    topic: out\n"); a != b {
		t.Error("the place in the file changed the fingerprint")
	}
	if b := parse("connectors: [{name: a, source: {type: lines}, topic: out, key: text}]"); a == b {
		t.Error("a new key did not change the fingerprint")
	}
}

func TestValidateAsksTheConnectors(t *testing.T) {
	jobs, errs := Parse([]File{{"j.yaml", []byte("connectors: [{name: a, source: {type: lines, path: /forbidden}, topic: out}]")}}, testRegistry(), testOptions())
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	errs, warnings := jobs.Validate(t.Context(), connectors.ProbeNone)
	if errs.Error() != "j.yaml:1:52: this path is forbidden; take another" {
		t.Errorf("got %v", errs)
	}
	if len(warnings) != 1 || warnings[0].Job != "a" || warnings[0].Line != 1 || warnings[0].Message != "rate is slow" {
		t.Errorf("got %+v", warnings)
	}
}

func TestConfigTests(t *testing.T) {
	const head = `
connectors:
  - name: log
    source: {type: lines}
    transforms:
      - parse: {format: json}
      - filter: value.keep
    topic: out
    key: value.id
tests:
  - target: log
    input: ['{"keep":true,"id":7,"sub":{"a":1,"b":[1,2]}}', '{"keep":false}', 'junk']
    output:
`
	for _, c := range []struct{ output, failures string }{
		{`[{json_contains: {id: 7, sub: {a: 1}}, key: "7"}, {filtered: true}, {dead_letter: not JSON}]`, ""},
		{`[{json_equals: {keep: true, id: 7, sub: {a: 1, b: [1, 2]}}}, {filtered: true}, {dead_letter: true}]`, ""},
		{`[{json_contains: {id: 8, nope: 1, sub: {b: [1]}}}, {filtered: true}, {dead_letter: true}]`,
			"input 1: value.id is 7, want 8|input 1: value.nope is missing, want 1|input 1: value.sub.b is [1,2], want [1]"},
		{`[{json_equals: {id: 7}, key: "8"}, {}, {dead_letter: other}]`, `input 1: the key is "7", want "8"|input 1: the value is |input 2: want a record, it is filtered|input 3: want a dead letter with "other", it is a dead letter: parse:`},
		{`[{filtered: true}, {dead_letter: true}]`, "input 1: want it filtered, it is {|input 2: want a dead letter, it is filtered|input 3: nothing is said of what it becomes"},
		{`[{}, {filtered: true}, {dead_letter: true}, {}]`, "4 outputs are expected of 3 inputs"},
	} {
		jobs, errs := Parse([]File{{"t.yaml", []byte(head + "      " + c.output + "\n")}}, testRegistry(), testOptions())
		if len(errs) > 0 {
			t.Fatal(errs)
		}
		got := Test(t.Context(), jobs)[0].Failures
		want := strings.Split(c.failures, "|")
		if c.failures == "" {
			want = nil
		}
		if len(got) != len(want) {
			t.Errorf("%s:\ngot  %q\nwant %q", c.output, got, want)
			continue
		}
		for i := range want {
			if !strings.HasPrefix(got[i], want[i]) {
				t.Errorf("%s:\ngot  %q\nwant %q", c.output, got[i], want[i])
			}
		}
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	jobs, _ := Parse([]File{{"t.yaml", []byte(head + "      []\n")}}, testRegistry(), testOptions())
	if r := Test(ended, jobs); r[0].Failures == nil {
		t.Error("a test that did not run has passed")
	}
}

func FuzzParseJobs(f *testing.F) {
	files, _ := filepath.Glob("testdata/jobs/*.yaml")
	for _, path := range files {
		if text, err := os.ReadFile(path); err == nil {
			f.Add(text)
		}
	}
	reg := testRegistry()
	f.Fuzz(func(t *testing.T, text []byte) {
		jobs, errs := Parse([]File{{"fuzz.yaml", text}}, reg, testOptions())
		if (jobs == nil) == (len(errs) == 0) {
			t.Errorf("jobs %v with errors %v", jobs, errs)
		}
		for _, e := range errs {
			if e.File != "fuzz.yaml" {
				t.Errorf("an error without its file: %v", e)
			}
		}
		if jobs != nil {
			Test(t.Context(), jobs)
			for _, c := range jobs.Connectors {
				Describe(c)
			}
		}
	})
}

func FuzzDecodeCheckpoint(f *testing.F) {
	f.Add([]byte(`{"v":1,"position":"AAE=","where":"a:3","counters":{"read":3},"ends":[{"topic":"t","partition":0,"offset":5}]}`))
	f.Add([]byte(`{"v":1,"from":1,"to":2,"id":"x","dead":[]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		var source sourceCheckpoint
		if decodeCheckpoint("k", text, &source) == nil {
			again, err := encodeCheckpoint(source.progress().checkpoint(source.Done))
			if err != nil || decodeCheckpoint("k", again, &source) != nil {
				t.Errorf("%s does not survive", text)
			}
		}
		var sink sinkCheckpoint
		if err := decodeCheckpoint("k", text, &sink); err != nil && connectors.ClassOf(err) != connectors.ClassFatal {
			t.Errorf("%v is not fatal", err)
		}
	})
}
