package connect

import (
	"fmt"
	"slices"
	"strings"

	"github.com/entrepot-hub/entrepot/connectors"
)

// Plugin is one kind of connector that can be made: a source or a sink of a type.
type Plugin struct {
	Class string // such as postgres-sink
	Kind  string // source or sink
	Type  string // such as postgres, the `type` in a jobs file
	Spec  connectors.Spec
}

// Plugins lists what the registry has, by class.
func Plugins(reg connectors.Registry) []Plugin {
	var all []Plugin
	for _, typ := range reg.SourceTypes() {
		all = append(all, Plugin{typ + "-source", "source", typ, reg.Sources[typ].Spec()})
	}
	for _, typ := range reg.SinkTypes() {
		all = append(all, Plugin{typ + "-sink", "sink", typ, reg.Sinks[typ].Spec()})
	}
	slices.SortFunc(all, func(a, b Plugin) int { return strings.Compare(a.Class, b.Class) })
	return all
}

// FindPlugin takes a class, or a type that is only a source or only a sink.
func FindPlugin(reg connectors.Registry, class string) (Plugin, error) {
	var found []Plugin
	var classes []string
	for _, p := range Plugins(reg) {
		if p.Class == class {
			return p, nil
		}
		if p.Type == class {
			found = append(found, p)
		}
		classes = append(classes, p.Class)
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return Plugin{}, fmt.Errorf("Failed to find any class that implements Connector and which name matches %s, available connectors are: %s", short(class), strings.Join(classes, ", ")) //nolint:staticcheck // Kafka Connect's words
	}
	return Plugin{}, fmt.Errorf("%s is a source and a sink; want %s or %s", class, found[0].Class, found[1].Class)
}

// short keeps what strangers send out of long answers.
func short(s string) string {
	if r := []rune(s); len(r) > 80 {
		return string(r[:80]) + "…"
	}
	return s
}

// Shape is the fields of a whole connector of this kind, as a jobs file has
// them below `connectors:`, with those of its system below source or sink.
func (p Plugin) Shape() []connectors.Field {
	all := []connectors.Field{
		{Name: "topic", Kind: connectors.KindString, Required: true, Description: "The topic that the records go to, or come from.", Example: "clicks"},
		{Name: p.Kind, Kind: connectors.KindObject, Required: true, Description: "The external system.", Fields: p.Spec.Fields},
		{Name: "transforms", Kind: connectors.KindObjects, Description: "What is done with each record, in order: each step is a mapping with one of the keys parse, filter and map.", Example: `[{"filter": "value.status < 500"}]`},
		{Name: "key", Kind: connectors.KindString, Description: "Expression of the record's key.", Example: "value.id"},
		{Name: "timestamp", Kind: connectors.KindString, Description: "Expression of the record's timestamp.", Example: "value.time"},
		{Name: "errors", Kind: connectors.KindObject, Description: "What happens to records that fail.", Fields: []connectors.Field{
			{Name: "dlq", Kind: connectors.KindString, Description: "Topic of the dead letters. Default: the connector's name and .dlq.", Example: "clicks-lake.dlq"},
			{Name: "max_failures", Kind: connectors.KindString, Description: "The connector stops when more than so many of the last records failed. Default: it never does.", Example: "10/1000"},
			{Name: "gaps", Kind: connectors.KindString, Options: []string{"fail", "skip"}, Description: "What a sink does over records that were deleted before it read them.", Example: "skip"},
		}},
		{Name: "memory", Kind: connectors.KindSize, Description: "Bounds what the connector holds in flight.", Example: "64MiB"},
		{Name: "tasks", Kind: connectors.KindInt, Description: "Into how many tasks the connector is divided, which the nodes of a site share. Default: 1.", Example: "3"},
	}
	if p.Kind == "sink" {
		all = append(all, connectors.Field{
			Name: "start", Kind: connectors.KindString, Options: []string{"earliest", "latest"}, Description: "Where a sink without an offset begins. Default: earliest.", Example: "latest",
		})
	}
	return all
}

// Keys of a configuration that no jobs file has.
const (
	keyName  = "name"
	keyClass = "connector.class"
	keyTasks = "tasks.max" // tasks, as Kafka Connect writes it
	keyTopic = "topics"    // of a sink, as Kafka Connect writes it
)

// foreign are settings of Kafka Connect that mean nothing here, with what to do.
var foreign = map[string]string{
	"key.converter":                     "there are no converters: bytes stay as they are, and the transform parse reads them; leave it out",
	"value.converter":                   "there are no converters: bytes stay as they are, and the transform parse reads them; leave it out",
	"header.converter":                  "there are no converters: headers stay as they are; leave it out",
	"topics.regex":                      "a connector has one topic; name it in topic",
	"errors.tolerance":                  "records that fail go to the dead letters, and errors.max_failures says how many may; leave it out",
	"errors.deadletterqueue.topic.name": "want errors.dlq",
	"errors.retry.timeout":              "what can be tried again is, without end; leave it out",
	"errors.retry.delay.max.ms":         "what can be tried again is, within 1 s to 60 s; leave it out",
	"errors.log.enable":                 "dead letters and states are always logged; leave it out",
	"errors.log.include.messages":       "records are never logged; leave it out",
	"config.action.reload":              "references are read again at each start; leave it out",
	"exactly.once.support":              "a source is always as exact as its guarantee says; leave it out",
	"transaction.boundary":              "a source's records and its position are always one transaction; leave it out",
}
