package webhook

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/entrepot-hub/entrepot/connectors"
	"github.com/entrepot-hub/entrepot/record"
)

// Validate implements connectors.Sink. A live check looks at the secrets too;
// it sends nothing, for an endpoint has no way to be asked without effect.
func (Sink) Validate(_ context.Context, cfg connectors.Config, probe connectors.Probe) []connectors.Finding {
	s, err := settingsOf(cfg)
	if err != nil {
		return []connectors.Finding{{Message: err.Error()}}
	}
	var all []connectors.Finding
	if s.body != "single" {
		for _, f := range []string{"content_type", "concurrency"} {
			if cfg.Has(f) {
				all = append(all, connectors.Finding{Field: f, Message: "it has no meaning with body: " + s.body, Hint: "leave it out, or set body: single"})
			}
		}
	}
	if s.timeout > s.retryFor && s.retryFor > 0 {
		all = append(all, connectors.Finding{Field: "retry_for", Message: "it is shorter than the timeout of one request", Hint: "make it a few times as long"})
	}
	if rows := cfg.Object("batch").Int("rows"); s.body == "single" && float64(rows-1) > s.rate*s.retryFor.Seconds() && s.rate > 0 {
		// Such a plan would never end, and be sent again from its beginning.
		all = append(all, connectors.Finding{
			Field: "rate", Message: fmt.Sprintf("%v requests a second do not send a plan of %d records within retry_for, %v", s.rate, rows, s.retryFor),
			Hint: "lower batch.rows, or raise retry_for or rate",
		})
	}
	if probe == connectors.ProbeLive {
		if err := s.reveal(cfg); err != nil {
			all = append(all, connectors.Finding{Field: "url", Message: err.Error()})
		} else if s.url.Scheme == "http" && (len(s.secret) > 0 || s.bearer != "") {
			all = append(all, connectors.Finding{Field: "url", Message: "the token travels unencrypted over http", Hint: "https", Warning: true})
		}
	}
	return all
}

// Batching implements connectors.Sink.
func (Sink) Batching(cfg connectors.Config) connectors.Limits {
	b := cfg.Object("batch")
	return connectors.Limits{Records: int(b.Int("rows")), Bytes: int(b.Size("bytes")), Wait: b.Duration("every")}
}

// Open implements connectors.Sink.
func (Sink) Open(_ context.Context, task connectors.TaskContext, _ []record.TopicPartition) (connectors.Writer, error) {
	s, err := settingsOf(task.Config)
	if err == nil {
		err = s.reveal(task.Config)
	}
	if err != nil {
		return nil, connectors.Fatal(err)
	}
	w := &writer{settings: s, job: task.Job, clock: task.Clock, done: map[record.TopicPartition]map[int64]bool{}}
	w.gate.pacer = pacer{failures: s.failures, pause: s.pause}
	if s.rate > 0 {
		w.gate.every = time.Duration(float64(time.Second) / s.rate)
	}
	dialer := &net.Dialer{Timeout: s.timeout, ControlContext: s.guard}
	w.transport = &http.Transport{ // no Proxy: it would resolve the name in our place
		DialContext: dialer.DialContext, TLSHandshakeTimeout: s.timeout, ForceAttemptHTTP2: true, DisableCompression: true,
		MaxIdleConnsPerHost: s.lanes, MaxConnsPerHost: s.lanes, IdleConnTimeout: 90 * time.Second, MaxResponseHeaderBytes: 64 << 10,
	}
	w.client = &http.Client{Transport: w.transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	return w, nil
}
