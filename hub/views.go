package hub

import (
	"math"

	"github.com/entrepot-hub/entrepot/hub/admin"
)

// kafkaSamples are the Kafka server's counts as metrics.
type kafkaSamples struct{ h *Hub }

// Samples implements admin.Samples.
func (v kafkaSamples) Samples() []admin.Sample {
	if !v.h.joined.Load() {
		return nil
	}
	s := v.h.server.Stats()
	all := []admin.Sample{
		{Name: "kafka_connections", Help: "Open connections of Kafka clients.", Value: float64(s.Connections)},
		{Name: "kafka_connections_refused_total", Help: "Connections beyond a limit, closed at once.", Counter: true, Value: float64(s.Refused)},
		{Name: "kafka_failed_logins_total", Help: "Logins of Kafka clients that failed.", Counter: true, Value: float64(s.FailedLogins)},
		{Name: "kafka_throttled_total", Help: "Answers to clients above their quota.", Counter: true, Value: float64(s.Throttled)},
		{Name: "kafka_request_bytes", Help: "Bytes of requests that are read and not yet answered.", Value: float64(s.RequestBytes)},
		{Name: "kafka_answer_bytes", Help: "Bytes of Fetch answers under way.", Value: float64(s.AnswerBytes)},
	}
	for api, n := range s.Requests {
		all = append(all, admin.Sample{Name: "kafka_requests_total", Help: "Requests by API.", Counter: true, Labels: map[string]string{"api": api}, Value: float64(n)})
	}
	return all
}

// registrySamples counts what the schema registry has.
type registrySamples struct{ h *Hub }

// Samples implements admin.Samples.
func (v registrySamples) Samples() []admin.Sample {
	if v.h.registryLn == nil || !v.h.joined.Load() {
		return nil
	}
	n, known := v.h.registry.Subjects()
	value := float64(n)
	if !known {
		value = math.NaN()
	}
	return []admin.Sample{
		{Name: "registry_subjects", Help: "Subjects of the schema registry that have a schema.", Value: value},
		{Name: "registry_failed_logins_total", Help: "Logins at the schema registry that failed.", Value: float64(v.h.registry.FailedLogins()), Counter: true},
	}
}

// connectSamples counts what the REST API for connectors has.
type connectSamples struct{ h *Hub }

// Samples implements admin.Samples.
func (v connectSamples) Samples() []admin.Sample {
	if v.h.connectLn == nil || !v.h.joined.Load() {
		return nil
	}
	return []admin.Sample{
		{Name: "connect_failed_logins_total", Help: "Logins at the REST API for connectors that failed.", Value: float64(v.h.connect.FailedLogins()), Counter: true},
	}
}
