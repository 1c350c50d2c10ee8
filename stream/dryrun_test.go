package stream

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/entrepot-hub/entrepot/connectors"
	"github.com/entrepot-hub/entrepot/connectors/strict"
)

// lookSource is a source that can be looked into, lookSink a sink that tells
// what it would do. Whatever else they are asked is a mistake.
type (
	lookSource struct {
		connectors.Source
		sample connectors.Sample
		err    error
	}
	lookSink struct {
		connectors.Sink
		columns []connectors.ColumnUse
		got     *[]connectors.Message
	}
)

func (lookSource) Spec() connectors.Spec {
	return connectors.Spec{Type: "look", Fields: []connectors.Field{{Name: "password", Kind: connectors.KindSecret}}}
}

func (lookSource) Validate(context.Context, connectors.Config, connectors.Probe) []connectors.Finding {
	return nil
}

func (s lookSource) Sample(_ context.Context, _ connectors.TaskContext, most int) (connectors.Sample, error) {
	out := s.sample
	out.Messages = out.Messages[:min(most, len(out.Messages))]
	return out, s.err
}

func (lookSink) Spec() connectors.Spec {
	return connectors.Spec{Type: "look", Fields: []connectors.Field{{Name: "allow_lossy", Kind: connectors.KindStrings}}}
}

func (lookSink) Batching(connectors.Config) connectors.Limits { return connectors.Limits{} }

func (lookSink) Validate(context.Context, connectors.Config, connectors.Probe) []connectors.Finding {
	return nil
}

func (s lookSink) Preview(_ context.Context, _ connectors.TaskContext, sample []connectors.Message) (connectors.Preview, error) {
	*s.got = sample
	out := connectors.Preview{Target: "a table", Columns: s.columns}
	for i, m := range sample {
		if strings.Contains(string(m.Value), "bad") {
			out.Refused = append(out.Refused, connectors.RecordError{Index: i, Err: fmt.Errorf("column a: want a number, got %d", i)})
		}
	}
	return out, nil
}

const dryJobs = `connectors:
  - name: out
    topic: t
    sink: {type: look}
  - name: in
    topic: t
    source: {type: look}
    transforms: [{filter: "value.n != 2"}, {map: {b: value.a, c: value.a + 1}}]
tests:
  - {target: in, input: ['{"n":7,"a":1}']}
`

// dry runs the two jobs above, after some change of their text.
func dry(t *testing.T, source lookSource, columns []connectors.ColumnUse, opts DryOptions, change ...string) (in, out DryJob, got []connectors.Message) {
	t.Helper()
	reg := connectors.Registry{Sources: map[string]connectors.Source{"look": source}, Sinks: map[string]connectors.Sink{"look": lookSink{columns: columns, got: &got}}}
	jobs, errs := Parse([]File{{"jobs.yaml", []byte(strings.NewReplacer(change...).Replace(dryJobs))}}, reg, strict.Options{})
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	opts.Clock = time.Now
	all := DryRun(t.Context(), jobs, opts)
	if len(all) != 2 || all[0].Name != "in" || all[1].Name != "out" {
		t.Fatalf("got %+v, want the source first", all)
	}
	return all[0], all[1], got
}

func sampleOf(values ...string) connectors.Sample {
	s := connectors.Sample{Fields: []connectors.FieldType{{Field: "a", Type: "numeric", Is: connectors.Logical{Kind: connectors.LogicalDecimal}, Nullable: true}}}
	for _, v := range values {
		s.Messages = append(s.Messages, connectors.Message{Value: []byte(v), Timestamp: connectors.NoTimestamp})
	}
	return s
}

// TestDryRunFollowsTheRecords: what a source would bring goes through its
// transforms to the sink behind its topic, with the types that are still known.
func TestDryRunFollowsTheRecords(t *testing.T) {
	source := lookSource{sample: sampleOf(`{"n":1,"a":1}`, `{"n":2,"a":1}`, `{"n":3}`, `{"n":4,"a":1,"x":"bad"}`, `{"n":5,"a":1,"x":"bad"}`, `{"n":6,"a":1}`)}
	double := connectors.Logical{Kind: connectors.LogicalFloat, Bits: 64}
	columns := []connectors.ColumnUse{{Field: "a", Column: "a", Type: "double", Is: double}, {Field: "b", Column: "b", Type: "double", Is: double}, {Field: "c", Column: "c", Type: "double", Is: double, Required: true}}
	in, out, got := dry(t, source, columns, DryOptions{Live: true, Sample: 5})
	if s := in.Sample; s.Read != 5 || s.Filtered != 1 || s.Failed != 1 || s.Records != 3 {
		t.Errorf("sample of the source %+v", s)
	}
	if len(got) != 3 || !strings.Contains(string(got[0].Value), `"c":2`) || string(source.sample.Messages[0].Value) != `{"n":1,"a":1}` {
		t.Errorf("the sink got %v of %v", got, source.sample.Messages)
	}
	if out.Sample.From != "in" || out.Sample.Kinds["a"] != "integer" {
		t.Errorf("sample of the sink %+v", out.Sample)
	}
	kinds := []string{}
	for _, l := range out.Losses {
		kinds = append(kinds, fmt.Sprintf("%s %s %s %d", l.Severity, l.Kind, l.Field, l.Records))
	}
	want := []string{"impossible refused  2", "lossy numeric_to_double a 0", "lossy numeric_to_double b 0"}
	if !slices.Equal(kinds, want) {
		t.Errorf("losses %q, want %q: b is a copy of a, c is not", kinds, want)
	}
}

func TestDryRunWithoutLooking(t *testing.T) {
	in, out, got := dry(t, lookSource{err: errors.New("it was asked")}, nil, DryOptions{Sample: 5})
	if len(in.Losses)+len(out.Losses)+len(got) > 0 || in.Sample != nil || !slices.Equal(in.Steps, []string{"filter value.n != 2", "map b: value.a, c: value.a + 1"}) {
		t.Errorf("got %+v and %+v", in, out)
	}
}

// TestDryRunAllows: a loss that is allowed by the source's config or by the
// caller does not fail; one that is not, and a job that cannot run, do.
func TestDryRunAllows(t *testing.T) {
	columns := []connectors.ColumnUse{{Field: "a", Column: "a", Type: "double", Is: connectors.Logical{Kind: connectors.LogicalFloat, Bits: 64}}}
	bad := func(j DryJob) bool { return slices.ContainsFunc(j.Losses, Loss.Bad) }
	sample := sampleOf(`{"n":1,"a":1}`)
	if _, out, _ := dry(t, lookSource{sample: sample}, columns, DryOptions{Live: true, Sample: 5}); !bad(out) {
		t.Errorf("a loss passed: %+v", out.Losses)
	}
	if _, out, _ := dry(t, lookSource{sample: sample}, columns, DryOptions{Live: true, Sample: 5, Allow: []string{"numeric_to_double"}}); bad(out) {
		t.Errorf("a loss that is allowed did not pass: %+v", out.Losses)
	}
	sample.Allowed = []string{"numeric_to_double"}
	if _, out, _ := dry(t, lookSource{sample: sample}, columns, DryOptions{Live: true, Sample: 5}); bad(out) {
		t.Errorf("a loss that is allowed did not pass: %+v", out.Losses)
	}
	sample.Allowed = nil
	if _, out, _ := dry(t, lookSource{sample: sample}, columns, DryOptions{Live: true, Sample: 5}, "sink: {type: look}", "sink: {type: look, allow_lossy: [numeric_to_double]}"); bad(out) {
		t.Errorf("a loss that the sink allows did not pass: %+v", out.Losses)
	}
	if in, _, _ := dry(t, lookSource{err: errors.New("no such table")}, columns, DryOptions{Live: true, Sample: 5}); !bad(in) {
		t.Errorf("a source that cannot run passed: %+v", in.Losses)
	}
}

// TestDryRunHidesSecrets: a system that repeats what it was sent is not shown.
func TestDryRunHidesSecrets(t *testing.T) {
	secret := []string{"source: {type: look}", "source: {type: look, password: hunter2}"}
	broken := sampleOf(`{"n":1,"a":1}`)
	broken.Messages[0].Err = errors.New("hunter2 is no key")
	for _, source := range []lookSource{{err: errors.New("no login with hunter2")}, {sample: broken}} {
		in, _, _ := dry(t, source, nil, DryOptions{Live: true, Sample: 5}, secret...)
		if len(in.Losses) != 1 || strings.Contains(in.Losses[0].Message, "hunter2") || !strings.Contains(in.Losses[0].Message, "***") {
			t.Errorf("got %+v", in.Losses)
		}
	}
}

// TestDryRunTakesTestsAndTopics: where there is nothing to look at, the tests
// of the file and the topic of a running site are.
func TestDryRunTakesTestsAndTopics(t *testing.T) {
	in, _, got := dry(t, lookSource{}, nil, DryOptions{Live: true, Sample: 5})
	if len(got) != 1 || in.Sample.From != "the tests of the file" {
		t.Errorf("got %v of %+v", got, in.Sample)
	}
	read := func(_ context.Context, topic string, most int) ([]connectors.Message, error) {
		if topic != "t" || most != 5 {
			t.Errorf("asked for %d records of %s", most, topic)
		}
		return []connectors.Message{{Value: []byte(`{"of":"the topic"}`)}}, nil
	}
	_, out, got := dry(t, lookSource{}, nil, DryOptions{Live: true, Sample: 5, Read: read}, "topic: t\n    source", "topic: other\n    source")
	if len(got) != 1 || out.Sample.From != "topic t" {
		t.Errorf("got %v of %+v", got, out.Sample)
	}
}

// TestCompare lists what may be lost between types of two systems.
func TestCompare(t *testing.T) {
	type l = connectors.Logical
	for _, c := range []struct {
		from, to connectors.Logical
		want     string
	}{
		{l{Kind: "decimal"}, l{Kind: "float", Bits: 64}, "numeric_to_double"},
		{l{Kind: "decimal", Precision: 12, Scale: 2}, l{Kind: "decimal", Precision: 12, Scale: 2}, ""},
		{l{Kind: "decimal", Precision: 12, Scale: 2}, l{Kind: "decimal", Precision: 12, Scale: 4}, "numeric_narrowed"},
		{l{Kind: "decimal", Precision: 12, Scale: 2}, l{Kind: "decimal"}, ""},
		{l{Kind: "decimal"}, l{Kind: "decimal", Precision: 38, Scale: 9}, "numeric_narrowed"},
		{l{Kind: "decimal"}, l{Kind: "text"}, ""},
		{l{Kind: "decimal"}, l{Kind: "int", Bits: 64}, "numeric_narrowed"},
		{l{Kind: "instant", Fraction: 6}, l{Kind: "local", Fraction: 6}, "timestamptz_to_naive"},
		{l{Kind: "local", Fraction: 6}, l{Kind: "instant", Fraction: 6}, "naive_to_timestamptz"},
		{l{Kind: "instant", Fraction: 6}, l{Kind: "time", Fraction: 6}, ""},
		{l{Kind: "instant", Fraction: 6}, l{Kind: "time"}, "time_narrowed"},
		{l{Kind: "instant", Fraction: 6}, l{Kind: "date"}, "time_narrowed"},
		{l{Kind: "int", Bits: 64}, l{Kind: "int", Bits: 32}, "int_narrowed"},
		{l{Kind: "int", Bits: 32}, l{Kind: "int", Bits: 64}, ""},
		{l{Kind: "int", Bits: 32}, l{Kind: "uint", Bits: 64}, "int_narrowed"},
		{l{Kind: "uint", Bits: 32}, l{Kind: "int", Bits: 64}, ""},
		{l{Kind: "uint", Bits: 64}, l{Kind: "int", Bits: 64}, "int_narrowed"},
		{l{Kind: "int", Bits: 64}, l{Kind: "float", Bits: 64}, "int_to_float"},
		{l{Kind: "int", Bits: 32}, l{Kind: "float", Bits: 64}, ""},
		{l{Kind: "int", Bits: 32}, l{Kind: "float", Bits: 32}, "int_to_float"},
		{l{Kind: "text"}, l{Kind: "text", Length: 20}, "text_too_long"},
		{l{Kind: "text", Length: 20}, l{Kind: "text", Length: 20}, ""},
		{l{Kind: "float", Bits: 64}, l{Kind: "float", Bits: 32}, "float_narrowed"},
		{l{Kind: "json"}, l{Kind: "text"}, ""},
	} {
		got := ""
		for _, one := range compare(connectors.FieldType{Is: c.from}, connectors.ColumnUse{Is: c.to}) {
			got += one.Kind
		}
		if got != c.want {
			t.Errorf("%v to %v: got %q, want %q", c.from, c.to, got, c.want)
		}
	}
	if got := compare(connectors.FieldType{Nullable: true}, connectors.ColumnUse{Required: true}); len(got) != 1 || got[0].Kind != "null_to_required" {
		t.Errorf("NULL into a column that takes none: %v", got)
	}
}
