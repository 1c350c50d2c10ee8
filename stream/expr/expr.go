// Package expr compiles and runs the expressions of a jobs file: filters,
// assignments and keys. It is a small, closed view of expr-lang/expr.
//
// An expression sees one record:
//
//	value      the record's value decoded as JSON; only the fields that the
//	           expression names are decoded. Integers stay integers.
//	text       the record's value as text, undecoded
//	key        the record's key as text, nil when the record has none
//	headers    the record's headers as texts; the last of a name wins
//	ts         the record's timestamp, UTC
//	topic, partition, offset
//
// Expressions are deterministic: the same record gives the same answer on
// every machine, every time. Exactly-once rests on it: after a crash a source
// is read again and each record must go to the same partition, be dropped or
// be kept as it was the first time. So there is no clock, no randomness, no
// local time zone, and nothing whose order is that of a Go map.
//
// Goroutines: none. A Program may be used by many goroutines at once.
package expr

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"sync"

	"github.com/expr-lang/expr"
	"github.com/expr-lang/expr/vm"
	"github.com/go-json-experiment/json/jsontext"
)

// Kind is what an expression has to give.
type Kind uint8

const (
	Any  Kind = iota // any value: assignments
	Bool             // true or false: filters
	Text             // something with one obvious text, or nil: keys
)

// maxSource is the longest expression, in bytes. It bounds compile time.
const maxSource = 16 << 10

// Program is a compiled expression.
type Program struct {
	kind   Kind
	source string
	vm     *vm.Program
	needs  needs
	pool   *sync.Pool // of *vm.VM: a VM keeps its stack between runs
}

// Compile checks and compiles text. Its error is an *Error that says where in
// text the fault is.
func Compile(kind Kind, text string) (*Program, error) {
	if len(text) > maxSource {
		return nil, &Error{Source: text[:40] + "…", Line: 1, Column: 1, Message: fmt.Sprintf("the expression has %d bytes, the most is %d", len(text), maxSource)}
	}
	needs, err := inspect(text)
	if err != nil {
		return nil, located(text, err)
	}
	opts := append([]expr.Option{expr.Env(scope{})}, functions()...)
	compiled, err := expr.Compile(text, opts...)
	if err != nil {
		return nil, located(text, err)
	}
	if kind == Bool { // only checked: what it compiles to says less when it fails
		if _, err := expr.Compile(text, append(opts, expr.AsBool())...); err != nil {
			return nil, located(text, err)
		}
	}
	return &Program{
		kind: kind, source: text, vm: compiled, needs: needs,
		pool: &sync.Pool{New: func() any { return &vm.VM{} }},
	}, nil
}

// String is the expression as written.
func (p *Program) String() string { return p.source }

// Share lets programs that look at the same values decode them once: each
// decodes what any of them needs. It is for programs that nobody runs yet.
func Share(programs ...*Program) {
	all := &wanted{}
	for _, p := range programs {
		if p != nil && p.needs.value != nil {
			all.merge(p.needs.value)
		}
	}
	for _, p := range programs {
		if p != nil && p.needs.value != nil {
			p.needs.value = all
		}
	}
}

// Field returns the path when the expression is nothing but a path into
// value (`value.a.b`). Its JSON can then be copied as it stands.
func (p *Program) Field() ([]string, bool) { return p.needs.plain, p.needs.plain != nil }

// Eval runs the expression. Errors name the expression and the place in it,
// and mean that this record cannot be handled, not that the job is broken.
func (p *Program) Eval(in *Input) (any, error) {
	env, err := in.scope(&p.needs)
	if err != nil {
		return nil, fmt.Errorf("expression %q: %w", p.source, err)
	}
	machine := p.pool.Get().(*vm.VM)
	defer p.pool.Put(machine)
	out, err := machine.Run(p.vm, env)
	if err != nil {
		return nil, located(p.source, err)
	}
	return out, nil
}

// Bool runs a filter. Anything but true or false is an error.
func (p *Program) Bool(in *Input) (bool, error) {
	out, err := p.Eval(in)
	if err != nil {
		return false, err
	}
	b, ok := out.(bool)
	if !ok {
		return false, fmt.Errorf("expression %q gave %s; a filter has to give true or false", p.source, describe(out))
	}
	return b, nil
}

// Text runs a key expression and returns its result as bytes; nil is null.
// Numbers are written in decimal. Lists and objects are an error: they have
// no one text that every program would hash the same.
func (p *Program) Text(in *Input) ([]byte, error) {
	out, err := p.Eval(in)
	if err != nil {
		return nil, err
	}
	switch v := out.(type) {
	case nil:
		return nil, nil
	case string:
		return []byte(v), nil
	case bool:
		return strconv.AppendBool(nil, v), nil
	case int:
		return strconv.AppendInt(nil, int64(v), 10), nil
	case Number:
		return []byte(v), nil
	case float64:
		if math.IsNaN(v) || math.IsInf(v, 0) {
			break
		}
		return strconv.AppendFloat(nil, v, 'f', -1, 64), nil
	}
	return nil, fmt.Errorf("expression %q gave %s; a key has to be a text, a number, true, false or nil", p.source, describe(out))
}

// JSON runs an assignment and returns its result as JSON.
func (p *Program) JSON(in *Input) (jsontext.Value, error) {
	if path, ok := p.Field(); ok {
		raw, err := Lookup(in.Record.Value, path)
		if err == nil {
			return raw, nil
		}
		return nil, fmt.Errorf("expression %q: %w", p.source, err)
	}
	out, err := p.Eval(in)
	if err != nil {
		return nil, err
	}
	raw, err := encode(nil, out, 0)
	if err != nil {
		return nil, fmt.Errorf("expression %q: %w", p.source, err)
	}
	return raw, nil
}

// describe names a value for an error message.
func describe(v any) string {
	switch v := v.(type) {
	case nil:
		return "nil"
	case string:
		return fmt.Sprintf("the text %.40q", v)
	case []any:
		return fmt.Sprintf("a list of %d", len(v))
	case map[string]any:
		return fmt.Sprintf("an object of %d fields", len(v))
	}
	return fmt.Sprintf("%v (%T)", v, v)
}

// errNotJSON is wrapped by every failure to decode the record's value.
var errNotJSON = errors.New("the record's value is not JSON")
