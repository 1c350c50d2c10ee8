package host

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/hashicorp/go-hclog"
	goplugin "github.com/hashicorp/go-plugin"
	"github.com/hashicorp/go-plugin/runner"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/entrepot-hub/entrepot/connectors"
	"github.com/entrepot-hub/entrepot/plugins/wire"
)

const (
	// startTimeout is how long a program may take until it answers.
	startTimeout = 30 * time.Second
	// askTimeout bounds questions that no system has to be asked for.
	askTimeout = 15 * time.Second
)

// session is one process of a plugin, from its start to its end.
type session struct {
	plugin *plugin
	proc   *process // set by the start
	dir    string   // of the socket
	client *goplugin.Client
	conn   *grpc.ClientConn
	calls  *wire.Client
	about  *wire.DescribeResponse
	began  time.Time
	stop   context.CancelFunc
	parts  sync.WaitGroup

	mu struct {
		sync.Mutex
		killed string // why it was killed; empty: it was not
	}
}

// start starts the program and makes itself known to it.
func start(p *plugin) (*session, error) {
	if err := p.check(); err != nil {
		return nil, err
	}
	cert, tls, err := newCertificate()
	if err != nil {
		return nil, err
	}
	s := &session{plugin: p, began: time.Now()}
	sets := map[int]goplugin.PluginSet{}
	for _, v := range wire.Versions() {
		sets[v] = goplugin.PluginSet{wire.ServiceName: joint{}}
	}
	s.client = goplugin.NewClient(&goplugin.ClientConfig{
		HandshakeConfig: wire.Handshake(), VersionedPlugins: sets, AllowedProtocols: []goplugin.Protocol{goplugin.ProtocolGRPC},
		TLSConfig: tls, SkipHostEnv: true, StartTimeout: startTimeout, Logger: hclog.NewNullLogger(),
		Stderr: p.log, SyncStdout: p.log, SyncStderr: p.log,
		RunnerFunc: func(_ hclog.Logger, cmd *exec.Cmd, dir string) (runner.Runner, error) {
			s.dir = dir
			s.proc = newProcess(p.starts, p.cfg.Path, p.cfg.Args, append(p.environment(), append(cmd.Env, "PLUGIN_CLIENT_CERT="+cert)...))
			return s.proc, nil
		},
		GRPCDialOptions: []grpc.DialOption{
			grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(wire.MaxMessage), grpc.MaxCallSendMsgSize(wire.MaxMessage)),
			grpc.WithInitialWindowSize(2 * wire.Window), grpc.WithInitialConnWindowSize(4 * wire.Window), // so that the credit is the limit
		},
	})
	if err := s.greet(); err != nil {
		ended := s.proc != nil && s.proc.cmd.Process != nil && s.gone()
		s.client.Kill() // and with it, what the process has printed is read
		if s.dir != "" {
			_ = os.RemoveAll(s.dir) // Kill does so only when there was a process
		}
		if p.starts.Err() != nil {
			return nil, connectors.Retry(0, errClosed)
		}
		return nil, s.notStarted(err, ended)
	}
	s.proc.detach()
	ctx, stop := context.WithCancel(context.Background())
	s.stop = stop
	s.parts.Go(func() { s.watch(ctx) })
	return s, nil
}

// greet waits for the process to answer and asks what it has.
func (s *session) greet() error {
	protocol, err := s.client.Client()
	if err != nil {
		return err
	}
	conn, err := protocol.Dispense(wire.ServiceName)
	if err != nil {
		return err
	}
	s.conn = conn.(*grpc.ClientConn)
	s.calls = wire.NewClient(s.conn)
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	s.about, err = s.calls.Describe(ctx, &wire.DescribeRequest{HubVersion: s.plugin.opts.Version})
	if status.Code(err) == codes.Unimplemented {
		return connectors.Fatalf("it agreed on protocol version %d and does not answer it", s.client.NegotiatedVersion())
	}
	if err != nil {
		return fmt.Errorf("it does not say what it has: %w", err)
	}
	if int(s.about.Protocol) != s.client.NegotiatedVersion() {
		return connectors.Fatalf("it agreed on protocol version %d and says that it speaks version %d", s.client.NegotiatedVersion(), s.about.Protocol)
	}
	return nil
}

// notStarted says what a program did instead of the handshake; ended, that it
// has ended by itself.
func (s *session) notStarted(err error, ended bool) error {
	text := err.Error()
	switch {
	case connectors.ClassOf(err) == connectors.ClassFatal:
		return err
	case strings.Contains(text, "incompatible API version"):
		return connectors.Fatalf("it speaks another protocol than this hub, which speaks %v: %w", wire.Versions(), err)
	case strings.Contains(text, "cannot be started"):
		return lasting(err)
	case ended && s.proc.state() != "signal: killed": // as go-plugin does to one that says something else
		return fmt.Errorf("it ended before it was ready: %s%s", s.proc.state(), s.plugin.log.last())
	case strings.Contains(text, "Unrecognized remote plugin message"):
		return connectors.Fatalf("it did not begin as a plugin does, with a line for the hub on its standard output (docs/plugins.md)%s: %w", s.plugin.log.last(), err)
	}
	return fmt.Errorf("it was not ready within %s%s: %w", startTimeout, s.plugin.log.last(), err)
}

// environment is what the process gets of the hub's own.
func (p *plugin) environment() []string {
	var env []string
	for _, name := range append([]string{"PATH", "TMPDIR"}, p.cfg.Env...) {
		if v, ok := p.opts.Getenv(name); ok {
			env = append(env, name+"="+v)
		}
	}
	return env
}

// joint hangs the connection into go-plugin.
type joint struct {
	goplugin.NetRPCUnsupportedPlugin
}

// GRPCServer implements goplugin.GRPCPlugin; a hub serves nothing.
func (joint) GRPCServer(*goplugin.GRPCBroker, *grpc.Server) error {
	return errors.New("this is the hub's side")
}

// GRPCClient implements goplugin.GRPCPlugin.
func (joint) GRPCClient(_ context.Context, _ *goplugin.GRPCBroker, conn *grpc.ClientConn) (any, error) {
	return conn, nil
}

// watch asks the process whether it is there, until it is not.
func (s *session) watch(ctx context.Context) {
	pulse := s.plugin.opts.health
	tick := time.NewTicker(pulse.every)
	defer tick.Stop()
	health := grpc_health_v1.NewHealthClient(s.conn)
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.proc.ended:
			return
		case <-tick.C:
		}
		asked, cancel := context.WithTimeout(ctx, pulse.limit)
		_, err := health.Check(asked, &grpc_health_v1.HealthCheckRequest{Service: goplugin.GRPCServiceName})
		late := asked.Err()
		cancel()
		if err != nil && ctx.Err() == nil && errors.Is(late, context.DeadlineExceeded) {
			s.kill(fmt.Sprintf("it did not answer for %s", pulse.limit))
			return
		}
	}
}

// kill ends the process at once.
func (s *session) kill(why string) {
	s.mu.Lock()
	if s.mu.killed == "" {
		s.mu.killed = why
	}
	s.mu.Unlock()
	_ = s.proc.Kill(context.Background())
}

// over reports whether the process has ended.
func (s *session) over() bool {
	select {
	case <-s.proc.ended:
		return true
	default:
		return false
	}
}

// why says why the process has ended.
func (s *session) why() string {
	s.mu.Lock()
	killed := s.mu.killed
	s.mu.Unlock()
	if killed != "" {
		return killed + " and was killed"
	}
	return "its process has ended: " + s.proc.state()
}

func (s *session) age() time.Duration {
	if !s.over() {
		return time.Since(s.began)
	}
	return s.proc.endedAt.Sub(s.began)
}

// close ends the process, kindly first, and awaits all of it.
func (s *session) close() {
	s.stop()
	s.client.Kill()
	<-s.proc.ended
	s.parts.Wait()
	_ = s.conn.Close()
}

// fault is what a failed call means. The end of a process is seen a little
// after that of its streams.
func (s *session) fault(err error) error {
	name := s.plugin.cfg.Name
	switch status.Code(err) {
	case codes.ResourceExhausted:
		return connectors.Fatalf("plugin %s: it sent a message that is too large: at most %d bytes fit into one: %s", name, wire.MaxMessage, s.redact(status.Convert(err).Message()))
	case codes.FailedPrecondition, codes.InvalidArgument, codes.Unimplemented:
		if !s.gone() {
			return connectors.Fatalf("plugin %s: %s", name, s.redact(status.Convert(err).Message()))
		}
	}
	if s.gone() {
		return connectors.Retry(0, fmt.Errorf("plugin %s: %s", name, s.why()))
	}
	return connectors.Retry(0, fmt.Errorf("plugin %s: %s", name, s.redact(err.Error())))
}

// gone waits a little for the end of a process whose streams broke.
func (s *session) gone() bool {
	select {
	case <-s.proc.ended:
		return true
	case <-time.After(time.Second):
		return false
	}
}

// remote is an error that the plugin sent, named, and without the secrets that
// it was given.
func (s *session) remote(x *wire.Error) error {
	if x == nil {
		return nil
	}
	x.Message = fmt.Sprintf("plugin %s: %s", s.plugin.cfg.Name, s.redact(x.Message))
	return x.Err()
}

// reveal resolves a secret for the process, and remembers it to hide it.
func (s *session) reveal(secret connectors.Secret) (string, error) {
	text, err := secret.Reveal()
	if err != nil {
		return "", err
	}
	if !utf8.ValidString(text) {
		return "", connectors.Fatalf("plugin %s: the secret is not UTF-8, and so cannot be handed to a plugin", s.plugin.cfg.Name)
	}
	s.plugin.log.hide(text)
	return text, nil
}

func (s *session) redact(text string) string { return s.plugin.log.redact(text) }
