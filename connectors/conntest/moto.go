//go:build unix

package conntest

import (
	"fmt"
	"net/http"
	"os/exec"
	"testing"
)

// Moto starts a private server of moto, which speaks Amazon's protocols (S3,
// Kinesis and others), and returns its URL. It is started by the first call,
// serves all tests of the binary, and ends with the binary. Without moto the
// test is skipped, or fails as Missing says.
func Moto(t testing.TB) string {
	t.Helper()
	return "http://" + sharedMoto(t).address(0)
}

var sharedMoto = shared(func(t testing.TB) string { return Python(t, "moto.server") }, newMoto)

func newMoto(python string) (*server, error) {
	s := &server{name: "moto", ports: make([]int, 1)}
	s.command = func() *exec.Cmd {
		return exec.Command(python, "-m", "moto.server", "-H", "127.0.0.1", "-p", fmt.Sprint(s.ports[0]))
	}
	s.ready = func() bool { return answers("http://" + s.address(0) + "/moto-api/data.json") }
	return s, s.launch(nil)
}

// answers reports whether a GET is answered with 200.
func answers(url string) bool {
	res, err := http.Get(url)
	if err != nil {
		return false
	}
	_ = res.Body.Close()
	return res.StatusCode == http.StatusOK
}
