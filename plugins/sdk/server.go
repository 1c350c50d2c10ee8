package sdk

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/entrepot-hub/entrepot/connectors"
	"github.com/entrepot-hub/entrepot/plugins/wire"
)

// GRPCClient implements plugin.GRPCPlugin; a plugin calls none.
func (j *joint) GRPCClient(context.Context, *plugin.GRPCBroker, *grpc.ClientConn) (any, error) {
	return nil, fmt.Errorf("this is the plugin's side")
}

// server answers the calls of plugin.proto.
type server struct {
	plugin Plugin
	log    *slog.Logger
}

// Describe implements wire.PluginServer.
func (s *server) Describe(context.Context, *wire.DescribeRequest) (*wire.DescribeResponse, error) {
	out := &wire.DescribeResponse{Protocol: wire.Version, Name: s.plugin.Name, Version: s.plugin.Version}
	for _, one := range s.plugin.Sources {
		_, queue := one.(connectors.Queue)
		_, paced := one.(connectors.Paced)
		out.Connectors = append(out.Connectors, &wire.Connector{Kind: wire.Kind_KIND_SOURCE, Spec: wire.FromSpec(one.Spec()), Queue: queue, Paced: paced})
	}
	for _, one := range s.plugin.Sinks {
		out.Connectors = append(out.Connectors, &wire.Connector{Kind: wire.Kind_KIND_SINK, Spec: wire.FromSpec(one.Spec())})
	}
	return out, nil
}

// source and sink find the connector that is to be used, and its config.
func (s *server) source(use *wire.Use) (connectors.Source, connectors.Config, error) {
	for _, one := range s.plugin.Sources {
		if one.Spec().Type == use.GetType() {
			cfg, err := use.GetConfig().Config(one.Spec().Fields)
			return one, cfg, fatal(err)
		}
	}
	return nil, connectors.Config{}, connectors.Fatalf("this plugin has no source %q", use.GetType())
}

func (s *server) sink(use *wire.Use) (connectors.Sink, connectors.Config, error) {
	for _, one := range s.plugin.Sinks {
		if one.Spec().Type == use.GetType() {
			cfg, err := use.GetConfig().Config(one.Spec().Fields)
			return one, cfg, fatal(err)
		}
	}
	return nil, connectors.Config{}, connectors.Fatalf("this plugin has no sink %q", use.GetType())
}

func fatal(err error) error {
	if err != nil {
		return connectors.Fatal(err)
	}
	return nil
}

// Validate implements wire.PluginServer. What a field's own check finds is a
// finding like any other.
func (s *server) Validate(ctx context.Context, in *wire.ValidateRequest) (*wire.ValidateResponse, error) {
	probe := connectors.ProbeNone
	if in.Live {
		probe = connectors.ProbeLive
	}
	var found []connectors.Finding
	if in.Use.GetKind() == wire.Kind_KIND_SINK {
		one, cfg, err := s.sink(in.Use)
		if err != nil {
			return finding(err), nil
		}
		found = one.Validate(ctx, cfg, probe)
	} else {
		one, cfg, err := s.source(in.Use)
		if err != nil {
			return finding(err), nil
		}
		found = one.Validate(ctx, cfg, probe)
	}
	out := &wire.ValidateResponse{}
	for _, f := range found {
		out.Findings = append(out.Findings, &wire.Finding{Field: f.Field, Message: f.Message, Hint: f.Hint, Warning: f.Warning})
	}
	return out, nil
}

func finding(err error) *wire.ValidateResponse {
	return &wire.ValidateResponse{Findings: []*wire.Finding{{Message: err.Error()}}}
}

// Settings implements wire.PluginServer.
func (s *server) Settings(_ context.Context, in *wire.SettingsRequest) (*wire.SettingsResponse, error) {
	out := &wire.SettingsResponse{}
	if in.Use.GetKind() == wire.Kind_KIND_SINK {
		one, cfg, err := s.sink(in.Use)
		if err != nil {
			return nil, status.Error(codes.InvalidArgument, err.Error())
		}
		out.Batching = wire.FromLimits(one.Batching(cfg))
		return out, nil
	}
	one, cfg, err := s.source(in.Use)
	if err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	if p, ok := one.(connectors.Paced); ok {
		out.Pace = wire.FromLimits(p.Pace(cfg))
	}
	if q, ok := one.(connectors.Queue); ok {
		w := q.Dedup(cfg)
		out.Dedup = &wire.DedupWindow{Ids: int64(w.IDs), Age: int64(w.Age)}
	}
	return out, nil
}

// Splits implements wire.PluginServer.
func (s *server) Splits(in *wire.SplitsRequest, out grpc.ServerStreamingServer[wire.SplitsResponse]) error {
	one, cfg, err := s.source(in.GetUse())
	if err != nil {
		return out.Send(&wire.SplitsResponse{Error: wire.FromError(err)})
	}
	ctx, stop := context.WithCancel(out.Context())
	defer stop()
	lists, err := one.Splits(ctx, cfg)
	if err != nil {
		return out.Send(&wire.SplitsResponse{Error: wire.FromError(err)})
	}
	var failed error
	for list := range lists { // until it is closed, also after a failure
		msg := &wire.SplitsResponse{}
		for _, sp := range list {
			msg.Splits = append(msg.Splits, wire.FromSplit(sp))
		}
		if failed == nil {
			if failed = out.Send(msg); failed != nil {
				stop()
			}
		}
	}
	return failed
}

func (s *server) task(t *wire.Task, cfg connectors.Config) connectors.TaskContext {
	return connectors.TaskContext{
		Job: t.GetJob(), Task: t.GetTask(), Site: t.GetSite(), Config: cfg, Clock: time.Now,
		Logger: s.log.With("connector", t.GetJob(), "task", t.GetTask()),
	}
}
