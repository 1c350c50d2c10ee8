package files

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/entrepot-hub/entrepot/connectors"
	"github.com/entrepot-hub/entrepot/connectors/format"
)

// instant is a time in milliseconds since the Unix epoch, or noTime. In JSON
// it is RFC 3339 in UTC, or null.
type instant int64

const noTime = instant(math.MinInt64)

func instantOf(t time.Time) instant { return instant(t.UnixMilli()) }

func (i instant) add(d time.Duration) instant { return i + instant(d/time.Millisecond) }

func (i instant) time() time.Time { return time.UnixMilli(int64(i)).UTC() }

func (i instant) String() string {
	if i == noTime {
		return "none"
	}
	return i.time().Format(time.RFC3339Nano)
}

// MarshalJSON implements json.Marshaler.
func (i instant) MarshalJSON() ([]byte, error) {
	if i == noTime {
		return []byte("null"), nil
	}
	return json.Marshal(i.time())
}

// UnmarshalJSON implements json.Unmarshaler.
func (i *instant) UnmarshalJSON(text []byte) error {
	if string(text) == "null" {
		*i = noTime
		return nil
	}
	var t time.Time
	if err := json.Unmarshal(text, &t); err != nil {
		return err
	}
	*i = instantOf(t)
	return nil
}

// clock says which time of a record the folders follow, and how long the
// period of one folder is.
type clock struct {
	part part   // its name and path are the time's
	unit string // a layout of functions: hour, day, month or year
}

// clock finds the time that a template's folders follow. A folder has to stand
// for one period: an hour without its day would be one of many.
func (t *template) clock() (clock, error) {
	const none = "there is no time in partition_by that says when a folder is complete: want dt={date(ts)}/hr={hour(ts)} or the like"
	c, has := clock{}, map[string]bool{}
	for _, p := range t.parts {
		if p.layout == "" {
			continue
		}
		if c.part.name != "" && (c.part.name != p.name || !slices.Equal(c.part.path, p.path)) {
			return c, errors.New("partition_by follows two times, so no folder has an end: use one")
		}
		c.part = p
		has[p.layout] = true
	}
	if c.part.name == "" {
		return c, errors.New(none)
	}
	if has[time.DateOnly] {
		has["2006"], has["01"], has["02"] = true, true, true
	}
	for _, layout := range []string{"2006", "01", "02", "15"} {
		if has[layout] && c.unit != layoutBefore[layout] {
			return c, fmt.Errorf("partition_by has folders that come again in other periods: {%s} needs {%s} too", unitNames[layout], unitNames[layoutBefore[layout]])
		}
		if has[layout] {
			c.unit = layout
		}
	}
	return c, nil
}

// layoutBefore is the layout of the next longer unit.
var layoutBefore = map[string]string{"2006": "", "01": "2006", "02": "01", "15": "02"}

var unitNames = map[string]string{"2006": "year", "01": "month", "02": "day", "15": "hour", "": "year"}

// at is a record's time; ok is false for one that has none and lies in the
// folder of null.
func (c clock) at(m *connectors.Message) (at instant, ok bool) {
	if c.part.name == "ts" {
		return instant(m.Timestamp), m.Timestamp != connectors.NoTimestamp
	}
	if m.Value == nil {
		return noTime, false
	}
	raw, err := format.Lookup(m.Value, c.part.path...)
	if err != nil {
		return noTime, false
	}
	t, err := time.Parse(time.RFC3339Nano, strings.TrimSpace(string(format.Text(raw))))
	if err != nil {
		return noTime, false
	}
	return instantOf(t), true
}

// period is the time that a folder with this instant in it stands for: from
// the first one to the first one after it.
func (c clock) period(at instant) (from, to instant) {
	t := at.time()
	y, m, d := t.Date()
	switch c.unit {
	case "15":
		begin := time.Date(y, m, d, t.Hour(), 0, 0, 0, time.UTC)
		return instantOf(begin), instantOf(begin.Add(time.Hour))
	case "02":
		return instantOf(time.Date(y, m, d, 0, 0, 0, 0, time.UTC)), instantOf(time.Date(y, m, d+1, 0, 0, 0, 0, time.UTC))
	case "01":
		return instantOf(time.Date(y, m, 1, 0, 0, 0, 0, time.UTC)), instantOf(time.Date(y, m+1, 1, 0, 0, 0, 0, time.UTC))
	}
	return instantOf(time.Date(y, 1, 1, 0, 0, 0, 0, time.UTC)), instantOf(time.Date(y+1, 1, 1, 0, 0, 0, 0, time.UTC))
}
