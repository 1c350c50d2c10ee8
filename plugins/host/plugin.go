package host

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/entrepot-hub/entrepot/connectors"
	"github.com/entrepot-hub/entrepot/plugins/wire"
)

// A program that keeps dying is not started more often than this.
const (
	firstPause = time.Second
	longPause  = 30 * time.Second
	healthyFor = time.Minute // after which the pause is the first again
)

// plugin is one program: what it has, and its process while there is one.
type plugin struct {
	cfg  Config
	opts Options
	log  *lines

	name, version string // as the program says
	sources       map[string]connectors.Source
	sinks         map[string]connectors.Sink

	starts    context.Context // of starts alone; ends when no process is wanted any more
	endStarts context.CancelFunc

	mu struct {
		sync.Mutex
		live     *session
		starting chan struct{} // closed when the start that goes on is over
		closed   bool
		pause    time.Duration // before the next start, by how the last ones ended
		began    time.Time     // of the last start
	}
}

func newPlugin(cfg Config, opts Options) *plugin {
	if abs, err := filepath.Abs(cfg.Path); err == nil && cfg.Path != "" {
		cfg.Path = abs // a name alone would be looked for in PATH
	}
	starts, end := context.WithCancel(context.Background())
	return &plugin{
		starts: starts, endStarts: end,
		cfg: cfg, opts: opts, log: newLines(opts.Logger.With("plugin", cfg.Name)),
		sources: map[string]connectors.Source{}, sinks: map[string]connectors.Sink{},
	}
}

var errClosed = errors.New("the hub ends")

// session is the process that runs, or a new one. The error is of class Retry
// while a new one is not due, and Fatal when none can be started.
func (p *plugin) session(ctx context.Context) (*session, error) {
	for {
		p.mu.Lock()
		if p.mu.closed {
			p.mu.Unlock()
			return nil, connectors.Retry(0, errClosed)
		}
		if s := p.mu.live; s != nil && !s.over() {
			p.mu.Unlock()
			return s, nil
		}
		if starting := p.mu.starting; starting != nil {
			p.mu.Unlock()
			select {
			case <-starting:
				continue
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		}
		if wait := p.due(); wait > 0 {
			last := p.mu.live
			p.mu.Unlock()
			return nil, connectors.Retry(wait, fmt.Errorf("plugin %s: %s; it is started again in %s", p.cfg.Name, last.why(), wait.Round(time.Millisecond)))
		}
		starting, old := make(chan struct{}), p.mu.live
		p.mu.starting, p.mu.began = starting, time.Now()
		p.mu.Unlock()
		s, err := p.restart(old)
		p.mu.Lock()
		p.mu.starting = nil
		if s != nil {
			p.mu.live = s
		}
		p.mu.Unlock()
		close(starting)
		return s, err
	}
}

// due is how long the next start has to wait. The first one waits for nothing,
// and one after a process that ran for a while: not so the one after that, when
// no process came of it.
func (p *plugin) due() time.Duration {
	if p.mu.live == nil {
		return 0
	}
	if !p.mu.live.began.Before(p.mu.began) && p.mu.live.age() > healthyFor {
		p.mu.pause = 0
	}
	return p.mu.began.Add(p.mu.pause).Sub(time.Now())
}

// restart puts a new process in the place of the old one.
func (p *plugin) restart(old *session) (*session, error) {
	if old != nil {
		old.close()
		p.opts.Logger.Warn("a plugin is started again", "plugin", p.cfg.Name, "reason", old.why())
	}
	p.mu.Lock()
	p.mu.pause = min(max(2*p.mu.pause, firstPause), longPause)
	p.mu.Unlock()
	s, err := start(p)
	if err != nil {
		return nil, fmt.Errorf("plugin %s: %w", p.cfg.Name, err)
	}
	return s, nil
}

// lasting is err as Fatal, unless the machine lacks something only at present,
// such as memory, processes or open files.
func lasting(err error) error {
	var no syscall.Errno
	if errors.As(err, &no) && (no.Temporary() || no == syscall.ENOMEM || no == syscall.ETXTBSY) {
		return err
	}
	return connectors.Fatal(err)
}

// check compares the program's file with its checksum.
func (p *plugin) check() error {
	f, err := os.Open(p.cfg.Path)
	if err != nil {
		return lasting(fmt.Errorf("the program cannot be read: %w", err))
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		return connectors.Fatalf("%s is not a file", p.cfg.Path)
	}
	if err == nil && info.Mode()&0o111 == 0 {
		return connectors.Fatalf("%s may not be executed; chmod +x makes it so", p.cfg.Path)
	}
	sum := sha256.New()
	if _, err := io.Copy(sum, f); err != nil {
		return fmt.Errorf("the program cannot be read: %w", err)
	}
	if have := hex.EncodeToString(sum.Sum(nil)); !strings.EqualFold(have, p.cfg.SHA256) {
		return connectors.Fatalf("%s has the SHA-256 %s, and sha256 says %s: it is not the program that was approved; if it is the new one, write its SHA-256 there", p.cfg.Path, have, p.cfg.SHA256)
	}
	return nil
}

// startTries is how often a program is started until its node gives up: a node
// that comes back on a busy machine should not stay down for a slow program.
const startTries = 3

// begin starts the program for the first time. When ctx ends meanwhile, the
// caller closes the plugin.
func (p *plugin) begin(ctx context.Context) error {
	defer context.AfterFunc(ctx, p.endStarts)()
	for try := 1; ; try++ {
		err := p.describe(ctx)
		if err == nil {
			p.opts.Logger.Info("a plugin is ready", "plugin", p.cfg.Name, "program", p.name, "version", p.version,
				"sources", sorted(p.sources), "sinks", sorted(p.sinks))
			return nil
		}
		if try == startTries || ctx.Err() != nil || connectors.ClassOf(err) != connectors.ClassRetry {
			return err
		}
		p.opts.Logger.Warn("a plugin does not start", "plugin", p.cfg.Name, "error", err)
		if err := connectors.Pause(ctx, firstPause); err != nil {
			return err
		}
	}
}

// describe starts the program and learns what it has.
func (p *plugin) describe(ctx context.Context) error {
	s, err := p.session(ctx)
	if err != nil {
		return errors.Unwrap(err) // the caller names the plugin, too
	}
	p.name, p.version = s.about.GetName(), s.about.GetVersion()
	err = p.learn(s.about.GetConnectors())
	if err != nil {
		return connectors.Fatal(err)
	}
	return nil
}

// learn takes up what the program says of its connectors.
func (p *plugin) learn(all []*wire.Connector) error {
	for _, c := range all {
		spec, err := c.GetSpec().Spec()
		if err != nil {
			return err
		}
		switch c.GetKind() {
		case wire.Kind_KIND_SOURCE:
			_, twice := p.sources[spec.Type]
			if p.sources[spec.Type], err = newSource(p, spec, c); err == nil && twice {
				err = fmt.Errorf("it has two sources %q", spec.Type)
			}
		case wire.Kind_KIND_SINK:
			if _, twice := p.sinks[spec.Type]; twice {
				err = fmt.Errorf("it has two sinks %q", spec.Type)
			}
			p.sinks[spec.Type] = sink{half{p, spec, wire.Kind_KIND_SINK}}
		default:
			err = fmt.Errorf("connector %q is neither source nor sink", spec.Type)
		}
		if err != nil {
			return err
		}
	}
	if len(p.sources)+len(p.sinks) == 0 {
		return errors.New("it has no connectors")
	}
	return nil
}

// close ends the process for good. One that is being started is not waited for.
func (p *plugin) close() {
	p.endStarts()
	p.mu.Lock()
	p.mu.closed = true
	starting := p.mu.starting
	p.mu.Unlock()
	if starting != nil {
		<-starting
	}
	p.mu.Lock()
	s := p.mu.live
	p.mu.Unlock()
	if s != nil {
		s.close()
	}
}
