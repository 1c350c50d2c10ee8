package txn

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/entrepot-hub/entrepot/record"
	"github.com/entrepot-hub/entrepot/storytest"
)

// TestStories plays testdata/*.txt. Writes are durable at once unless the story
// is told to be manual; markers wait for the command.
func TestStories(t *testing.T) {
	storytest.Run(t, func(t *testing.T) func(string, args) string {
		te := &teller{t: t, cfg: Default(), auto: true, now: time.UnixMilli(0)}
		te.x = New("x", te.cfg, te.now)
		return te.command
	})
}

// teller drives one transactional ID, and keeps what was made durable.
type teller struct {
	t     *testing.T
	x     *Txn
	cfg   Config
	now   time.Time
	auto  bool // writes become durable at once
	write *Write
	kept  *Record
	said  []string
}

type args = storytest.Args

// producer reads id/epoch.
func (te *teller) producer(a args) Producer {
	p := None
	if s := a.Get("producer"); s != "" {
		if _, err := fmt.Sscanf(s, "%d/%d", &p.ID, &p.Epoch); err != nil {
			te.t.Fatal(err)
		}
	}
	return p
}

func (te *teller) partitions(s string) (tps []record.TopicPartition) {
	for _, w := range strings.Split(s, ",") {
		topic, n, _ := strings.Cut(w, "-")
		p, err := strconv.Atoi(n)
		if err != nil {
			te.t.Fatal(err)
		}
		tps = append(tps, record.TopicPartition{Topic: topic, Partition: int32(p)})
	}
	return tps
}

func (te *teller) say(format string, a ...any) { te.said = append(te.said, fmt.Sprintf(format, a...)) }

func (te *teller) command(name string, a args) string {
	te.said = nil
	verb, ok := map[string]func(args){
		"manual": te.manual, "init": te.init, "add": te.add, "verify": te.verify, "end": te.end, "written": te.written,
		"marked": te.marked, "advance": te.advance, "expire": te.expire, "reload": te.reload, "describe": te.describe,
		"epoch": te.epoch, "close": te.close,
	}[name]
	if !ok {
		te.t.Fatalf("no verb %q", name)
	}
	verb(a)
	return strings.Join(append(te.said, ""), "\n")
}

func (te *teller) manual(args) { te.auto = false }

func (te *teller) init(a args) {
	timeout := time.Minute
	if a.Get("timeout") != "" {
		timeout = a.Duration("timeout", 0)
	}
	te.take(te.x.Init(te.now, Ticket(a.Int("t", 0)), InitRequest{
		Timeout: timeout, Producer: te.producer(a), Fresh: a.Int("fresh", -1),
	}))
}

func (te *teller) add(a args) {
	te.take(te.x.Add(te.now, Ticket(a.Int("t", 0)), AddRequest{
		Producer: te.producer(a), Partitions: te.partitions(a.Get("to")), Version: int16(a.Int("v", 2)), Wait: a.Has("wait"),
	}))
}

func (te *teller) verify(a args) {
	tps := te.partitions(a.Get("to"))
	for i, err := range te.x.Verify(te.producer(a), tps) {
		te.say("%s: %s", tps[i], outcomeOf(err))
	}
}

func (te *teller) end(a args) {
	te.take(te.x.End(te.now, Ticket(a.Int("t", 0)), EndRequest{
		Producer: te.producer(a), Commit: a.Has("commit"), Version: int16(a.Int("v", 2)), Fresh: a.Int("fresh", -1),
	}))
}

func (te *teller) written(a args) {
	w := te.write
	if w == nil {
		te.t.Fatal("nothing is on its way")
	}
	te.write = nil
	var err error
	if a.Has("fail") {
		err = errors.New("the write failed")
	} else {
		te.kept = w.Record
	}
	te.take(te.x.Written(te.now, err))
}

func (te *teller) marked(a args) {
	for _, tp := range a.Words {
		te.take(te.x.Marked(te.now, te.partitions(tp)[0]))
	}
}

func (te *teller) advance(a args) {
	for _, w := range a.Words {
		d, err := time.ParseDuration(w)
		if err != nil {
			te.t.Fatal(err)
		}
		te.now = te.now.Add(d)
	}
	if d := te.x.Deadline(); !d.IsZero() && !te.now.Before(d) {
		te.take(te.x.Tick(te.now))
	}
	te.state()
}

func (te *teller) expire(args) { te.take(te.x.Expire(te.now)); te.state() }

// reload is a crash: what is not durable is lost.
func (te *teller) reload(args) {
	te.write = nil
	if te.kept == nil {
		te.x = New("x", te.cfg, te.now)
		te.say("nothing is kept")
		return
	}
	x, out := Load("x", te.cfg, te.now, *te.kept)
	te.x = x
	te.take(out)
	te.state()
}

// epoch makes the present epoch nearly used up.
func (te *teller) epoch(a args) {
	for _, e := range a.Words {
		n, err := strconv.ParseInt(e, 10, 16)
		if err != nil {
			te.t.Fatal(err)
		}
		te.kept.Producer.Epoch = int16(n)
	}
	te.reload(args{})
}

func (te *teller) close(args) { te.take(te.x.Close(errors.New("handed over"))) }

func (te *teller) describe(args) { te.state() }

func (te *teller) state() {
	r := te.x.Describe()
	te.say("%s", tellRecord(&r))
}

func (te *teller) take(out Output) {
	for _, an := range out.Answers {
		switch {
		case an.Err != nil:
			te.say("-> %d: %v", an.Ticket, an.Err)
		default:
			te.say("-> %d: %d/%d", an.Ticket, an.Producer.ID, an.Producer.Epoch)
		}
	}
	for _, m := range out.Markers {
		te.say("marker to %s: %s of %d/%d", m.TopicPartition, map[bool]string{true: "commit", false: "abort"}[m.Commit], m.Producer.ID, m.Producer.Epoch)
	}
	if out.Write != nil {
		te.write = out.Write
		te.say("write %s", tellRecord(out.Write.Record))
		if te.auto {
			te.written(args{})
		}
	}
}

func tellRecord(r *Record) string {
	if r == nil {
		return "nothing: it is removed"
	}
	s := fmt.Sprintf("%v %d/%d", r.State, r.Producer.ID, r.Producer.Epoch)
	if r.Previous >= 0 {
		s += fmt.Sprintf(" previous=%d", r.Previous)
	}
	if r.Next >= 0 {
		s += fmt.Sprintf(" next=%d", r.Next)
	}
	var tps []string
	for _, tp := range r.Partitions {
		tps = append(tps, tp.String())
	}
	slices.Sort(tps)
	return s + " [" + strings.Join(tps, " ") + "]"
}

func outcomeOf(err error) string {
	if err == nil {
		return "yes"
	}
	return err.Error()
}
