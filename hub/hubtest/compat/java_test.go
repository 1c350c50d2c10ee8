package compat

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/entrepot-hub/entrepot/hub/hubtest"
)

// Apache Kafka's own programs, by their Maven coordinates: deploy/kafka has
// them, and runs a broker where a test needs one beside the hub.
const (
	kafka    = "../../../deploy/kafka/kafka.sh"
	programs = "../../../deploy/compat/java"
)

// kafkaVersion is the one that deploy/kafka pins.
func kafkaVersion(t *testing.T) string {
	t.Helper()
	out, err := exec.Command(kafka, "version").Output()
	if err != nil {
		t.Fatalf("the version of Kafka: %v", err)
	}
	return strings.TrimSpace(string(out))
}

// needJava makes sure that Kafka's jars are there before anything is timed.
func needJava(t *testing.T) {
	t.Helper()
	if out, err := exec.Command(kafka, "setup").CombinedOutput(); err != nil {
		hubtest.Missing(t, "Apache Kafka's programs: %v\n%s", err, out)
	}
}

// tool is a class of Kafka's tools package, or a class by its whole name.
func tool(class string) string {
	if strings.Count(class, ".") > 1 && !strings.HasPrefix(class, "consumer.") {
		return class
	}
	return "org.apache.kafka.tools." + class
}

// runTool runs one of Kafka's programs to its end, for at most a minute.
func runTool(t *testing.T, stdin, class string, args ...string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, kafka, append([]string{"tool", tool(class)}, args...)...)
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	if ctx.Err() != nil {
		err = fmt.Errorf("not done after a minute: %w", err)
	}
	return string(out), err
}

// javaProcess is a Java program that runs beside the test.
type javaProcess struct {
	cmd   *exec.Cmd
	stdin io.WriteCloser
	out   hubtest.Buffer
	done  chan struct{}
	err   error
}

// startJava starts a class, or a program of deploy/compat/java by its file. It
// is killed at the end of the test, its output shown if that has failed.
func startJava(t *testing.T, class string, args ...string) *javaProcess {
	t.Helper()
	if strings.HasSuffix(class, ".java") {
		class = filepath.Join(programs, class)
	}
	p := &javaProcess{cmd: exec.Command(kafka, append([]string{"tool", class}, args...)...), done: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = &p.out, &p.out
	var err error
	if p.stdin, err = p.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.done)
	}()
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		<-p.done
		if t.Failed() {
			t.Logf("output of %s:\n%s", class, tail(p.out.String(), 6000))
		}
	})
	return p
}

// ended reports whether the program is over, and how.
func (p *javaProcess) ended() (bool, error) {
	select {
	case <-p.done:
		return true, p.err
	default:
		return false, nil
	}
}

// wait waits for the end.
func (p *javaProcess) wait(limit time.Duration) error {
	select {
	case <-p.done:
		return p.err
	case <-time.After(limit):
		return fmt.Errorf("not done after %v", limit)
	}
}

// startKafka starts an Apache Kafka of one node and returns its address.
func startKafka(t *testing.T) string {
	t.Helper()
	p := hubtest.Ports(t, 2)
	dir := t.TempDir()
	cmd := exec.Command(kafka, "start", dir, fmt.Sprint(p[0]), fmt.Sprint(p[1]))
	// The broker goes on behind the script: it must not hold the output's pipe.
	var out bytes.Buffer
	cmd.Stderr = &out
	if err := cmd.Run(); err != nil {
		t.Fatalf("start Apache Kafka: %v\n%s", err, out.String())
	}
	t.Cleanup(func() {
		if out, err := exec.Command(kafka, "stop", dir).CombinedOutput(); err != nil {
			t.Errorf("stop Apache Kafka: %v\n%s", err, out)
		}
	})
	return fmt.Sprintf("127.0.0.1:%d", p[0])
}

// killWhile kills the node and starts it again every so often until busy is
// over or it was killed often enough. It returns the number of kills.
func killWhile(n *hubtest.Node, every time.Duration, most int, busy <-chan struct{}) (kills int) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for kills < most {
		select {
		case <-busy:
			return kills
		case <-tick.C:
			n.Kill()
			n.Start()
			kills++
		}
	}
	return kills
}

// writeFile writes a file of a test's own folder and returns its path.
func writeFile(t *testing.T, dir, name, text string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
