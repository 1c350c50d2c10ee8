package chaos

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/entrepot-hub/entrepot/hub/hubtest/history"
)

// line is what testdata/librdkafka.py says of an operation. Times are seconds
// of the system's clock.
type line struct {
	Op         string
	Begin, End float64
	Consumer   string
	Partition  int32
	Value      string
	OK         bool
	Offset     int64 // -1: not told
	High       int64
	Reads      [][4]any // offset, leader epoch or null, value, key
	Text       string
}

// parseLine reads a line. librdkafka tells no offset of a record that it knows to
// be written without an answer that says so, as by the answer to a later one.
func parseLine(text []byte) (line, error) {
	l := line{Offset: -1}
	err := json.Unmarshal(text, &l)
	return l, err
}

// A record without an offset was once taken for one at offset 0.
func TestAcknowledgedWithoutAnOffset(t *testing.T) {
	l, err := parseLine([]byte(`{"op": "send", "partition": 2, "value": "librdkafka/103343", "ok": true, "offset": null}`))
	if err != nil || !l.OK || l.Offset != -1 {
		t.Errorf("%+v, %v", l, err)
	}
}

// foreign runs librdkafka's producer and consumer and takes their operations
// into the history.
func (r *run) foreign() {
	cmd := exec.Command(r.python, "testdata/librdkafka.py", strings.Join(r.brokers(), ","), fmt.Sprint(topics["foreign"]))
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		r.t.Error(err)
		return
	}
	zero := time.Now().Add(-r.rec.Now())
	r.producers.Go(func() {
		<-r.feed.Done()
		_ = cmd.Process.Signal(syscall.SIGTERM) // it sends what it has, and ends
		kill := time.AfterFunc(2*time.Minute, func() { _ = cmd.Process.Kill() })
		defer kill.Stop()
	})
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		l, err := parseLine(lines.Bytes())
		if err != nil {
			r.t.Errorf("librdkafka.py says %q: %v", lines.Text(), err)
			continue
		}
		r.take(l, func(s float64) time.Duration { return time.UnixMicro(int64(s * 1e6)).Sub(zero) })
	}
	if err := cmd.Wait(); err != nil {
		r.t.Errorf("librdkafka.py: %v", err)
	}
}

func (r *run) take(l line, at func(float64) time.Duration) {
	span := history.Span{Begin: at(l.Begin), End: at(l.End)}
	r.rec.Add(func(h *history.History) {
		switch l.Op {
		case "send":
			s := history.Send{Span: span, Producer: "librdkafka", Topic: "foreign", Partition: l.Partition, Value: l.Value, Outcome: history.Unknown, Offset: -1}
			if l.OK {
				s.Outcome, s.Offset = history.OK, l.Offset
			}
			h.Sends = append(h.Sends, s)
		case "poll":
			p := history.Poll{Span: span, Consumer: l.Consumer, Topic: "foreign", Partition: l.Partition, High: l.High, Committed: true}
			for _, one := range l.Reads {
				epoch, told := one[1].(float64)
				if !told {
					epoch = -1
				}
				offset, _ := one[0].(float64)
				value, _ := one[2].(string)
				key, _ := one[3].(string)
				p.Reads = append(p.Reads, history.Read{Offset: int64(offset), Epoch: int32(epoch), Key: key, Value: value})
			}
			h.Polls = append(h.Polls, p)
		default:
			h.Notes = append(h.Notes, fmt.Sprintf("%s librdkafka: %s", span.End.Round(time.Millisecond), l.Text))
		}
	})
}
