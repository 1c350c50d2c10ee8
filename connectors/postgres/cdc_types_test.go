package postgres

import (
	"testing"

	"github.com/entrepot-hub/entrepot/connectors/conntest"
)

// TestCDCEdgeCases: each value of the table of edge cases comes as it should,
// the same from a row that was there and from an insert.
func TestCDCEdgeCases(t *testing.T) {
	c := newCDC(t, map[string]any{"meta": []string{}}, conntest.EdgeStatements("edges")...)
	r := c.reader(nil)
	c.exec("INSERT INTO edges SELECT * FROM edges WHERE false", "CREATE TABLE copied (LIKE edges)", "INSERT INTO copied SELECT * FROM edges", "DELETE FROM edges", "INSERT INTO edges SELECT * FROM copied ORDER BY id")
	want := conntest.EdgeRecords()
	rows := next(t, r, len(want))
	for i, m := range rows {
		if string(m.Value) != want[i] {
			t.Errorf("row %d was read as\n%s, %v, want\n%s", i, m.Value, m.Err, want[i])
		}
	}
	changes := next(t, r, 3*len(want))
	for i, m := range changes[2*len(want):] {
		if string(m.Value) != want[i] {
			t.Errorf("the insert of row %d came as\n%s, %v, want\n%s", i, m.Value, m.Err, want[i])
		}
	}
}
