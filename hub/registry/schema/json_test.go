package schema

import "testing"

func obj(props, more string) string {
	return `{"type":"object","properties":{` + props + `}` + more + `}`
}

const closed = `,"additionalProperties":false`

// TestJSONReads holds the rules that the documentation of Confluent's registry
// gives for JSON Schema: what an open and a closed content model may do, and
// the keywords that may be loosened.
func TestJSONReads(t *testing.T) {
	const a = `"a":{"type":"string"}`
	reads(t, JSON, []readCase{
		{"the same", obj(a, ""), obj(a, ""), both},
		{"title and description", obj(a, ""), obj(a, `,"title":"t","description":"d"`), both},
		{"property added to an open model", obj(a, ""), obj(a+`,"b":{"type":"string"}`, ""), oldReadsNew},
		{"property without a type added to an open model", obj(a, ""), obj(a+`,"b":{}`, ""), both},
		{"optional property added to a closed model", obj(a, closed), obj(a+`,"b":{"type":"string"}`, closed), newReadsOld},
		{"required property added to a closed model", obj(a, closed), obj(a+`,"b":{"type":"string"}`, closed+`,"required":["b"]`), neither},
		{"required property with default added to a closed model", obj(a, closed), obj(a+`,"b":{"type":"string","default":"x"}`, closed+`,"required":["b"]`), newReadsOld},
		{"added, covered by additionalProperties", obj(a, `,"additionalProperties":{"type":"string"}`), obj(a+`,"b":{"type":"string"}`, `,"additionalProperties":{"type":"string"}`), both},
		{"added, not covered by additionalProperties", obj(a, `,"additionalProperties":{"type":"string"}`), obj(a+`,"b":{"type":"integer"}`, `,"additionalProperties":{"type":"string"}`), neither},
		{"added, covered by a pattern", obj(a, `,"patternProperties":{"^b":{"type":"string"}},"additionalProperties":false`), obj(a+`,"b":{"type":"string"}`, `,"patternProperties":{"^b":{"type":"string"}},"additionalProperties":false`), both},
		{"closed to open", obj(a, closed), obj(a, ""), newReadsOld},
		{"has become required", obj(a, ""), obj(a, `,"required":["a"]`), oldReadsNew},
		{"integer to number", `{"type":"integer"}`, `{"type":"number"}`, newReadsOld},
		{"type extended", `{"type":"string"}`, `{"type":["string","null"]}`, newReadsOld},
		{"type changed", `{"type":"string"}`, `{"type":"boolean"}`, neither},
		{"any type to one", `{}`, `{"type":"string"}`, oldReadsNew},
		{"true to false", `true`, `false`, oldReadsNew},
		{"enum extended", `{"enum":["a"]}`, `{"enum":["a","b"]}`, newReadsOld},
		{"enum changed", `{"enum":["a"]}`, `{"enum":["b"]}`, neither},
		{"const to enum", `{"const":1}`, `{"enum":[1,2]}`, newReadsOld},
		{"enum added", `{"type":"string"}`, `{"type":"string","enum":["a"]}`, oldReadsNew},
		{"maxLength increased", `{"type":"string","maxLength":5}`, `{"type":"string","maxLength":6}`, newReadsOld},
		{"maxLength added", `{"type":"string"}`, `{"type":"string","maxLength":6}`, oldReadsNew},
		{"minLength decreased", `{"type":"string","minLength":5}`, `{"type":"string","minLength":4}`, newReadsOld},
		{"pattern changed", `{"type":"string","pattern":"a"}`, `{"type":"string","pattern":"b"}`, neither},
		{"pattern in JavaScript's dialect", `{"type":"string","pattern":"^(?!x)a"}`, `{"type":"string"}`, newReadsOld},
		{"maximum", `{"type":"number","maximum":5}`, `{"type":"number","maximum":5.5}`, newReadsOld},
		{"exclusiveMinimum", `{"type":"number","exclusiveMinimum":5}`, `{"type":"number","exclusiveMinimum":4}`, newReadsOld},
		{"multipleOf to a divisor", `{"type":"number","multipleOf":4}`, `{"type":"number","multipleOf":2}`, newReadsOld},
		{"multipleOf to no divisor", `{"type":"number","multipleOf":4}`, `{"type":"number","multipleOf":3}`, neither},
		{"maxItems", `{"type":"array","maxItems":4}`, `{"type":"array","maxItems":5}`, newReadsOld},
		{"uniqueItems removed", `{"type":"array","uniqueItems":true}`, `{"type":"array"}`, newReadsOld},
		{"items widened", `{"type":"array","items":{"type":"integer"}}`, `{"type":"array","items":{"type":"number"}}`, newReadsOld},
		{"tuple extended, open", `{"type":"array","items":[{"type":"integer"}]}`, `{"type":"array","items":[{"type":"integer"},{"type":"string"}]}`, oldReadsNew},
		{"tuple extended, closed", `{"type":"array","items":[{"type":"integer"}],"additionalItems":false}`, `{"type":"array","items":[{"type":"integer"},{"type":"string"}],"additionalItems":false}`, newReadsOld},
		{"branch of oneOf added", `{"oneOf":[{"type":"string"}]}`, `{"oneOf":[{"type":"string"},{"type":"integer"}]}`, newReadsOld},
		{"to a oneOf with it", `{"type":"string"}`, `{"oneOf":[{"type":"null"},{"type":"string"}]}`, newReadsOld},
		{"oneOf reordered", `{"oneOf":[{"type":"null"},{"type":"string"}]}`, `{"oneOf":[{"type":"string"},{"type":"null"}]}`, both},
		{"oneOf to anyOf", `{"oneOf":[{"type":"null"},{"type":"string"}]}`, `{"anyOf":[{"type":"null"},{"type":"string"}]}`, both | onlyNew},
		{"part of allOf removed", `{"allOf":[{"type":"string"},{"maxLength":3}]}`, `{"allOf":[{"type":"string"}]}`, newReadsOld},
		{"the same allOf of closed parts", `{"allOf":[` + obj(a, closed) + `,` + obj(`"b":{}`, closed) + `]}`, `{"allOf":[` + obj(a, closed) + `,` + obj(`"b":{}`, closed) + `]}`, both},
		{"not narrowed", `{"not":{"type":["string","null"]}}`, `{"not":{"type":"string"}}`, newReadsOld},
		{"behind a reference", `{"$ref":"#/definitions/x","definitions":{"x":{"type":"integer"}}}`, `{"type":"number"}`, newReadsOld},
		{"recursive", `{"type":"object","properties":{"next":{"$ref":"#"},"v":{"type":"integer"}}}`, `{"type":"object","properties":{"next":{"$ref":"#"},"v":{"type":"number"}}}`, newReadsOld},
		{"minProperties", `{"type":"object","minProperties":2}`, `{"type":"object","minProperties":1}`, newReadsOld},
		{"property removed from a closed model", obj(a+`,"b":{}`, closed), obj(a, closed), oldReadsNew},
		{"if added", `{"type":"object"}`, `{"type":"object","if":{"required":["a"]},"then":{"required":["b"]}}`, oldReadsNew},
		{"draft 2020-12 tuple", `{"$schema":"https://json-schema.org/draft/2020-12/schema","prefixItems":[{"type":"integer"}],"items":false,"type":"array"}`, `{"$schema":"https://json-schema.org/draft/2020-12/schema","prefixItems":[{"type":"number"}],"items":false,"type":"array"}`, newReadsOld},
		{"draft 4 exclusive bound", `{"$schema":"http://json-schema.org/draft-04/schema#","type":"number","maximum":5}`, `{"$schema":"http://json-schema.org/draft-04/schema#","type":"number","maximum":5,"exclusiveMaximum":true}`, oldReadsNew},
	})
}

func TestJSONIdentity(t *testing.T) {
	sameSchema(t, JSON, []string{`{"type":"string","title":"<a>"}`, "{ \"type\": \"string\",\n\"title\":\"<a>\" }"})
	differentSchemas(t, JSON, []string{`{"type":"string","title":"x"}`, `{"title":"x","type":"string"}`})
	a, _ := parse(t, JSON, `{"type":"string","title":"x"}`).Normalize(nil)
	b, _ := parse(t, JSON, `{"title":"x","type":"string"}`).Normalize(nil)
	if a.Identity != b.Identity {
		t.Errorf("normalized: %s and %s", a.Identity, b.Identity)
	}
}

// TestJSONReferences: a $ref by the reference's name, also beside an $id, and
// into the middle of the other document.
func TestJSONReferences(t *testing.T) {
	dep := []Dependency{{"customer.json", `{"$id":"http://x/customer.json","type":"object","properties":{"name":{"type":"string"}},"definitions":{"n":{"type":"integer"}}}`}}
	for _, text := range []string{
		`{"properties":{"c":{"$ref":"customer.json"}}}`,
		`{"$id":"http://x/order.json","properties":{"c":{"$ref":"customer.json#/definitions/n"}}}`,
		`{"$id":"http://x/order.json","properties":{"c":{"$ref":"http://x/customer.json"}}}`,
	} {
		s, err := Parse(JSON, text, dep)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if bad := s.Reads(s); len(bad) > 0 {
			t.Errorf("%s does not read itself: %q", text, bad)
		}
	}
	changed := []Dependency{{"customer.json", `{"type":"object","properties":{"name":{"type":"integer"}}}`}}
	const text = `{"properties":{"c":{"$ref":"customer.json"}}}`
	w, _ := Parse(JSON, text, dep)
	r, err := Parse(JSON, text, changed)
	if err != nil || len(r.Reads(w)) == 0 {
		t.Errorf("a change in the referenced schema is not seen: %v", err)
	}
}
