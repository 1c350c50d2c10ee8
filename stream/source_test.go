package stream

import (
	"strconv"
	"testing"
	"time"
)

const numbersJob = `
connectors:
  - name: numbers
    source: {type: lines}
    transforms:
      - parse: {format: json}
      - filter: value % 10 != 9
    topic: out
    key: string(value % 7)
`

func TestSourceReadsAllOfAFiniteSplit(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.close()
		w.createTopic("out", 3)
		src := newFakeSource(true, map[string][]string{"a": append(lines(0, 1000), "not a number", "too long")})
		l := w.start(0, parseOne(t, registry(src, nil), numbersJob))
		s := l.await("numbers", time.Minute, inState(Completed))
		want := Counters{Read: 1002, Produced: 900, Filtered: 100, DeadLetters: 2}
		if s.Counters != want {
			t.Errorf("counted %+v, want %+v", s.Counters, want)
		}
		l.end()
		if src.openNow != 0 || src.committed["a"] != 1001 {
			t.Errorf("%d readers are open, committed %d", src.openNow, src.committed["a"])
		}
		checkNumbers(t, w, 1000)
		letters := w.records("numbers.dlq")
		if len(letters) != 2 || header(letters[0], HeaderDeadWhere) != "a:1001" || header(letters[0], HeaderDeadStep) != "parse" ||
			string(letters[0].Value) != "not a number" || header(letters[1], HeaderDeadReason) != "the line is over the limit" {
			t.Errorf("dead letters: %v", letters)
		}

		// A second life finds that all is done.
		l = w.start(0, parseOne(t, registry(src, nil), numbersJob))
		s = l.await("numbers", time.Minute, inState(Completed))
		if s.Counters != want {
			t.Errorf("after a restart: counted %+v, want %+v", s.Counters, want)
		}
		l.end()
		checkNumbers(t, w, 1000)
	})
}

// checkNumbers asserts that topic out has each number that passes the filter
// exactly once, in order for each key.
func checkNumbers(t *testing.T, w *world, n int) {
	t.Helper()
	last := map[string]int{}
	seen := map[int]bool{}
	for _, r := range w.records("out") {
		v, err := strconv.Atoi(string(r.Value))
		if err != nil || v%10 == 9 || seen[v] {
			t.Errorf("%s-%d@%d: %q is wrong or here twice", r.Topic, r.Partition, r.Offset, r.Value)
		}
		seen[v] = true
		if before, ok := last[string(r.Key)]; ok && before >= v {
			t.Errorf("key %s: %d came after %d", r.Key, v, before)
		}
		last[string(r.Key)] = v
	}
	for v := range n {
		if seen[v] == (v%10 == 9) {
			t.Errorf("%d is missing or not filtered", v)
		}
	}
}
