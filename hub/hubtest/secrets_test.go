package hubtest

import (
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/entrepot-hub/entrepot/connectors"
	"github.com/entrepot-hub/entrepot/connectors/all"
)

// secretWord is in every secret of this test, and nowhere else.
const secretWord = "hunter2"

// secretCase is a connector with all the secrets that it has.
type secretCase struct {
	kind, system string
	fields       string            // a mapping in YAML, with <name> in the place of a secret
	secrets      map[string]string // dotted name in the Spec, and the secret
	parrot       *parrot           // who gets to see it
}

func secretCases(t *testing.T, kafka string) []secretCase {
	postgres, clickhouse, amqp, web := newParrot(t, postgresParrot), newParrot(t, clickhouseParrot), newParrot(t, amqpParrot), newHTTPParrot(t)
	one := func(name, secret string) map[string]string { return map[string]string{name: secret} }
	dsn := func(n int) map[string]string {
		return one("dsn", fmt.Sprintf("postgres://u:hunter2-dsn%d@%s/db?sslmode=disable&connect_timeout=5", n, postgres.addr))
	}
	url := func(n int) map[string]string {
		return one("url", fmt.Sprintf("amqp://u:hunter2-amqp%d@%s/v", n, amqp.addr))
	}
	login := fmt.Sprintf("brokers: [%q], sasl: {mechanism: plain, username: u, password: <sasl.password>}", kafka)
	listen := fmt.Sprintf(`listen: "127.0.0.1:%d"`, Ports(t, 1)[0])
	return []secretCase{
		{"sink", "postgres", "dsn: <dsn>, table: t", dsn(1), postgres},
		{"source", "postgres", "dsn: <dsn>, table: public.t", dsn(2), postgres},
		{"source", "postgres-cdc", "dsn: <dsn>, tables: [public.t]", dsn(3), postgres},
		{"sink", "clickhouse", "dsn: <dsn>, table: d.t", one("dsn", "clickhouse://u:hunter2-ch@"+clickhouse.addr+"/d"), clickhouse},
		{"source", "clickhouse", "dsn: <dsn>, table: d.t, key: [id]", one("dsn", "clickhouse://u:hunter2-chs@"+clickhouse.addr+"/d"), clickhouse},
		{"source", "rabbitmq", "url: <url>, queues: [q]", url(1), amqp},
		{"sink", "rabbitmq", "url: <url>, exchange: x", url(2), amqp},
		{"source", "rabbitmq-stream", "url: <url>, streams: [q]", url(3), amqp},
		{"source", "kafka", login + ", topics: [t]", one("sasl.password", "hunter2-kafka1"), nil},
		{"sink", "kafka", login + ", remote_topic: t", one("sasl.password", "hunter2-kafka2"), nil},
		{
			"sink", "webhook", "url: <url>, bearer: <bearer>, signing_secret: <signing_secret>, headers: {X-Key: <headers>}, allow_networks: [127.0.0.0/8], retry_for: 5s, timeout: 2s",
			map[string]string{"url": "http://" + web.addr + "/hunter2-path?token=hunter2-query", "bearer": "hunter2-bearer", "signing_secret": "hunter2-sign", "headers": "hunter2-header"}, web,
		},
		{
			"sink", "files", `url: "s3://b/lake", s3: {endpoint: "http://` + web.addr + `", path_style: true, access_key: <s3.access_key>, secret_key: <s3.secret_key>, session_token: <s3.session_token>}, format: ndjson, roll: {every: 1s}`,
			map[string]string{"s3.access_key": "hunter2-access", "s3.secret_key": "hunter2-secret", "s3.session_token": "hunter2-session"}, web,
		},
		{"sink", "files", `url: "webhdfs://` + web.addr + `/lake", hdfs: {delegation: <hdfs.delegation>}, format: ndjson, roll: {every: 1s}`, one("hdfs.delegation", "hunter2-hdfs"), web},
		{
			"source", "files", `url: "s3://b/lake", s3: {endpoint: "http://` + web.addr + `", path_style: true, access_key: <s3.access_key>, secret_key: <s3.secret_key>, session_token: <s3.session_token>}, format: ndjson`,
			map[string]string{"s3.access_key": "hunter2-access2", "s3.secret_key": "hunter2-secret2", "s3.session_token": "hunter2-session2"}, web,
		},
		{"source", "files", `url: "webhdfs://` + web.addr + `/lake", hdfs: {delegation: <hdfs.delegation>}, format: ndjson`, one("hdfs.delegation", "hunter2-hdfs2"), web},
		{"source", "http-collector", listen + ", sites: [{name: s, key: k, token: <sites.token>}]", one("sites.token", "hunter2-site"), nil},
	}
}

// TestNoSecretIsToldByAnybody runs every connector with a secret in each field
// that takes one (as it is, from the environment, from a file), against servers
// that repeat what they are sent, and then looks for the secrets in the log,
// every answer of the APIs, every command, the dead letters, the process list
// and the data on disk. So it does with each secret in a place where it does
// not belong.
func TestNoSecretIsToldByAnybody(t *testing.T) {
	dir := t.TempDir()
	n := NewNode(t, "solo", dir, nil, []string{filepath.Join(dir, "jobs.yaml")}, nil)
	cases := secretCases(t, n.Login(map[string]string{"u": "another password"}))
	checkEverySecretIsThere(t, cases)
	n.env = writeSecretJobs(t, dir, cases)
	n.Start()
	cl := client(t, kgo.SeedBrokers(n.Kafka), kgo.DefaultProduceTopic("t"))
	if err := cl.ProduceSync(t.Context(), kgo.StringRecord(`{"id":1}`)).FirstErr(); err != nil {
		t.Fatal(err)
	}
	heard := &told{t: t}
	for i, c := range cases {
		name := fmt.Sprintf("job-%d", i)
		Until(t, time.Minute, name+" ("+c.system+") is refused", func() error { return turnedAway(n, name, c) })
		heard.job(n, name)
	}
	heard.site(n)
	heard.add("data on disk", onDisk(t, n.Dir))
	for i, c := range cases {
		heard.misplaced(n, dir, i, c)
	}
	n.proc.Kill()
	heard.add("the log", n.proc.Output())
	if heard.bytes < 100_000 || heard.answers < 20*len(cases) {
		t.Errorf("only %d answers with %d bytes were looked through", heard.answers, heard.bytes)
	}
	t.Logf("%d connectors, %d answers with %d bytes: no secret", len(cases), heard.answers, heard.bytes)
}

// turnedAway says whether the job has met its parrot. The collector waits for
// others, and is asked with a wrong token.
func turnedAway(n *Node, name string, c secretCase) error {
	j, err := job(n.Admin, name)
	if err != nil || c.system == "http-collector" {
		return err
	}
	if j.Reason == "" && j.Counters["dead_letters"] == 0 {
		return fmt.Errorf("it is %s, and nothing is wrong: %+v", j.State, j)
	}
	if c.parrot != nil && c.parrot.refused.Load() == 0 {
		return fmt.Errorf("nobody was refused; %s", j.Reason)
	}
	return nil
}

// checkEverySecretIsThere: a connector or a field that is new belongs here too.
func checkEverySecretIsThere(t *testing.T, cases []secretCase) {
	t.Helper()
	given := map[string]bool{}
	for _, c := range cases {
		for name := range c.secrets {
			given[c.kind+" "+c.system+" "+name] = true
		}
	}
	var walk func(of string, fields []connectors.Field)
	walk = func(of string, fields []connectors.Field) {
		for _, f := range fields {
			if f.Kind.Secret() && !given[of+f.Name] {
				t.Errorf("no secret for %s%s", of, f.Name)
			}
			walk(of+f.Name+".", f.Fields)
		}
	}
	reg := all.Builtin()
	for name, s := range reg.Sources {
		walk("source "+name+" ", s.Spec().Fields)
	}
	for name, s := range reg.Sinks {
		walk("sink "+name+" ", s.Spec().Fields)
	}
}

// writeSecretJobs writes the jobs file, with every third secret in it, and
// returns the environment that has another third.
func writeSecretJobs(t *testing.T, dir string, cases []secretCase) (env []string) {
	t.Helper()
	text, count := "topics:\n  - {name: t, partitions: 1}\n  - {name: out, partitions: 1}\nconnectors:\n", 0
	for i, c := range cases {
		topic := map[string]string{"source": "out", "sink": "t"}[c.kind]
		text += fmt.Sprintf("  - {name: job-%d, topic: %s, %s: {type: %s, %s}}\n", i, topic, c.kind, c.system, c.fill(func(name string) string {
			secret := c.secrets[name]
			count++
			switch count % 3 {
			case 0:
				env = append(env, fmt.Sprintf("SECRET_%d=%s", count, secret))
				return fmt.Sprintf(`"${env:SECRET_%d}"`, count)
			case 1:
				path := filepath.Join(dir, fmt.Sprintf("secret-%d", count))
				if err := os.WriteFile(path, []byte(secret+"\n"), 0o600); err != nil {
					t.Fatal(err)
				}
				return fmt.Sprintf(`"${file:%s}"`, path)
			}
			return fmt.Sprintf("%q", secret)
		}))
	}
	writeJobs(t, dir, text)
	return env
}

// fill puts something in the places of the secrets.
func (c secretCase) fill(with func(name string) string) string {
	text := c.fields
	for _, name := range c.names() {
		text = strings.ReplaceAll(text, "<"+name+">", with(name))
	}
	return text
}

func (c secretCase) names() []string {
	var all []string
	for name := range c.secrets {
		all = append(all, name)
	}
	slices.Sort(all)
	return all
}

// told collects what is said, and looks for secrets in it.
type told struct {
	t              *testing.T
	answers, bytes int
}

func (h *told) add(what, text string) {
	h.t.Helper()
	h.answers++
	h.bytes += len(text)
	if i := strings.Index(text, secretWord); i >= 0 {
		h.t.Errorf("%s tells a secret: …%s…", what, text[max(0, i-300):min(len(text), i+40)])
	}
}

func (h *told) get(what, url string) { h.ask(what, http.MethodGet, url, nil) }

func (h *told) ask(what, method, url string, body any) {
	h.t.Helper()
	text, err := json.Marshal(body)
	if err != nil {
		h.t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(h.t.Context(), method, url, strings.NewReader(string(text)))
	if err != nil {
		h.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		h.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	b, _ := io.ReadAll(resp.Body)
	h.add(fmt.Sprintf("%s: %s", what, method), fmt.Sprint(resp.Header)+string(b))
}

func (h *told) command(args ...string) {
	h.t.Helper()
	out, _ := exec.Command(Build(h.t), args...).CombinedOutput() // a failure's text counts as well
	h.add(strings.Join(args, " "), string(out))
}

// job asks everything that can be asked about one job.
func (h *told) job(n *Node, name string) {
	h.t.Helper()
	admin, brokers := "--admin=http://"+n.Admin, "--brokers="+n.Kafka
	for _, path := range []string{"", "/config", "/status", "/tasks", "/tasks/0/status", "/offsets", "/topics"} {
		h.get("connect", "http://"+n.Connect+"/connectors/"+name+path)
	}
	h.get("admin", "http://"+n.Admin+"/v1/jobs/"+name)
	h.get("admin", "http://"+n.Admin+"/v1/jobs/"+name+"/offsets")
	for _, args := range [][]string{{"connector", "status", name, admin}, {"connector", "offsets", "get", name, admin}, {"dlq", "show", name, admin, brokers}} {
		h.command(args...)
		h.command(append(args, "--json")...)
	}
}

// site asks what can be asked about all of them.
func (h *told) site(n *Node) {
	h.t.Helper()
	for _, path := range []string{"/connectors?expand=info&expand=status", "/connector-plugins"} {
		h.get("connect", "http://"+n.Connect+path)
	}
	for _, path := range []string{"/v1/jobs", "/v1/status", "/metrics", "/"} {
		h.get("admin", "http://"+n.Admin+path)
	}
	admin, brokers := "--admin=http://"+n.Admin, "--brokers="+n.Kafka
	h.command("connector", "list", admin)
	h.command("connector", "list", admin, "--json")
	h.command("dlq", "list", admin, brokers)
	h.command("status", admin)
	h.command("config", "check", n.file)
	h.command("config", "check", n.file, "--json")
	list, err := exec.Command("ps", "-eo", "args").Output()
	if err != nil {
		h.t.Fatal(err)
	}
	h.add("the process list", string(list))
}

// misplaced gives the connector's secrets over REST, and where they do not
// belong in a file: under a key that is misspelt, as a list, as a mapping, with
// a quote or a brace that is not closed.
func (h *told) misplaced(n *Node, dir string, i int, c secretCase) {
	h.t.Helper()
	class, path := c.system+"-"+c.kind, filepath.Join(dir, "broken.yaml")
	for _, name := range c.names() {
		secret := c.secrets[name]
		for _, key := range []string{name, name + "x", name + ".x", "x" + name} {
			config := map[string]string{"connector.class": class, "topic": "t", c.kind + "." + key: secret}
			h.ask("connect, "+key, http.MethodPut, "http://"+n.Connect+"/connector-plugins/"+class+"/config/validate", config)
			h.ask("connect, "+key, http.MethodPost, "http://"+n.Connect+"/connectors", map[string]any{"name": "x", "config": config})
			h.ask("connect, "+key, http.MethodPut, "http://"+n.Connect+fmt.Sprintf("/connectors/job-%d/config", i), config)
		}
		for k, form := range []string{"[%s]", "{a: %s}", "[{a: %s}]", "{%s: a}", "%s: a", `"%s`, "'%s", "{a: %s", "!!binary %s", "${env:%s}", "${file:/none/%s", "*%s", "&a %s b: c"} {
			text := fmt.Sprintf("connectors:\n  - {name: a, topic: t, %s: {type: %s, %s}}\n", c.kind, c.system, c.fill(func(other string) string {
				if other == name {
					return fmt.Sprintf(form, secret)
				}
				return "x"
			}))
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				h.t.Fatal(err)
			}
			h.command("config", "check", path, fmt.Sprintf("--json=%t", k%2 == 0))
		}
	}
}

// onDisk is what a node keeps, all of it.
func onDisk(t *testing.T, dir string) string {
	t.Helper()
	var text strings.Builder
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		b, err := os.ReadFile(path)
		text.Write(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return text.String()
}
