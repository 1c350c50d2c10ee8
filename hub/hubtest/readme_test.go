package hubtest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/entrepot-hub/entrepot/connectors/conntest"
)

// TestReadmeWarehouse runs the commands with which the README brings a table
// of PostgreSQL to ClickHouse, as they are written there, with the file of
// configs/ that they name, on Debian's server and on ClickHouse's engine of
// today. Only where the servers and the node are is the test's.
func TestReadmeWarehouse(t *testing.T) {
	t.Run("18.16", func(t *testing.T) {
		s := conntest.OwnClickHouse(t)
		readmeWarehouse(t, s.Database(t), s.URL())
	})
	t.Run("engine of today", func(t *testing.T) {
		s := conntest.OwnClickHouseEngine(t)
		readmeWarehouse(t, s.Database(t), s.URL())
	})
}

func readmeWarehouse(t *testing.T, clickhouse, url string) {
	Tool(t, "psql")
	Tool(t, "curl")
	blocks := readmeBlocks(t, "## A Postgres table in ClickHouse")
	if len(blocks) != 4 {
		t.Fatalf("the section has %d blocks of commands, want 4", len(blocks))
	}
	dir := t.TempDir()
	env := []string{"SHOP_DSN=" + conntest.OwnPostgres(t).Database(t), "CLICKHOUSE_DSN=" + clickhouse}
	n := NewNode(t, "shop", t.TempDir(), nil, []string{filepath.Join(Root(t), "configs/clickhouse/cdc.yaml")}, env)
	local := strings.NewReplacer(
		"make services\n", "", "./entrepot serve -c shop.yaml\n", "", "./entrepot ", Build(t)+" ",
		"http://127.0.0.1:18123", "'"+url+"/?database=test1'", "configs/clickhouse", filepath.Join(Root(t), "configs/clickhouse"))
	typed := func(block string) string {
		t.Helper()
		var lines []string
		for line := range strings.Lines(block) {
			if !strings.HasPrefix(line, "export ") { // where the servers are
				lines = append(lines, line)
			}
		}
		cmd := exec.Command("bash", "-e", "-c", local.Replace(strings.Join(lines, "")))
		cmd.Dir, cmd.Env = dir, append(os.Environ(), append(env, "ENTREPOT_ADMIN=http://"+n.Admin)...)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%s\n%v: %s", block, err, out)
		}
		return string(out)
	}
	until := func(block string, parts ...string) {
		t.Helper()
		Until(t, 2*time.Minute, strings.Join(parts, ", "), func() error {
			out := strings.Join(strings.Fields(typed(block)), " ")
			for _, part := range parts {
				if !strings.Contains(out, part) {
					return fmt.Errorf("want %q in %s", part, out)
				}
			}
			return nil
		})
	}
	typed(blocks[0])
	if out := typed(blocks[1]); !strings.Contains(out, "Nullable(Decimal(12, 2))") || !strings.Contains(out, "nothing was written") {
		t.Errorf("dry-run says %s", out)
	}
	n.Start()
	until(blocks[2], "orders-in source postgres-cdc orders running", "orders-out sink clickhouse orders running", "100000 50000500")
	if out := typed(blocks[3]); !strings.Contains(out, "99990 | 49990510.45") {
		t.Errorf("PostgreSQL says %s", out)
	}
	last := blocks[3][strings.LastIndex(blocks[3], "curl "):]
	until(last, "99990 49990510.45")
	if j, err := job(n.Admin, "orders-out"); err != nil || j.Counters["dead"] != 0 {
		t.Errorf("dead letters: %d, %v", j.Counters["dead"], err)
	}
}

// readmeBlocks are the commands of a section of the README.
func readmeBlocks(t *testing.T, title string) (blocks []string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(Root(t), "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(text), "\n"+title)
	section, _, _ = strings.Cut(section, "\n## ")
	for _, m := range regexp.MustCompile("(?s)```sh\n(.*?)```").FindAllStringSubmatch(section, -1) {
		blocks = append(blocks, m[1])
	}
	return blocks
}
