package stream

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/entrepot-hub/entrepot/connectors"
	"github.com/entrepot-hub/entrepot/connectors/strict"
	"github.com/entrepot-hub/entrepot/record"
)

// File is one jobs file as read.
type File struct {
	Name string // for error messages
	Text []byte
}

// The shape of what a jobs file holds.
type topicYAML struct {
	Name       string                 `yaml:"name,required"`
	Partitions int32                  `yaml:"partitions"`
	Replicas   int16                  `yaml:"replicas"`
	MirrorTo   []string               `yaml:"mirror_to"`
	Config     map[string]strict.Node `yaml:"config"`
}

type connectorYAML struct {
	Name       string        `yaml:"name,required"`
	Topic      string        `yaml:"topic,required"`
	Source     strict.Node   `yaml:"source"`
	Sink       strict.Node   `yaml:"sink"`
	Transforms []strict.Node `yaml:"transforms"`
	Key        strict.Node   `yaml:"key"`
	Timestamp  strict.Node   `yaml:"timestamp"`
	Errors     errorsYAML    `yaml:"errors"`
	Start      strict.Node   `yaml:"start"`
	Memory     strict.Size   `yaml:"memory"`
	Tasks      int           `yaml:"tasks"`
}

type errorsYAML struct {
	DLQ         string      `yaml:"dlq"`
	MaxFailures strict.Node `yaml:"max_failures"`
	Gaps        strict.Node `yaml:"gaps"`
}

// later are keys of a jobs file that this version does not have yet.
var later = []string{"links", "stages"}

// Parse reads jobs files and checks everything that can be known from their
// text alone: syntax, keys, types, references, expressions, names. Nothing is
// opened and no job is changed. With errors the Jobs are not to be used. opts
// says where ${env:…} and ${file:…} are looked up.
func Parse(files []File, registry connectors.Registry, opts strict.Options) (*Jobs, strict.Errors) {
	p := &parsing{registry: registry, opts: opts, jobs: &Jobs{}, names: map[string]string{}, topics: map[string]string{}}
	for _, f := range files {
		p.file(f)
	}
	p.crossCheck()
	if len(p.errs) > 0 {
		return nil, inOrder(p.errs, files)
	}
	return p.jobs, nil
}

// inOrder sorts errors by file, as the files were given, and place.
func inOrder(errs strict.Errors, files []File) strict.Errors {
	index := map[string]int{}
	for i, f := range files {
		index[f.Name] = i
	}
	slices.SortStableFunc(errs, func(a, b *strict.Error) int {
		return cmp.Or(cmp.Compare(index[a.File], index[b.File]), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Col, b.Col))
	})
	return errs
}

type parsing struct {
	registry connectors.Registry
	opts     strict.Options
	jobs     *Jobs
	errs     strict.Errors

	names  map[string]string // of connectors, each with its place
	topics map[string]string
	lines  []string // of the present file
}

func (p *parsing) add(errs ...*strict.Error) { p.errs = append(p.errs, errs...) }

func (p *parsing) file(f File) {
	root, errs := strict.Parse(f.Name, f.Text)
	if len(errs) > 0 {
		p.add(errs...)
		return
	}
	p.lines = strings.Split(string(f.Text), "\n")
	var top struct {
		Topics     []strict.Node `yaml:"topics"`
		Connectors []strict.Node `yaml:"connectors"`
		Tests      []strict.Node `yaml:"tests"`
	}
	p.add(notYet(root, root.Decode(&top, p.opts))...)
	for _, n := range top.Topics {
		p.topic(n)
	}
	for _, n := range top.Connectors {
		p.connector(n)
	}
	for _, n := range top.Tests {
		p.test(n)
	}
}

// notYet says of keys that a later version will have that they are not there
// yet, rather than that they are unknown.
func notYet(root strict.Node, errs strict.Errors) strict.Errors {
	for _, entry := range root.Entries() {
		if !slices.Contains(later, entry.Key) {
			continue
		}
		for _, e := range errs {
			if e.Pos == entry.KeyPos {
				e.Msg = fmt.Sprintf("%q is not available yet in this version", entry.Key)
				e.Hint = "leave it out; topics, connectors and tests are available"
			}
		}
	}
	return errs
}

func (p *parsing) topic(n strict.Node) {
	var y topicYAML
	if errs := n.Decode(&y, p.opts); len(errs) > 0 {
		p.add(errs...)
		return
	}
	t := TopicSpec{Name: y.Name, Partitions: y.Partitions, Replicas: y.Replicas, Configs: map[string]string{}, File: n.File(), Pos: n.Pos()}
	if err := record.CheckTopicName(y.Name); err != nil {
		p.add(at(n, "name").Errorf("%v", err))
	}
	if y.Partitions < 0 || y.Replicas < 0 {
		p.add(n.Errorf("topic %q has %d partitions and %d replicas; want numbers from 1", y.Name, y.Partitions, y.Replicas))
	}
	p.unique("topic", p.topics, y.Name, at(n, "name"))
	for key, v := range y.Config {
		if v.Kind() == strict.Map || v.Kind() == strict.List || v.Kind() == strict.Null {
			p.add(v.Errorf("config %q of topic %q has to be a text or a number", key, y.Name))
		}
		t.Configs[key] = v.Text()
	}
	if len(y.MirrorTo) > 0 {
		if _, twice := t.Configs["mirror.to"]; twice {
			p.add(at(n, "mirror_to").Errorf("topic %q has both mirror_to and config mirror.to; want one of them", y.Name))
		}
		t.Configs["mirror.to"] = strings.Join(y.MirrorTo, ",")
	}
	p.jobs.Topics = append(p.jobs.Topics, t)
}

// unique reports a name that is taken and says where.
func (p *parsing) unique(what string, taken map[string]string, name string, n strict.Node) {
	here := fmt.Sprintf("%s:%d:%d", n.File(), n.Pos().Line, n.Pos().Col)
	if first, dup := taken[name]; dup {
		p.add(n.Errorf("%s %q is here twice, the first is at %s", what, name, first))
		return
	}
	taken[name] = here
}

// connector reads one connector.
func (p *parsing) connector(n strict.Node) {
	var y connectorYAML
	errs := n.Decode(&y, p.opts)
	p.add(errs...)
	if y.Name == "" {
		return
	}
	c := ConnectorSpec{
		Name: y.Name, Topic: y.Topic, Memory: int64(y.Memory), Tasks: y.Tasks, File: n.File(), Pos: n.Pos(), Fingerprint: fingerprint(n), whole: n,
	}
	before := len(p.errs)
	if len(errs) == 0 {
		p.checkNames(n, c, y.Errors.DLQ)
	}
	p.unique("connector", p.names, y.Name, at(n, "name"))
	p.system(n, y, &c)
	c.Pipeline = p.pipeline(y)
	c.Errors = p.errorPolicy(y.Errors)
	if c.Start = p.start(y, c.Sink != nil); c.Memory < 0 {
		p.add(n.Errorf("memory of connector %q is negative", y.Name))
	}
	if c.Tasks < 0 || c.Tasks > MaxTasks {
		p.add(at(n, "tasks").Errorf("connector %q has %d tasks; want 1 to %d", y.Name, y.Tasks, MaxTasks))
	}
	if len(errs) == 0 && len(p.errs) == before {
		p.jobs.Connectors = append(p.jobs.Connectors, c)
	}
}

// at is the node of a key, or the mapping when the key is not there.
func at(n strict.Node, key string) strict.Node {
	if v, ok := n.Get(key); ok {
		return v
	}
	return n
}

// maxJobName keeps the names that are made of a job's name legal.
const maxJobName = 200

func (p *parsing) checkNames(n strict.Node, c ConnectorSpec, dlq string) {
	if err := record.CheckTopicName(c.Name); err != nil || len(c.Name) > maxJobName {
		p.add(at(n, "name").Errorf("the name %q of a connector has to be 1 to %d characters of a-z A-Z 0-9 . _ -", c.Name, maxJobName))
	}
	if err := record.CheckTopicName(c.Topic); err != nil {
		p.add(at(n, "topic").Errorf("topic of connector %q: %v", c.Name, err))
	}
	if strings.HasPrefix(c.Topic, "__") {
		p.add(at(n, "topic").Errorf("topic %q of connector %q: names that begin with __ belong to the hub", c.Topic, c.Name))
	}
	if dlq == "" {
		return
	}
	n = at(at(n, "errors"), "dlq")
	if err := record.CheckTopicName(dlq); err != nil {
		p.add(n.Errorf("errors.dlq of connector %q: %v", c.Name, err))
	}
	if dlq == c.Topic {
		p.add(n.Errorf("connector %q sends its dead letters to its own topic %q", c.Name, dlq))
	}
}

// system reads `source:` or `sink:`.
func (p *parsing) system(n strict.Node, y connectorYAML, c *ConnectorSpec) {
	_, isSource := n.Get("source")
	_, isSink := n.Get("sink")
	if isSource == isSink {
		e := n.Errorf("connector %q has both source and sink", y.Name)
		if !isSource {
			e = n.Errorf("connector %q has neither source nor sink", y.Name)
		}
		e.Hint = "want exactly one of them"
		p.add(e)
		return
	}
	node, types := y.Source, p.registry.SourceTypes()
	if isSink {
		node, types = y.Sink, p.registry.SinkTypes()
	}
	typ, errs := node.Choose("type", types)
	if len(errs) > 0 {
		p.add(errs...)
		return
	}
	c.Type = typ
	if isSink {
		c.Sink = p.registry.Sinks[typ]
	} else {
		c.Source = p.registry.Sources[typ]
	}
	c.Config, errs = node.Config(c.spec().Fields, p.opts, "type")
	p.add(errs...)
	c.node = node
}

func (p *parsing) errorPolicy(y errorsYAML) ErrorPolicy {
	out := ErrorPolicy{DLQ: y.DLQ}
	if n := y.MaxFailures; n.Kind() != strict.Null {
		var ok bool
		if out.MaxFailures, out.Window, ok = parseMaxFailures(n.Text()); !ok {
			p.add(n.Errorf("max_failures %q is not of the form 10/1000: at most 10 dead letters among the last 1000 records", n.Text()))
		}
	}
	if n := y.Gaps; n.Kind() != strict.Null {
		switch n.Text() {
		case "fail":
		case "skip":
			out.SkipGaps = true
		default:
			p.add(n.Errorf("gaps is %q, want fail or skip", n.Text()))
		}
	}
	return out
}

// maxWindow bounds the memory of a failure window.
const maxWindow = 1_000_000

func parseMaxFailures(s string) (limit, window int, ok bool) {
	a, b, found := strings.Cut(s, "/")
	limit, err1 := strconv.Atoi(strings.TrimSpace(a))
	window, err2 := strconv.Atoi(strings.TrimSpace(b))
	ok = found && err1 == nil && err2 == nil && limit >= 0 && window > limit && window <= maxWindow
	return limit, window, ok
}

func (p *parsing) start(y connectorYAML, sink bool) StartAt {
	n := y.Start
	switch s := StartAt(n.Text()); {
	case n.Kind() == strict.Null:
		return Earliest
	case !sink:
		p.add(n.Errorf("start belongs to sinks; where a source begins is a field of the source itself"))
	case s == Earliest || s == Latest:
		return s
	default:
		p.add(n.Errorf("start is %q, want earliest or latest", n.Text()))
	}
	return Earliest
}

// crossCheck looks at what only all files together can tell.
func (p *parsing) crossCheck() {
	for _, t := range p.jobs.Tests {
		if _, ok := p.names[t.Target]; !ok {
			p.add(&strict.Error{
				File: t.File, Pos: t.Pos, Msg: fmt.Sprintf("the test is of %q, and there is no connector of that name", t.Target),
			})
		}
	}
}
