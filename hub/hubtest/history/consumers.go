package history

// reading is one consumer of one partition.
type reading struct {
	consumer string
	place
}

func (v *view) readings() map[reading][]*Poll {
	all := map[reading][]*Poll{}
	for i := range v.Polls { // in the order in which they ended, for each consumer
		p := &v.Polls[i]
		who := reading{p.Consumer, p.place()}
		all[who] = append(all[who], p)
	}
	return all
}

// monotonic: a consumer is shown offsets that rise, poll after poll.
func monotonic(v *view, r *Result) {
	for who, polls := range v.readings() {
		last := int64(-1)
		for _, p := range polls {
			for _, one := range p.Reads {
				r.Examined++
				if one.Offset <= last {
					r.bad("%s: %s was shown offset %d after %d", who.place, who.consumer, one.Offset, last)
				}
				last = max(last, one.Offset)
			}
		}
	}
}

// skipped: between the first and the last record that a consumer was shown, it
// was shown every one. Gaps are only where markers are, or aborted records for
// one that reads committed ones, or what compaction took.
func skipped(v *view, r *Result) {
	for who, polls := range v.readings() {
		var first, last int64 = -1, -1
		had := map[int64]bool{}
		for _, p := range polls {
			for _, one := range p.Reads {
				if first < 0 {
					first = one.Offset
				}
				last = max(last, one.Offset)
				had[one.Offset] = true
			}
		}
		e := v.final[who.place]
		if polls[0].Committed {
			e = v.shown[who.place]
		}
		if e == nil || first < 0 {
			continue
		}
		for _, one := range e.order {
			if one.Offset < first || one.Offset > last {
				continue
			}
			if r.Examined++; !had[one.Offset] {
				r.bad("%s: %s went from offset %d to %d and was not shown %q at %d", who.place, who.consumer, first, last, one.Value, one.Offset)
			}
		}
	}
}

// highWatermark: it never goes back for one consumer, and lies above what is
// shown.
func highWatermark(v *view, r *Result) {
	for who, polls := range v.readings() {
		high := int64(-1)
		for _, p := range polls {
			if p.High < 0 {
				continue
			}
			r.Examined++
			if p.High < high {
				r.bad("%s: %s was told of high watermark %d after %d", who.place, who.consumer, p.High, high)
			}
			high = max(high, p.High)
			if n := len(p.Reads); n > 0 && p.Reads[n-1].Offset >= p.High {
				r.bad("%s: %s was shown offset %d, and the high watermark was %d", who.place, who.consumer, p.Reads[n-1].Offset, p.High)
			}
		}
	}
}
