package hubtest

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// operations is what plays docs/operations.md.
type operations struct {
	t    *testing.T
	site *Site
	dir  string // commands run here
	env  []string
}

// TestOperationsPage runs the commands of docs/operations.md in their order, on
// a site of three nodes. Only addresses and folders are the test's, and starting
// a node is.
func TestOperationsPage(t *testing.T) {
	t.Parallel() // it waits more than it works
	if _, err := exec.LookPath("java"); err != nil {
		Missing(t, "java is not installed; deploy/test/setup.sh installs it")
	}
	page, err := os.ReadFile(filepath.Join(Root(t), "docs/operations.md"))
	if err != nil {
		t.Fatal(err)
	}
	o := &operations{t: t, site: NewSite(t, "fra", 3), dir: t.TempDir()}
	o.tools()
	o.site.Start()
	o.env = append(os.Environ(), "PATH="+o.dir+":"+os.Getenv("PATH"), "ENTREPOT_ADMIN=http://"+o.site.Nodes[0].Admin, "ENTREPOT_BROKERS="+o.site.Bootstrap())
	o.file(string(page))
	ran := 0
	for _, block := range regexp.MustCompile("(?s)```sh\n(.*?)```").FindAllStringSubmatch(string(page), -1) {
		for line := range strings.Lines(block[1]) {
			line = strings.TrimSpace(line)
			before, after := o.around(line)
			before()
			o.run(line)
			after()
			ran++
		}
	}
	if ran < 20 {
		t.Errorf("%d commands of the page were run", ran)
	}
	o.alarms(string(page))
}

// tools puts the page's commands, and the files that it names, into the folder.
func (o *operations) tools() {
	o.t.Helper()
	kafka := filepath.Join(Root(o.t), "deploy/kafka/kafka.sh")
	write := func(name, text string, mode os.FileMode) {
		if err := os.WriteFile(filepath.Join(o.dir, name), []byte(text), mode); err != nil {
			o.t.Fatal(err)
		}
	}
	write("entrepot", fmt.Sprintf("#!/bin/sh\nexec %q \"$@\"\n", Build(o.t)), 0o700)
	write("kafka-reassign-partitions.sh", fmt.Sprintf("#!/bin/sh\nexec %q tool org.apache.kafka.tools.reassign.ReassignPartitionsCommand \"$@\"\n", kafka), 0o700)
	write("kafka-leader-election.sh", fmt.Sprintf("#!/bin/sh\nexec %q tool org.apache.kafka.tools.LeaderElectionCommand \"$@\"\n", kafka), 0o700)
	write("kafka-metadata-quorum.sh", fmt.Sprintf("#!/bin/sh\nexec %q tool org.apache.kafka.tools.MetadataQuorumCommand \"$@\"\n", kafka), 0o700)
	for _, n := range o.site.Nodes {
		text, err := os.ReadFile(n.file)
		if err != nil {
			o.t.Fatal(err)
		}
		write(n.ID+".yaml", string(text), 0o600)
	}
	if err := os.Symlink(o.site.Nodes[2].Dir, filepath.Join(o.dir, "fra-3-data")); err != nil {
		o.t.Fatal(err)
	}
}

// file checks the node's file as it stands on the page.
func (o *operations) file(page string) {
	o.t.Helper()
	m := regexp.MustCompile("(?s)```yaml\n(.*?)```").FindStringSubmatch(page)
	if m == nil {
		o.t.Fatal("no node's file on the page")
	}
	if err := os.WriteFile(filepath.Join(o.dir, "page.yaml"), []byte(m[1]), 0o600); err != nil {
		o.t.Fatal(err)
	}
	o.run("entrepot config check page.yaml")
}

// around is what the page says happens before and after a command.
func (o *operations) around(line string) (before, after func()) {
	nothing := func() {}
	second := o.site.Nodes[1]
	settled := func() { o.settled() }
	switch line {
	case "entrepot node drain fra-2":
		return settled, func() { second.Restart() }
	case "entrepot node drain fra-2 --off":
		return nothing, settled
	case "entrepot node moves":
		if len(o.site.Nodes) > 3 {
			return nothing, settled
		}
		return func() { // the disk is lost
			second.Kill()
			second.Wipe()
			second.Start()
		}, settled
	case "entrepot node replace fra-2 --with fra-4":
		return func() { second.Kill() }, nothing
	case "entrepot log verify fra-3-data":
		return func() { o.site.Nodes[2].Terminate() }, nothing
	case "entrepot log repair fra-3-data --execute":
		return nothing, func() { o.site.Nodes[2].Start() }
	case "entrepot node rebalance":
		return settled, settled
	}
	if strings.HasSuffix(line, "--execute") {
		return settled, settled
	}
	return nothing, nothing
}

// settled waits until nothing moves and nothing lacks.
func (o *operations) settled() {
	o.t.Helper()
	Until(o.t, 3*time.Minute, "the site is whole", func() error { return o.site.whole() })
}

func (o *operations) run(line string) {
	o.t.Helper()
	if strings.HasPrefix(line, "export ") {
		return // the test has its own addresses
	}
	if name, ok := strings.CutPrefix(line, "entrepot serve -c "); ok {
		if name == "fra-4.yaml" {
			o.site.Add().Start()
		}
		return
	}
	cmd := exec.CommandContext(o.t.Context(), "bash", "-c", line)
	cmd.Dir, cmd.Env = o.dir, o.env
	if out, err := cmd.CombinedOutput(); err != nil {
		o.t.Errorf("%s: %v\n%s", line, err, out)
	}
}

// alarms wants every metric that the page names at a node.
func (o *operations) alarms(page string) {
	o.t.Helper()
	client := http.Client{Timeout: 20 * time.Second}
	resp, err := client.Get("http://" + o.site.Nodes[0].Admin + "/metrics")
	if err != nil {
		o.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		o.t.Fatal(err)
	}
	named := regexp.MustCompile("`(entrepot_[a-z_]+({[^}]*})?)").FindAllStringSubmatch(page, -1)
	if len(named) < 6 {
		o.t.Errorf("the page names %d metrics", len(named))
	}
	for _, m := range named {
		if !strings.Contains(string(text), "\n"+m[1]) {
			o.t.Errorf("there is no metric %s", m[1])
		}
	}
}
