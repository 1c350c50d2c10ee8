package files

import (
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/entrepot-hub/entrepot/connectors"
	"github.com/entrepot-hub/entrepot/connectors/conntest"
	"github.com/entrepot-hub/entrepot/record"
)

// TestPreview tells columns, folders and what would be refused, and makes
// nothing: not even the folder.
func TestPreview(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "lake")
	cfg := conntest.Config(t, Sink{}.Spec(), map[string]any{"url": "file://" + dir, "partition_by": "city={value.city}"})
	var sample []connectors.Message
	for _, v := range []string{`{"id":1,"city":"Gdansk"}`, `{"id":2,"city":"Bonn","at":"2026-05-17T10:00:00Z"}`, `{"id":"three","city":"Bonn"}`, `none`} {
		sample = append(sample, connectors.Message{Value: []byte(v), Partition: record.TopicPartition{Topic: "clicks"}, Timestamp: connectors.NoTimestamp})
	}
	got, err := Sink{}.Preview(t.Context(), conntest.Task(cfg), sample[:2])
	if err != nil || len(got.Refused) > 0 || len(got.Columns) != 3 || len(got.Makes) != 1 || !strings.Contains(strings.Join(got.Notes, " "), "2 of the folders") {
		t.Errorf("got %+v, %v", got, err)
	}
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("the folder was made: %v", err)
	}
	if got, err = (Sink{}).Preview(t.Context(), conntest.Task(cfg), sample); err != nil || len(got.Refused) != 1 || got.Refused[0].Index != 3 {
		t.Errorf("got %+v, %v", got, err)
	}

	w, err := Sink{}.Open(t.Context(), conntest.Task(cfg), nil)
	if err != nil {
		t.Fatal(err)
	}
	plan := connectors.Plan{Partition: sample[0].Partition, To: 2, ID: "a"}
	if wrong, err := w.Write(t.Context(), plan, connectors.Batch{Messages: sample[:2]}); err != nil || len(wrong) > 0 {
		t.Fatal(wrong, err)
	}
	if err := w.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	before := listing(t, dir)
	got, err = Sink{}.Preview(t.Context(), conntest.Task(cfg), sample[2:])
	if err != nil || len(got.Refused) != 2 || len(got.Makes) != 0 { // id is pinned as a number
		t.Errorf("got %+v, %v", got, err)
	}
	if after := listing(t, dir); after != before {
		t.Errorf("the folder was changed:\n%s\nit was\n%s", after, before)
	}
}

func listing(t *testing.T, dir string) string {
	t.Helper()
	var all []string
	err := filepath.Walk(dir, func(path string, info os.FileInfo, err error) error {
		all = append(all, path+" "+info.ModTime().String())
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(all, "\n")
}

// TestReplayed: whoever sets offsets back hears of every folder that has to go.
func TestReplayed(t *testing.T) {
	moves := []connectors.Move{{Partition: tp, To: 7}}
	for _, c := range []struct {
		more map[string]any
		want bool
	}{{map[string]any{}, false}, {map[string]any{"manifest": map[string]any{}}, true}} {
		values := map[string]any{"url": "file:///lake", "partition_by": "dt={date(ts)}"}
		maps.Copy(values, c.more)
		got := Sink{}.Replayed(conntest.Config(t, Sink{}.Spec(), values), "j", moves)
		if !strings.Contains(got, "_plans/j/") || !strings.Contains(got, "from offset 7 on") || strings.Contains(got, "_ledger/j") != c.want {
			t.Errorf("%v: %s", c.more, got)
		}
	}
}
