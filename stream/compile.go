package stream

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"github.com/entrepot-hub/entrepot/connectors"
	"github.com/entrepot-hub/entrepot/connectors/format"
	"github.com/entrepot-hub/entrepot/connectors/strict"
	"github.com/entrepot-hub/entrepot/stream/expr"
)

// pipeline compiles the transforms, the key and the timestamp.
func (p *parsing) pipeline(y connectorYAML) *Pipeline {
	out := &Pipeline{}
	for _, n := range y.Transforms {
		if s := p.transform(n); s != nil {
			out.steps = append(out.steps, s)
		}
	}
	if y.Key.Kind() != strict.Null {
		out.key = p.expression(expr.Text, "key", y.Key)
	}
	if y.Timestamp.Kind() != strict.Null {
		out.timestamp = p.expression(expr.Any, "timestamp", y.Timestamp)
	}
	out.share()
	return out
}

// share lets the expressions between two changes of the value decode it once.
func (p *Pipeline) share() {
	var same []*expr.Program
	for _, s := range p.steps {
		switch s := s.(type) {
		case *filterStep:
			same = append(same, s.keep)
			continue
		case *mapStep:
			same = append(same, s.programs...)
		}
		expr.Share(same...)
		same = nil
	}
	expr.Share(append(same, p.timestamp, p.key)...)
}

// transform compiles one transform: a mapping with one key, its name.
func (p *parsing) transform(n strict.Node) stepMaker {
	var y struct {
		Parse  strict.Node `yaml:"parse"`
		Filter strict.Node `yaml:"filter"`
		Map    strict.Node `yaml:"map"`
	}
	if errs := n.Decode(&y, p.opts); len(errs) > 0 {
		for _, e := range errs {
			e.Msg = strings.Replace(e.Msg, "unknown key", "unknown transform", 1)
			e.Hint = strings.Replace(e.Hint, "the keys here are", "the transforms are", 1)
		}
		p.add(errs...)
		return nil
	}
	if len(n.Entries()) != 1 {
		p.add(n.Errorf("a transform is a mapping with one key (parse, filter or map), this one has %d", len(n.Entries())))
		return nil
	}
	switch v := n.Entries()[0].Value; n.Entries()[0].Key {
	case "parse":
		return p.parseTransform(v)
	case "filter":
		if e := p.expression(expr.Bool, "filter", v); e != nil {
			return &filterStep{e}
		}
	default:
		return p.mapTransform(v)
	}
	return nil
}

func (p *parsing) parseTransform(n strict.Node) stepMaker {
	cfg, errs := n.Config(format.ParserFields(), p.opts)
	if len(errs) > 0 {
		p.add(errs...)
		return nil
	}
	if _, err := format.NewParser(cfg); err != nil {
		p.add(n.Errorf("parse: %v", err))
		return nil
	}
	return parseMaker{cfg}
}

func (p *parsing) mapTransform(n strict.Node) stepMaker {
	if n.Kind() != strict.Map || len(n.Entries()) == 0 {
		p.add(n.Errorf("map: want a mapping of fields to expressions, such as {slow: value.ms > 500}"))
		return nil
	}
	s := &mapStep{}
	for _, e := range n.Entries() {
		if program := p.expression(expr.Any, "map, field "+e.Key, e.Value); program != nil {
			s.names, s.programs = append(s.names, e.Key), append(s.programs, program)
		}
	}
	return s
}

// expression compiles the text of a node.
func (p *parsing) expression(kind expr.Kind, what string, n strict.Node) *expr.Program {
	switch n.Kind() {
	case strict.Text, strict.Int, strict.Float, strict.Bool:
	default:
		p.add(n.Errorf("%s: want an expression as text", what))
		return nil
	}
	program, err := expr.Compile(kind, n.Text())
	if err == nil {
		return program
	}
	var at *expr.Error
	if !errors.As(err, &at) {
		p.add(n.Errorf("%s: %v", what, err))
		return nil
	}
	p.add(n.ErrorAt(p.within(n, at), "%s: %v", what, at))
	return nil
}

// within is the place in the file of a fault within an expression, when the
// expression stands in the file as it is; else the place of the expression.
func (p *parsing) within(n strict.Node, at *expr.Error) strict.Pos {
	pos := n.Pos()
	if at.Line != 1 || at.Column < 1 || pos.Line < 1 || pos.Line > len(p.lines) {
		return pos
	}
	line := []rune(p.lines[pos.Line-1])
	if pos.Col < 1 || pos.Col > len(line) {
		return pos
	}
	rest, skip := string(line[pos.Col-1:]), 0
	if rest[0] == '"' || rest[0] == '\'' {
		rest, skip = rest[1:], 1
	}
	first, _, _ := strings.Cut(n.Text(), "\n")
	if !strings.HasPrefix(rest, first) {
		return pos
	}
	return strict.Pos{Line: pos.Line, Col: pos.Col + skip + at.Column - 1}
}

// parseMaker makes a parser for every goroutine: parsers are not shared.
type parseMaker struct{ cfg connectors.Config }

func (m parseMaker) String() string { return "parse" }

func (m parseMaker) make() step {
	parser, err := format.NewParser(m.cfg)
	if err != nil {
		panic(fmt.Sprintf("stream: a parser that was checked cannot be made: %v", err))
	}
	return &parseStep{parser}
}

// parseStep makes JSON of a message and takes over its time.
type parseStep struct{ parser format.Parser }

func (s *parseStep) String() string { return "parse" }

func (s *parseStep) apply(m *connectors.Message, _ *expr.Input) (bool, error) {
	return true, s.parser.Parse(m)
}

// fingerprint is a text that differs when anything below the node does.
func fingerprint(n strict.Node) string {
	h := sha256.New()
	var walk func(n strict.Node)
	walk = func(n strict.Node) {
		fmt.Fprintf(h, "%d %q %d %d\n", n.Kind(), n.Text(), len(n.Entries()), len(n.Items()))
		for _, e := range n.Entries() {
			fmt.Fprintf(h, "%q\n", e.Key)
			walk(e.Value)
		}
		for _, item := range n.Items() {
			walk(item)
		}
	}
	walk(n)
	return hex.EncodeToString(h.Sum(nil))
}
