package stream

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/entrepot-hub/entrepot/connectors"
	"github.com/entrepot-hub/entrepot/connectors/format"
)

// sink asks a sink what it would do with what is in its topic.
func (d *dryRun) sink(ctx context.Context, spec ConnectorSpec, j *DryJob) {
	in := d.input(ctx, spec, j)
	if f, ok := spec.spec().Field("allow_lossy"); ok && f.Kind == connectors.KindStrings {
		in.allowed = slices.Concat(in.allowed, spec.Config.Strings("allow_lossy"))
	}
	defer func() { j.judge(in.allowed) }()
	if len(in.records) > 0 {
		j.Sample = &DrySample{From: strings.Join(in.from, ", ")}
	}
	for i := range in.records {
		if m := &in.records[i]; m.Partition.Topic == "" {
			m.Partition.Topic = spec.Topic // as it will be read
		}
	}
	through(spec.Pipeline, in, j)
	p, ok := spec.Sink.(connectors.Previewer)
	if !ok {
		describeFields(in, j)
		j.Notes = append(j.Notes, fmt.Sprintf("a sink of type %s cannot tell what it would do", spec.Type))
		return
	}
	got, err := p.Preview(ctx, d.task(spec), in.records)
	if err != nil {
		describeFields(in, j)
		j.cannot(err)
		return
	}
	j.Target, j.Makes, j.Notes = got.Target, append(j.Makes, got.Makes...), append(j.Notes, got.Notes...)
	for _, r := range got.Refused {
		j.refused("refused", r.Err)
	}
	j.kinds(in)
	for _, c := range got.Columns {
		from := in.fields[c.Field]
		row := DryColumn{Field: c.Field, SourceType: from.Type, Column: c.Column, Type: c.Type}
		if j.Sample != nil {
			row.JSON = j.Sample.Kinds[c.Field]
		}
		j.Mapping = append(j.Mapping, row)
		if from.Type != "" {
			j.Losses = append(j.Losses, compare(from, c)...)
		}
	}
	j.left(got)
}

// left tells of fields and columns that have no counterpart.
func (j *DryJob) left(got connectors.Preview) {
	for _, name := range got.Dropped {
		l := Loss{Kind: "unknown_field", Field: name, Severity: Lossy, Message: "no column takes it: it would be left out",
			Hint: "add the column, or write extra: fail, or extra: ignore if that is meant"}
		if got.Meant {
			l.Severity, l.Message = Allowed, "no column takes it, as the config says"
		}
		j.Losses = append(j.Losses, l)
	}
	for _, column := range got.Unfilled {
		j.Notes = append(j.Notes, fmt.Sprintf("column %s of the destination is left to its default", column))
	}
}

// input is what the sources of the files bring to the sink's topic, else some
// of what is in it.
func (d *dryRun) input(ctx context.Context, spec ConnectorSpec, j *DryJob) *flow {
	if f := d.filled[spec.Topic]; f != nil {
		return &flow{from: f.from, records: slices.Clone(f.records), fields: f.fields, allowed: f.allowed}
	}
	out := &flow{from: []string{"topic " + spec.Topic}, fields: map[string]connectors.FieldType{}, allowed: d.Allow}
	if d.Read == nil {
		return out
	}
	var err error
	if out.records, err = d.Read(ctx, spec.Topic, d.Sample); err != nil {
		j.Notes = append(j.Notes, fmt.Sprintf("no source of these files brings records to topic %s, and it cannot be read: %v", spec.Topic, err))
	} else if len(out.records) == 0 {
		j.Notes = append(j.Notes, fmt.Sprintf("topic %s is empty: there are no records to look at", spec.Topic))
	}
	return out
}

// describeFields is the mapping of a job whose other side is not looked at.
func describeFields(f *flow, j *DryJob) {
	j.kinds(f)
	seen := map[string]bool{}
	add := func(name string) {
		if seen[name] {
			return
		}
		seen[name] = true
		row := DryColumn{Field: name, SourceType: f.fields[name].Type}
		if j.Sample != nil {
			row.JSON = j.Sample.Kinds[name]
		}
		j.Mapping = append(j.Mapping, row)
	}
	for _, t := range j.known {
		if _, still := f.fields[t.Field]; still {
			add(t.Field)
		}
	}
	for _, name := range sortedNames(f.fields) {
		add(name)
	}
	if j.Sample != nil {
		for _, name := range sortedNames(j.Sample.Kinds) {
			add(name)
		}
	}
}

// kinds finds what is in the fields of the records that came through.
func (j *DryJob) kinds(f *flow) {
	if j.Sample == nil || len(f.records) == 0 {
		return
	}
	kinds := map[string][]string{}
	for _, m := range f.records {
		_ = format.EachField(m.Value, func(field, raw []byte) bool { // other values have no fields
			name, kind := string(field), kindOfJSON(raw)
			if !slices.Contains(kinds[name], kind) {
				kinds[name] = append(kinds[name], kind)
			}
			return true
		})
	}
	j.Sample.Kinds = map[string]string{}
	for name, all := range kinds {
		slices.Sort(all)
		j.Sample.Kinds[name] = strings.Join(all, "|")
	}
	j.Sample.Example = clipText(string(f.records[0].Value), 400)
}

func clipText(s string, most int) string {
	if r := []rune(s); len(r) > most {
		return string(r[:most]) + "…"
	}
	return s
}

func kindOfJSON(raw []byte) string {
	switch raw[0] {
	case 'n':
		return "null"
	case 't', 'f':
		return "bool"
	case '"':
		return "string"
	case '{':
		return "object"
	case '[':
		return "array"
	}
	if strings.ContainsAny(string(raw), ".eE") {
		return "decimal"
	}
	return "integer"
}

// digits are what makes equal complaints of two records differ.
var digits = regexp.MustCompile(`[0-9]+`)
