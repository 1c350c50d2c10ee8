package rabbitmq

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/entrepot-hub/entrepot/connectors"
	"github.com/entrepot-hub/entrepot/connectors/format"
	"github.com/entrepot-hub/entrepot/record"
)

// template is a text with names in braces:
//
//	{key}  {topic}  {partition}  {header.NAME}  {value.field.field}
type template []piece

// piece is a literal, or a name with what follows its dot.
type piece struct {
	literal, name, rest string
}

// parseTemplate reads a template. Its errors say at which character.
func parseTemplate(text string) (template, error) {
	var t template
	for at := 0; at < len(text); {
		literal, inside, found := strings.Cut(text[at:], "{")
		if i := strings.IndexByte(literal, '}'); i >= 0 {
			return nil, fmt.Errorf("character %d: a } without a {", at+i+1)
		}
		if literal != "" {
			t = append(t, piece{literal: literal})
		}
		if !found {
			break
		}
		at += len(literal) + 1
		name, _, closed := strings.Cut(inside, "}")
		if !closed {
			return nil, fmt.Errorf("character %d: the { is not closed", at)
		}
		p := piece{}
		p.name, p.rest, _ = strings.Cut(name, ".")
		dotted := p.name == "value" || p.name == "header"
		if plain := p.name == "key" || p.name == "topic" || p.name == "partition"; !plain && !dotted || dotted == (p.rest == "") {
			return nil, fmt.Errorf("character %d: %q is not one of {key}, {topic}, {partition}, {header.NAME}, {value.FIELD}", at, name)
		}
		t = append(t, p)
		at += len(name) + 1
	}
	return t, nil
}

// constant is the text of a template without names.
func (t template) constant() (string, bool) {
	text := ""
	for _, p := range t {
		if p.name != "" {
			return "", false
		}
		text += p.literal
	}
	return text, true
}

// of gives the text for a record. Its errors are of class Poison.
func (t template) of(m *connectors.Message) (string, error) {
	if len(t) == 1 && t[0].name == "" {
		return t[0].literal, nil
	}
	var b strings.Builder
	for _, p := range t {
		text, err := p.of(m)
		if err != nil {
			return "", connectors.Poison(err)
		}
		b.WriteString(text)
	}
	if b.Len() > maxShort {
		return "", connectors.Poisonf("%.40q… has %d bytes, AMQP takes %d", b.String(), b.Len(), maxShort)
	}
	return b.String(), nil
}

func (p piece) of(m *connectors.Message) (string, error) {
	switch p.name {
	case "":
		return p.literal, nil
	case "key":
		return string(m.Key), nil
	case "topic":
		return m.Partition.Topic, nil
	case "partition":
		return strconv.Itoa(int(m.Partition.Partition)), nil
	case "header":
		if v, ok := lastHeader(m.Headers, p.rest); ok {
			return string(v), nil
		}
		return "", fmt.Errorf("the record has no header %q", p.rest)
	}
	v, err := format.Value(m)
	if err != nil {
		return "", fmt.Errorf("the value is not JSON: %w", err)
	}
	for field := range strings.SplitSeq(p.rest, ".") {
		object, ok := v.(map[string]any)
		if !ok {
			return "", fmt.Errorf("the value has no field %q", p.rest)
		}
		if v, ok = object[field]; !ok {
			return "", fmt.Errorf("the value has no field %q", p.rest)
		}
	}
	switch x := v.(type) {
	case string:
		return x, nil
	case nil, map[string]any, []any:
		return "", fmt.Errorf("field %q is not a text, number or truth", p.rest)
	}
	return fmt.Sprint(v), nil
}

func lastHeader(headers []record.Header, name string) ([]byte, bool) {
	for i := len(headers) - 1; i >= 0; i-- {
		if headers[i].Key == name {
			return headers[i].Value, true
		}
	}
	return nil, false
}
