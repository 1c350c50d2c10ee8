package host

import (
	"fmt"
	"testing"
	"time"

	"github.com/entrepot-hub/entrepot/connectors"
	"github.com/entrepot-hub/entrepot/connectors/conntest"
)

func pythonSource(t *testing.T) connectors.Source {
	t.Helper()
	path := conntest.PythonPlugin(t, "plugins/host/testdata/count.py")
	return registry(t, open(t, Config{Name: "py-count", Path: path, SHA256: conntest.SHA256(t, path)}, nil)).Sources["py-count"]
}

func TestPythonSource(t *testing.T) {
	s := pythonSource(t)
	want := map[string][]string{}
	for _, split := range []string{"a", "b"} {
		for n := range 60 {
			want[split] = append(want[split], fmt.Sprintf(`{"split":%q,"n":%d}`, split, n))
		}
	}
	conntest.Source(t, s, func(t *testing.T) conntest.SourceCase {
		config := func(follow bool) connectors.Config {
			return conntest.Config(t, s.Spec(), map[string]any{"splits": []string{"a", "b"}, "follow": follow, "pause": 50 * time.Millisecond})
		}
		waiting := config(true)
		return conntest.SourceCase{Config: config(false), Want: want, Waiting: &waiting}
	})
}

// TestPythonConfig: a config has its kinds there, and a secret is revealed to
// whom may see it.
func TestPythonConfig(t *testing.T) {
	s := pythonSource(t)
	for _, test := range []struct {
		probe  connectors.Probe
		values map[string]any
		want   string
	}{
		{connectors.ProbeNone, map[string]any{"splits": []string{"a"}, "login": map[string]any{"password": "hunter2"}}, "[]"},
		{connectors.ProbeNone, map[string]any{"splits": []string{"a", ""}}, "[{splits a split has no name want a text false}]"},
		{connectors.ProbeLive, map[string]any{"splits": []string{"a"}, "login": map[string]any{"password": "hunter2"}}, "[{login.password nobody may not log in  false}]"},
		{connectors.ProbeLive, map[string]any{"splits": []string{"a"}, "login": map[string]any{"user": "bob", "password": "open sesame"}}, "[]"},
	} {
		if got := fmt.Sprint(s.Validate(t.Context(), conntest.Config(t, s.Spec(), test.values), test.probe)); got != test.want {
			t.Errorf("%v: %s, want %s", test.values, got, test.want)
		}
	}
	r, err := s.Open(t.Context(), conntest.Task(conntest.Config(t, s.Spec(), map[string]any{"splits": []string{"a"}})), connectors.Split{ID: "a"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	b, err := r.Read(t.Context(), connectors.Limits{Records: 1, Wait: patience})
	if err != nil || len(b.Messages) != 1 {
		t.Fatalf("%d messages, %v", len(b.Messages), err)
	}
	if m := b.Messages[0]; m.Key != nil || m.Headers[0].Value == nil || m.Headers[1].Value != nil {
		t.Errorf("null and empty are not told apart: %+v", m)
	}
	if err := r.Close(t.Context()); err != nil {
		t.Error(err)
	}
}
