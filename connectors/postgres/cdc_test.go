package postgres

import "testing"

// TestCDCRowsThenChanges is the road of everything: rows that are there, then
// inserts, updates, deletes and a changed key, in order.
func TestCDCRowsThenChanges(t *testing.T) {
	c := newCDC(t, nil, "CREATE TABLE things (id int PRIMARY KEY, name text)", "INSERT INTO things VALUES (2, 'two'), (1, 'one')")
	r := c.reader(nil)
	c.exec("INSERT INTO things VALUES (3, 'three')", "UPDATE things SET name = NULL WHERE id = 1",
		"UPDATE things SET id = 5 WHERE id = 2", "DELETE FROM things WHERE id = 3")
	got := next(t, r, 7)
	wantTexts(t, got,
		`{"id":1}={"id":1,"name":"one","__op":"r"}`,
		`{"id":2}={"id":2,"name":"two","__op":"r"}`,
		`{"id":3}={"id":3,"name":"three","__op":"c"}`,
		`{"id":1}={"id":1,"name":null,"__op":"u"}`,
		`{"id":2}=`,
		`{"id":5}={"id":5,"name":"two","__op":"c"}`,
		`{"id":3}=`,
	)
	for i := 1; i < len(got); i++ {
		if got[i-1].Position.Compare(got[i].Position) >= 0 {
			t.Errorf("position %x of record %d does not come after %x", got[i].Position, i, got[i-1].Position)
		}
	}
}
