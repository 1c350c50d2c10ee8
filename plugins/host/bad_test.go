package host

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	goplugin "github.com/hashicorp/go-plugin"
	"go.uber.org/goleak"
	"google.golang.org/grpc"

	"github.com/entrepot-hub/entrepot/connectors"
	"github.com/entrepot-hub/entrepot/plugins/sdk"
	"github.com/entrepot-hub/entrepot/plugins/wire"
	"github.com/entrepot-hub/entrepot/record"
)

// badVariable says which mistake the test binary makes when it is started as a
// plugin.
const badVariable = "ENTREPOT_BAD_PLUGIN"

func TestMain(m *testing.M) {
	switch bad := os.Getenv(badVariable); bad {
	case "":
		goleak.VerifyTestMain(m)
	case "other-protocol", "other-version", "no-service", "too-large", "deaf", "stingy", "unread":
		serveRaw(bad)
	default:
		sdk.Serve(sdk.Plugin{Name: "bad", Version: "0", Sources: []connectors.Source{badSource{bad}}, Sinks: []connectors.Sink{badSink{bad}}})
	}
}

// badSpec has a secret, for the test of what is printed.
func badSpec() connectors.Spec {
	return connectors.Spec{Type: "bad", Summary: "Makes mistakes.", Guarantee: "none (it is for tests)", Since: "0", Fields: []connectors.Field{
		{Name: "once", Kind: connectors.KindString, Description: "A file: the mistake is made when it is not there, and it is made then.", Example: "/tmp/x"},
		{Name: "secret", Kind: connectors.KindSecret, Description: "A secret.", Example: "${env:X}"},
	}}
}

// firstTime reports whether the mistake is to be made now.
func firstTime(cfg connectors.Config) bool {
	if !cfg.Has("once") {
		return true
	}
	f, err := os.OpenFile(cfg.String("once"), os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return false
	}
	return f.Close() == nil
}

type badSource struct{ bad string }

func (badSource) Spec() connectors.Spec { return badSpec() }

func (badSource) Validate(context.Context, connectors.Config, connectors.Probe) []connectors.Finding {
	return nil
}

func (s badSource) Splits(ctx context.Context, cfg connectors.Config) (<-chan []connectors.Split, error) {
	lists := make(chan []connectors.Split)
	go func() {
		defer close(lists)
		for n := 1; ; n++ {
			list := []connectors.Split{}
			for i := range n {
				list = append(list, connectors.Split{ID: fmt.Sprint(i)})
			}
			select {
			case lists <- list:
			case <-ctx.Done():
				return
			}
			if s.bad == "splits-crash" && n == 2 && firstTime(cfg) {
				os.Exit(3)
			}
			if n == 3 {
				<-ctx.Done()
				return
			}
		}
	}()
	return lists, nil
}

func (s badSource) Open(_ context.Context, task connectors.TaskContext, _ connectors.Split, from connectors.Position) (connectors.Reader, error) {
	if s.bad == "tells-secret" {
		secret, _ := task.Config.Secret("secret").Reveal()
		task.Logger.Info("the secret is " + secret)
		return nil, connectors.Fatalf("cannot log in with %s", secret)
	}
	r := &badReader{bad: s.bad, task: task}
	if from != nil {
		r.next = binary.BigEndian.Uint64(from) + 1
	}
	return r, nil
}

type badReader struct {
	bad  string
	task connectors.TaskContext
	next uint64
}

func (r *badReader) Read(ctx context.Context, l connectors.Limits) (connectors.Batch, error) {
	const end, at = 300, 100
	var b connectors.Batch
	for ; r.next < end && len(b.Messages) < 10; r.next++ {
		if r.next == at && firstTime(r.task.Config) {
			r.mistake(ctx)
		}
		n := r.next
		if r.bad == "endless" {
			return r.endless()
		}
		if n >= at && r.bad == "position-stays" || n == at+1 && r.bad == "position-once" {
			n = at
		}
		size := 10
		if r.bad == "large-message" && n == at {
			size = wire.MaxMessage
		}
		b.Messages = append(b.Messages, connectors.Message{Value: []byte(strings.Repeat("x", size)), Position: binary.BigEndian.AppendUint64(nil, n)})
	}
	if len(b.Messages) > 0 {
		return b, nil
	}
	return b, io.EOF
}

// endless gives 64 KiB more, and writes down how much it has given.
func (r *badReader) endless() (connectors.Batch, error) {
	r.next++
	m := connectors.Message{Value: make([]byte, 64<<10), Position: binary.BigEndian.AppendUint64(nil, r.next)}
	err := os.WriteFile(r.task.Config.String("once"), fmt.Append(nil, r.next*64<<10), 0o600)
	return connectors.Batch{Messages: []connectors.Message{m}}, err
}

func (r *badReader) mistake(context.Context) {
	switch r.bad {
	case "read-crash":
		os.Exit(3)
	case "read-panic":
		panic("a mistake")
	case "read-hang":
		select {}
	}
}

func (r *badReader) Committed(context.Context, connectors.Position) error { return nil }
func (r *badReader) Close(context.Context) error                          { return nil }

type badSink struct{ bad string }

func (badSink) Spec() connectors.Spec { return badSpec() }

func (badSink) Validate(context.Context, connectors.Config, connectors.Probe) []connectors.Finding {
	return nil
}

func (badSink) Batching(connectors.Config) connectors.Limits {
	return connectors.Limits{Records: 10, Wait: time.Second}
}

func (s badSink) Open(_ context.Context, task connectors.TaskContext, _ []record.TopicPartition) (connectors.Writer, error) {
	return badWriter{s.bad, task}, nil
}

type badWriter struct {
	bad  string
	task connectors.TaskContext
}

func (w badWriter) Resume(context.Context, record.TopicPartition) (int64, bool, error) {
	return 0, false, nil
}

func (w badWriter) Write(ctx context.Context, plan connectors.Plan, b connectors.Batch) ([]connectors.RecordError, error) {
	if !firstTime(w.task.Config) {
		return nil, nil
	}
	switch w.bad {
	case "write-crash":
		os.Exit(3)
	case "write-hang":
		select {}
	case "write-slow":
		<-ctx.Done()
		return nil, ctx.Err()
	case "write-long": // longer than a call may take, but it says so
		for range 6 {
			_ = connectors.Pause(ctx, minTimeout/4)
			w.task.Note(io.ErrNoProgress)
		}
	case "refuses-others":
		return []connectors.RecordError{{Index: 0, Offset: plan.To, Err: connectors.Poisonf("no")}}, nil
	case "prints":
		for i := range 1000 {
			fmt.Fprintf(os.Stderr, "line %d %s\n", i, strings.Repeat("long ", 1000))
		}
	case "tells-made":
		return nil, connectors.Fatalf("made %d", plan.Made)
	case "classes":
		return nil, map[string]error{
			"retry": connectors.Retry(7*time.Second, io.ErrNoProgress), "fatal": connectors.Fatalf("rights"), "unknown": connectors.Unknown(io.ErrNoProgress),
			"fenced": connectors.Fatal(fmt.Errorf("x: %w", connectors.ErrFenced)), "plain": io.ErrNoProgress, "poison": connectors.Poisonf("all of it"),
		}[string(b.Messages[0].Value)]
	}
	return nil, nil
}

func (w badWriter) Close(context.Context) error { return nil }

// serveRaw makes the mistakes that the SDK would not.
func serveRaw(bad string) {
	shake, version := wire.Handshake(), wire.Version
	if bad == "other-protocol" {
		version = 99
	}
	if bad == "deaf" { // ends neither with the hub's pipe nor when it is asked to
		go func() { _, _ = io.Copy(io.Discard, os.Stdin) }()
	}
	goplugin.Serve(&goplugin.ServeConfig{
		HandshakeConfig: goplugin.HandshakeConfig{ProtocolVersion: uint(version), MagicCookieKey: shake.MagicCookieKey, MagicCookieValue: shake.MagicCookieValue},
		Plugins:         goplugin.PluginSet{wire.ServiceName: rawJoint{bad: bad}}, Logger: hclog.NewNullLogger(), GRPCServer: func(o []grpc.ServerOption) *grpc.Server { return grpc.NewServer(o...) },
	})
	if bad == "deaf" {
		select {}
	}
	os.Exit(0)
}

type rawJoint struct {
	goplugin.NetRPCUnsupportedPlugin
	bad string
}

func (j rawJoint) GRPCServer(_ *goplugin.GRPCBroker, s *grpc.Server) error {
	if j.bad != "no-service" {
		wire.Register(s, rawServer{bad: j.bad})
	}
	return nil
}

func (rawJoint) GRPCClient(context.Context, *goplugin.GRPCBroker, *grpc.ClientConn) (any, error) {
	return nil, nil
}

type rawServer struct {
	wire.PluginServer
	bad string
}

// Settings has none.
func (rawServer) Settings(context.Context, *wire.SettingsRequest) (*wire.SettingsResponse, error) {
	return &wire.SettingsResponse{}, nil
}

func (s rawServer) Describe(context.Context, *wire.DescribeRequest) (*wire.DescribeResponse, error) {
	out := &wire.DescribeResponse{Protocol: wire.Version, Name: "raw", Connectors: []*wire.Connector{
		{Kind: wire.Kind_KIND_SOURCE, Spec: wire.FromSpec(badSpec())}, {Kind: wire.Kind_KIND_SINK, Spec: wire.FromSpec(badSpec())},
	}}
	if s.bad == "other-version" {
		out.Protocol = 2
	}
	return out, nil
}

// Write takes half a MiB, and gives room for no more. It writes down how much
// came.
func (s rawServer) Write(stream grpc.BidiStreamingServer[wire.WriteRequest, wire.WriteResponse]) error {
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	file := first.GetOpen().GetUse().GetConfig().GetFields()["once"].GetText()
	_ = stream.Send(&wire.WriteResponse{Of: &wire.WriteResponse_Opened{Opened: &wire.Opened{}}})
	if s.bad == "unread" { // room for everything, but nobody takes it
		_ = stream.Send(&wire.WriteResponse{Of: &wire.WriteResponse_Credit{Credit: &wire.Credit{Bytes: 1 << 30}}})
		select {}
	}
	_ = stream.Send(&wire.WriteResponse{Of: &wire.WriteResponse_Credit{Credit: &wire.Credit{Bytes: 512 << 10}}})
	for came := 0; ; {
		in, err := stream.Recv()
		if err != nil {
			return err
		}
		for _, m := range in.GetMessages().GetMessages() {
			came += m.Cost()
		}
		if err := os.WriteFile(file, fmt.Append(nil, came), 0o600); err != nil {
			return err
		}
	}
}

func (s rawServer) Read(stream grpc.BidiStreamingServer[wire.ReadRequest, wire.ReadResponse]) error {
	if _, err := stream.Recv(); err != nil {
		return err
	}
	if err := stream.Send(&wire.ReadResponse{Of: &wire.ReadResponse_Opened{Opened: &wire.Opened{}}}); err != nil {
		return err
	}
	m := &wire.Message{Position: []byte{1}, Value: make([]byte, wire.MaxMessage+1)}
	if err := stream.Send(&wire.ReadResponse{Of: &wire.ReadResponse_Messages{Messages: &wire.Messages{Messages: []*wire.Message{m}}}}); err != nil {
		return err
	}
	<-stream.Context().Done()
	return nil
}
