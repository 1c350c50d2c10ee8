package connectors

import (
	"context"
	"log/slog"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Redactor takes the secrets of a config out of texts. Connectors keep them out
// of their own errors; this is for what they pass on: an error of a driver, or
// of a server that repeats what it was sent. The runtime puts everything of a
// job that somebody may read through it. The zero value changes nothing.
//
// Secrets are revealed when a text is looked at, so that one which was rotated
// is found too; one that is shorter than four bytes is left alone, as it would
// be found everywhere.
type Redactor struct{ secrets []Secret }

// shortestSecret is the length in bytes from which a text is taken out.
const shortestSecret = 4

// Redactor returns the one of all the secrets in the config.
func (c Config) Redactor() Redactor { return Redactor{c.secrets(nil)} }

func (c Config) secrets(all []Secret) []Secret {
	for _, v := range c.values {
		switch x := v.(type) {
		case Secret:
			all = append(all, x)
		case map[string]Secret:
			for _, s := range x {
				all = append(all, s)
			}
		case Config:
			all = x.secrets(all)
		case []Config:
			for _, one := range x {
				all = one.secrets(all)
			}
		}
	}
	return all
}

// Text returns s with *** for each secret.
func (r Redactor) Text(s string) string {
	for _, word := range r.words() {
		s = strings.ReplaceAll(s, word, hidden)
	}
	return s
}

// Error returns err with a text without secrets; what errors.Is, errors.As and
// ClassOf find in it stays.
func (r Redactor) Error(err error) error {
	if err == nil {
		return nil
	}
	text := err.Error()
	if clean := r.Text(text); clean != text {
		return &redacted{err, clean}
	}
	return err
}

type redacted struct {
	error
	text string
}

func (e *redacted) Error() string { return e.text }
func (e *redacted) Unwrap() error { return e.error }

// words are the texts to take out, the longest first: a secret, and of an
// address or of pairs the password in it, as it is and as it is written there.
func (r Redactor) words() []string {
	var all []string
	for _, s := range r.secrets {
		text, err := s.Reveal()
		if err != nil {
			continue // then nobody has used it either
		}
		all = append(append(all, text), passwords(text)...)
	}
	for _, text := range all { // many errors quote what is wrong
		if quoted := strconv.Quote(text); len(quoted) > len(text)+2 {
			all = append(all, quoted[1:len(quoted)-1])
		}
	}
	all = slices.DeleteFunc(all, func(s string) bool { return len(s) < shortestSecret })
	slices.SortFunc(all, func(a, b string) int { return len(b) - len(a) })
	return slices.Compact(all)
}

// pair finds what stands for a password in parameters of an address, or in
// pairs such as host=h password='x y'.
var pair = regexp.MustCompile(`(?i)(?:^|[\s?&])\w*(?:password|passwd|secret|token|signature|key)\s*=\s*('(?:[^'\\]|\\.)*'|[^\s&]+)`)

// unescaped reads a value of a pair as it is meant.
var unescaped = strings.NewReplacer(`\\`, `\`, `\'`, `'`)

func passwords(secret string) []string {
	var all []string
	for _, found := range pair.FindAllStringSubmatch(secret, -1) {
		text := found[1]
		all = append(all, strings.Trim(text, "'"), unescaped.Replace(strings.Trim(text, "'")))
		if plain, err := url.QueryUnescape(text); err == nil {
			all = append(all, plain)
		}
	}
	for _, one := range append(strings.Split(secret, ","), secret) { // several nodes of a cluster, or a comma in a password
		u, err := url.Parse(one)
		if err != nil || u.Host == "" {
			continue
		}
		all = append(all, one, u.String())
		if u.Scheme == "http" || u.Scheme == "https" { // of others the path is the name of a database or the like
			all = append(all, u.RequestURI(), u.EscapedPath(), u.Path)
		}
		if plain, set := u.User.Password(); set {
			_, coded, _ := strings.Cut(u.User.String(), ":")
			all = append(all, plain, coded, url.QueryEscape(plain), url.PathEscape(plain))
		}
	}
	return all
}

// Handler returns a handler that passes records on to next without secrets.
func (r Redactor) Handler(next slog.Handler) slog.Handler { return redacting{next, r} }

type redacting struct {
	slog.Handler
	r Redactor
}

func (h redacting) Handle(ctx context.Context, in slog.Record) error {
	out := slog.NewRecord(in.Time, in.Level, h.r.Text(in.Message), in.PC)
	in.Attrs(func(a slog.Attr) bool {
		out.AddAttrs(h.r.attr(a))
		return true
	})
	return h.Handler.Handle(ctx, out)
}

func (h redacting) WithAttrs(attrs []slog.Attr) slog.Handler {
	clean := make([]slog.Attr, len(attrs))
	for i, a := range attrs {
		clean[i] = h.r.attr(a)
	}
	return redacting{h.Handler.WithAttrs(clean), h.r}
}

func (h redacting) WithGroup(name string) slog.Handler {
	return redacting{h.Handler.WithGroup(name), h.r}
}

func (r Redactor) attr(a slog.Attr) slog.Attr {
	v := a.Value.Resolve()
	switch v.Kind() {
	case slog.KindGroup:
		inner := make([]any, 0, len(v.Group()))
		for _, one := range v.Group() {
			inner = append(inner, r.attr(one))
		}
		return slog.Group(a.Key, inner...)
	case slog.KindString, slog.KindAny:
		text := v.String() // of an error, its own text
		if clean := r.Text(text); clean != text {
			return slog.String(a.Key, clean)
		}
	}
	return slog.Attr{Key: a.Key, Value: v}
}
