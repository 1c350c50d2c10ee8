package docs

import (
	"context"
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/entrepot-hub/entrepot/connectors"
	"github.com/entrepot-hub/entrepot/connectors/conntest"
	"github.com/entrepot-hub/entrepot/connectors/strict"
	"github.com/entrepot-hub/entrepot/hub"
	"github.com/entrepot-hub/entrepot/plugins/host"
)

// pluginNode is the example of a node's file with a plugin.
var pluginNode = filepath.Join(root, "configs/plugins/node.yaml")

// samplePlugins starts the sample in Go in the place of the program that a
// node's file names.
func samplePlugins(t *testing.T) func(context.Context, string, []byte, connectors.Registry) (connectors.Registry, func(), strict.Errors) {
	t.Helper()
	program := conntest.GoPlugin(t, "plugins/samples/counter")
	return func(ctx context.Context, file string, text []byte, base connectors.Registry) (connectors.Registry, func(), strict.Errors) {
		text = regexp.MustCompile(`path: /opt\S+`).ReplaceAll(text, []byte("path: "+program))
		text = regexp.MustCompile(`sha256: \S+`).ReplaceAll(text, []byte("sha256: "+conntest.SHA256(t, program)))
		return hub.Plugins(ctx, file, text, base, host.Options{Getenv: os.LookupEnv})
	}
}
