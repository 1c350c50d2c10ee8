// Package all is the explicit list of the built-in connectors. To add one,
// write it (connectors/README.md says how) and name it here; nothing registers
// itself.
//
// Goroutines: none.
package all

import (
	"github.com/entrepot-hub/entrepot/connectors"
	"github.com/entrepot-hub/entrepot/connectors/clickhouse"
	"github.com/entrepot-hub/entrepot/connectors/file"
	"github.com/entrepot-hub/entrepot/connectors/files"
	"github.com/entrepot-hub/entrepot/connectors/httpcollector"
	"github.com/entrepot-hub/entrepot/connectors/kafka"
	"github.com/entrepot-hub/entrepot/connectors/postgres"
	"github.com/entrepot-hub/entrepot/connectors/rabbitmq"
	"github.com/entrepot-hub/entrepot/connectors/webhook"
)

// Builtin lists the connectors that every hub has. The keys are the types of
// their Specs, which a test checks.
func Builtin() connectors.Registry {
	return connectors.Registry{
		Sources: map[string]connectors.Source{
			"clickhouse":      clickhouse.Source{},
			"file":            file.Source{},
			"files":           files.Source{},
			"http-collector":  httpcollector.Source{},
			"kafka":           kafka.Source{},
			"postgres":        postgres.Query{},
			"postgres-cdc":    postgres.CDC{},
			"rabbitmq":        rabbitmq.Source{},
			"rabbitmq-stream": rabbitmq.Stream{},
		},
		Sinks: map[string]connectors.Sink{
			"clickhouse": clickhouse.Sink{},
			"files":      files.Sink{},
			"kafka":      kafka.Sink{},
			"postgres":   postgres.Sink{},
			"rabbitmq":   rabbitmq.Sink{},
			"webhook":    webhook.Sink{},
		},
	}
}
