package format

import (
	"fmt"
	"regexp"

	"github.com/entrepot-hub/entrepot/connectors"
)

// regexpParser takes a line apart by named groups.
type regexpParser struct {
	re     *regexp.Regexp
	fields []typedField
	groups []int // of fields, in re
	clock  *clock
	slab   slab
}

func newRegexpParser(cfg connectors.Config, when *clock) (Parser, error) {
	pattern := cfg.String("pattern")
	if pattern == "" {
		return nil, fmt.Errorf("format regexp needs a pattern with named groups such as (?P<level>\\w+)")
	}
	if _, err := regexp.Compile(pattern); err != nil {
		return nil, fmt.Errorf("pattern: %w", err)
	}
	p := &regexpParser{clock: when, re: regexp.MustCompile(`\A(?:` + pattern + `)\r?\z`)}
	for i, name := range p.re.SubexpNames() {
		if name != "" {
			p.groups = append(p.groups, i)
			p.fields = append(p.fields, typedField{name, cfg.StringMap("types")[name]})
		}
	}
	if len(p.fields) == 0 {
		return nil, fmt.Errorf("pattern has no named group, want at least one such as (?P<level>\\w+)")
	}
	return p, checkFields(p.fields, cfg, when)
}

func (p *regexpParser) Parse(m *connectors.Message) error {
	at := p.re.FindSubmatchIndex(m.Value)
	if at == nil {
		return connectors.Poisonf("the pattern does not match %q", clip(m.Value))
	}
	b := append(p.slab.room(2*len(m.Value)+32*len(p.fields)), '{')
	for i, g := range p.groups {
		b = p.fields[i].appendName(b, i == 0)
		if at[2*g] < 0 {
			b = append(b, "null"...)
			continue
		}
		var err error
		if b, err = p.fields[i].appendTyped(b, m.Value[at[2*g]:at[2*g+1]]); err != nil {
			return err
		}
	}
	b = append(b, '}')
	if err := p.clock.read(m, b); err != nil {
		return err
	}
	m.SetValue(p.slab.keep(b))
	return nil
}
