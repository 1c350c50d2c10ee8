package expr

import (
	"fmt"

	"github.com/expr-lang/expr/ast"
	"github.com/expr-lang/expr/file"
	"github.com/expr-lang/expr/parser"
)

// wanted is the part of a JSON value that an expression looks at: all of it,
// or some fields of an object and of each a part.
type wanted struct {
	all    bool
	fields map[string]*wanted
}

func (w *wanted) add(path []string) {
	for _, name := range path {
		if w.all {
			return
		}
		next := w.fields[name]
		if next == nil {
			next = &wanted{}
			if w.fields == nil {
				w.fields = map[string]*wanted{}
			}
			w.fields[name] = next
		}
		w = next
	}
	w.all, w.fields = true, nil
}

// merge adds all that other holds.
func (w *wanted) merge(other *wanted) {
	if other.all {
		w.add(nil)
		return
	}
	for name, sub := range other.fields {
		next := w.fields[name]
		if next == nil && !w.all {
			next = &wanted{}
			if w.fields == nil {
				w.fields = map[string]*wanted{}
			}
			w.fields[name] = next
		}
		if next != nil {
			next.merge(sub)
		}
	}
}

// needs is what of a record an expression looks at.
type needs struct {
	value   *wanted // nil: not at all
	text    bool
	key     bool
	headers bool
	time    bool
	plain   []string // set when the whole expression is value.<path>
}

// inspect parses the expression and finds what it needs. It also refuses the
// few constructs that would make an expression depend on the machine.
func inspect(text string) (needs, error) {
	tree, err := parser.Parse(text)
	if err != nil {
		return needs{}, err
	}
	v := &inspector{chains: map[ast.Node][]string{}}
	ast.Walk(&tree.Node, v)
	if v.refused != nil {
		return needs{}, v.refused
	}
	for _, path := range v.chains {
		if v.needs.value == nil {
			v.needs.value = &wanted{}
		}
		v.needs.value.add(path)
	}
	root := tree.Node
	if chain, ok := root.(*ast.ChainNode); ok {
		root = chain.Node
	}
	if path := v.chains[root]; len(path) > 0 {
		v.needs.plain = path
	}
	return v.needs, nil
}

// inspector visits children before parents. chains holds the longest static
// member path into value that ends at each node seen so far.
type inspector struct {
	needs   needs
	chains  map[ast.Node][]string
	refused error
}

func (v *inspector) Visit(node *ast.Node) {
	switch n := (*node).(type) {
	case *ast.IdentifierNode:
		v.identifier(n)
	case *ast.MemberNode:
		v.member(n)
	}
}

func (v *inspector) identifier(n *ast.IdentifierNode) {
	switch n.Value {
	case "value":
		v.chains[n] = []string{}
	case "text":
		v.needs.text = true
	case "key":
		v.needs.key = true
	case "headers":
		v.needs.headers = true
	case "ts":
		v.needs.time = true
	case "$env":
		v.refuse(n, "$env is not available; name value, text, key, headers, ts, topic, partition or offset")
	}
}

func (v *inspector) member(n *ast.MemberNode) {
	name, static := n.Property.(*ast.StringNode)
	if static && name.Value == "Local" {
		v.refuse(n, "Local depends on the time zone of the machine; times are UTC")
	}
	path, ok := v.chains[n.Node]
	if !ok || !static {
		return
	}
	delete(v.chains, n.Node)
	v.chains[n] = append(path[:len(path):len(path)], name.Value)
}

func (v *inspector) refuse(n ast.Node, format string, args ...any) {
	if v.refused == nil {
		v.refused = &file.Error{Location: n.Location(), Message: fmt.Sprintf(format, args...)}
	}
}
