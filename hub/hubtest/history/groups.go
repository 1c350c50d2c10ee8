package history

import (
	"cmp"
	"slices"
)

// following is a group and a partition that it reads.
type following struct {
	group string
	place
}

// groupOffsets: a group's offset never goes back. An answer, or a commit, is
// never lower than what was committed or answered before it began; and an
// answer is what somebody committed.
func groupOffsets(v *view, r *Result) {
	byGroup := map[following][]Offset{}
	for _, o := range v.Offsets {
		who := following{o.Group, place{o.Topic, o.Partition}}
		byGroup[who] = append(byGroup[who], o)
	}
	for who, ops := range byGroup {
		r.Examined += len(ops)
		committable := map[int64]bool{-1: true}
		for _, o := range ops {
			if !o.Ask && o.Outcome != Failed {
				committable[o.At] = true
			}
		}
		ended := slices.DeleteFunc(slices.Clone(ops), func(o Offset) bool { return o.Outcome != OK })
		slices.SortFunc(ended, func(a, b Offset) int { return cmp.Compare(a.End, b.End) })
		begun := slices.Clone(ended)
		slices.SortFunc(begun, func(a, b Offset) int { return cmp.Compare(a.Begin, b.Begin) })
		floor := int64(-1)
		for _, o := range begun {
			for len(ended) > 0 && ended[0].before(o.Span) {
				floor, ended = max(floor, ended[0].At), ended[1:]
			}
			switch {
			case o.At < floor && o.Ask:
				r.bad("group %s, %s: offset %d was answered at %s, and %d before", who.group, who.place, o.At, o.End, floor)
			case o.At < floor:
				r.bad("group %s, %s: offset %d was committed at %s, and %d before", who.group, who.place, o.At, o.End, floor)
			case o.Ask && !committable[o.At]:
				r.bad("group %s, %s: offset %d was answered at %s, which nobody committed", who.group, who.place, o.At, o.End)
			}
		}
	}
}

// reached is how far each group has come, as it was last told.
func (v *view) reached() map[following]int64 {
	at := map[following]int64{}
	for _, o := range v.Offsets {
		if o.Ask && o.Outcome == OK {
			who := following{o.Group, place{o.Topic, o.Partition}}
			at[who] = max(at[who], o.At)
		}
	}
	return at
}

// groupSkips: each record below a group's offset was shown to a member, for the
// groups whose members' polls were recorded.
func groupSkips(v *view, r *Result) {
	had := map[following]map[string]bool{}
	isolated, recorded := map[following]bool{}, map[string]bool{}
	for i := range v.Polls {
		p := &v.Polls[i]
		if p.Group == "" {
			continue
		}
		who := following{p.Group, p.place()}
		if had[who] == nil {
			had[who] = map[string]bool{}
		}
		isolated[who], recorded[p.Group] = isolated[who] || p.Committed, true
		for _, one := range p.Reads {
			had[who][one.Value] = true
		}
	}
	for who, at := range v.reached() {
		e := v.final[who.place]
		if isolated[who] {
			e = v.shown[who.place]
		}
		if e == nil || !recorded[who.group] {
			continue
		}
		for _, one := range e.order {
			if one.Offset >= at || v.superseded(who.place, one.Key, one.Offset, e) {
				continue
			}
			if r.Examined++; !had[who][one.Value] {
				r.bad("%s: group %s is at %d and none of its members was shown %q at %d", who.place, who.group, at, one.Value, one.Offset)
			}
		}
	}
}

// exactlyOnce: of each record below the offset of a pipe's group one copy is
// shown in the end, and of those above it none.
func exactlyOnce(v *view, r *Result) {
	reached := v.reached()
	for _, pipe := range v.Pipes {
		copies := map[string]int{}
		for at, e := range v.shown {
			if at.topic != pipe.Out {
				continue
			}
			for _, one := range e.order {
				if s := v.sends[one.Value]; s != nil {
					copies[s.From]++
				}
			}
		}
		for at, e := range v.shown {
			if at.topic != pipe.In {
				continue
			}
			end := reached[following{pipe.Group, at}]
			for _, one := range e.order {
				want := 0
				if one.Offset < end {
					want = 1
				}
				if r.Examined++; copies[one.Value] != want {
					r.bad("%s: %q at offset %d was copied to %s %d times, want %d: group %s is at %d", at, one.Value, one.Offset, pipe.Out, copies[one.Value], want, pipe.Group, end)
				}
			}
		}
	}
}
