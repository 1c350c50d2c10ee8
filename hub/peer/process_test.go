package peer

import (
	"bufio"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// child starts node 2 in a process of its own and returns it and its address.
func child(t *testing.T, own, other string) (*exec.Cmd, string) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"="+own+" "+other)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	addr, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return cmd, strings.TrimSpace(addr)
}

// A process that is stopped, goes on, is killed and started again, over real
// sockets. The times are told, not judged.
func TestProcess(t *testing.T) {
	a := start(t, Default(), identity(1))
	cmd, addr := child(t, "127.0.0.1:0", a.addr)
	a.SetNodes(map[int32]Node{2: {Addr: addr}})
	a.connected("n2")
	signal := func(s os.Signal) time.Time {
		if err := cmd.Process.Signal(s); err != nil {
			t.Fatal(err)
		}
		return time.Now()
	}
	gone := func() { a.wait("n2 is gone", func() bool { return a.up("n2") == 0 }) }
	at := signal(syscall.SIGSTOP)
	gone()
	t.Logf("stopped: noticed after %v", time.Since(at))
	at = signal(syscall.SIGCONT)
	a.connected("n2")
	t.Logf("goes on: connected after %v", time.Since(at))
	at = signal(os.Kill)
	gone()
	t.Logf("killed: noticed after %v", time.Since(at))
	_ = cmd.Wait()
	at = time.Now()
	cmd, _ = child(t, addr, a.addr)
	t.Logf("started again: listens after %v", time.Since(at))
	at = time.Now()
	a.connected("n2")
	t.Logf("started again: connected after %v more", time.Since(at))
}
