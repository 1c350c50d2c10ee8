package stream

import "time"

// stuckAfter is how long a job may make no progress, though it tries, before
// its state says so.
const stuckAfter = 2 * time.Minute

// Trouble is since when a job, or a part of it, makes no progress, and why.
type Trouble struct {
	Since    time.Time `json:"since"`
	Attempts int       `json:"attempts"` // that came to nothing
	Reason   string    `json:"reason"`   // of the last one

	logged bool
}

// troubles are those of one job, by partition, split or task; "" is the job as
// a whole. They outlive its sessions: a job that fails and begins anew all the
// time makes no progress either.
//
// The trouble of a part ends when the part has done something, and not when
// another has: of four partitions one can be stuck.
type troubles map[string]Trouble

// add takes up an attempt that came to nothing. Nothing was done since began, as
// far as it knows. It reports whether people have to be told: once for each
// trouble.
func (t troubles) add(part string, began, now time.Time, reason string) (one Trouble, tell bool) {
	one, known := t[part]
	if !known {
		one.Since = began
	}
	one.Attempts++
	one.Reason = reason
	tell = !one.logged && one.stuck(now)
	one.logged = one.logged || tell
	t[part] = one
	return one, tell
}

func (t Trouble) stuck(now time.Time) bool { return now.Sub(t.Since) >= stuckAfter }

// oldest is the one to show.
func (t troubles) oldest() *Trouble {
	var first *Trouble
	for _, name := range sortedNames(t) {
		if one := t[name]; first == nil || one.Since.Before(first.Since) {
			first = &one
		}
	}
	return first
}

// trouble notes an attempt that came to nothing.
func (m *monitor) trouble(part string, began time.Time, err error) {
	reason := m.hide.Text(err.Error())
	m.mu.Lock()
	one, tell := m.mu.troubles.add(part, began, time.Now(), reason)
	m.mu.Unlock()
	if tell {
		m.logger.Error("a job is stuck", "connector", m.name, "part", part, "since", one.Since, "attempts", one.Attempts, "error", reason)
	}
}

// well ends the trouble of a part, and what was said of the job as a whole.
func (m *monitor) well(part string) {
	m.over(func(name string) bool { return name == part || name == "" })
}

// only ends the troubles of parts that the job no longer has.
func (m *monitor) only(parts map[string]bool) {
	m.over(func(name string) bool { return name != "" && !parts[name] })
}

// over ends the troubles of the parts of which ended says so.
func (m *monitor) over(ended func(part string) bool) {
	m.mu.Lock()
	over := m.mu.troubles.end(ended)
	m.mu.Unlock()
	for _, part := range sortedNames(over) {
		one := over[part]
		m.logger.Info("a job is no longer stuck", "connector", m.name, "part", part, "after", time.Since(one.Since), "attempts", one.Attempts)
	}
}

// end forgets troubles, and returns those that people were told of.
func (t troubles) end(ended func(part string) bool) (over troubles) {
	for part, one := range t {
		if !ended(part) {
			continue
		}
		if one.logged {
			if over == nil {
				over = troubles{}
			}
			over[part] = one
		}
		delete(t, part)
	}
	return over
}

// showTrouble puts the oldest trouble into a status.
func (m *monitor) showTrouble(s *JobStatus, now time.Time) {
	s.Retrying = m.mu.troubles.oldest()
	if s.Retrying == nil || !s.Retrying.stuck(now) {
		return
	}
	switch s.State {
	case Starting, Running, BackingOff:
		s.State = Stuck
	}
}

// writing is a Write that is under way. It is a value: a new one takes its place.
type writing struct {
	part  string
	since time.Time   // when it began, or has last done something
	limit *time.Timer // ends it
}

// heard takes up what the connector says of its present Write.
func (t *sinkTask) heard(trouble error) {
	w := t.now.Load()
	if w == nil {
		return
	}
	w.limit.Reset(writeTimeout)
	if trouble == nil {
		t.now.CompareAndSwap(w, &writing{w.part, time.Now(), w.limit})
		t.monitor.well(w.part)
		return
	}
	t.monitor.fault(trouble)
	t.monitor.trouble(w.part, w.since, trouble)
}
