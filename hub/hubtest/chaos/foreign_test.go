package chaos

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os/exec"
	"strings"
	"syscall"
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
	Offset     int64
	High       int64
	Reads      [][4]any // offset, leader epoch or null, value, key
	Text       string
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
		var l line
		if err := json.Unmarshal(lines.Bytes(), &l); err != nil {
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
