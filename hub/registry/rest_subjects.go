package registry

import "slices"

func listSubjects(r *request) (any, error) {
	return look(r, func(s *state) ([]string, error) {
		deleted, only := r.flag("deleted"), r.flag("deletedOnly")
		all := []string{}
		for _, subject := range s.matching(r) {
			live := len(s.versions(subject, false)) > 0
			if live && !only || !live && (deleted || only) {
				all = append(all, subject)
			}
		}
		return page(r, all), nil
	})
}

func listVersions(r *request) (any, error) {
	return look(r, func(s *state) ([]int, error) {
		all := []int{}
		for _, v := range s.versions(r.subject(), r.flag("deleted") || r.flag("deletedOnly")) {
			if v.Deleted || !r.flag("deletedOnly") {
				all = append(all, v.Version)
			}
		}
		if len(all) == 0 {
			return nil, subjectNotFound(r.subject())
		}
		return page(r, all), nil
	})
}

// theVersion is the one that the path names.
func (r *request) theVersion(s *state) (*Version, error) {
	n, err := r.version()
	if err != nil {
		return nil, err
	}
	return s.version(r.subject(), n, r.flag("deleted"))
}

func getVersion(r *request) (any, error) {
	return look(r, func(s *state) (schemaAnswer, error) {
		v, err := r.theVersion(s)
		if err != nil {
			return schemaAnswer{}, err
		}
		return told(r, s, v), nil
	})
}

func getVersionSchema(r *request) (any, error) {
	return look(r, func(s *state) (any, error) {
		v, err := r.theVersion(s)
		if err != nil {
			return nil, err
		}
		return rawText(told(r, s, v).Schema), nil
	})
}

func getReferencedBy(r *request) (any, error) {
	return look(r, func(s *state) ([]int, error) {
		v, err := r.theVersion(s)
		if err != nil {
			return nil, err
		}
		ids := []int{}
		for _, user := range s.referrers(v.Subject, v.Version, r.flag("deleted")) {
			ids = append(ids, user.ID)
		}
		slices.Sort(ids)
		return page(r, slices.Compact(ids)), nil
	})
}

func deleteVersion(r *request) (any, error) {
	n, err := r.version()
	if err != nil {
		return nil, err
	}
	subject, permanent := r.subject(), r.flag("permanent")
	var gone int
	err = r.reg.write(r.Context(), func(s *state) (out []entry, err error) {
		gone, out, err = s.deleteVersion(subject, n, permanent)
		return out, err
	}, func(s *state) bool {
		_, err := s.version(subject, gone, permanent)
		return err != nil
	})
	return gone, err
}

func deleteSubject(r *request) (any, error) {
	subject, permanent := r.subject(), r.flag("permanent")
	var gone []int
	err := r.reg.write(r.Context(), func(s *state) (out []entry, err error) {
		gone, out, err = s.deleteSubject(subject, permanent)
		return out, err
	}, func(s *state) bool { return len(s.versions(subject, permanent)) == 0 })
	return gone, err
}
