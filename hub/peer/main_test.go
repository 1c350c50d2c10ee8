package peer

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"testing"

	"go.uber.org/goleak"
)

// childEnv makes this program a node of TestProcess: the address it listens on
// and that of node 1.
const childEnv = "ENTREPOT_PEER_TEST_NODE"

func TestMain(m *testing.M) {
	if v := os.Getenv(childEnv); v != "" {
		fmt.Fprintln(os.Stderr, runChild(v))
		os.Exit(1)
	}
	goleak.VerifyTestMain(m)
}

// runChild is node 2 in a process of its own; it ends when it is killed.
func runChild(addrs string) error {
	var own, other string
	if _, err := fmt.Sscan(addrs, &own, &other); err != nil {
		return err
	}
	ln, err := net.Listen("tcp", own)
	if err != nil {
		return err
	}
	cfg := Default()
	cfg.Logger = slog.New(slog.NewTextHandler(os.Stderr, nil))
	p, err := New(cfg, identity(2), new(fuzzHandler))
	if err != nil {
		return err
	}
	p.SetNodes(map[int32]Node{1: {Addr: other}})
	fmt.Println(ln.Addr())
	return p.Run(context.Background(), ln)
}
