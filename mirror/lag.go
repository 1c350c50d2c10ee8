package mirror

import "time"

// lag knows since when the mirror has been behind. Each sample says: at that
// time the source's end was first seen at that offset. The age of the first
// sample that the mirror has not reached is the lag in time. How old a backlog
// is that was there at the first look nobody knows.
type lag struct {
	samples []sample
	look    time.Time // the last one; zero before the first
	end     int64     // the source's end then
}

type sample struct {
	at    time.Time
	end   int64
	known bool // false: it was there at the first look
}

const (
	// maxSamples bounds memory. When there are more, the newest takes in the
	// next one and keeps its own, earlier time: the lag is told too long,
	// never too short.
	maxSamples = 64
	// blind is a pause between looks after which a new end is taken to be as
	// old as the look before it.
	blind = 2 * time.Second
)

// saw notes the source's end, and how far the mirror is.
func (l *lag) saw(now time.Time, end, position int64) {
	s := sample{at: now, end: end, known: !l.look.IsZero()}
	if s.known && now.Sub(l.look) > blind {
		s.at = l.look
	}
	if !s.known || end > l.end {
		l.push(s)
	}
	for i := range l.samples {
		l.samples[i].end = min(l.samples[i].end, end) // an end may go back
	}
	l.end, l.look = end, now
	l.reached(position)
}

func (l *lag) push(s sample) {
	if n := len(l.samples); n >= maxSamples {
		l.samples[n-1].end = s.end
		return
	}
	l.samples = append(l.samples, s)
}

// reached drops the samples at or below position.
func (l *lag) reached(position int64) {
	n := 0
	for n < len(l.samples) && l.samples[n].end <= position {
		n++
	}
	l.samples = append(l.samples[:0], l.samples[n:]...)
}

// seconds behind; nil when the age of the backlog is not known.
func (l *lag) seconds(now time.Time) *float64 {
	var s float64
	if len(l.samples) > 0 {
		if !l.samples[0].known {
			return nil
		}
		s = now.Sub(l.samples[0].at).Seconds()
	}
	return &s
}

// meter is a rate over the last seconds.
type meter struct {
	buckets [10]float64 // one a second
	at      int64       // Unix second of the newest bucket
}

func (m *meter) add(now time.Time, n int) {
	m.advance(now)
	m.buckets[m.at%int64(len(m.buckets))] += float64(n)
}

func (m *meter) advance(now time.Time) {
	s := now.Unix()
	if s-m.at > int64(len(m.buckets)) {
		m.buckets, m.at = [10]float64{}, s
	}
	for m.at < s {
		m.at++
		m.buckets[m.at%int64(len(m.buckets))] = 0
	}
}

// rate a second, over the ten seconds before now.
func (m meter) rate(now time.Time) float64 {
	m.advance(now)
	var sum float64
	for _, b := range m.buckets {
		sum += b
	}
	return sum / float64(len(m.buckets))
}
