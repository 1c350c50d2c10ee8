// Package webhook is the sink that sends records to an HTTP endpoint.
//
// A request carries one record, or all of a plan as a JSON array or NDJSON.
// Every request has an Idempotency-Key that names the records in it, so that
// an endpoint that remembers keys takes each record once; when an answer is
// lost, the same request goes out again under the same key. With a
// signing_secret it is signed as the Standard Webhooks specification says, and
// any of its libraries can check it.
//
// How answers are read: 2xx is done (or success_when decides); 408, 425, 429
// and 5xx are tried again, after Retry-After if that says so; after 401, 403
// and 407, which are about us and not about the record, so is the whole plan,
// and the job says that it backs off and why; a redirect stops the
// job, for it would send records where nobody has allowed it; any other 4xx is
// a record that the endpoint refuses, and a dead letter. A timeout is an
// outcome that is not known.
//
// Records of one key are sent one after the other, in the order of the topic,
// and while one is tried again only its lane waits.
//
// What cannot be done: an endpoint cannot be asked what it has, so after a
// crash the records of the last plan are sent again, under their keys. Of
// records of which some are refused, the others are delivered.
//
// Goroutines: Write starts one for each lane that has something to send and
// waits for them; net/http has some for each connection, and Close ends those.
package webhook

import (
	"time"

	"github.com/entrepot-hub/entrepot/connectors"
)

// Sink is the webhook sink.
type Sink struct{}

// Spec implements connectors.Sink.
func (Sink) Spec() connectors.Spec {
	return connectors.Spec{
		Type:      "webhook",
		Summary:   "Sends records to an HTTP endpoint, in the order of their keys, with signatures and idempotency keys.",
		Guarantee: "at-least-once (the offset moves after 2xx); effectively-once where the endpoint remembers Idempotency-Key",
		Since:     "0.2",
		Fields:    append(requestFields(), behaviourFields()...),
	}
}

func requestFields() []connectors.Field {
	return []connectors.Field{
		{
			Name: "url", Kind: connectors.KindSecret, Required: true, Example: "https://api.example.com/events",
			Description: "where to send; it is never shown, because such addresses often hold a token",
		},
		{
			Name: "method", Kind: connectors.KindString, Options: []string{"POST", "PUT", "PATCH"}, Default: "POST", Example: "PUT",
			Description: "method of the requests",
		},
		{
			Name: "body", Kind: connectors.KindString, Options: []string{"single", "array", "ndjson"}, Default: "single", Example: "array",
			Description: "what a request holds: one record's value, or the values of a whole plan (see batch) as a JSON array or in lines. Whole plans are sent one after the other",
		},
		{
			Name: "content_type", Kind: connectors.KindString, Check: checkHeaderValue, Example: "text/plain",
			Description: "Content-Type of single bodies; the default is application/json, and with that a value that is not JSON is a dead letter. Any other sends the bytes as they are",
		},
		{
			Name: "headers", Kind: connectors.KindSecretMap, Check: checkHeaders, Example: "{X-Api-Key: \"${env:API_KEY}\"}",
			Description: "more headers of every request; their names are shown, their values are not",
		},
		{
			Name: "bearer", Kind: connectors.KindSecret, Example: "${env:API_TOKEN}",
			Description: "token for Authorization: Bearer",
		},
		{
			Name: "signing_secret", Kind: connectors.KindSecret, Example: "${env:WEBHOOK_SECRET}",
			Description: "signs id, time and body with HMAC-SHA256 into webhook-signature (Standard Webhooks); a text that begins with whsec_ is base64, any other is used as it is",
		},
		{
			Name: "success_when", Kind: connectors.KindString, Check: checkExpression, Example: "value.errors == 0",
			Description: "for endpoints that answer 200 with an error inside: an expression over the answer (value is its JSON, text its text, headers its headers in lower case); false is tried again",
		},
		{
			Name: "allow_networks", Kind: connectors.KindStrings, Check: connectors.CheckNetworks, Example: "[\"10.1.0.0/16\"]",
			Description: "private, loopback and link-local networks that may be reached all the same. Addresses are checked after their name was resolved, at each connection",
		},
	}
}

func behaviourFields() []connectors.Field {
	return []connectors.Field{
		{
			Name: "concurrency", Kind: connectors.KindInt, Default: int64(8), Min: 1, Max: 256, Example: "1",
			Description: "requests at a time for each of the job's tasks, with body: single. Records of one key share a lane; records without a key have no order unless this is 1",
		},
		{
			Name: "rate", Kind: connectors.KindFloat, Check: checkRate, Example: "50",
			Description: "requests a second at most, for each task of the job; 0 does not bound",
		},
		{
			Name: "timeout", Kind: connectors.KindDuration, Default: 10 * time.Second, Min: int64(10 * time.Millisecond), Max: int64(time.Minute), Example: "3s",
			Description: "how long a request may take with its answer; then its outcome is not known and it is sent again",
		},
		{
			Name: "retry_for", Kind: connectors.KindDuration, Default: 75 * time.Second, Max: int64(100 * time.Second), Example: "30s",
			Description: "how long a plan is tried before the job starts anew with it, which sends again what others in it had done",
		},
		{
			Name: "breaker", Kind: connectors.KindObject, Description: "spares an endpoint that fails",
			Fields: []connectors.Field{
				{Name: "failures", Kind: connectors.KindInt, Default: int64(10), Min: 1, Max: 1_000_000, Example: "5", Description: "failures in a row after which nothing is sent for a while"},
				{Name: "pause", Kind: connectors.KindDuration, Default: 10 * time.Second, Min: int64(time.Millisecond), Max: int64(time.Minute), Example: "30s", Description: "that while; then one request tries"},
			},
		},
		{
			Name: "batch", Kind: connectors.KindObject, Description: "when a plan is cut, by what comes first; it bounds what is sent again after a crash",
			Fields: []connectors.Field{
				{Name: "rows", Kind: connectors.KindInt, Default: int64(200), Min: 1, Max: 100_000, Example: "1000", Description: "most records"},
				{Name: "bytes", Kind: connectors.KindSize, Default: int64(1 << 20), Min: 1, Max: 256 << 20, Example: "4MiB", Description: "most bytes of keys and values"},
				{Name: "every", Kind: connectors.KindDuration, Default: 100 * time.Millisecond, Min: int64(time.Millisecond), Max: int64(time.Hour), Example: "1s", Description: "longest time that a record waits for others"},
			},
		},
	}
}
