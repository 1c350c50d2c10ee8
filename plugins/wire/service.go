package wire

import (
	"context"

	"google.golang.org/grpc"
)

// PluginServer is what a plugin answers.
type PluginServer interface {
	Describe(context.Context, *DescribeRequest) (*DescribeResponse, error)
	Validate(context.Context, *ValidateRequest) (*ValidateResponse, error)
	Settings(context.Context, *SettingsRequest) (*SettingsResponse, error)
	Splits(*SplitsRequest, grpc.ServerStreamingServer[SplitsResponse]) error
	Read(grpc.BidiStreamingServer[ReadRequest, ReadResponse]) error
	Write(grpc.BidiStreamingServer[WriteRequest, WriteResponse]) error
}

const service = "entrepot.plugin.v1.Plugin"

// Register makes a server answer for s.
func Register(r grpc.ServiceRegistrar, s PluginServer) {
	r.RegisterService(&grpc.ServiceDesc{
		ServiceName: service, HandlerType: (*PluginServer)(nil), Metadata: "plugin.proto",
		Methods: []grpc.MethodDesc{unary("Describe", PluginServer.Describe), unary("Validate", PluginServer.Validate), unary("Settings", PluginServer.Settings)},
		Streams: []grpc.StreamDesc{splits, read, write},
	}, s)
}

func unary[In, Out any](name string, call func(PluginServer, context.Context, *In) (*Out, error)) grpc.MethodDesc {
	return grpc.MethodDesc{MethodName: name, Handler: func(s any, ctx context.Context, decode func(any) error, via grpc.UnaryServerInterceptor) (any, error) {
		in := new(In)
		if err := decode(in); err != nil {
			return nil, err
		}
		handle := func(ctx context.Context, in any) (any, error) { return call(s.(PluginServer), ctx, in.(*In)) }
		if via == nil {
			return handle(ctx, in)
		}
		return via(ctx, in, &grpc.UnaryServerInfo{Server: s, FullMethod: method(name)}, handle)
	}}
}

func method(name string) string { return "/" + service + "/" + name }

var (
	splits = grpc.StreamDesc{StreamName: "Splits", ServerStreams: true, Handler: func(s any, stream grpc.ServerStream) error {
		in := new(SplitsRequest)
		if err := stream.RecvMsg(in); err != nil {
			return err
		}
		return s.(PluginServer).Splits(in, &grpc.GenericServerStream[SplitsRequest, SplitsResponse]{ServerStream: stream})
	}}
	read = grpc.StreamDesc{StreamName: "Read", ServerStreams: true, ClientStreams: true, Handler: func(s any, stream grpc.ServerStream) error {
		return s.(PluginServer).Read(&grpc.GenericServerStream[ReadRequest, ReadResponse]{ServerStream: stream})
	}}
	write = grpc.StreamDesc{StreamName: "Write", ServerStreams: true, ClientStreams: true, Handler: func(s any, stream grpc.ServerStream) error {
		return s.(PluginServer).Write(&grpc.GenericServerStream[WriteRequest, WriteResponse]{ServerStream: stream})
	}}
)

// Client calls a plugin.
type Client struct{ conn grpc.ClientConnInterface }

// NewClient calls the plugin at the other end of conn.
func NewClient(conn grpc.ClientConnInterface) *Client { return &Client{conn} }

// Describe implements the call of plugin.proto, as do the other methods.
func (c *Client) Describe(ctx context.Context, in *DescribeRequest) (*DescribeResponse, error) {
	return invoke[DescribeResponse](ctx, c.conn, "Describe", in)
}

// Validate looks at a config.
func (c *Client) Validate(ctx context.Context, in *ValidateRequest) (*ValidateResponse, error) {
	return invoke[ValidateResponse](ctx, c.conn, "Validate", in)
}

// Settings asks for what the runtime wants to know of a config.
func (c *Client) Settings(ctx context.Context, in *SettingsRequest) (*SettingsResponse, error) {
	return invoke[SettingsResponse](ctx, c.conn, "Settings", in)
}

func invoke[Out any](ctx context.Context, conn grpc.ClientConnInterface, name string, in any) (*Out, error) {
	out := new(Out)
	if err := conn.Invoke(ctx, method(name), in, out); err != nil {
		return nil, err
	}
	return out, nil
}

// Splits begins to list splits.
func (c *Client) Splits(ctx context.Context, in *SplitsRequest) (grpc.ServerStreamingClient[SplitsResponse], error) {
	s, err := c.conn.NewStream(ctx, &splits, method("Splits"))
	if err != nil {
		return nil, err
	}
	if err := s.SendMsg(in); err != nil {
		return nil, err
	}
	return &grpc.GenericClientStream[SplitsRequest, SplitsResponse]{ClientStream: s}, s.CloseSend()
}

// Read begins a reader.
func (c *Client) Read(ctx context.Context) (grpc.BidiStreamingClient[ReadRequest, ReadResponse], error) {
	s, err := c.conn.NewStream(ctx, &read, method("Read"))
	if err != nil {
		return nil, err
	}
	return &grpc.GenericClientStream[ReadRequest, ReadResponse]{ClientStream: s}, nil
}

// Write begins a writer.
func (c *Client) Write(ctx context.Context) (grpc.BidiStreamingClient[WriteRequest, WriteResponse], error) {
	s, err := c.conn.NewStream(ctx, &write, method("Write"))
	if err != nil {
		return nil, err
	}
	return &grpc.GenericClientStream[WriteRequest, WriteResponse]{ClientStream: s}, nil
}
