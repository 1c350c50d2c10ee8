package hub

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/sr"
)

func registryClient(t *testing.T, h *Hub) *sr.Client {
	t.Helper()
	cl, err := sr.NewClient(sr.URLs("http://" + h.Registry()))
	if err != nil {
		t.Fatal(err)
	}
	return cl
}

// TestSchemasSurviveARestart: with an ordinary client of the registry, what was
// answered is there after the hub was closed and opened again, and what was
// deleted for good gives its ID to nothing else.
func TestSchemasSurviveARestart(t *testing.T) {
	c := config(t, "solo")
	h, stop := start(t, c, Deps{})
	cl := registryClient(t, h)
	ctx := t.Context()
	if all, err := cl.Subjects(ctx); err != nil || len(all) != 0 {
		t.Fatalf("a new registry has %q, %v", all, err)
	}
	if kadm.NewClient(client(t, h)).ListTopics(ctx); h.Has("_schemas") {
		t.Error("a registry that nobody uses makes a topic")
	}
	first, err := cl.CreateSchema(ctx, "a/b value", sr.Schema{Schema: `"int"`})
	if err != nil || first.ID != 1 || first.Version != 1 {
		t.Fatalf("%+v %v", first, err)
	}
	second, err := cl.CreateSchema(ctx, "a/b value", sr.Schema{Schema: `"long"`})
	if err != nil || second.ID != 2 || second.Version != 2 {
		t.Fatalf("%+v %v", second, err)
	}
	if _, err = cl.CreateSchema(ctx, "a/b value", sr.Schema{Schema: `"string"`}); !sameCode(err, 409) {
		t.Errorf("an incompatible schema: %v", err)
	}
	for _, how := range []sr.DeleteHow{sr.SoftDelete, sr.HardDelete} {
		if err := cl.DeleteSchema(ctx, "a/b value", 2, how); err != nil {
			t.Fatal(err)
		}
	}
	if res := cl.SetCompatibility(ctx, sr.SetCompatibility{Level: sr.CompatFull}, "a/b value"); res[0].Err != nil {
		t.Fatal(res[0].Err)
	}
	stop()
	h, _ = start(t, c, Deps{})
	cl = registryClient(t, h)
	again, err := cl.SchemaByVersion(ctx, "a/b value", -1)
	if err != nil || again.ID != 1 || again.Version != 1 || again.Schema.Schema != `"int"` {
		t.Errorf("%+v %v", again, err)
	}
	if res := cl.Compatibility(ctx, "a/b value"); res[0].Level != sr.CompatFull {
		t.Errorf("%+v", res)
	}
	third, err := cl.CreateSchema(ctx, "c", sr.Schema{Schema: `"bytes"`})
	if err != nil || third.ID != 3 {
		t.Errorf("after ID 2 was deleted for good the next one is %d, %v", third.ID, err)
	}
	if topic, ok := h.meta.State().Topic("_schemas"); !ok || topic.Value("cleanup.policy") != "compact" || len(topic.Partitions) != 1 {
		t.Errorf("%+v", topic)
	}
}

func sameCode(err error, code int) bool {
	e, ok := errors.AsType[*sr.ResponseError](err)
	return ok && e.ErrorCode == code
}

// TestSchemasRegisteredAtOnce: many clients register the same schemas at the
// same time and get one ID for each.
func TestSchemasRegisteredAtOnce(t *testing.T) {
	h, _ := start(t, config(t, "solo"), Deps{})
	var wg sync.WaitGroup
	var mu sync.Mutex
	ids := map[string]map[int]bool{}
	for i := range 24 {
		wg.Go(func() {
			name := fmt.Sprintf("R%d", i%3)
			got, err := registryClient(t, h).CreateSchema(t.Context(), fmt.Sprintf("s%d", i%6), sr.Schema{Schema: `{"type":"record","name":"` + name + `","fields":[]}`})
			if err != nil {
				t.Error(err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			if ids[name] == nil {
				ids[name] = map[int]bool{}
			}
			ids[name][got.ID] = true
		})
	}
	wg.Wait()
	all := map[int]bool{}
	for name, got := range ids {
		if len(got) != 1 {
			t.Errorf("%s has IDs %v", name, got)
		}
		for id := range got {
			all[id] = true
		}
	}
	if len(all) != 3 || !all[1] || !all[2] || !all[3] {
		t.Errorf("IDs %v", ids)
	}
	for i := range 6 {
		if n, err := registryClient(t, h).SubjectVersions(t.Context(), fmt.Sprintf("s%d", i)); err != nil || len(n) != 1 {
			t.Errorf("s%d has versions %v, %v", i, n, err)
		}
	}
}

func TestRegistryPortTaken(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ln.Close() }()
	c := config(t, "solo")
	c.Listeners.Registry.Addr = ln.Addr().String()
	if _, err := Open(t.Context(), c, Deps{}); err == nil || !strings.Contains(err.Error(), "listeners.registry.addr "+ln.Addr().String()) {
		t.Errorf("%v", err)
	}
	c.Listeners.Registry.Addr = Off
	h, _ := start(t, c, Deps{})
	if h.Registry() != "" {
		t.Errorf("it is off, and answers at %s", h.Registry())
	}
}

// TestSchemasAreMirrored: a mirrored topic of schemas is another site's
// registry, for reading only.
func TestSchemasAreMirrored(t *testing.T) {
	east, _ := start(t, config(t, "east"), Deps{})
	west, _ := start(t, config(t, "west", east.WAN()), Deps{})
	first, err := registryClient(t, east).CreateSchema(t.Context(), "s", sr.Schema{Schema: `"int"`})
	if err != nil {
		t.Fatal(err)
	}
	to := "west"
	if _, err := kadm.NewClient(client(t, east)).AlterTopicConfigs(t.Context(), []kadm.AlterConfig{{Name: "mirror.to", Value: &to}}, "_schemas"); err != nil {
		t.Fatal(err)
	}
	cl := registryClient(t, west)
	until(t, func() bool {
		got, err := cl.SchemaByVersion(t.Context(), "s", 1)
		return err == nil && got.ID == first.ID
	})
	if _, err := cl.CreateSchema(t.Context(), "s", sr.Schema{Schema: `"long"`}); !sameCode(err, 50001) {
		t.Errorf("a mirror took a schema: %v", err)
	}
	if again, err := cl.CreateSchema(t.Context(), "s", sr.Schema{Schema: `"int"`}); err != nil || again.ID != first.ID {
		t.Errorf("what is there already: %+v %v", again, err)
	}
}

// TestRegistryAsksForLogins: with listeners.registry.login only the users of the
// site get an answer.
func TestRegistryAsksForLogins(t *testing.T) {
	t.Setenv("HUB_TEST_PASSWORD", "secret")
	c := parsed(t, config(t, "solo"), `
listeners: {registry: {addr: "127.0.0.1:0", login: true}}
security: {users: {alice: "${env:HUB_TEST_PASSWORD}"}}
`)
	h, _ := start(t, c, Deps{})
	for _, who := range []struct {
		user, password string
		in             bool
	}{{"alice", "secret", true}, {"alice", "Secret", false}, {"bob", "secret", false}, {"alice", "secret\x00", false}, {"\x00alice", "secret", false}, {"", "", false}} {
		cl, err := sr.NewClient(sr.URLs("http://"+h.Registry()), sr.BasicAuth(who.user, who.password))
		if err != nil {
			t.Fatal(err)
		}
		switch _, err := cl.CreateSchema(t.Context(), "s", sr.Schema{Schema: `"int"`}); {
		case who.in && err != nil:
			t.Errorf("%q with %q: %v", who.user, who.password, err)
		case !who.in && !sameCode(err, 401):
			t.Errorf("%q with %q: %v, want 401", who.user, who.password, err)
		}
	}
	if _, err := registryClient(t, h).Subjects(t.Context()); !sameCode(err, 401) {
		t.Errorf("without a login: %v, want 401", err)
	}
	if n := h.registry.FailedLogins(); n != 5 {
		t.Errorf("%d failed logins are counted, want 5", n)
	}
}
