package strict

import (
	"fmt"

	"github.com/entrepot-hub/entrepot/connectors"
)

// Kind is what a node is in YAML.
type Kind uint8

// The kinds. A scalar that is quoted is always Text.
const (
	Null Kind = iota
	Text
	Int
	Float
	Bool
	Map
	List
)

func (k Kind) String() string {
	return [...]string{"nothing", "text", "whole number", "number", "true or false", "mapping", "list"}[k]
}

// Node is a value in a config file with its place. The zero Node is a null
// without a place.
type Node struct {
	file    string
	kind    Kind
	pos     Pos
	text    string // of a scalar, as written (unquoted)
	entries []Entry
	items   []Node
}

// Entry is one key of a mapping.
type Entry struct {
	Key    string
	KeyPos Pos
	Value  Node
}

// Kind tells what the node is.
func (n Node) Kind() Kind { return n.kind }

// Pos is where the node begins.
func (n Node) Pos() Pos { return n.pos }

// File is the name that Parse was given.
func (n Node) File() string { return n.file }

// Text is the text of a scalar, without quotes and with references
// unresolved; "" for others.
func (n Node) Text() string { return n.text }

// Entries are the keys of a mapping in the order of the file.
func (n Node) Entries() []Entry { return n.entries }

// Items are the elements of a list.
func (n Node) Items() []Node { return n.items }

// Get finds the value of a key in a mapping.
func (n Node) Get(key string) (Node, bool) {
	for _, e := range n.entries {
		if e.Key == key {
			return e.Value, true
		}
	}
	return Node{}, false
}

// Errorf makes an error at the node's place.
func (n Node) Errorf(format string, args ...any) *Error { return n.ErrorAt(n.pos, format, args...) }

// ErrorAt makes an error at another place of the same file.
func (n Node) ErrorAt(pos Pos, format string, args ...any) *Error {
	return &Error{File: n.file, Pos: pos, Msg: fmt.Sprintf(format, args...)}
}

// Choose reads the key that decides what a mapping is, such as `type: file`:
// its value must be one of options, and is returned.
func (n Node) Choose(key string, options []string) (string, Errors) {
	if n.kind != Map {
		return "", Errors{n.Errorf("want a mapping with the key %q, got %s", key, n.describe())}
	}
	v, ok := n.Get(key)
	if !ok {
		e := n.Errorf("missing key %q", key)
		e.Hint = "want one of " + words(options)
		return "", Errors{e}
	}
	if v.kind != Text {
		return "", Errors{v.Errorf("want a text for %q, got %s", key, v.describe())}
	}
	for _, o := range options {
		if o == v.text {
			return o, nil
		}
	}
	e := v.Errorf("unknown %s %q", key, v.text)
	e.Hint = suggest(v.text, options, "want one of")
	return "", Errors{e}
}

// describe is how an error message names what was found.
func (n Node) describe() string {
	switch n.kind {
	case Null:
		return "nothing"
	case Text:
		return fmt.Sprintf("the text %q", short(n.text))
	case Int, Float:
		return "the number " + short(n.text)
	case Bool:
		return n.text
	case Map:
		return "a mapping"
	}
	return "a list"
}

// sort is describe where the text may be a secret that is in the wrong place.
func (n Node) sort() string {
	switch n.kind {
	case Text:
		return "a text"
	case Int, Float, Bool:
		return "a number, true or false"
	}
	return n.describe()
}

func short(s string) string {
	if r := []rune(s); len(r) > 40 {
		return string(r[:40]) + "…"
	}
	return s
}

// Findings turns what a connector's Validate says into errors at the places
// of the fields in this mapping. Warnings are left out.
func (n Node) Findings(cfg connectors.Config, all []connectors.Finding) Errors {
	var errs Errors
	for _, f := range all {
		if f.Warning {
			continue
		}
		pos := n.pos
		if p := cfg.Pos(f.Field); f.Field != "" && p != (Pos{}) {
			pos = p
		}
		e := n.ErrorAt(pos, "%s", f.Message)
		e.Hint = f.Hint
		errs = append(errs, e)
	}
	return errs
}
