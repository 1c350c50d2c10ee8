package stream

import (
	"fmt"
	"strings"

	"github.com/entrepot-hub/entrepot/connectors"
	"github.com/entrepot-hub/entrepot/connectors/format"
	"github.com/entrepot-hub/entrepot/connectors/strict"
)

// Schema is the JSON Schema of a jobs file, for editors. It says less than
// Parse: expressions, names and what several fields say together are not
// looked at. settings are the properties of a topic's config.
func Schema(registry connectors.Registry, settings strict.Schema) strict.Schema {
	var top struct {
		Topics     []topicYAML     `yaml:"topics"`
		Connectors []connectorYAML `yaml:"connectors"`
		Tests      []testYAML      `yaml:"tests"`
	}
	s := strict.SchemaOf(top)
	topic, connector, test := items(s, "topics"), items(s, "connectors"), items(s, "tests")

	set(topic, "config", strict.Schema{"type": []string{"object", "null"}, "properties": settings, "additionalProperties": false})
	describe(topic, topicHelp)

	set(connector, "source", systemSchema(registry.SourceTypes(), func(t string) connectors.Spec { return registry.Sources[t].Spec() }))
	set(connector, "sink", systemSchema(registry.SinkTypes(), func(t string) connectors.Spec { return registry.Sinks[t].Spec() }))
	set(connector, "transforms", strict.Schema{"type": []string{"array", "null"}, "items": transformSchema()})
	set(connector, "key", expression())
	set(connector, "timestamp", expression())
	set(connector, "start", strict.Schema{"enum": []any{string(Earliest), string(Latest), nil}})
	policy := properties(connector)["errors"].(strict.Schema)
	set(policy, "gaps", strict.Schema{"enum": []any{"fail", "skip", nil}})
	set(policy, "max_failures", strict.Schema{"type": []string{"string", "null"}, "pattern": `^ *[0-9]+ */ *[0-9]+ *$`})
	describe(policy, policyHelp)
	describe(connector, connectorHelp)
	connector["oneOf"] = []strict.Schema{{"required": []string{"source"}}, {"required": []string{"sink"}}}

	output := strict.SchemaOf(expectYAML{})
	set(output, "key", strict.Schema{"type": scalars})
	set(output, "dead_letter", strict.Schema{"type": []string{"boolean", "string"}})
	set(test, "output", strict.Schema{"type": []string{"array", "null"}, "items": output})
	describe(test, testHelp)
	return s
}

// scalars are the types of what is read as text.
var scalars = []string{"string", "number", "boolean"}

func expression() strict.Schema {
	return strict.Schema{"type": []string{"string", "number", "boolean", "null"}}
}

func properties(s strict.Schema) strict.Schema { return s["properties"].(strict.Schema) }

func items(s strict.Schema, name string) strict.Schema {
	return properties(s)[name].(strict.Schema)["items"].(strict.Schema)
}

func set(s strict.Schema, name string, to strict.Schema) {
	if _, ok := properties(s)[name]; !ok {
		panic(fmt.Sprintf("stream: a jobs file has no key %q", name))
	}
	properties(s)[name] = to
}

func describe(s strict.Schema, help map[string]string) {
	for name, text := range help {
		properties(s)[name].(strict.Schema)["description"] = text
	}
}

// systemSchema is a mapping whose type decides which fields it has.
func systemSchema(types []string, spec func(string) connectors.Spec) strict.Schema {
	var cases []strict.Schema
	var help []string
	for _, t := range types {
		one := spec(t)
		s := strict.SchemaOfFields(one.Fields)
		properties(s)["type"] = strict.Schema{"const": t, "description": one.Summary + " " + one.Guarantee}
		cases = append(cases, strict.Schema{
			"if":   strict.Schema{"required": []string{"type"}, "properties": strict.Schema{"type": strict.Schema{"const": t}}},
			"then": s,
		})
		help = append(help, t+": "+one.Summary)
	}
	return strict.Schema{
		"type": "object", "required": []string{"type"}, "allOf": cases,
		"properties": strict.Schema{"type": strict.Schema{"enum": types, "description": strings.Join(help, "\n")}},
	}
}

func transformSchema() strict.Schema {
	return strict.Schema{
		"type": "object", "minProperties": 1, "maxProperties": 1, "additionalProperties": false,
		"properties": strict.Schema{
			"parse":  with(strict.SchemaOfFields(format.ParserFields()), "Makes a JSON object of the text of the record."),
			"filter": with(strict.Schema{"type": []string{"string", "boolean"}}, "Keeps the records for which the expression is true."),
			"map": with(strict.Schema{"type": "object", "minProperties": 1, "additionalProperties": strict.Schema{"type": scalars}},
				"Sets fields of the JSON object to expressions, such as {slow: value.ms > 500}."),
		},
	}
}

func with(s strict.Schema, description string) strict.Schema {
	s["description"] = description
	return s
}

// What the keys of a jobs file mean.
var (
	topicHelp = map[string]string{
		"name":       "Name of the topic, which is made when it is not there.",
		"partitions": "Number of partitions; it can be raised and not lowered.",
		"replicas":   "Number of copies of each partition.",
		"mirror_to":  "Sites that the topic is mirrored to, at the same offsets.",
		"config":     "Settings of the topic, as Kafka calls them, such as retention.ms.",
	}
	connectorHelp = map[string]string{
		"name":       "Name of the job, unique at the site; its offsets are kept under it.",
		"topic":      "The topic that the records go to, or come from.",
		"source":     "The external system that records are read from.",
		"sink":       "The external system that records are written to.",
		"transforms": "What is done with each record, in order: parse, filter and map.",
		"key":        "Expression of the record's key, such as value.id.",
		"timestamp":  "Expression of the record's timestamp: a time, or whole milliseconds.",
		"errors":     "What happens to records that fail.",
		"start":      "Where a sink without an offset begins. Default: earliest.",
		"memory":     "Bounds what the job holds in flight, such as 64MiB.",
		"tasks":      "Into how many tasks the job is divided, which the nodes of a site share; one by default.",
	}
	policyHelp = map[string]string{
		"dlq":          "Topic of the dead letters. Default: the job's name and .dlq.",
		"max_failures": "The job stops when more than so many of the last records failed, such as 10/1000. Default: it never does.",
		"gaps":         "What a sink does over records that were deleted before it read them. Default: fail.",
	}
	testHelp = map[string]string{
		"target": "The connector whose transforms are tested.",
		"input":  "Lines, one for each record.",
		"output": "What is expected of each line, in order.",
	}
)
