package clickhouse

import (
	"slices"
	"strings"
	"testing"

	"github.com/entrepot-hub/entrepot/connectors"
	"github.com/entrepot-hub/entrepot/connectors/conntest"
)

// serverState is what a look must not change.
func (r *rig) serverState() string {
	return strings.Join([]string{
		r.text("SELECT toString(groupArray(name)) FROM (SELECT name FROM system.tables WHERE database = currentDatabase() ORDER BY name)"),
		r.text("SELECT toString(groupArray((name, rows))) FROM (SELECT name, rows FROM system.parts WHERE database = currentDatabase() AND active ORDER BY name)"),
	}, "\n")
}

// TestPreview tells the table that a run would make, what of a sample it would
// refuse, and writes nothing: the run with the same records makes the same.
func TestPreview(t *testing.T) {
	r := newRig(t)
	fields := with(rowFields(), map[string]any{"columns": nil, "order_by": []string{"id"}})
	sample := batchOf(0, `{"id":1,"ratio":1.5,"doc":{"a":1},"__op":"r"}`, `{"id":2,"name":"x"}`, `{"name":"y"}`, `none`).Messages
	before := r.serverState()
	got, err := Sink{}.Preview(t.Context(), conntest.Task(r.config(fields)), sample)
	if err != nil {
		t.Fatal(err)
	}
	if after := r.serverState(); after != before {
		t.Errorf("the server was changed: %s, it was %s", after, before)
	}
	if len(got.Makes) != 1 || !strings.Contains(got.Makes[0], "ORDER BY (`id`)") || len(got.Columns) != 4 || len(got.Dropped) != 0 {
		t.Fatalf("got %+v", got)
	}
	slices.SortFunc(got.Refused, func(a, b connectors.RecordError) int { return a.Index - b.Index })
	if len(got.Refused) != 2 || got.Refused[0].Index != 2 || got.Refused[1].Index != 3 {
		t.Fatalf("refused %v, want the third record, which has no id, and the fourth, which is no object", got.Refused)
	}
	put(t, r.writer(fields), 0, string(sample[0].Value), string(sample[1].Value))
	for _, c := range got.Columns {
		r.want("SELECT type FROM system.columns WHERE database = currentDatabase() AND table = 'rows' AND name = "+quoteText(c.Column), c.Type)
	}

	before = r.serverState()
	got, err = Sink{}.Preview(t.Context(), conntest.Task(r.config(with(fields, map[string]any{"order_by": nil}))), batchOf(2, `{"id":3,"other":1}`).Messages)
	if err != nil {
		t.Fatal(err)
	}
	if after := r.serverState(); after != before || len(got.Makes) > 0 {
		t.Errorf("the server was changed: %s, it was %s; it would make %q", after, before, got.Makes)
	}
	if !slices.Equal(got.Dropped, []string{"other"}) || got.Meant || len(got.Refused) > 0 {
		t.Errorf("got %+v", got)
	}
}
