package protocol

import (
	"context"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestKcat lets librdkafka produce with every codec it has, list, consume, and
// consume in a group.
func TestKcat(t *testing.T) {
	path, err := exec.LookPath("kcat")
	if err != nil {
		missing(t, "librdkafka: kcat is not installed (apt-get install kcat)")
	}
	s := startSite(t, quick())
	s.topic(t, "k", 3)
	kcat := func(stdin string, args ...string) string {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		cmd := exec.CommandContext(ctx, path, append([]string{"-b", s.addr}, args...)...)
		cmd.Stdin = strings.NewReader(stdin)
		var stderr strings.Builder
		cmd.Stderr = &stderr
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("kcat %v: %v\n%s", args, err, &stderr)
		}
		return string(out)
	}
	var want []string
	for _, codec := range []string{"none", "gzip", "snappy", "lz4", "zstd"} {
		var in strings.Builder
		for i := range 500 {
			line := fmt.Sprintf("%s-%d:value of the record %d", codec, i, i)
			want = append(want, line)
			in.WriteString(line + "\n")
		}
		kcat(in.String(), "-P", "-t", "k", "-K", ":", "-z", codec, "-X", "enable.idempotence=true")
	}
	slices.Sort(want)
	sorted := func(out string) []string {
		lines := strings.Split(strings.TrimSpace(out), "\n")
		slices.Sort(lines)
		return lines
	}
	if got := sorted(kcat("", "-C", "-t", "k", "-o", "beginning", "-e", "-q", "-K", ":")); !slices.Equal(got, want) {
		t.Errorf("consumed %d lines, want %d", len(got), len(want))
	}
	grouped := kcat("", "-G", "g", "-e", "-q", "-K", ":", "-X", "auto.offset.reset=earliest", "k")
	if got := sorted(grouped); !slices.Equal(got, want) {
		t.Errorf("the group consumed %d lines, want %d", len(got), len(want))
	}
	if again := kcat("", "-G", "g", "-e", "-q", "k"); again != "" {
		t.Errorf("the group consumed twice: %d bytes", len(again))
	}
	if list := kcat("", "-L"); !strings.Contains(list, `topic "k" with 3 partitions`) {
		t.Errorf("listed: %s", list)
	}
	// librdkafka 2 compresses only if it believes that the broker can (pitfall 1).
	if n := s.memLog(t, "k", 0).Size() + s.memLog(t, "k", 1).Size() + s.memLog(t, "k", 2).Size(); n > 60_000 {
		t.Errorf("%d bytes are stored: most of the five codecs did not compress", n)
	}
}
