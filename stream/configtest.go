package stream

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"

	"github.com/entrepot-hub/entrepot/connectors"
	"github.com/entrepot-hub/entrepot/connectors/strict"
)

type testYAML struct {
	Target string        `yaml:"target,required"`
	Input  []string      `yaml:"input,required"`
	Output []strict.Node `yaml:"output"`
}

type expectYAML struct {
	JSONContains strict.Node `yaml:"json_contains"`
	JSONEquals   strict.Node `yaml:"json_equals"`
	Key          strict.Node `yaml:"key"`
	DeadLetter   strict.Node `yaml:"dead_letter"`
	Filtered     bool        `yaml:"filtered"`
}

func (p *parsing) test(n strict.Node) {
	var y testYAML
	if errs := n.Decode(&y, p.opts); len(errs) > 0 {
		p.add(errs...)
		return
	}
	t := TestSpec{Target: y.Target, Input: y.Input, File: n.File(), Pos: n.Pos()}
	for _, o := range y.Output {
		t.Output = append(t.Output, p.expect(o))
	}
	p.jobs.Tests = append(p.jobs.Tests, t)
}

func (p *parsing) expect(n strict.Node) ExpectSpec {
	var y expectYAML
	p.add(n.Decode(&y, p.opts)...)
	out := ExpectSpec{Filtered: y.Filtered, Pos: n.Pos()}
	if y.JSONContains.Kind() != strict.Null {
		out.JSONContains = nodeJSON(nil, y.JSONContains)
	}
	if y.JSONEquals.Kind() != strict.Null {
		out.JSONEquals = nodeJSON(nil, y.JSONEquals)
	}
	if y.Key.Kind() != strict.Null {
		text := y.Key.Text()
		out.Key = &text
	}
	if d := y.DeadLetter; d.Kind() == strict.Bool && d.Text() == "true" {
		out.DeadLetter = new(string)
	} else if d.Kind() == strict.Text {
		text := d.Text()
		out.DeadLetter = &text
	} else if d.Kind() != strict.Null {
		p.add(d.Errorf("dead_letter is true, or a text that its reason has to contain"))
	}
	if (out.DeadLetter != nil || out.Filtered) && (out.JSONContains != nil || out.JSONEquals != nil || out.Key != nil) || out.DeadLetter != nil && out.Filtered {
		p.add(n.Errorf("a record is passed on, filtered or a dead letter; want one of them"))
	}
	return out
}

// nodeJSON is the JSON that a YAML value means.
func nodeJSON(b []byte, n strict.Node) []byte {
	switch n.Kind() {
	case strict.Null:
		return append(b, "null"...)
	case strict.Int, strict.Float, strict.Bool:
		return append(b, n.Text()...)
	case strict.Text:
		quoted, _ := json.Marshal(n.Text()) // a string always has JSON
		return append(b, quoted...)
	case strict.List:
		b = append(b, '[')
		for i, item := range n.Items() {
			if i > 0 {
				b = append(b, ',')
			}
			b = nodeJSON(b, item)
		}
		return append(b, ']')
	}
	b = append(b, '{')
	for i, e := range n.Entries() {
		if i > 0 {
			b = append(b, ',')
		}
		name, _ := json.Marshal(e.Key)
		b = nodeJSON(append(append(b, name...), ':'), e.Value)
	}
	return append(b, '}')
}

// TestResult is the outcome of one entry of tests.
type TestResult struct {
	Target string         `json:"target"`
	File   string         `json:"file"`
	Pos    connectors.Pos `json:"-"`
	Line   int            `json:"line"`
	// Failures says what was not as expected; none: the test passed.
	Failures []string `json:"failures"`
}

// Test runs the tests of jobs files: the input lines go through the
// transforms of their connector, without any network or file.
func Test(ctx context.Context, jobs *Jobs) []TestResult {
	out := make([]TestResult, 0, len(jobs.Tests))
	for _, t := range jobs.Tests {
		r := TestResult{Target: t.Target, File: t.File, Pos: t.Pos, Line: t.Pos.Line}
		for _, c := range jobs.Connectors {
			if c.Name == t.Target && ctx.Err() == nil {
				r.Failures = runTest(t, c)
			}
		}
		if err := ctx.Err(); err != nil {
			r.Failures = []string{err.Error()}
		}
		out = append(out, r)
	}
	return out
}

func runTest(t TestSpec, c ConnectorSpec) []string {
	var failures []string
	if len(t.Output) > len(t.Input) {
		failures = append(failures, fmt.Sprintf("%d outputs are expected of %d inputs; there is one for each input", len(t.Output), len(t.Input)))
	}
	pipe := c.Pipeline.start()
	for i, line := range t.Input {
		m := connectors.Message{Value: []byte(line), Original: []byte(line), Timestamp: connectors.NoTimestamp}
		keep, err := pipe.apply(&m)
		if i >= len(t.Output) {
			if len(t.Output) > 0 {
				failures = append(failures, fmt.Sprintf("input %d: nothing is said of what it becomes: %s", i+1, became(m, keep, err)))
			}
			continue
		}
		for _, f := range t.Output[i].check(m, keep, err) {
			failures = append(failures, fmt.Sprintf("input %d: %s", i+1, f))
		}
	}
	return failures
}

func became(m connectors.Message, keep bool, err error) string {
	switch {
	case err != nil:
		return fmt.Sprintf("it is a dead letter: %v", err)
	case !keep:
		return "it is filtered"
	}
	return fmt.Sprintf("it is %.400s", m.Value)
}

func (e ExpectSpec) check(m connectors.Message, keep bool, err error) []string {
	switch {
	case e.DeadLetter != nil:
		if err == nil {
			return []string{"want a dead letter, " + became(m, keep, err)}
		}
		if !strings.Contains(err.Error(), *e.DeadLetter) {
			return []string{fmt.Sprintf("want a dead letter with %q, %s", *e.DeadLetter, became(m, keep, err))}
		}
		return nil
	case e.Filtered:
		if err != nil || keep {
			return []string{"want it filtered, " + became(m, keep, err)}
		}
		return nil
	case err != nil || !keep:
		return []string{"want a record, " + became(m, keep, err)}
	}
	return e.checkRecord(m)
}

func (e ExpectSpec) checkRecord(m connectors.Message) (failures []string) {
	if e.Key != nil && (m.Key == nil || string(m.Key) != *e.Key) {
		failures = append(failures, fmt.Sprintf("the key is %q, want %q", m.Key, *e.Key))
	}
	if e.JSONContains == nil && e.JSONEquals == nil {
		return failures
	}
	got, err := readJSON(m.Value)
	if err != nil {
		return append(failures, fmt.Sprintf("the value %.400q is not JSON: %v", m.Value, err))
	}
	if e.JSONEquals != nil {
		if want, _ := readJSON(e.JSONEquals); !reflect.DeepEqual(got, want) {
			failures = append(failures, fmt.Sprintf("the value is %.400s, want %s", m.Value, e.JSONEquals))
		}
	}
	if e.JSONContains != nil {
		want, _ := readJSON(e.JSONContains)
		failures = append(failures, missing("value", got, want)...)
	}
	return failures
}

// missing lists where got does not contain want: objects may have more
// fields, everything else has to be equal.
func missing(path string, got, want any) []string {
	object, ok := want.(map[string]any)
	if !ok {
		if reflect.DeepEqual(got, want) {
			return nil
		}
		return []string{fmt.Sprintf("%s is %s, want %s", path, showJSON(got), showJSON(want))}
	}
	have, ok := got.(map[string]any)
	if !ok {
		return []string{fmt.Sprintf("%s is %s, want an object", path, showJSON(got))}
	}
	var failures []string
	for _, name := range sortedNames(object) {
		v, there := have[name]
		if !there {
			failures = append(failures, fmt.Sprintf("%s.%s is missing, want %s", path, name, showJSON(object[name])))
			continue
		}
		failures = append(failures, missing(path+"."+name, v, object[name])...)
	}
	return failures
}

func readJSON(text []byte) (any, error) {
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return nil, err
	}
	return v, nil
}

func showJSON(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Sprint(v)
	}
	return string(b)
}
