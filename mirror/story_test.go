package mirror

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/entrepot-hub/entrepot/record"
	"github.com/entrepot-hub/entrepot/storytest"
)

// Stories tell what the state machine does, one command a block, its output
// below the dashes: what the machine asks to be done. A command that answers a
// request must find it under way. The commands:
//
//	link [gap=skip]                       begin
//	know NAME id=N partitions=N           this site has the mirror already
//	discovered [error=TEXT] [NAME:id=N,partitions=N,to=SITE,epoch=N ...]
//	ensured NAME [error=exists|recreated|TEXT]
//	opened PART next=N [epoch=N] [error=TEXT]
//	fetched [error=TEXT] [PART:start=N,end=N,batches=A-B/C-D,epoch=N,fault=leader|topic|range|other,diverging=E@N ...]
//	measured PART:start=N,end=N ...
//	written PART [error=TEXT]
//	trimmed PART [error=TEXT]
//	tick DURATION
//	pause|resume [TOPIC]
//	status
func TestStories(t *testing.T) {
	storytest.Run(t, func(t *testing.T) func(string, storytest.Args) string {
		s := &story{t: t, now: time.Unix(1_000_000, 0)}
		return func(verb string, a storytest.Args) string { return s.command(verb, a.Words) }
	})
}

type story struct {
	t     *testing.T
	now   time.Time
	core  *core
	going []any // asked for and not answered
}

// args are the key=value words of a command, those after "NAME:" included.
type args map[string]string

func parseArgs(words []string) args {
	a := args{}
	for _, w := range words {
		if k, v, ok := strings.Cut(w, "="); ok {
			a[k] = v
		}
	}
	return a
}

func (a args) num(t *testing.T, key string, other int64) int64 {
	v, ok := a[key]
	if !ok {
		return other
	}
	n, err := strconv.ParseInt(v, 10, 64)
	if err != nil {
		t.Fatalf("%s=%s: %v", key, v, err)
	}
	return n
}

func (a args) err() error {
	switch e := a["error"]; e {
	case "":
		return nil
	case "exists":
		return record.ErrTopicExists
	case "recreated":
		return ErrSourceRecreated
	case "not-leader":
		return record.ErrNotLeader
	default:
		return errors.New(strings.ReplaceAll(e, "_", " "))
	}
}

func (s *story) command(verb string, rest []string) string {
	a := parseArgs(rest)
	switch verb {
	case "link":
		l := DefaultLink("east")
		if a["gap"] == "skip" {
			l.OnGap = GapSkip
		}
		s.core = newCore(Config{Site: "west"}.withDefaults(), l)
	case "know":
		s.core.know([]MirroredTopic{{Name: rest[0], ID: record.TopicID{15: byte(a.num(s.t, "id", 0))},
			Partitions: int32(a.num(s.t, "partitions", 1)), SourceSite: "east", Link: "east"}})
	case "tick":
		d, err := time.ParseDuration(rest[0])
		if err != nil {
			s.t.Fatal(err)
		}
		s.now = s.now.Add(d)
	case "pause", "resume":
		if err := s.core.pause(strings.Join(rest, ""), verb == "pause"); err != nil {
			return err.Error() + "\n"
		}
	case "status":
		return s.status()
	default:
		s.core.step(s.now, s.event(verb, rest, a))
	}
	return s.next()
}

// next prints what is asked for.
func (s *story) next() string {
	var out strings.Builder
	for _, action := range s.core.next(s.now) {
		s.going = append(s.going, action)
		switch a := action.(type) {
		case discover:
			fmt.Fprintln(&out, "discover")
		case ensure:
			fmt.Fprintf(&out, "ensure %s id=%d partitions=%d\n", a.topic.Name, a.topic.ID[15], a.topic.Partitions)
		case open:
			fmt.Fprintf(&out, "open %s\n", a.part.tp)
		case fetch:
			fmt.Fprintf(&out, "fetch from broker %d, wait %v:%s\n", a.broker, a.wait, askText(a.asks))
		case measure:
			fmt.Fprintf(&out, "measure at broker %d:%s\n", a.broker, askText(a.asks))
		case write:
			fmt.Fprintf(&out, "append to %s at %d: %d to %d\n", a.part.tp, a.next, a.batches[0].BaseOffset(), a.batches[len(a.batches)-1].LastOffset())
		case trim:
			fmt.Fprintf(&out, "set log start of %s to %d\n", a.part.tp, a.start)
		}
	}
	if out.Len() == 0 {
		return "nothing to do\n"
	}
	return out.String()
}

func askText(asks []ask) (text string) {
	for _, a := range asks {
		text += fmt.Sprintf(" %s offset %d", a.part.tp, a.offset)
		if a.lastEpoch >= 0 {
			text += fmt.Sprintf(" after epoch %d", a.lastEpoch)
		}
	}
	return text
}

// take removes the request that an event answers.
func take[T any](s *story, match func(T) bool) T {
	s.t.Helper()
	for i, g := range s.going {
		if a, ok := g.(T); ok && match(a) {
			s.going = append(s.going[:i], s.going[i+1:]...)
			return a
		}
	}
	var none T
	s.t.Fatalf("no %T is under way", none)
	return none
}

func (s *story) event(verb string, rest []string, a args) any {
	any := func(discover) bool { return true }
	switch verb {
	case "discovered":
		take(s, any)
		return s.discovered(rest, a)
	case "ensured":
		w := take(s, func(e ensure) bool { return e.topic.Name == rest[0] })
		return ensured{w.topic, a.err()}
	case "opened":
		o := take(s, func(o open) bool { return o.part.tp.String() == rest[0] })
		return opened{o.part, a.num(s.t, "next", 0), int32(a.num(s.t, "epoch", -1)), a.err()}
	case "written":
		w := take(s, func(w write) bool { return w.part.tp.String() == rest[0] })
		return written{w, a.err()}
	case "trimmed":
		w := take(s, func(w trim) bool { return w.part.tp.String() == rest[0] })
		return trimmed{w, a.err()}
	case "fetched":
		f := take(s, func(fetch) bool { return true })
		e := fetched{broker: f.broker, asks: f.asks, took: time.Millisecond, err: a.err()}
		for _, k := range f.asks {
			e.answers = append(e.answers, s.answer(s.wordOf(rest, k)))
		}
		return e
	case "measured":
		m := take(s, func(measure) bool { return true })
		e := measured{broker: m.broker, asks: m.asks, err: a.err()}
		for _, k := range m.asks {
			w := s.wordOf(rest, k)
			e.ranges = append(e.ranges, extent{start: w.num(s.t, "start", 0), end: w.num(s.t, "end", 0)})
		}
		return e
	}
	s.t.Fatalf("no command %q", verb)
	return nil
}

// wordOf is what a command says of a partition; nothing: it is empty.
func (s *story) wordOf(words []string, k ask) args {
	for _, w := range words {
		if name, rest, ok := strings.Cut(w, ":"); ok && name == k.part.tp.String() {
			return parseArgs(strings.Split(rest, ","))
		}
	}
	return args{}
}

func (s *story) discovered(rest []string, a args) discovered {
	d := discovered{err: a.err()}
	for _, w := range rest {
		name, rest, ok := strings.Cut(w, ":")
		if !ok {
			continue
		}
		b := parseArgs(strings.Split(rest, ","))
		t := sourceTopic{name: name, id: record.TopicID{15: byte(b.num(s.t, "id", 1))}, to: []string{"west"}}
		if to, ok := b["to"]; ok {
			t.to = []string{to}
		}
		for range b.num(s.t, "partitions", 1) {
			t.leaders = append(t.leaders, leader{1, int32(b.num(s.t, "epoch", 0))})
		}
		d.topics = append(d.topics, t)
	}
	return d
}

func (s *story) answer(a args) answer {
	ans := answer{start: a.num(s.t, "start", 0), end: a.num(s.t, "end", 0), text: "told so"}
	switch a["fault"] {
	case "leader":
		ans.fault = faultLeader
	case "topic":
		ans.fault = faultTopic
	case "range":
		ans.fault = faultOutOfRange
	case "other":
		ans.fault = faultOther
	}
	if d, ok := a["diverging"]; ok {
		epoch, end, _ := strings.Cut(d, "@")
		b := args{"epoch": epoch, "end": end}
		ans.diverging = &record.EpochEnd{Epoch: int32(b.num(s.t, "epoch", 0)), End: b.num(s.t, "end", 0)}
	}
	if list := a["batches"]; list != "" {
		for _, r := range strings.Split(list, "/") {
			ans.batches = append(ans.batches, s.batch(r, int32(a.num(s.t, "epoch", 0))))
		}
	}
	if a["corrupt"] != "" {
		ans.corrupt = record.ErrCorruptBatch
	}
	return ans
}

// batch makes one of "first-last".
func (s *story) batch(r string, epoch int32) record.Batch {
	first, last, _ := strings.Cut(r, "-")
	b := args{"first": first, "last": last}
	l := newFakeLog()
	l.end, l.epoch = b.num(s.t, "first", 0), epoch
	return l.add(rand.New(rand.NewPCG(1, 1)), record.None, int(b.num(s.t, "last", 0)-l.end+1), 0)
}

func (s *story) status() string {
	var out strings.Builder
	st := s.core.status(s.now)
	fmt.Fprintf(&out, "%s: %s, lag %s%s\n", st.Name, st.State, lagText(st.Lag, st.LagRecords, st.LagSeconds), because(st.Reason))
	for _, t := range st.Topics {
		fmt.Fprintf(&out, "  %s: %s%s\n", t.Name, t.State, because(t.Reason))
		for _, p := range t.Partitions {
			fmt.Fprintf(&out, "    %d: %s at %d, lag %s%s\n", p.Partition, p.State, p.Next, lagText(p.Lag, p.LagRecords, p.LagSeconds), because(p.Reason))
			if len(p.Skipped) > 0 {
				fmt.Fprintf(&out, "       skipped %v\n", p.Skipped)
			}
		}
	}
	return out.String()
}

func lagText(lag string, records *int64, seconds *float64) string {
	if records == nil {
		return lag
	}
	if seconds == nil {
		return fmt.Sprintf("%d records, time unknown", *records)
	}
	return fmt.Sprintf("%d records, %g s", *records, *seconds)
}

func because(reason string) string {
	if reason == "" {
		return ""
	}
	return ": " + reason
}
