package strict

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// Limits on what is read as a config at all.
const (
	maxBytes = 4 << 20
	maxDepth = 64
)

// Parse reads one YAML document. Errors are those of YAML itself and of what
// this package refuses (see the package comment). An empty document is a null
// node, which decodes as an empty mapping.
func Parse(file string, text []byte) (root Node, errs Errors) {
	if len(text) > maxBytes {
		return Node{}, Errors{{File: file, Msg: fmt.Sprintf("the file has %d bytes, a config has at most %d", len(text), maxBytes)}}
	}
	if e := checkBytes(file, text); e != nil {
		return Node{}, Errors{e}
	}
	// The parser is third-party code that meets text from outside here; its
	// panics on odd input must not end the process.
	defer func() {
		if p := recover(); p != nil {
			root, errs = Node{}, Errors{{File: file, Msg: fmt.Sprintf("this YAML cannot be read: %v", p)}}
		}
	}()
	doc, err := parser.ParseBytes(text, 0, parser.AllowDuplicateMapKey())
	if err != nil {
		return Node{}, Errors{syntaxError(file, err)}
	}
	b := &builder{file: file}
	root = b.document(doc)
	return root, b.errs.sorted()
}

func checkBytes(file string, text []byte) *Error {
	line, col := 1, 1
	for i := 0; i < len(text); {
		r, size := utf8.DecodeRune(text[i:])
		switch {
		case r == utf8.RuneError && size == 1:
			return &Error{File: file, Pos: Pos{Line: line, Col: col}, Msg: fmt.Sprintf("byte 0x%02x is not UTF-8", text[i]), Hint: "save the file as UTF-8"}
		case r < ' ' && r != '\n' && r != '\r' && r != '\t':
			return &Error{File: file, Pos: Pos{Line: line, Col: col}, Msg: fmt.Sprintf("control character 0x%02x", r)}
		case r == '\n':
			line, col = line+1, 0
		}
		i, col = i+size, col+1
	}
	return nil
}

func syntaxError(file string, err error) *Error {
	var s *yaml.SyntaxError
	if !errors.As(err, &s) {
		return &Error{File: file, Msg: firstLine(err.Error())}
	}
	return &Error{File: file, Pos: posOf(s.GetToken()), Msg: "YAML: " + firstLine(s.GetMessage())}
}

func firstLine(s string) string {
	s, _, _ = strings.Cut(s, "\n")
	return s
}

func posOf(t *token.Token) Pos {
	if t == nil || t.Position == nil {
		return Pos{}
	}
	return Pos{Line: t.Position.Line, Col: t.Position.Column}
}

// builder turns the parser's tree into Nodes, collecting what is refused.
type builder struct {
	file  string
	errs  Errors
	depth int
}

func (b *builder) fail(pos Pos, hint, format string, args ...any) {
	b.errs = append(b.errs, &Error{File: b.file, Pos: pos, Msg: fmt.Sprintf(format, args...), Hint: hint})
}

func (b *builder) document(f *ast.File) Node {
	root := Node{file: b.file, pos: Pos{Line: 1, Col: 1}}
	found := false
	for _, d := range f.Docs {
		if d == nil || d.Body == nil {
			continue
		}
		if found {
			b.fail(posOf(d.Body.GetToken()), "put it into a file of its own", "a second YAML document")
			return root
		}
		found = true
		root = b.node(d.Body)
	}
	return root
}

func (b *builder) node(n ast.Node) Node {
	if b.depth++; b.depth > maxDepth {
		b.fail(posOf(n.GetToken()), "", "nested deeper than %d levels", maxDepth)
		return Node{file: b.file}
	}
	defer func() { b.depth-- }()
	out := Node{file: b.file, pos: posOf(n.GetToken())}
	switch x := n.(type) {
	case *ast.MappingNode:
		return b.mapping(out, x.Values)
	case *ast.MappingValueNode:
		return b.mapping(out, []*ast.MappingValueNode{x})
	case *ast.SequenceNode:
		out.kind = List
		for _, v := range x.Values {
			out.items = append(out.items, b.node(v))
		}
	case *ast.AnchorNode, *ast.AliasNode:
		b.fail(out.pos, "write the value out", "anchors and aliases are not supported")
	case *ast.TagNode:
		b.fail(out.pos, "leave the tag out", "tags such as %s are not supported", x.Start.Value)
	case *ast.DirectiveNode:
		b.fail(out.pos, "leave it out", "YAML directives are not supported")
	default:
		return b.scalar(out, n)
	}
	return out
}

func (b *builder) mapping(out Node, values []*ast.MappingValueNode) Node {
	out.kind = Map
	seen := map[string]Pos{}
	for i, v := range values {
		pos := posOf(v.Key.GetToken())
		if i == 0 && (out.pos.Line > pos.Line || (out.pos.Line == pos.Line && out.pos.Col > pos.Col)) {
			out.pos = pos // a block mapping begins at its first key, not at the colon
		}
		key, ok := b.key(v.Key, pos)
		if !ok {
			continue
		}
		if first, dup := seen[key]; dup {
			b.fail(pos, "", "key %q is here twice, the first is in line %d column %d", key, first.Line, first.Col)
			continue
		}
		seen[key] = pos
		e := Entry{Key: key, KeyPos: pos, Value: Node{file: b.file, pos: pos}}
		if v.Value != nil {
			e.Value = b.node(v.Value)
		}
		if e.Value.kind == Null || e.Value.pos == (Pos{}) {
			e.Value.pos = pos // a missing value has no place of its own
		}
		out.entries = append(out.entries, e)
	}
	return out
}

func (b *builder) key(k ast.MapKeyNode, pos Pos) (string, bool) {
	switch x := k.(type) {
	case *ast.StringNode:
		return x.Value, true
	case *ast.MergeKeyNode:
		b.fail(pos, "write the keys out", "merge keys are not supported")
		return "", false
	case *ast.MappingKeyNode, *ast.AnchorNode, *ast.AliasNode, *ast.TagNode:
		b.fail(pos, "write a plain word before the colon", "this kind of key is not supported")
		return "", false
	}
	return k.GetToken().Value, true // a number or true as a key is meant as the word
}

func (b *builder) scalar(out Node, n ast.Node) Node {
	switch x := n.(type) {
	case *ast.NullNode:
		out.kind = Null
	case *ast.StringNode:
		out.kind, out.text = Text, x.Value
	case *ast.LiteralNode:
		out.kind = Text
		if x.Value != nil {
			out.text = x.Value.Value
		}
	case *ast.IntegerNode:
		out.kind, out.text = Int, x.GetToken().Value
	case *ast.FloatNode, *ast.InfinityNode, *ast.NanNode:
		out.kind, out.text = Float, n.GetToken().Value
	case *ast.BoolNode:
		out.kind, out.text = Bool, fmt.Sprint(x.Value)
	default:
		b.fail(out.pos, "", "this kind of YAML (%s) is not supported", n.Type())
	}
	return out
}
