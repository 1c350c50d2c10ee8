package registry

import "strings"

// compatibilityAnswer is the verdict on a schema; messages only if asked for.
type compatibilityAnswer struct {
	Compatible bool     `json:"is_compatible"`
	Messages   []string `json:"messages,omitempty"`
}

func (r *request) verdict(c candidate, s *state, versions []*Version) compatibilityAnswer {
	bad := s.incompatible(c.parsed, s.level(c.subject), versions)
	a := compatibilityAnswer{Compatible: len(bad) == 0}
	if r.flag("verbose") {
		a.Messages = bad
	}
	return a
}

// checkAll asks whether a schema could be registered as the level wants it.
func checkAll(r *request) (any, error) {
	c, err := r.candidate(r.subject(), false)
	if err != nil {
		return nil, err
	}
	return look(r, func(s *state) (compatibilityAnswer, error) {
		return r.verdict(c, s, s.versions(c.subject, false)), nil
	})
}

// checkOne asks against one version. Against the latest of none all is
// compatible.
func checkOne(r *request) (any, error) {
	n, err := r.version()
	if err != nil {
		return nil, err
	}
	c, err := r.candidate(r.subject(), false)
	if err != nil {
		return nil, err
	}
	return look(r, func(s *state) (compatibilityAnswer, error) {
		v, err := s.version(c.subject, n, false)
		if err != nil && n == 0 {
			return compatibilityAnswer{Compatible: true}, nil
		}
		if err != nil {
			return compatibilityAnswer{}, err
		}
		return r.verdict(c, s, []*Version{v}), nil
	})
}

func getConfig(r *request) (any, error) {
	return look(r, func(s *state) (configValue, error) {
		subject := r.subject()
		c, ok := s.configs[subject]
		if !ok && subject != "" && !r.flag("defaultToGlobal") {
			return c, fail(codeNoSubjectConfig, "Subject '%s' does not have subject-level compatibility configured", subject)
		}
		if c.Level == "" {
			c.Level = s.level(subject)
		}
		return c, nil
	})
}

func putConfig(r *request) (any, error) {
	var b struct {
		Level     string `json:"compatibility"`
		Normalize *bool  `json:"normalize,omitempty"`
	}
	if err := r.body(&b); err != nil {
		return nil, err
	}
	b.Level = strings.ToUpper(b.Level)
	if b.Level == "" && b.Normalize == nil {
		return nil, fail(codeInvalidLevel, "Invalid compatibility level. Valid values are %s", strings.Join(levels, ", "))
	}
	subject := r.subject()
	err := r.reg.write(r.Context(), func(s *state) ([]entry, error) {
		return s.setLevel(subject, configValue{b.Level, b.Normalize})
	}, func(s *state) bool { return b.Level == "" || s.configs[subject].Level == b.Level })
	return b, err
}

func deleteConfig(r *request) (any, error) {
	subject := r.subject()
	var old configValue
	err := r.reg.write(r.Context(), func(s *state) (out []entry, err error) {
		old, out, err = s.unsetLevel(subject)
		return out, err
	}, func(s *state) bool { return s.configs[subject].Level == "" })
	return old, err
}

func getMode(r *request) (any, error) {
	return look(r, func(s *state) (modeValue, error) {
		subject := r.subject()
		if _, ok := s.modes[subject]; !ok && subject != "" && !r.flag("defaultToGlobal") {
			return modeValue{}, fail(codeNoSubjectMode, "Subject '%s' does not have subject-level mode configured", subject)
		}
		return modeValue{s.mode(subject)}, nil
	})
}

func putMode(r *request) (any, error) {
	var b modeValue
	if err := r.body(&b); err != nil {
		return nil, err
	}
	b.Mode = strings.ToUpper(b.Mode)
	subject := r.subject()
	err := r.reg.write(r.Context(), func(s *state) ([]entry, error) {
		return s.setMode(subject, b.Mode, r.flag("force"))
	}, func(s *state) bool { return s.modes[subject] == b.Mode })
	return b, err
}

func deleteMode(r *request) (any, error) {
	subject := r.subject()
	var old string
	err := r.reg.write(r.Context(), func(s *state) (out []entry, err error) {
		old, out, err = s.unsetMode(subject)
		return out, err
	}, func(s *state) bool { return s.modes[subject] == "" })
	return modeValue{old}, err
}
