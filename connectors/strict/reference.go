package strict

import (
	"errors"
	"fmt"
	"strings"

	"github.com/entrepot-hub/entrepot/connectors"
)

// part of a text: literal, or a reference to look up.
type part struct {
	scheme string // "", "env", "file"
	text   string
}

// splitReferences cuts a text into literals and ${scheme:name} references.
// In "$${" the first dollar escapes the second.
func splitReferences(s string) ([]part, error) {
	var parts []part
	literal := ""
	for s != "" {
		i := strings.Index(s, "${")
		if i < 0 {
			literal += s
			break
		}
		if i > 0 && s[i-1] == '$' {
			literal, s = literal+s[:i-1]+"${", s[i+2:]
			continue
		}
		body, rest, closed := strings.Cut(s[i+2:], "}")
		scheme, name, ok := strings.Cut(body, ":")
		if !closed || !ok || name == "" || (scheme != "env" && scheme != "file") {
			return nil, fmt.Errorf("cannot read the reference %q", short(s[i:]))
		}
		if literal += s[:i]; literal != "" {
			parts = append(parts, part{text: literal})
		}
		parts, literal, s = append(parts, part{scheme, name}), "", rest
	}
	if literal != "" || len(parts) == 0 {
		parts = append(parts, part{text: literal})
	}
	return parts, nil
}

func resolve(parts []part, opts Options) (string, error) {
	var b strings.Builder
	for _, p := range parts {
		v, err := p.lookup(opts)
		if err != nil {
			return "", err
		}
		b.WriteString(v)
	}
	return b.String(), nil
}

func (p part) lookup(opts Options) (string, error) {
	switch p.scheme {
	case "env":
		if opts.Env == nil {
			return "", errors.New("references to the environment are not allowed here")
		}
		v, ok := opts.Env(p.text)
		if !ok {
			return "", fmt.Errorf("environment variable %s is not set", p.text)
		}
		return v, nil
	case "file":
		if opts.ReadFile == nil {
			return "", errors.New("references to files are not allowed here")
		}
		b, err := opts.ReadFile(p.text)
		if err != nil {
			return "", fmt.Errorf("cannot read the referenced file: %w", err)
		}
		return strings.TrimRight(string(b), "\r\n"), nil
	}
	return p.text, nil
}

func isReference(parts []part) bool {
	for _, p := range parts {
		if p.scheme != "" {
			return true
		}
	}
	return false
}

// resolved reads a plain text and resolves its references now. masked reports
// that there were some.
func (n Node) resolved(opts Options) (text string, masked bool, e *Error) {
	raw, e := n.asText()
	if e != nil {
		return "", false, e
	}
	parts, e := n.references(raw)
	if e != nil {
		return "", false, e
	}
	text, err := resolve(parts, opts)
	if err != nil {
		return "", false, n.Errorf("%v", err)
	}
	return text, isReference(parts), nil
}

// secret reads a secret: its references have to be there now, and are looked
// up again when it is revealed.
func (n Node) secret(opts Options) (connectors.Secret, *Error) {
	raw, e := n.asText()
	if e != nil {
		if n.kind != Null {
			e.Msg, e.Hint = "want a text, got something else", "put it in quotes" // never repeat a secret
		}
		return connectors.Secret{}, e
	}
	parts, e := n.references(raw)
	if e != nil {
		return connectors.Secret{}, e
	}
	if _, err := resolve(parts, opts); err != nil {
		return connectors.Secret{}, n.Errorf("%v", err)
	}
	where := n.Errorf("").Error()
	return connectors.LazySecret(func() (string, error) {
		text, err := resolve(parts, opts)
		if err != nil {
			return "", fmt.Errorf("%s%w", where, err)
		}
		return text, nil
	}), nil
}

func (n Node) references(raw string) ([]part, *Error) {
	parts, err := splitReferences(raw)
	if err != nil {
		e := n.Errorf("%v", err)
		e.Hint = "want ${env:NAME} or ${file:/path}, or $${ for a literal ${"
		return nil, e
	}
	return parts, nil
}
