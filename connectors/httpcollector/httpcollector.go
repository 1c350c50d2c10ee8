// Package httpcollector is the source that takes events from browsers, apps
// and servers over HTTP, for website activity tracking. It serves
//
//	POST /collect  events: a JSON object or array, NDJSON, a form; text/plain
//	               is read as JSON, for that is what a beacon can send from
//	               another origin without asking first
//	GET  /p.gif    one event in the query, answered with a picture of a pixel
//	GET  /t.js     the tracking snippet, which needs nothing else
//	GET  /healthz  200 while the source takes events
//
// An answer of class 2xx is a promise: by default it is given after the hub's
// transaction with the events is committed. What cannot be promised in time is
// answered with 503 and Retry-After, and the client sends it again; event_id,
// a text of the client's choice, makes one of the two.
//
// A body of several events is answered for each: 204 when all are in, else 207
// (400 when none is) with the index, status and reason of those that are not.
//
// What cannot be seen: events that a client gives up on, and two events of the
// same event_id that are further apart than dedup_window.
//
// Goroutines: Open starts one that serves, and net/http one for each
// connection; Close ends all of them and waits for the first and for every
// request. The number of connections and the bytes in flight are bounded.
package httpcollector

import (
	"time"

	"github.com/entrepot-hub/entrepot/connectors"
)

// Source is the collector.
type Source struct{}

// Spec implements connectors.Source.
func (Source) Spec() connectors.Spec {
	return connectors.Spec{
		Type:      "http-collector",
		Summary:   "Takes events from browsers and servers over HTTP and serves the snippet that sends them.",
		Guarantee: "at-least-once from the 2xx answer on, which follows the hub's commit; effectively-once by event_id (deduplication window)",
		Since:     "0.2",
		Fields:    fields(),
	}
}

const (
	defaultDedup    = 1_000_000
	defaultEvent    = 64 << 10
	defaultBody     = 1 << 20
	defaultInFlight = 32 << 20
	defaultConns    = 4096
)

func fields() []connectors.Field {
	out := []connectors.Field{
		{
			Name: "listen", Kind: connectors.KindString, Required: true, Check: checkListen, Example: "0.0.0.0:8088",
			Description: "address and port to serve on; it is open while the job runs",
		},
		{
			Name: "tls", Kind: connectors.KindObject, Description: "serve HTTPS with this certificate; without it plain HTTP is served, for a proxy in front",
			Fields: []connectors.Field{
				{Name: "cert", Kind: connectors.KindString, Required: true, Example: "/etc/entrepot/collector.pem", Description: "file with the certificate chain, PEM"},
				{Name: "key", Kind: connectors.KindString, Required: true, Example: "/etc/entrepot/collector.key", Description: "file with its key, PEM"},
			},
		},
		{
			Name: "sites", Kind: connectors.KindObjects, Fields: siteFields(),
			Description: "who may send; without this list everybody may, and the site of the events is empty",
		},
		{
			Name: "ack", Kind: connectors.KindString, Options: []string{"quorum", "none"}, Default: "quorum", Example: "none",
			Description: "when to answer 2xx: quorum after the hub's commit (204); none at once (202), what is in memory is lost with the process",
		},
		{
			Name: "ack_timeout", Kind: connectors.KindDuration, Default: 5 * time.Second, Min: int64(100 * time.Millisecond), Max: int64(time.Minute), Example: "2s",
			Description: "after so long without the commit the answer is 503; the client has to send the same again",
		},
		{
			Name: "group_commit", Kind: connectors.KindDuration, Default: 10 * time.Millisecond, Min: int64(time.Millisecond), Max: int64(time.Second), Example: "20ms",
			Description: "the least time from one transaction to the next; what comes in between is collected for one. Longer is cheaper, and under load each answer takes that much longer",
		},
		connectors.DedupField(defaultDedup),
		{
			Name: "dedup_age", Kind: connectors.KindDuration, Max: int64(30 * 24 * time.Hour), Example: "24h",
			Description: "event_ids older than this are forgotten even within dedup_window; 0 keeps them",
		},
	}
	return append(append(out, privacyFields()...), limitFields()...)
}

func siteFields() []connectors.Field {
	return []connectors.Field{
		{
			Name: "name", Kind: connectors.KindString, Required: true, Check: checkName, Example: "shop",
			Description: "name of the site in the events",
		},
		{
			Name: "key", Kind: connectors.KindString, Required: true, Check: checkName, Example: "shop-web",
			Description: "what senders give as ?site=; it stands in every page and is no secret",
		},
		{
			Name: "origins", Kind: connectors.KindStrings, Check: checkOrigins, Example: "[\"https://shop.example\"]",
			Description: "origins whose pages may send, scheme://host[:port]; none allows all of them. It keeps out honest browsers only",
		},
		{
			Name: "token", Kind: connectors.KindSecret, Example: "${env:SHOP_TOKEN}",
			Description: "when set, requests need Authorization: Bearer with it; for servers, as a page cannot keep it",
		},
	}
}

func privacyFields() []connectors.Field {
	rule := []string{"keep", "anonymise", "drop"}
	return []connectors.Field{
		{
			Name: "trusted_proxies", Kind: connectors.KindStrings, Check: connectors.CheckNetworks, Example: "[\"10.0.0.0/8\"]",
			Description: "networks of the proxies in front; the client is the last address in X-Forwarded-For that is in none of them. Without them the header is not looked at",
		},
		{
			Name: "ip", Kind: connectors.KindString, Options: []string{"truncate", "full", "none"}, Default: "truncate", Example: "none",
			Description: "what of the client's address is kept: its network (/24 of IPv4, /48 of IPv6), all of it, or nothing",
		},
		{
			Name: "gpc", Kind: connectors.KindString, Options: rule, Default: "anonymise", Example: "drop",
			Description: "what to do for browsers that send Global Privacy Control (Sec-GPC: 1): keep, anonymise (no address, user agent, anonymous id or cookie outside of the payload), or drop the event and answer 2xx",
		},
		{
			Name: "dnt", Kind: connectors.KindString, Options: rule, Default: "keep", Example: "drop",
			Description: "the same for Do Not Track (DNT: 1)",
		},
		{
			Name: "require_consent", Kind: connectors.KindBool, Default: false, Example: "true",
			Description: "drop events whose field consent is not true, and answer 2xx",
		},
		{
			Name: "bots", Kind: connectors.KindString, Options: []string{"flag", "drop"}, Default: "flag", Example: "drop",
			Description: "what to do with events of user agents that call themselves robots or tools: set bot: true, or drop them and answer 2xx",
		},
		{
			Name: "cookie", Kind: connectors.KindObject, Description: "an anonymous id that the browser keeps; without it only the one in the event's field anonymous_id is used",
			Fields: []connectors.Field{
				{Name: "name", Kind: connectors.KindString, Check: checkCookie, Example: "_eid", Description: "name of the cookie; empty sets none"},
				{Name: "domain", Kind: connectors.KindString, Example: "shop.example", Description: "domain that shares it; empty is the collector's host alone"},
				{Name: "max_age", Kind: connectors.KindDuration, Default: 365 * 24 * time.Hour, Min: int64(time.Minute), Max: int64(400 * 24 * time.Hour), Example: "30d", Description: "how long the browser keeps it"},
				{Name: "same_site", Kind: connectors.KindString, Options: []string{"lax", "none"}, Default: "lax", Example: "none", Description: "none is sent from pages of other sites too, where the browser still allows that; it needs HTTPS"},
			},
		},
	}
}

func limitFields() []connectors.Field {
	return []connectors.Field{
		{
			Name: "max_event", Kind: connectors.KindSize, Default: int64(defaultEvent), Min: 64, Max: 16 << 20, Example: "16KiB",
			Description: "largest event; a longer one is answered with 413",
		},
		{
			Name: "max_body", Kind: connectors.KindSize, Default: int64(defaultBody), Min: 64, Max: 64 << 20, Example: "256KiB",
			Description: "largest body, after gzip was undone; a longer one is answered with 413",
		},
		{
			Name: "max_in_flight", Kind: connectors.KindSize, Default: int64(defaultInFlight), Min: 64 << 10, Max: 4 << 30, Example: "128MiB",
			Description: "bytes of all events that are received and not yet committed; beyond it the answer is 503",
		},
		{
			Name: "max_connections", Kind: connectors.KindInt, Default: int64(defaultConns), Min: 1, Max: 1_000_000, Example: "20000",
			Description: "connections at a time; one more is answered with 503 and closed",
		},
		{
			Name: "read_timeout", Kind: connectors.KindDuration, Default: 10 * time.Second, Min: int64(100 * time.Millisecond), Max: int64(5 * time.Minute), Example: "5s",
			Description: "how long a client may take for one request, its headers and body together",
		},
		{
			Name: "idle_timeout", Kind: connectors.KindDuration, Default: time.Minute, Min: int64(time.Second), Max: int64(time.Hour), Example: "15s",
			Description: "how long a connection stays open between requests",
		},
	}
}
