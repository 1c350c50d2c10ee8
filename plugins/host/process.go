package host

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"time"
)

// process is a process that go-plugin uses as its Runner. It differs from go-plugin's own in
// what it does about orphans: the process is in a group of its own, which is
// killed as a whole; its standard input is a pipe that nobody writes to and
// that ends with this process; and where the kernel can, it kills the process
// when this one is gone.
type process struct {
	cmd            *exec.Cmd
	starting       context.Context // the process is killed when this ends
	detach         func() bool     // and not any more after this; set by Start
	stdin          *os.File        // our end
	stdout, stderr *os.File        // our ends
	ended          chan struct{}
	err            error     // how it ended
	endedAt        time.Time // when
}

// newProcess makes a process with the environment env.
func newProcess(starting context.Context, path string, args, env []string) *process {
	r := &process{starting: starting, cmd: exec.Command(path, args...), ended: make(chan struct{})}
	r.cmd.Env = env
	return r
}

// Start implements runner.Runner.
func (r *process) Start(context.Context) error {
	var theirs []*os.File
	pipe := func(ours **os.File, reads bool) (*os.File, error) {
		in, out, err := os.Pipe()
		if err != nil {
			return nil, err
		}
		if reads {
			in, out = out, in
		}
		*ours = in
		theirs = append(theirs, out)
		return out, nil
	}
	defer func() {
		for _, f := range theirs {
			_ = f.Close()
		}
	}()
	stdin, err1 := pipe(&r.stdin, true)
	stdout, err2 := pipe(&r.stdout, false)
	stderr, err3 := pipe(&r.stderr, false)
	if err := errors.Join(err1, err2, err3); err != nil {
		r.close()
		return fmt.Errorf("cannot be started: %w", err)
	}
	r.cmd.Stdin, r.cmd.Stdout, r.cmd.Stderr = stdin, stdout, stderr
	apart(r.cmd)
	started := make(chan error)
	go r.run(started)
	return <-started
}

// run starts the process and stays on its thread until it has ended.
func (r *process) run(started chan<- error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer func() {
		r.endedAt = time.Now()
		close(r.ended)
	}()
	if err := r.cmd.Start(); err != nil {
		r.err = err
		r.close()
		started <- fmt.Errorf("cannot be started: %w", err)
		return
	}
	r.detach = context.AfterFunc(r.starting, func() { killGroup(r.cmd.Process.Pid) })
	started <- nil
	r.err = r.cmd.Wait()
	r.detach()
	killGroup(r.cmd.Process.Pid) // its children
	// Who still holds the other ends is none of ours any more.
	for _, f := range []*os.File{r.stdout, r.stderr} {
		_ = f.SetReadDeadline(time.Now().Add(time.Second))
	}
	_ = r.stdin.Close()
}

func (r *process) close() {
	for _, f := range []*os.File{r.stdin, r.stdout, r.stderr} {
		_ = f.Close()
	}
}

// state says how the process has ended.
func (r *process) state() string {
	if r.err == nil {
		return "exit status 0"
	}
	return r.err.Error()
}

// Wait implements runner.Runner.
func (r *process) Wait(context.Context) error {
	<-r.ended
	_ = r.stdout.Close()
	_ = r.stderr.Close()
	return r.err
}

// Kill implements runner.Runner.
func (r *process) Kill(context.Context) error {
	select {
	case <-r.ended:
		return nil
	default:
	}
	if r.cmd.Process != nil {
		killGroup(r.cmd.Process.Pid)
	}
	return nil
}

// Stdout implements runner.Runner.
func (r *process) Stdout() io.ReadCloser { return r.stdout }

// Stderr implements runner.Runner.
func (r *process) Stderr() io.ReadCloser { return r.stderr }

// Name implements runner.Runner.
func (r *process) Name() string { return r.cmd.Path }

// ID implements runner.Runner.
func (r *process) ID() string {
	if r.cmd.Process == nil {
		return ""
	}
	return strconv.Itoa(r.cmd.Process.Pid)
}

// Diagnose implements runner.Runner.
func (r *process) Diagnose(context.Context) string { return "" }

// PluginToHost implements runner.Runner.
func (r *process) PluginToHost(network, addr string) (string, string, error) {
	return network, addr, nil
}

// HostToPlugin implements runner.Runner.
func (r *process) HostToPlugin(network, addr string) (string, string, error) {
	return network, addr, nil
}
