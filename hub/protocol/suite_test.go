package protocol

import (
	"context"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// notYet are the tests of franz-go's suite for what is not served: the share
// group protocol, SASL/SCRAM, telemetry.
const notYet = "Share|SCRAM|KIP714"

// TestFranzGoSuite runs franz-go's own tests of its client against this server.
func TestFranzGoSuite(t *testing.T) {
	if testing.Short() {
		t.Skip("takes half a minute")
	}
	tool, err := exec.LookPath("go")
	if err != nil {
		missing(t, "franz-go's suite: there is no go command")
	}
	s := startSite(t, quick())
	ctx, cancel := context.WithTimeout(t.Context(), 8*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, tool, "test", "-count=1", "-v", "-timeout", "7m", "-skip", notYet, "github.com/twmb/franz-go/pkg/kgo")
	cmd.Env = append(os.Environ(), "KGO_SEEDS="+s.addr, "KGO_TEST_RF=1", "KGO_TEST_RECORDS=5000")
	cmd.WaitDelay = 10 * time.Second
	out, err := cmd.CombinedOutput()
	passed := strings.Count(string(out), "\n--- PASS")
	t.Logf("%d tests passed, %d were skipped", passed, strings.Count(string(out), "\n--- SKIP"))
	if err != nil || passed < 50 {
		t.Errorf("%v\n%s", err, tail(string(out), 8000))
	}
}

func tail(s string, n int) string {
	if len(s) > n {
		s = s[len(s)-n:]
	}
	return s
}
