package connectors_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/entrepot-hub/entrepot/connectors"
	"github.com/entrepot-hub/entrepot/record"
)

func TestClasses(t *testing.T) {
	base := errors.New("broken")
	for want, errs := range map[connectors.Class][]error{
		connectors.ClassNone:    {nil},
		connectors.ClassRetry:   {base, io.EOF, connectors.Retry(0, base), connectors.Retry(0, connectors.Fatal(base))},
		connectors.ClassPoison:  {connectors.Poison(base), fmt.Errorf("line 5: %w", connectors.Poison(base)), connectors.RecordError{Err: connectors.Poison(base)}},
		connectors.ClassFatal:   {connectors.Fatalf("no: %w", base), errors.Join(connectors.Poison(base), connectors.Fatal(base)), connectors.Fatal(connectors.ErrFenced)},
		connectors.ClassUnknown: {connectors.Unknown(base), errors.Join(base, connectors.Unknown(base)), connectors.Unknown(context.Canceled)},
		connectors.ClassStopped: {context.Canceled, fmt.Errorf("read: %w", context.DeadlineExceeded)},
	} {
		for _, err := range errs {
			if got := connectors.ClassOf(err); got != want {
				t.Errorf("%v is %v, want %v", err, got, want)
			}
		}
	}
	if err := connectors.Retry(5*time.Second, base); connectors.RetryAfter(fmt.Errorf("x: %w", err)) != 5*time.Second || !errors.Is(err, base) {
		t.Error("the wait or the cause is lost")
	}
	if connectors.RetryAfter(base) != 0 {
		t.Error("a wait from nowhere")
	}
}

var testFields = []connectors.Field{
	{Name: "path", Kind: connectors.KindString, Required: true, Description: "where"},
	{Name: "mode", Kind: connectors.KindString, Options: []string{"a", "b"}, Default: "a"},
	{Name: "size", Kind: connectors.KindSize, Min: 1, Max: 100, Default: int64(7)},
	{Name: "every", Kind: connectors.KindDuration, Min: int64(time.Second), Max: int64(time.Minute)},
	{Name: "password", Kind: connectors.KindSecret},
	{Name: "roll", Kind: connectors.KindObject, Fields: []connectors.Field{{Name: "rows", Kind: connectors.KindInt, Default: int64(3)}, {Name: "token", Kind: connectors.KindSecret}}},
	{Name: "columns", Kind: connectors.KindObjects, Fields: []connectors.Field{{Name: "name", Kind: connectors.KindString, Required: true}}},
	{Name: "even", Kind: connectors.KindInt, Check: func(v any) error {
		if v.(int64)%2 != 0 {
			return errors.New("want an even number")
		}
		return nil
	}},
}

// TestCut: each limit holds for itself, and a message that is above both comes alone.
func TestCut(t *testing.T) {
	pending := make([]connectors.Message, 5)
	for i := range pending {
		pending[i].Key, pending[i].Value = make([]byte, 4), make([]byte, 6)
	}
	for _, c := range []struct {
		limits connectors.Limits
		want   int
	}{
		{connectors.Limits{}, 5},
		{connectors.Limits{Records: 1}, 1},
		{connectors.Limits{Records: 3}, 3},
		{connectors.Limits{Records: 9}, 5},
		{connectors.Limits{Bytes: 1}, 1},
		{connectors.Limits{Bytes: 29}, 2},
		{connectors.Limits{Bytes: 30}, 3},
		{connectors.Limits{Bytes: 30, Records: 2}, 2},
		{connectors.Limits{Bytes: 20, Records: 4}, 2},
	} {
		got, rest := c.limits.Cut(pending)
		if len(got) != c.want || cap(got) != c.want || len(rest) != 5-c.want {
			t.Errorf("%+v: %d messages with room for %d, and %d are left, want %d", c.limits, len(got), cap(got), len(rest), c.want)
		}
	}
	if got, rest := (connectors.Limits{Records: 1}).Cut(nil); len(got)+len(rest) != 0 {
		t.Errorf("of nothing %d and %d", len(got), len(rest))
	}
}

func TestConfig(t *testing.T) {
	c, err := connectors.NewConfig(testFields, map[string]any{
		"path": "p", "every": 5 * time.Second, "password": "s3cret",
		"columns": []map[string]any{{"name": "x"}}, "even": 4,
	})
	if err != nil {
		t.Fatal(err)
	}
	if c.String("path") != "p" || c.String("mode") != "a" || c.Size("size") != 7 || c.Duration("every") != 5*time.Second || c.Int("even") != 4 ||
		c.Object("roll").Int("rows") != 3 || c.Objects("columns")[0].String("name") != "x" || !c.Has("path") || c.Has("mode") {
		t.Errorf("%v", c)
	}
	if got, err := c.Secret("password").Reveal(); got != "s3cret" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	if c.Object("roll").Secret("token").IsSet() {
		t.Error("a secret that was not given is set")
	}
}

func TestConfigRefuses(t *testing.T) {
	for want, values := range map[string]map[string]any{
		`field "path" is missing: where`:        {},
		`unknown field "pth", want one of path`: {"pth": "x"},
		`path: want a text, got int`:            {"path": 5},
		`mode: "c" is not one of a, b`:          {"path": "p", "mode": "c"},
		`size: 101 is out of range, want 1 to`:  {"path": "p", "size": 101},
		`every: 1ms is out of range, want 1s`:   {"path": "p", "every": time.Millisecond},
		`columns[0]: field "name" is missing`:   {"path": "p", "columns": []map[string]any{{}}},
		`even: want an even number`:             {"path": "p", "even": 3},
		`unknown field "row", want one of rows`: {"path": "p", "roll": map[string]any{"row": 1}},
	} {
		if _, err := connectors.NewConfig(testFields, values); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: %v, want %s", values, err, want)
		}
	}
}

// TestMistakesPanic: asking for what the Spec does not have is a mistake in
// the connector, not in the config.
func TestMistakesPanic(t *testing.T) {
	c, err := connectors.NewConfig(testFields, map[string]any{"path": "p"})
	if err != nil {
		t.Fatal(err)
	}
	for _, ask := range []func(){func() { c.String("pth") }, func() { c.Int("path") }} {
		func() {
			defer func() {
				if recover() == nil {
					t.Error("no panic")
				}
			}()
			ask()
		}()
	}
}

// TestSecretIsHidden prints a secret, and a config with one at each level, in
// every way that people use.
func TestSecretIsHidden(t *testing.T) {
	c, err := connectors.NewConfig(testFields, map[string]any{"path": "p", "password": "s3cret", "roll": map[string]any{"token": "s3cret"}})
	if err != nil {
		t.Fatal(err)
	}
	var log strings.Builder
	logger := slog.New(slog.NewJSONHandler(&log, nil))
	for _, v := range []any{c.Secret("password"), c, &c, c.Shown(), struct{ C connectors.Config }{c}, struct{ s connectors.Secret }{c.Secret("password")}} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
			fmt.Fprintf(&log, verb, v)
		}
		text, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		log.Write(text)
		logger.Info("x", "v", v)
	}
	if strings.Contains(log.String(), "s3cret") || strings.Contains(log.String(), fmt.Sprintf("%x", "s3cret")) {
		t.Errorf("the secret is shown in %s", log.String())
	}
	if got := c.Shown()["roll"].(map[string]any)["token"]; got != "***" {
		t.Errorf("shown as %v", got)
	}
}

func TestWords(t *testing.T) {
	p := connectors.Plan{Partition: record.TopicPartition{Topic: "clicks", Partition: 3}, From: 100, To: 200}
	if p.String() != "clicks-3[100,200)" {
		t.Error(p)
	}
	if o := (connectors.Origin{Name: "a.log", Line: 7}); o.String() != "a.log:7" {
		t.Error(o)
	}
	if o := (connectors.Origin{Name: "queue"}); o.String() != "queue" {
		t.Error(o)
	}
	if e := (connectors.RecordError{Offset: 5, Err: errors.New("bad")}); e.Error() != "offset 5: bad" {
		t.Error(e)
	}
	if connectors.Position("a").Compare(connectors.Position("b")) >= 0 || connectors.Position(nil).Compare(connectors.Position("a")) >= 0 {
		t.Error("positions are not ordered as bytes")
	}
	m := connectors.Message{Key: []byte("k"), Value: []byte("old"), Parsed: 5}
	m.SetValue([]byte("value"))
	if m.Parsed != nil || m.Size() != 6 {
		t.Error("what was decoded is not dropped")
	}
}

func TestDedupField(t *testing.T) {
	f := connectors.DedupField(100_000)
	if err := f.CheckValue(f.Default); err != nil {
		t.Error(err)
	}
	for _, n := range []int64{-1, 10_000_001} {
		if f.CheckValue(n) == nil {
			t.Errorf("a window of %d is allowed", n)
		}
	}
}
