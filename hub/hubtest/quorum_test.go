package hubtest

import (
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestMetadataQuorum: Kafka's own tool shows the group that orders the catalog,
// whichever node it asks.
func TestMetadataQuorum(t *testing.T) {
	t.Parallel()
	kafka := filepath.Join(Root(t), "deploy/kafka/kafka.sh")
	Tool(t, "java")
	s := NewSite(t, "quorum", 3)
	s.Start()
	var leader string
	ask := func(n *Node, what string) string {
		t.Helper()
		out, err := exec.CommandContext(t.Context(), kafka, "tool", "org.apache.kafka.tools.MetadataQuorumCommand", "--bootstrap-server", n.Kafka, "describe", what).CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v\n%s", what, err, out)
		}
		return string(out)
	}
	for _, n := range s.Nodes {
		out := ask(n, "--status")
		fields := map[string]string{}
		for _, m := range regexp.MustCompile(`(?m)^(\w+): +(.+)$`).FindAllStringSubmatch(out, -1) {
			fields[m[1]] = m[2]
		}
		if leader == "" {
			leader = fields["LeaderId"]
		}
		voters := regexp.MustCompile(`"id": (\d)`).FindAllString(fields["CurrentVoters"], -1)
		if len(voters) != 3 || fields["LeaderId"] != leader || !strings.Contains("123", leader) || fields["CurrentObservers"] != "[]" || fields["HighWatermark"] == "0" || fields["MaxFollowerLag"] != "0" {
			t.Errorf("%s says\n%s", n.ID, out)
		}
	}
	var states []string
	for line := range strings.Lines(ask(s.Nodes[2], "--replication")) {
		if words := strings.Fields(line); len(words) > 1 && slices.Contains([]string{"1", "2", "3"}, words[0]) {
			states = append(states, words[0]+" "+words[len(words)-1])
		}
	}
	slices.Sort(states)
	var want []string
	for _, id := range []string{"1", "2", "3"} {
		role := "Follower"
		if id == leader {
			role = "Leader"
		}
		want = append(want, id+" "+role)
	}
	if !slices.Equal(states, want) {
		t.Errorf("the replicas are %v, want %v", states, want)
	}
}
