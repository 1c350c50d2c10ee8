package schema

import "testing"

// rec is a record named R with the given fields.
func rec(fields string) string {
	return `{"type":"record","name":"R","namespace":"n","fields":[` + fields + `]}`
}

// TestAvroReads holds the rules of the Avro specification's "Schema
// Resolution".
func TestAvroReads(t *testing.T) {
	const a = `{"name":"a","type":"int"}`
	reads(t, Avro, []readCase{
		{"the same", rec(a), rec(a), both},
		{"a field added with a default", rec(a), rec(a + `,{"name":"b","type":"string","default":""}`), both},
		{"a field added without a default", rec(a), rec(a + `,{"name":"b","type":"string"}`), oldReadsNew},
		{"int to long", `"int"`, `"long"`, newReadsOld},
		{"int to float", `"int"`, `"float"`, newReadsOld},
		{"long to double", `"long"`, `"double"`, newReadsOld},
		{"string to bytes", `"string"`, `"bytes"`, both},
		{"int to string", `"int"`, `"string"`, neither},
		{"a type to a union with it", `"string"`, `["null","string"]`, newReadsOld},
		{"a branch added", `["null","string"]`, `["null","string","int"]`, newReadsOld},
		{"a symbol added", `{"type":"enum","name":"E","symbols":["A"]}`, `{"type":"enum","name":"E","symbols":["A","B"]}`, newReadsOld},
		{"a symbol removed, with a default", `{"type":"enum","name":"E","symbols":["A","B"]}`, `{"type":"enum","name":"E","symbols":["A"],"default":"A"}`, both},
		{"a field renamed with an alias", rec(a), rec(`{"name":"b","type":"int","aliases":["a"]}`), newReadsOld},
		{"a record renamed", rec(a), `{"type":"record","name":"S","fields":[` + a + `]}`, neither},
		{"fixed of another size", `{"type":"fixed","name":"F","size":4}`, `{"type":"fixed","name":"F","size":8}`, neither},
		{"items widened", `{"type":"array","items":"int"}`, `{"type":"array","items":"long"}`, newReadsOld},
		{"values changed", `{"type":"map","values":"int"}`, `{"type":"map","values":"string"}`, neither},
		{"recursive", rec(a + `,{"name":"next","type":["null","R"]}`), rec(a + `,{"name":"next","type":["null","n.R"]},{"name":"c","type":"int","default":0}`), both},
		{"a nested field lost its default", rec(`{"name":"x","type":{"type":"record","name":"X","fields":[]}}`), rec(`{"name":"x","type":{"type":"record","name":"X","fields":[` + a + `]}}`), oldReadsNew},
	})
}

func TestAvroIdentity(t *testing.T) {
	sameSchema(t, Avro, []string{`"string"`, `{"type":"string"}`, ` { "type" : "string" } `, `string`})
	sameSchema(t, Avro, []string{
		`{"type":"record","name":"R","namespace":"n","fields":[{"name":"a","type":"int"},{"name":"r","type":["null","n.R"]}]}`,
		"{\n\"fields\":[{\"type\":{\"type\":\"int\"},\"name\":\"a\",\"order\":\"ascending\"},{\"name\":\"r\",\"type\":[\"null\",\"R\"]}],\"name\":\"n.R\",\"type\":\"record\"}",
	})
	differentSchemas(t, Avro, []string{
		rec(`{"name":"a","type":"int"}`),
		rec(`{"name":"a","type":"int","default":1}`),
		rec(`{"name":"a","type":"int","doc":"d"}`),
		rec(`{"name":"a","type":{"type":"int","logicalType":"date"}}`),
		rec(`{"name":"a","type":"int","aliases":["b"]}`),
	})
	s := parse(t, Avro, `{"namespace": "n", "name": "R", "doc":"<&>", "type": "record", "fields": [{"default": 1.50, "name": "a", "type": "double"}]}`)
	if want := `{"type":"record","name":"R","namespace":"n","doc":"<&>","fields":[{"name":"a","type":"double","default":1.50}]}`; s.Text != want {
		t.Errorf("text %s\nwant %s", s.Text, want)
	}
}
