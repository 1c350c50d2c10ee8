//go:build unix

package conntest

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"sync"
	"testing"
)

// Moto starts a private server of moto, which speaks Amazon's protocols (S3,
// Kinesis and others), and returns its URL. It is started by the first call,
// serves all tests of the binary, and ends with the binary. Without moto the
// test is skipped, or fails as Missing says.
func Moto(t testing.TB) string {
	t.Helper()
	s, err := sharedMoto()
	if err != nil {
		t.Fatal(err)
	}
	if s == nil {
		Missing(t, "python3 with moto[s3,server]")
	}
	return s.base
}

// webServer is a server that is reached over HTTP. Whoever drops its process
// ends it.
type webServer struct {
	base    string
	process *process
}

var sharedMoto = sync.OnceValues(func() (s *webServer, err error) {
	python := pythonWith("moto.server")
	if python == "" {
		return nil, nil
	}
	dir, err := os.MkdirTemp("", "entrepot-moto-")
	if err != nil {
		return nil, err
	}
	err = startSomewhere(func(port int) error {
		p, err := startProcess(exec.Command(python, "-m", "moto.server", "-H", "127.0.0.1", "-p", fmt.Sprint(port)), dir, "KILL", "TERM")
		if err != nil {
			return err
		}
		s = &webServer{fmt.Sprintf("http://127.0.0.1:%d", port), p}
		if err := p.await(func() bool { return answers(s.base + "/moto-api/data.json") }); err != nil {
			p.end("")
			return err
		}
		return nil
	})
	return s, err
})

// answers reports whether a GET is answered with 200.
func answers(url string) bool {
	res, err := http.Get(url)
	if err != nil {
		return false
	}
	_ = res.Body.Close()
	return res.StatusCode == http.StatusOK
}
