package registry

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/entrepot-hub/entrepot/hub/registry/schema"
	"github.com/entrepot-hub/entrepot/storytest"
)

// TestStories plays testdata/*.txt. After each verb the state that a restart gives, with and without compaction of the topic, is
// compared with the one at hand.
//
//	register SUBJECT SCHEMA [type=T] [ref=NAME,SUBJECT,VERSION] [id=N] [version=N]
//	lookup SUBJECT SCHEMA [deleted]
//	delete SUBJECT [VERSION] [permanent]
//	level SUBJECT|* [LEVEL]     without a level it is taken away
//	mode SUBJECT|* [MODE] [force]
//	record KEY [VALUE]          from a mirrored topic, or a vandal
//	show                        all that the state says
func TestStories(t *testing.T) {
	storytest.Run(t, func(t *testing.T) func(string, storytest.Args) string {
		st := &story{t: t, state: newState()}
		return func(verb string, a storytest.Args) string {
			defer st.restart(verb, a.Words)
			return st.run(verb, a.Words)
		}
	})
}

type story struct {
	t     *testing.T
	state *state
	log   []entry
	used  map[int]string // ID → identity, for ever
}

// restart replays the log, whole and compacted.
func (st *story) restart(verb string, words []string) {
	st.t.Helper()
	want := dump(st.state)
	last := map[string]int{}
	for i, e := range st.log {
		last[string(e.key)] = i
	}
	for _, compacted := range []bool{false, true} {
		s := newState()
		for i, e := range st.log {
			if !compacted || last[string(e.key)] == i && e.value != nil {
				_ = s.apply(e.key, e.value)
			}
		}
		if got := dump(s); got != want {
			st.t.Fatalf("after %s %q a restart (compacted: %v) gives\n%s\nwant\n%s", verb, words, compacted, got, want)
		}
	}
	if st.used == nil {
		st.used = map[int]string{}
	}
	for id, all := range st.state.ids[defaultContext] {
		for _, v := range all {
			if had, ok := st.used[id]; ok && had != st.state.identity(v) {
				st.t.Fatalf("after %s %q ID %d means another schema than before", verb, words, id)
			}
			st.used[id] = st.state.identity(v)
		}
	}
}

func dump(s *state) string {
	var b strings.Builder
	for _, subject := range slices.Sorted(maps.Keys(s.subjects)) {
		for _, v := range s.versions(subject, true) {
			fmt.Fprintf(&b, "%s version %d id %d deleted %v %s %v %s\n", subject, v.Version, v.ID, v.Deleted, v.Type, v.References, v.Schema)
		}
	}
	for _, subject := range slices.Sorted(maps.Keys(s.configs)) {
		fmt.Fprintf(&b, "level of %q: %s\n", subject, s.configs[subject].Level)
	}
	for _, subject := range slices.Sorted(maps.Keys(s.modes)) {
		fmt.Fprintf(&b, "mode of %q: %s\n", subject, s.modes[subject])
	}
	fmt.Fprintf(&b, "highest ids: %v\n", s.maxIDs)
	return b.String()
}

func (st *story) write(out []entry) {
	for _, e := range out {
		st.log = append(st.log, e)
		if err := st.state.apply(e.key, e.value); err != nil {
			st.t.Error(err)
		}
	}
}

func (st *story) run(verb string, words []string) string {
	options, args := map[string]string{}, []string{}
	for _, w := range words {
		name, value, isOption := strings.Cut(w, "=")
		if isOption || w == "permanent" || w == "force" || w == "deleted" {
			options[name] = value
		} else {
			args = append(args, w)
		}
	}
	said, err := st.verb(verb, args, options)
	if e, ok := errors.AsType[*Error](err); ok {
		return fmt.Sprintf("%d: %s", e.Code, e.Message)
	}
	if err != nil {
		return fmt.Sprintf("%d: %v", answer(err).Code, err)
	}
	return said
}

func (st *story) verb(verb string, args []string, options map[string]string) (string, error) {
	s := st.state
	_, permanent := options["permanent"]
	_, force := options["force"]
	_, deleted := options["deleted"]
	subject := ""
	if len(args) > 0 && args[0] != "*" {
		subject = args[0]
	}
	switch verb {
	case "register", "lookup":
		c, err := st.candidate(subject, args[1], options)
		if err != nil {
			return "", err
		}
		if verb == "lookup" {
			v, err := s.lookup(c, deleted)
			if err != nil {
				return "", err
			}
			return fmt.Sprintf("version %d id %d", v.Version, v.ID), nil
		}
		id, out, err := s.register(c)
		st.write(out)
		return fmt.Sprintf("id %d, %d records", id, len(out)), err
	case "delete":
		if len(args) == 1 {
			gone, out, err := s.deleteSubject(subject, permanent)
			st.write(out)
			return fmt.Sprint(gone), err
		}
		n, _ := strconv.Atoi(args[1])
		gone, out, err := s.deleteVersion(subject, n, permanent)
		st.write(out)
		return fmt.Sprint(gone), err
	case "level":
		if len(args) == 1 {
			old, out, err := s.unsetLevel(subject)
			st.write(out)
			return "was " + old.Level, err
		}
		out, err := s.setLevel(subject, configValue{Level: args[1]})
		st.write(out)
		return s.level(subject), err
	case "mode":
		if len(args) == 1 {
			old, out, err := s.unsetMode(subject)
			st.write(out)
			return "was " + old, err
		}
		out, err := s.setMode(subject, args[1], force)
		st.write(out)
		return s.mode(subject), err
	case "record":
		e := entry{key: []byte(args[0])}
		if len(args) > 1 {
			e.value = []byte(args[1])
		}
		st.log = append(st.log, e)
		if err := s.apply(e.key, e.value); err != nil {
			return "passed over: " + err.Error(), nil
		}
		return "taken", nil
	case "show":
		return dump(s), nil
	}
	st.t.Fatalf("no verb %q", verb)
	return "", nil
}

func (st *story) candidate(subject, text string, options map[string]string) (candidate, error) {
	typ := schema.Avro
	if t := options["type"]; t != "" {
		typ = schema.Type(t)
	}
	c := candidate{subject: subject}
	c.id, _ = strconv.Atoi(options["id"])
	c.version, _ = strconv.Atoi(options["version"])
	if ref := strings.Split(options["ref"], ","); len(ref) == 3 {
		n, _ := strconv.Atoi(ref[2])
		all, err := st.state.resolve([]Reference{{ref[0], ref[1], n}}, true)
		if err != nil {
			return c, err
		}
		c.references = all
	}
	deps, err := st.state.dependencies(c.references)
	if err != nil {
		return c, err
	}
	c.parsed, err = schema.Parse(typ, text, deps)
	return c, err
}
