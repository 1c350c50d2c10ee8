// Package hubtest runs hubs for tests: the real binary as processes that can
// be killed at any moment, with everything on loopback.
//
// Goroutines: one for each started process, which ends when the process does;
// those of a Forwarder, one that accepts and two for each connection, which end
// with the test.
package hubtest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// Build makes the entrepot binary once and returns its path. ENTREPOT_BIN names
// another one to test instead.
func Build(t testing.TB) string {
	t.Helper()
	path, err := build()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

var build = sync.OnceValues(func() (string, error) {
	if path := os.Getenv("ENTREPOT_BIN"); path != "" {
		return path, nil
	}
	dir, err := os.MkdirTemp("", "entrepot-bin-")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "entrepot")
	out, err := exec.Command("go", "build", "-o", path, "github.com/entrepot-hub/entrepot").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, out)
	}
	return path, nil
})

// Process is one run of the binary.
type Process struct {
	cmd  *exec.Cmd
	out  Buffer
	done chan struct{}
	err  error
}

// Start runs the binary with the arguments and extra environment (K=V). It is
// killed at the end of the test.
func Start(t testing.TB, env []string, args ...string) *Process {
	t.Helper()
	return start(t, nil, env, args...)
}

// start runs the binary behind a command that becomes it.
func start(t testing.TB, enter, env []string, args ...string) *Process {
	t.Helper()
	command := append(append(slices.Clone(enter), Build(t)), args...)
	p := &Process{cmd: exec.Command(command[0], command[1:]...), done: make(chan struct{})}
	p.cmd.Env = append(os.Environ(), env...)
	p.cmd.Stdout, p.cmd.Stderr = &p.out, &p.out
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.done)
	}()
	t.Cleanup(func() {
		p.Kill()
		if t.Failed() {
			t.Logf("output of %s:\n%s", strings.Join(args, " "), tail(p.Output(), 4000))
		}
	})
	return p
}

// Kill sends SIGKILL and waits for the end.
func (p *Process) Kill() {
	_ = p.cmd.Process.Kill()
	<-p.done
}

// Pid is the number of the process.
func (p *Process) Pid() int { return p.cmd.Process.Pid }

// Signal sends a signal.
func (p *Process) Signal(s os.Signal) error { return p.cmd.Process.Signal(s) }

// CPU is the user and system time that the process has used, where /proc tells.
func (p *Process) CPU(t testing.TB) time.Duration {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
	if err != nil {
		t.Skip(err)
	}
	// The name, which may have spaces, ends in a parenthesis; user and system
	// time are the 12th and 13th field after it, in hundredths of a second.
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	total := 0
	for _, f := range fields[11:13] {
		n, err := strconv.Atoi(f)
		if err != nil {
			t.Fatalf("/proc/…/stat: %s: %v", text, err)
		}
		total += n
	}
	return time.Duration(total) * 10 * time.Millisecond
}

// Wait waits for the end and returns the exit status; -1 for a signal.
func (p *Process) Wait(timeout time.Duration) (int, error) {
	select {
	case <-p.done:
	case <-time.After(timeout):
		return -1, fmt.Errorf("still running after %s", timeout)
	}
	var exit *exec.ExitError
	if p.err != nil && !errors.As(p.err, &exit) {
		return -1, p.err
	}
	return p.cmd.ProcessState.ExitCode(), nil
}

// Ended reports whether the process has ended.
func (p *Process) Ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// Output is what the process has printed so far, both streams.
func (p *Process) Output() string { return p.out.String() }

// given has the ports that this process was given: a site's next node must not get
// those of the one before, which does not listen yet.
var given sync.Map

// Ports returns n free ports of the loopback interface, which it returns to nobody
// else in this process. For other processes they are reserved only until they are
// returned, so they are none of those that systems give to connections: one of
// another test would take them in between.
func Ports(t testing.TB, n int) []int {
	t.Helper()
	ports := make([]int, 0, n)
	for tries := 0; len(ports) < n; tries++ {
		port := 12_000 + rand.IntN(20_000)
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil && tries < 100*n {
			continue
		} else if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = l.Close() }()
		if _, before := given.LoadOrStore(port, true); before {
			continue
		}
		ports = append(ports, port)
	}
	return ports
}

// Until polls the condition until it holds; it fails the test with what the
// condition last said when the time is over.
func Until(t testing.TB, timeout time.Duration, what string, condition func() error) {
	t.Helper()
	deadline := time.After(timeout)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := condition()
		if err == nil {
			return
		}
		select {
		case <-deadline:
			t.Fatalf("%s: not within %s: %v", what, timeout, err)
		case <-tick.C:
		}
	}
}

// Ready asks a hub's admin address whether it serves.
func Ready(adminAddr string) error {
	client := http.Client{Timeout: 2 * time.Second}
	resp, err := client.Get("http://" + adminAddr + "/readyz")
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		why, _ := io.ReadAll(io.LimitReader(resp.Body, 1000))
		return fmt.Errorf("readyz says %s: %s", resp.Status, why)
	}
	return nil
}

func tail(s string, n int) string {
	if len(s) > n {
		return "…" + s[len(s)-n:]
	}
	return s
}

// Buffer keeps what a process prints while a test reads it.
type Buffer struct {
	mu struct {
		sync.Mutex
		buf bytes.Buffer
	}
}

// Write implements io.Writer.
func (b *Buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.mu.buf.Write(p)
}

// String is what was written so far.
func (b *Buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.mu.buf.String()
}
