package postgres

import (
	"testing"

	"github.com/entrepot-hub/entrepot/connectors"
	"github.com/entrepot-hub/entrepot/connectors/postgres/pgoutput"
)

// TestKeyThatWasNotSent: a row whose key the server did not send is a dead
// letter, and not one with an empty key.
func TestKeyThatWasNotSent(t *testing.T) {
	for _, debezium := range []bool{false, true} {
		e := &envelope{debezium: debezium, deletes: "tombstone", mapping: &mapping{}}
		text := &wireType{name: "text"}
		f, err := e.newForm(name{"public", "things"}, []formColumn{{name: "id", typ: text}, {name: "doc", typ: text}}, []int{0})
		if err != nil {
			t.Fatal(err)
		}
		row := pgoutput.Tuple{{Kind: pgoutput.Unchanged}, {Kind: pgoutput.Text, Data: []byte("x")}}
		m := e.message(f, &event{op: 'u', after: row})
		if connectors.ClassOf(m.Err) != connectors.ClassPoison || m.Key != nil || m.Value != nil {
			t.Errorf("debezium %t: key %s, value %s, %v", debezium, m.Key, m.Value, m.Err)
		}
	}
}
