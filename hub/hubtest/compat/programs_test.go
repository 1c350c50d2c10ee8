package compat

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/entrepot-hub/entrepot/hub/hubtest"
)

// moved is how many a program moves.
func moved() string {
	if full() {
		return "50000"
	}
	return "3000"
}

func TestConfluentKafka(t *testing.T) {
	py, n := hubtest.Python(t, "confluent_kafka"), node(t)
	s := suite{client: "confluent-kafka (Python)", version: pythonVersion(t, py, "confluent-kafka"), what: "a program: produce, groups, transactions, admin"}
	s.report(t, parseTAP(command(t, clients, nil, py, "python/confluent.py", n.Kafka, moved())))
}

func TestKafkaPython(t *testing.T) {
	py, n := hubtest.Python(t, "kafka"), node(t)
	s := suite{client: "kafka-python", version: pythonVersion(t, py, "kafka-python"), what: "a program: produce, groups, transactions, admin"}
	s.report(t, parseTAP(command(t, clients, nil, py, "python/kafkapython.py", n.Kafka, moved())))
}

func TestKafkaJS(t *testing.T) {
	modules := filepath.Join(hubtest.Root(t), ".cache/kafkajs/node_modules")
	if _, err := os.Stat(filepath.Join(modules, "kafkajs")); err != nil {
		hubtest.Missing(t, "kafkajs is not installed; deploy/test/setup.sh installs it")
	}
	n := node(t)
	env := []string{"NODE_PATH=" + modules}
	v := strings.TrimSpace(command(t, clients, env, "node", "-p", "require('kafkajs/package.json').version"))
	s := suite{client: "kafkajs", version: v, what: "a program: produce, groups, transactions, admin"}
	s.report(t, parseTAP(command(t, clients, env, "node", "kafkajs/suite.js", n.Kafka, moved())))
}

// TestKcat drives kcat, which is librdkafka of Debian's age.
func TestKcat(t *testing.T) {
	kcat, n := hubtest.Tool(t, "kcat"), node(t)
	createTopic(t, n.Kafka, "t", 1)
	k := &kcatRun{t: t, path: kcat, kafka: n.Kafka}
	for _, codec := range []string{"none", "gzip", "snappy", "lz4", "zstd"} {
		k.check("produce, "+codec, func() error { return k.produce(codec) })
	}
	k.check("read all back", k.readAll)
	k.check("a group: the second consumer goes on where the first committed", k.group)
	k.check("metadata and offsets by time", k.query)
	version := regexp.MustCompile(`librdkafka ([0-9.]+)`).FindString(command(t, clients, nil, kcat, "-V"))
	s := suite{client: "kcat", version: version, what: "produce, consume, group, query"}
	s.report(t, k.results)
}

type kcatRun struct {
	t           *testing.T
	path, kafka string
	results     []result
}

func (k *kcatRun) check(name string, f func() error) {
	r := result{name: name, outcome: passed}
	if err := f(); err != nil {
		r.outcome, r.output = failed, err.Error()
	}
	k.results = append(k.results, r)
}

func (k *kcatRun) run(stdin string, args ...string) (string, error) {
	cmd := exec.CommandContext(k.t.Context(), k.path, append([]string{"-b", k.kafka}, args...)...)
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	if err != nil {
		err = fmt.Errorf("kcat %s: %w\n%s", strings.Join(args, " "), err, out)
	}
	return string(out), err
}

func (k *kcatRun) produce(codec string) error {
	var in strings.Builder
	for i := range 200 {
		fmt.Fprintf(&in, "k%d:%s-%d\n", i, codec, i)
	}
	_, err := k.run(in.String(), "-P", "-t", "t", "-K:", "-z", codec, "-X", "acks=all")
	return err
}

func (k *kcatRun) readAll() error {
	out, err := k.run("", "-C", "-t", "t", "-o", "beginning", "-e", "-q", "-f", "%s\n")
	if lines := strings.Fields(out); err == nil && len(lines) != 1000 {
		err = fmt.Errorf("%d records, want 1000", len(lines))
	} else if slices.Sort(lines); err == nil && len(slices.Compact(lines)) != 1000 {
		err = fmt.Errorf("%d distinct values, want 1000", len(slices.Compact(lines)))
	}
	return err
}

func (k *kcatRun) group() error {
	var places []string
	for _, count := range []string{"600", "400"} {
		out, err := k.run("", "-G", "g", "-X", "auto.offset.reset=earliest", "-c", count, "-q", "-f", "%p:%o\n", "t")
		if err != nil {
			return err
		}
		places = append(places, regexp.MustCompile(`(?m)^\d+:\d+$`).FindAllString(out, -1)...)
	}
	slices.Sort(places)
	if read, distinct := len(places), len(slices.Compact(slices.Clone(places))); read != 1000 || distinct != 1000 {
		return fmt.Errorf("the group read %d places, %d of them distinct, want 1000", read, distinct)
	}
	return nil
}

func (k *kcatRun) query() error {
	out, err := k.run("", "-L", "-t", "t")
	if err == nil && !strings.Contains(out, `topic "t" with 1 partitions`) {
		err = fmt.Errorf("metadata: %s", out)
	}
	if err != nil {
		return err
	}
	if out, err = k.run("", "-Q", "-t", "t:0:-1"); err == nil && !strings.Contains(out, "offset 1000") {
		err = fmt.Errorf("end offset: %s", out)
	}
	return err
}

func pythonVersion(t *testing.T, python, distribution string) string {
	t.Helper()
	return strings.TrimSpace(command(t, clients, nil, python, "-c", "from importlib.metadata import version; print(version('"+distribution+"'))"))
}

// parseTAP reads lines "ok 1 - name" and "not ok 2 - name # reason" of the
// Test Anything Protocol; lines after a failure that begin with # tell why.
func parseTAP(out string) (results []result) {
	line := regexp.MustCompile(`^(ok|not ok) \d+ - (.*?)(?: # (SKIP.*))?$`)
	var rest string
	for text := range strings.Lines(out) {
		text = strings.TrimSuffix(text, "\n")
		m := line.FindStringSubmatch(text)
		switch {
		case m == nil && len(results) > 0 && strings.HasPrefix(text, "# "):
			results[len(results)-1].output += text[2:] + "\n"
		case m == nil:
			rest = tail(rest+text+"\n", 4000)
		case m[3] != "":
			results = append(results, result{m[2], skipped, strings.TrimPrefix(m[3], "SKIP ")})
		case m[1] == "ok":
			results = append(results, result{m[2], passed, ""})
		default:
			results = append(results, result{m[2], failed, ""})
		}
	}
	if len(results) == 0 {
		results = append(results, result{"(program)", failed, rest})
	}
	return results
}

func TestParseTAP(t *testing.T) {
	got := parseTAP("noise\nok 1 - one\nnot ok 2 - two, or less\n# because\n# of this\nok 3 - three # SKIP not here\n")
	want := []result{{"one", passed, ""}, {"two, or less", failed, "because\nof this\n"}, {"three", skipped, "not here"}}
	if !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	if got := parseTAP("Traceback\n"); !slices.Equal(got, []result{{"(program)", failed, "Traceback\n"}}) {
		t.Errorf("a program that dies at once: %q", got)
	}
}
