package hub

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/entrepot-hub/entrepot/connectors"
	"github.com/entrepot-hub/entrepot/connectors/all"
	"github.com/entrepot-hub/entrepot/connectors/conntest"
	"github.com/entrepot-hub/entrepot/plugins/host"
)

// TestPluginsOfAFile: what a node's file names is beside the built-in ones, and
// what is wrong with it is an error at its entry.
func TestPluginsOfAFile(t *testing.T) {
	program := conntest.GoPlugin(t, "plugins/samples/counter")
	entry := func(name, sum string) string {
		return fmt.Sprintf("  - {name: %s, path: %q, sha256: %q}\n", name, program, sum)
	}
	const head = "node: {id: a-1, site: a}\nplugins:\n"
	good, other := entry("one", conntest.SHA256(t, program)), entry("two", conntest.SHA256(t, program))
	for text, want := range map[string]string{
		good:                                  "",
		entry("one", strings.Repeat("0", 64)): "n.yaml:3:23: plugin one: " + program + " has the SHA-256",
		good + other:                          `n.yaml:4:23: plugin two: its source "counter" is there already`,
		good + entry("x", strings.Repeat("1", 3)): "n.yaml:4:",
	} {
		reg, end, errs := Plugins(t.Context(), "n.yaml", []byte(head+text), all.Builtin(), host.Options{Getenv: os.LookupEnv})
		if want == "" {
			s, err := reg.Source("counter")
			if len(errs) > 0 || err != nil || len(s.Validate(t.Context(), conntest.Config(t, s.Spec(), map[string]any{"count": 1}), connectors.ProbeNone)) > 0 {
				t.Errorf("%v, %v", errs, err)
			}
		} else if len(errs) != 1 || !strings.HasPrefix(errs[0].Error(), want) {
			t.Errorf("%s%v, want %s", text, errs, want)
		}
		end()
	}
}
