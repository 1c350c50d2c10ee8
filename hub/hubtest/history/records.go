package history

// lost: each record that was acknowledged, and whose transaction was committed,
// is there in the end, at the offset that was acknowledged.
func lost(v *view, r *Result) {
	unread := map[place]bool{}
	for i := range v.Sends {
		s := &v.Sends[i]
		if v.fate(s) != committed {
			continue
		}
		r.Examined++
		at := s.place()
		for i, e := range []*ending{v.final[at], v.shown[at]} {
			what := []string{"", " under read_committed"}[i]
			if e == nil {
				if !unread[at] {
					r.bad("%s was never read to its end%s", at, what)
				}
				unread[at] = true
				continue
			}
			offset, ok := e.values[s.Value]
			switch {
			case !ok && !v.superseded(at, s.Key, s.Offset, e):
				r.bad("%s: %q of %s, acknowledged at offset %d, is not there%s", at, s.Value, s.Producer, s.Offset, what)
			case ok && s.Offset >= 0 && offset != s.Offset && !s.Retries:
				r.bad("%s: %q of %s was acknowledged at offset %d and is at %d%s", at, s.Value, s.Producer, s.Offset, offset, what)
			}
		}
	}
}

// vanished: what any consumer was shown is there in the end. What was shown and
// is not there was shown before it was committed.
func vanished(v *view, r *Result) {
	for i := range v.Polls {
		p := &v.Polls[i]
		at := p.place()
		e := v.final[at]
		if p.Committed {
			e = v.shown[at]
		}
		if e == nil {
			continue // lost says so
		}
		for _, one := range p.Reads {
			if one.Control {
				continue
			}
			r.Examined++
			if _, ok := e.values[one.Value]; !ok && !v.superseded(at, one.Key, one.Offset, e) {
				r.bad("%s: %s was shown %q at offset %d, which is not there in the end", at, p.Consumer, one.Value, one.Offset)
			}
		}
	}
}

// inconsistent: an offset has one value, the same for every reader, and it is
// the one that was acknowledged for it.
func inconsistent(v *view, r *Result) {
	for i := range v.Polls {
		p := &v.Polls[i]
		at := p.place()
		for _, one := range p.Reads {
			first := v.first[at][one.Offset]
			if first.Epoch < 0 || one.Epoch < 0 {
				first.Epoch = one.Epoch
			}
			if first != one {
				r.bad("%s: offset %d is %+v for %s and was %+v before", at, one.Offset, one, p.Consumer, first)
			}
		}
	}
	for _, offsets := range v.first {
		r.Examined += len(offsets)
	}
	for i := range v.Sends {
		s := &v.Sends[i]
		if one, ok := v.first[s.place()][s.Offset]; ok && s.Outcome == OK && s.Offset >= 0 && one.Value != s.Value && !s.Retries {
			r.bad("%s: offset %d was acknowledged for %q of %s and is %q", s.place(), s.Offset, s.Value, s.Producer, one.Value)
		}
	}
}

// aborted: nobody is shown what failed for certain, or what nobody sent, and a
// read_committed consumer nothing of an aborted transaction (Adya's G1a).
func aborted(v *view, r *Result) {
	for i := range v.Polls {
		p := &v.Polls[i]
		for _, one := range p.Reads {
			if one.Control {
				continue
			}
			r.Examined++
			s := v.sends[one.Value]
			switch {
			case s == nil:
				r.bad("%s: %s was shown %q at offset %d, which nobody sent", p.place(), p.Consumer, one.Value, one.Offset)
			case s.place() != p.place():
				r.bad("%s: %s was shown %q at offset %d, which was sent to %s", p.place(), p.Consumer, one.Value, one.Offset, s.place())
			case s.Outcome == Failed:
				r.bad("%s: %s was shown %q at offset %d, which %s was told had failed", p.place(), p.Consumer, one.Value, one.Offset, s.Producer)
			case p.Committed && v.fate(s) == gone:
				r.bad("%s: %s was shown %q at offset %d, of the aborted transaction %s", p.place(), p.Consumer, one.Value, one.Offset, s.Txn)
			}
		}
	}
}

// torn: of a transaction all records are shown in the end, or none.
func torn(v *view, r *Result) {
	in, out := map[string]string{}, map[string]string{}
	for i := range v.Sends {
		s := &v.Sends[i]
		e := v.shown[s.place()]
		if s.Txn == "" || e == nil || s.Outcome != OK || v.superseded(s.place(), s.Key, s.Offset, e) {
			continue
		}
		if _, ok := e.values[s.Value]; ok {
			in[s.Txn] = s.Value
		} else {
			out[s.Txn] = s.Value
		}
	}
	for _, t := range v.Txns {
		r.Examined++
		if in[t.Name] != "" && out[t.Name] != "" {
			r.bad("transaction %s: %q is there in the end and %q is not", t.Name, in[t.Name], out[t.Name])
		}
	}
}

// duplicates: what an idempotent producer sent is there once.
func duplicates(v *view, r *Result) {
	for at, offsets := range v.at {
		r.Examined += len(offsets)
		for offset, one := range v.first[at] {
			s := v.sends[one.Value]
			if first := offsets[one.Value]; !one.Control && offset != first && (s == nil || !s.Retries) {
				r.bad("%s: %q is at offset %d and at %d", at, one.Value, min(first, offset), max(first, offset))
			}
		}
	}
}

// order: what one idempotent producer sent to a partition is there in the order
// in which it was sent.
func order(v *view, r *Result) {
	type from struct {
		producer string
		place
	}
	last := map[from]*Send{}
	where := map[from]int64{}
	for i := range v.Sends { // in the order in which they were sent, by each producer
		s := &v.Sends[i]
		offset, ok := v.at[s.place()][s.Value]
		if !ok || s.Retries {
			continue
		}
		r.Examined++
		who := from{s.Producer, s.place()}
		if before := last[who]; before != nil && offset < where[who] {
			r.bad("%s: %s sent %q before %q, and they are at offsets %d and %d", s.place(), s.Producer, before.Value, s.Value, where[who], offset)
		}
		last[who], where[who] = s, offset
	}
}
