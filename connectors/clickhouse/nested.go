package clickhouse

import (
	"bytes"
	"fmt"

	"github.com/ClickHouse/clickhouse-go/v2/lib/column"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/entrepot-hub/entrepot/connectors/format"
)

// elements cuts a JSON array into its raw values.
func elements(raw []byte) ([][]byte, error) {
	if raw[0] != '[' {
		return nil, errWantArray
	}
	dec := jsontext.NewDecoder(bytes.NewReader(raw))
	if _, err := dec.ReadToken(); err != nil {
		return nil, errWantArray
	}
	var all [][]byte
	for dec.PeekKind() != ']' {
		v, err := dec.ReadValue()
		if err != nil {
			return nil, errWantArray
		}
		all = append(all, bytes.Clone(v))
	}
	return all, nil
}

func (t *chType) array(raw []byte) (any, error) {
	parts, err := elements(raw)
	if err != nil {
		return nil, err
	}
	all := make([]any, len(parts))
	for i, p := range parts {
		if all[i], err = t.elems[0].value(p); err != nil {
			return nil, fmt.Errorf("at element %d of the array %w", i+1, err)
		}
	}
	return all, nil
}

// pairs is a map in the order in which it was written.
type pairs struct{ keys, values []any }

// Put implements column.IterableOrderedMap.
func (p *pairs) Put(key, value any) { p.keys, p.values = append(p.keys, key), append(p.values, value) }

// Iterator implements column.IterableOrderedMap.
func (p *pairs) Iterator() column.MapIterator { return &pairIterator{pairs: p, at: -1} }

type pairIterator struct {
	*pairs
	at int
}

func (i *pairIterator) Next() bool { i.at++; return i.at < len(i.keys) }
func (i *pairIterator) Key() any   { return i.keys[i.at] }
func (i *pairIterator) Value() any { return i.values[i.at] }

func (t *chType) mapping(raw []byte) (any, error) {
	if raw[0] != '{' {
		return nil, errWantObject
	}
	p := &pairs{}
	var bad error
	err := format.EachField(raw, func(name, value []byte) bool {
		var k, v any
		if k, bad = t.elems[0].key(name); bad != nil {
			bad = fmt.Errorf("as key %q %w", name, bad)
			return false
		}
		if v, bad = t.elems[1].value(value); bad != nil {
			bad = fmt.Errorf("at key %q %w", name, bad)
			return false
		}
		p.Put(k, v)
		return true
	})
	if bad != nil {
		return nil, bad
	}
	return p, err
}

// key reads a name of a JSON object as a value: as text if it can be one, else
// as JSON.
func (t *chType) key(name []byte) (any, error) {
	switch t.kind {
	case kindInt, kindUInt, kindBigInt:
		if len(name) == 0 {
			return nil, errWantNumber
		}
		return t.value(name)
	}
	return t.fromText(string(name))
}

// tupleOf takes an array, or an object where the elements have names.
func (t *chType) tupleOf(raw []byte) (any, error) {
	parts := make([][]byte, len(t.elems))
	switch raw[0] {
	case '[':
		all, err := elements(raw)
		if err != nil || len(all) != len(parts) {
			return nil, fmt.Errorf("an array of %d elements", len(parts))
		}
		parts = all
	case '{':
		for i, name := range t.names {
			var err error
			if parts[i], err = format.Lookup(raw, name); err != nil || name == "" {
				return nil, errWantArray
			}
		}
	default:
		return nil, errWantArray
	}
	values := make([]any, len(parts))
	for i, p := range parts {
		var err error
		if values[i], err = t.elems[i].value(p); err != nil {
			return nil, fmt.Errorf("at element %d of the tuple %w", i+1, err)
		}
	}
	return values, nil
}
