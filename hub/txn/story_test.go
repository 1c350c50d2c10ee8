package txn

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/entrepot-hub/entrepot/record"
)

var rewrite = flag.Bool("rewrite", false, "write the stories' outputs anew")

// TestStories plays testdata/*.txt. A story is a list of commands, each
// followed by "----" and what came of it; lines that begin with # are prose.
// Writes are durable at once unless the story is told to be manual; markers
// wait for the command.
func TestStories(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no stories: %v", err)
	}
	for _, f := range files {
		t.Run(strings.TrimSuffix(filepath.Base(f), ".txt"), func(t *testing.T) { play(t, f) })
	}
}

func play(t *testing.T, file string) {
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	te := &teller{t: t, cfg: Default(), auto: true, now: time.UnixMilli(0)}
	te.x = New("x", te.cfg, te.now)
	var out strings.Builder
	lines := strings.Split(strings.TrimRight(string(text), "\n"), "\n")
	for i := 0; i < len(lines); i++ {
		line := lines[i]
		out.WriteString(line + "\n")
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		if i+1 < len(lines) && lines[i+1] == "----" {
			for i++; i+1 < len(lines) && lines[i+1] != ""; i++ {
			}
		}
		out.WriteString("----\n" + te.command(line))
	}
	if *rewrite {
		if err := os.WriteFile(file, []byte(out.String()), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if got := out.String(); got != string(text) {
		t.Errorf("%s tells another story now; look at the difference after -rewrite. It tells:\n%s", file, got)
	}
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

// args are the words of a command: key=value, or bare words.
type args map[string]string

func (a args) has(key string) bool { _, ok := a[key]; return ok }

func (te *teller) number(a args, key string, d int64) int64 {
	if a[key] == "" {
		return d
	}
	v, err := strconv.ParseInt(a[key], 10, 64)
	if err != nil {
		te.t.Fatal(err)
	}
	return v
}

func (te *teller) duration(s string) time.Duration {
	d, err := time.ParseDuration(s)
	if err != nil {
		te.t.Fatal(err)
	}
	return d
}

// producer reads id/epoch.
func (te *teller) producer(a args) Producer {
	p := None
	if s := a["producer"]; s != "" {
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

func (te *teller) command(line string) string {
	te.said = nil
	words := strings.Fields(line)
	a := args{}
	for _, w := range words[1:] {
		k, v, _ := strings.Cut(w, "=")
		a[k] = v
	}
	verb, ok := map[string]func(args){
		"manual": te.manual, "init": te.init, "add": te.add, "verify": te.verify, "end": te.end, "written": te.written,
		"marked": te.marked, "advance": te.advance, "expire": te.expire, "reload": te.reload, "describe": te.describe,
		"epoch": te.epoch, "close": te.close,
	}[words[0]]
	if !ok {
		te.t.Fatalf("no verb %q", words[0])
	}
	verb(a)
	return strings.Join(append(te.said, ""), "\n")
}

func (te *teller) manual(args) { te.auto = false }

func (te *teller) init(a args) {
	timeout := time.Minute
	if a["timeout"] != "" {
		timeout = te.duration(a["timeout"])
	}
	te.take(te.x.Init(te.now, Ticket(te.number(a, "t", 0)), InitRequest{
		Timeout: timeout, Producer: te.producer(a), Fresh: te.number(a, "fresh", -1),
	}))
}

func (te *teller) add(a args) {
	te.take(te.x.Add(te.now, Ticket(te.number(a, "t", 0)), AddRequest{
		Producer: te.producer(a), Partitions: te.partitions(a["to"]), Version: int16(te.number(a, "v", 2)), Wait: a.has("wait"),
	}))
}

func (te *teller) verify(a args) {
	tps := te.partitions(a["to"])
	for i, err := range te.x.Verify(te.producer(a), tps) {
		te.say("%s: %s", tps[i], outcomeOf(err))
	}
}

func (te *teller) end(a args) {
	te.take(te.x.End(te.now, Ticket(te.number(a, "t", 0)), EndRequest{
		Producer: te.producer(a), Commit: a.has("commit"), Version: int16(te.number(a, "v", 2)), Fresh: te.number(a, "fresh", -1),
	}))
}

func (te *teller) written(a args) {
	w := te.write
	if w == nil {
		te.t.Fatal("nothing is on its way")
	}
	te.write = nil
	var err error
	if a.has("fail") {
		err = errors.New("the write failed")
	} else {
		te.kept = w.Record
	}
	te.take(te.x.Written(te.now, err))
}

func (te *teller) marked(a args) {
	for tp := range a {
		te.take(te.x.Marked(te.now, te.partitions(tp)[0]))
	}
}

func (te *teller) advance(a args) {
	for d := range a {
		te.now = te.now.Add(te.duration(d))
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
	for e := range a {
		n, err := strconv.ParseInt(e, 10, 16)
		if err != nil {
			te.t.Fatal(err)
		}
		te.kept.Producer.Epoch = int16(n)
	}
	te.reload(nil)
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
