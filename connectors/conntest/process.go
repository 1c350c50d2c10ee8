//go:build unix

package conntest

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// process is a server of another make that belongs to the test binary: it
// ends with it, however that ends.
type process struct {
	cmd  *exec.Cmd
	rein *os.File // see supervise
	dir  string
}

// supervise runs a server until its standard input says so or ends, which it
// does when the test binary is gone for whatever reason; then nobody needs the
// folder any more either. The server has a process group of its own, so that
// what it started ends with it.
const supervise = `
folder=$1 crash=$2 stop=$3; shift 3
{ sh -c 'echo $$ >"$0/pid"; exec setsid "$@"' "$folder" "$@" </dev/null; : >"$folder/ended"; } &
read -r order
until [ -s "$folder/pid" ]; do sleep 0.05; done
server=$(cat "$folder/pid")
case $order in crash) kill -s $crash -- -$server;; *) kill -s $stop $server;; esac
tries=0
until [ -e "$folder/ended" ]; do # for 30 s, then with force
  tries=$((tries+1)); [ $tries -lt 300 ] || kill -s KILL -- -$server
  sleep 0.1
done
tries=0
while kill -s KILL -- -$server && [ $tries -lt 50 ]; do tries=$((tries+1)); sleep 0.02; done 2>/dev/null # what it left behind
[ -n "$order" ] || rm -rf "$folder"
`

// startProcess runs cmd, with its output in the file "log" of dir. crash and
// stop are the signals that end it without and with a shutdown.
func startProcess(cmd *exec.Cmd, dir, crash, stop string) (*process, error) {
	for _, name := range []string{"pid", "ended"} { // of a run before
		if err := os.Remove(filepath.Join(dir, name)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, err
		}
	}
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	input, rein, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer input.Close()
	sh := exec.Command("sh", append([]string{"-c", supervise, "sh", dir, crash, stop, cmd.Path}, cmd.Args[1:]...)...)
	sh.Dir, sh.Env, sh.SysProcAttr = dir, cmd.Env, cmd.SysProcAttr
	if sh.SysProcAttr == nil {
		sh.SysProcAttr = &syscall.SysProcAttr{}
	}
	sh.SysProcAttr.Setpgid = true // an interrupt at the terminal is not for it
	sh.Stdin, sh.Stdout, sh.Stderr = input, log, log
	if err := sh.Start(); err != nil {
		_ = rein.Close()
		return nil, err
	}
	return &process{cmd: sh, rein: rein, dir: dir}, nil
}

// end stops the server with "stop\n" or "crash\n", or with "" for good, and
// waits for that. It may be called on nil and twice.
func (p *process) end(order string) {
	if p == nil || p.cmd == nil {
		return
	}
	_, _ = p.rein.WriteString(order)
	_ = p.rein.Close()
	_ = p.cmd.Wait()
	p.cmd = nil
}

// await asks until ready is true, for a minute at most. It is over sooner when
// the server has ended by itself, for example because its port is taken.
func (p *process) await(ready func() bool) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(time.Minute)
	for !ready() {
		if _, err := os.Stat(filepath.Join(p.dir, "ended")); err == nil {
			return fmt.Errorf("the server has ended: %s", p.log())
		}
		select {
		case <-tick.C:
		case <-deadline:
			return fmt.Errorf("the server does not answer after a minute: %s", p.log())
		}
	}
	return nil
}

// says reports whether the server has printed a text.
func (p *process) says(text string) bool {
	b, _ := os.ReadFile(filepath.Join(p.dir, "log"))
	return bytes.Contains(b, []byte(text))
}

// log is the end of what the server has printed.
func (p *process) log() []byte {
	b, _ := os.ReadFile(filepath.Join(p.dir, "log"))
	return b[max(0, len(b)-4096):]
}
