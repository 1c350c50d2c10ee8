package postgres

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/entrepot-hub/entrepot/connectors"
)

const big = "(SELECT string_agg(md5(i::text), '') FROM generate_series(1, 400) AS i)" // 12,800 characters that do not compress

// TestCDCUnchanged: a large value that was not sent because it is as before is
// named, never made up; where the old row has it, it is filled in.
func TestCDCUnchanged(t *testing.T) {
	c := newCDC(t, map[string]any{"snapshot": "never"},
		"CREATE TABLE docs (id int PRIMARY KEY, n int, doc text)", "CREATE TABLE full_docs (id int PRIMARY KEY, n int, doc text)",
		"ALTER TABLE docs ALTER doc SET STORAGE EXTERNAL", "ALTER TABLE full_docs ALTER doc SET STORAGE EXTERNAL", "ALTER TABLE full_docs REPLICA IDENTITY FULL",
		"INSERT INTO docs VALUES (1, 0, "+big+")", "INSERT INTO full_docs SELECT * FROM docs")
	r := c.reader(nil)
	c.exec("UPDATE docs SET n = 1", "UPDATE docs SET doc = NULL", "UPDATE full_docs SET n = 1", "UPDATE docs SET doc = "+big, "UPDATE docs SET id = 2")
	doc := c.text("SELECT " + big)
	wantTexts(t, next(t, r, 6),
		`{"id":1}={"id":1,"n":1,"__op":"u","__unchanged":["doc"]}`,
		`{"id":1}={"id":1,"n":1,"doc":null,"__op":"u"}`,
		`{"id":1}={"id":1,"n":1,"doc":"`+doc+`","__op":"u"}`,
		`{"id":1}={"id":1,"n":1,"doc":"`+doc+`","__op":"u"}`,
		`{"id":1}=`,
		`{"id":2}={"id":2,"n":1,"__op":"c","__unchanged":["doc"]}`,
	)
}

// TestCDCIdentities: tables without a key, with an index in its place, and of
// several columns.
func TestCDCIdentities(t *testing.T) {
	c := newCDC(t, map[string]any{"meta": []string{"op", "table"}},
		"CREATE TABLE bare (a int, b text)", "ALTER TABLE bare REPLICA IDENTITY FULL", "INSERT INTO bare VALUES (1, 'x'), (1, 'x')",
		"CREATE TABLE indexed (a int NOT NULL, b text NOT NULL, UNIQUE (b, a))", "ALTER TABLE indexed REPLICA IDENTITY USING INDEX indexed_b_a_key", "INSERT INTO indexed VALUES (2, 'a'), (1, 'b')",
		"CREATE TABLE whole (a int PRIMARY KEY, b text)", "ALTER TABLE whole REPLICA IDENTITY FULL", "INSERT INTO whole VALUES (1, 'x')")
	r := c.reader(nil)
	wantTexts(t, rowsThere(t, r, 5),
		`={"a":1,"b":"x","__op":"r","__table":"public.bare"}`, `={"a":1,"b":"x","__op":"r","__table":"public.bare"}`,
		`{"a":2,"b":"a"}={"a":2,"b":"a","__op":"r","__table":"public.indexed"}`, `{"a":1,"b":"b"}={"a":1,"b":"b","__op":"r","__table":"public.indexed"}`,
		`{"a":1}={"a":1,"b":"x","__op":"r","__table":"public.whole"}`,
	)
	c.exec("UPDATE bare SET a = 2", "DELETE FROM bare", "UPDATE indexed SET b = 'c' WHERE a = 1", "DELETE FROM indexed WHERE a = 2",
		"UPDATE whole SET b = 'y'", "UPDATE whole SET a = 9", "DELETE FROM whole")
	wantTexts(t, next(t, r, 11),
		`={"a":2,"b":"x","__op":"u","__table":"public.bare"}`, `={"a":2,"b":"x","__op":"u","__table":"public.bare"}`,
		`={"a":2,"b":"x","__op":"d","__table":"public.bare"}`, `={"a":2,"b":"x","__op":"d","__table":"public.bare"}`,
		`{"a":1,"b":"b"}=`, `{"a":1,"b":"c"}={"a":1,"b":"c","__op":"c","__table":"public.indexed"}`, `{"a":2,"b":"a"}=`,
		`{"a":1}={"a":1,"b":"y","__op":"u","__table":"public.whole"}`,
		`{"a":1}=`, `{"a":9}={"a":9,"b":"y","__op":"c","__table":"public.whole"}`, `{"a":9}=`,
	)
}

// TestCDCDebezium: the same events in the other envelope.
func TestCDCDebezium(t *testing.T) {
	c := newCDC(t, map[string]any{"envelope": "debezium", "key": "table_row", "schema_header": true},
		"CREATE TABLE things (id int PRIMARY KEY, name varchar(9))", "INSERT INTO things VALUES (1, 'one')")
	r := c.reader(nil)
	got := rowsThere(t, r, 1)
	c.exec("UPDATE things SET name = 'uno'", "UPDATE things SET id = 2", "DELETE FROM things", "TRUNCATE things")
	got = append(got, next(t, r, 7)...)
	for i, want := range []string{
		`{"before":null,"after":{"id":1,"name":"one"},*"snapshot":"true",*"op":"r"*`,
		`{"before":null,"after":{"id":1,"name":"uno"},*"snapshot":"false",*"op":"u"*`,
		`{"before":{"id":1},"after":null,*"op":"d"*`, ``,
		`{"before":null,"after":{"id":2,"name":"uno"},*"op":"c"*`,
		`{"before":{"id":2},"after":null,*"op":"d"*`, ``,
		`{"before":null,"after":null,*"table":"things"*"op":"t"*`,
	} {
		if !glob(want, string(got[i].Value)) {
			t.Errorf("record %d is %s, want %s", i, got[i].Value, want)
		}
	}
	if want := `{"__table":"public.things","id":1}`; string(got[0].Key) != want || got[7].Key != nil {
		t.Errorf("keys %s and %s, want %s and none", got[0].Key, got[7].Key, want)
	}
	header := `{"table":"public.things","columns":[{"name":"id","type":"integer","key":true},{"name":"name","type":"character varying(9)"}]}`
	for _, i := range []int{0, 1} {
		if h := got[i].Headers; len(h) != 1 || string(h[0].Value) != header {
			t.Errorf("headers %s, want %s", h, header)
		}
	}
}

// glob compares with a text in which * stands for anything.
func glob(pattern, s string) bool {
	for i, part := range strings.Split(pattern, "*") {
		at := strings.Index(s, part)
		if at < 0 || i == 0 && at > 0 {
			return false
		}
		s = s[at+len(part):]
	}
	return s == "" || strings.HasSuffix(pattern, "*")
}

// TestCDCTransactions: what was rolled back is not there, a statement that
// changes thousands of rows is as many changes, several tables are emptied at
// once, and partitions come under the name of their root.
func TestCDCTransactions(t *testing.T) {
	c := newCDC(t, map[string]any{"snapshot": "never", "meta": []string{"op", "table"}},
		"CREATE TABLE a (id int PRIMARY KEY)", "CREATE TABLE b (id int PRIMARY KEY)",
		"CREATE TABLE parts (id int, day date, PRIMARY KEY (id, day)) PARTITION BY RANGE (day)",
		"CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM ('2024-01-01') TO ('2025-01-01')",
		"CREATE TABLE parts_2 PARTITION OF parts FOR VALUES FROM ('2025-01-01') TO ('2026-01-01')")
	r := c.reader(nil)
	c.exec("BEGIN; INSERT INTO a VALUES (1); SAVEPOINT s; INSERT INTO a VALUES (2); ROLLBACK TO s; INSERT INTO a VALUES (3); COMMIT",
		"BEGIN; INSERT INTO a VALUES (4); ROLLBACK",
		"INSERT INTO parts VALUES (1, '2024-05-05')", "UPDATE parts SET day = '2025-05-05'", "TRUNCATE a, b")
	wantTexts(t, next(t, r, 7),
		`{"id":1}={"id":1,"__op":"c","__table":"public.a"}`, `{"id":3}={"id":3,"__op":"c","__table":"public.a"}`,
		`{"id":1,"day":"2024-05-05"}={"id":1,"day":"2024-05-05","__op":"c","__table":"public.parts"}`,
		`{"id":1,"day":"2024-05-05"}=`, `{"id":1,"day":"2025-05-05"}={"id":1,"day":"2025-05-05","__op":"c","__table":"public.parts"}`,
		`={"__op":"t","__table":"public.a"}`, `={"__op":"t","__table":"public.b"}`,
	)
	c.exec("INSERT INTO b SELECT generate_series(1, 10000)")
	if got := next(t, r, 10_000); string(got[9999].Key) != `{"id":10000}` {
		t.Errorf("the last key is %s", got[9999].Key)
	}
}

// TestCDCSchemaChanges: columns are added, renamed, dropped and of another type
// while changes are followed, also within a transaction.
func TestCDCSchemaChanges(t *testing.T) {
	c := newCDC(t, nil, "CREATE TABLE things (id int PRIMARY KEY, name text)", "INSERT INTO things VALUES (1, 'one')")
	r := c.reader(nil)
	wantTexts(t, rowsThere(t, r, 1), `{"id":1}={"id":1,"name":"one","__op":"r"}`)
	c.exec("BEGIN; INSERT INTO things VALUES (2, 'two'); ALTER TABLE things ADD more numeric DEFAULT 7; INSERT INTO things VALUES (3, 'three', 3.50); COMMIT",
		"ALTER TABLE things RENAME name TO label", "INSERT INTO things VALUES (4, 'four', NULL)",
		"ALTER TABLE things ALTER more TYPE int, ALTER id TYPE bigint", "INSERT INTO things VALUES (5, 'five', 5)",
		"ALTER TABLE things DROP label", "DELETE FROM things WHERE id = 1", "ALTER TABLE things RENAME TO stuff", "INSERT INTO stuff VALUES (6, 6)")
	wantTexts(t, next(t, r, 6),
		`{"id":2}={"id":2,"name":"two","__op":"c"}`, `{"id":3}={"id":3,"name":"three","more":"3.50","__op":"c"}`,
		`{"id":4}={"id":4,"label":"four","more":null,"__op":"c"}`, `{"id":5}={"id":5,"label":"five","more":5,"__op":"c"}`,
		`{"id":1}=`, `{"id":6}={"id":6,"more":6,"__op":"c"}`,
	)
}

// TestCDCResumesAnywhere: opened at the position of any message, with a slot
// as it was then, the source gives exactly what followed it.
func TestCDCResumesAnywhere(t *testing.T) {
	c := newCDC(t, map[string]any{"snapshot": "never", "deletes": "both", "tables": []string{"public.things"}}, "CREATE TABLE things (id int PRIMARY KEY, name text)")
	slot := fmt.Sprint(c.fields["slot"])
	first := c.reader(nil)
	c.exec("INSERT INTO things SELECT i, 'row' FROM generate_series(1, 5) AS i", "UPDATE things SET id = id + 100 WHERE id > 3", "DELETE FROM things WHERE id < 2", "TRUNCATE things", "INSERT INTO things VALUES (1, 'again')")
	// What a slot was at the start is copied for each try: reading moves it.
	all := next(t, first, 5+2*3+2+1+1)
	if err := first.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	for i := range all {
		c.fields["slot"] = fmt.Sprintf("%s_%d", slot, i)
		await(t, func() bool {
			_, err := c.db.Exec("SELECT pg_copy_logical_replication_slot($1, $2)", slot, c.fields["slot"])
			return err == nil
		})
		r := c.reader(slices.Clone(all[i].Position))
		rest := next(t, r, len(all)-i-1)
		wantTexts(t, rest, texts(all[i+1:])...)
		for j, m := range rest {
			if m.Position.Compare(all[i+1+j].Position) != 0 {
				t.Errorf("message %d has position %x, resumed after message %d it has %x", i+1+j, all[i+1+j].Position, i, m.Position)
			}
		}
		if err := r.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		await(t, func() bool {
			_, err := c.db.Exec("SELECT pg_drop_replication_slot($1)", c.fields["slot"])
			return err == nil
		})
	}
}

// TestCDCPoison: a value that cannot be written goes to the dead letters with
// its column, and reading goes on.
func TestCDCPoison(t *testing.T) {
	c := newCDC(t, map[string]any{"infinity": "fail", "meta": []string{}}, "CREATE TABLE things (id int PRIMARY KEY, at timestamptz, doc json)",
		"INSERT INTO things VALUES (1, 'infinity', '1'), (2, NULL, '{\"a\":1,\"a\":2}'), (3, NULL, 'null'), (4, '2015-05-17Z', '{}')")
	got := next(t, c.reader(nil), 4)
	for i, want := range []string{`column "at"`, `column "doc"`, `column "doc"`} {
		if m := got[i]; connectors.ClassOf(m.Err) != connectors.ClassPoison || !strings.Contains(m.Err.Error(), want) || !strings.Contains(string(m.Original), fmt.Sprintf(`"id":"%d"`, i+1)) {
			t.Errorf("row %d: %v, original %s", i+1, m.Err, m.Original)
		}
	}
	wantTexts(t, got[3:], `{"id":4}={"id":4,"at":"2015-05-17T00:00:00Z","doc":{}}`)
}
