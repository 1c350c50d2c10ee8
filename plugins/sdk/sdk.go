// Package sdk makes a program out of connectors: a plugin. Its author writes an
// ordinary connectors.Source or connectors.Sink and has main call Serve; a hub
// starts the program and uses them like those that are built in. docs/plugins.md
// tells the whole of it.
//
// Goroutines: Serve has one that ends the process when its standard input ends,
// as it does when the hub is gone; each reader and writer has one that receives,
// which ends with its stream, and a writer one for the call that is going on,
// which is awaited before its answer is sent.
package sdk

import (
	"fmt"
	"io"
	"log/slog"
	"os"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"

	"github.com/entrepot-hub/entrepot/connectors"
	"github.com/entrepot-hub/entrepot/plugins/wire"
)

// Plugin is what a program has to offer.
type Plugin struct {
	Name    string // shown to people
	Version string // of the program
	Sources []connectors.Source
	Sinks   []connectors.Sink
}

// Serve answers the hub that has started this process, until the hub ends it.
// It is the last call of main, and does not return. Started by a person, it
// says what the program is and exits with status 2.
func Serve(p Plugin) {
	shake := wire.Handshake()
	if os.Getenv(shake.MagicCookieKey) != shake.MagicCookieValue {
		fmt.Fprintf(os.Stderr, "%s %s is a plugin of entrepot, which starts it by itself.\n"+
			"Name it in plugins: of the node's file, or try it with: entrepot plugin test %s\n", p.Name, p.Version, os.Args[0])
		os.Exit(2)
	}
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(0) // the hub is gone, whatever it was killed by
	}()
	s := &server{plugin: p, log: slog.New(slog.NewTextHandler(os.Stderr, nil))}
	sets := map[int]plugin.PluginSet{}
	for _, v := range wire.Versions() {
		sets[v] = plugin.PluginSet{wire.ServiceName: &joint{server: s}}
	}
	plugin.Serve(&plugin.ServeConfig{
		HandshakeConfig: shake, VersionedPlugins: sets, Logger: hclog.NewNullLogger(),
		GRPCServer: func(opts []grpc.ServerOption) *grpc.Server {
			return grpc.NewServer(append(opts, grpc.MaxRecvMsgSize(wire.MaxMessage), grpc.MaxSendMsgSize(wire.MaxMessage),
				grpc.InitialWindowSize(2*wire.Window), grpc.InitialConnWindowSize(4*wire.Window))...)
		},
	})
	os.Exit(0)
}

// joint hangs the server into go-plugin.
type joint struct {
	plugin.NetRPCUnsupportedPlugin
	server *server
}

// GRPCServer implements plugin.GRPCPlugin.
func (j *joint) GRPCServer(_ *plugin.GRPCBroker, s *grpc.Server) error {
	wire.Register(s, j.server)
	return nil
}
