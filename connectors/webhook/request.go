package webhook

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/entrepot-hub/entrepot/connectors"
)

// keyHeader holds the record's key in a request with one record, as a query
// would have it.
const keyHeader = "Entrepot-Key"

// shipment is one request.
type shipment struct {
	id     string // Idempotency-Key: the same for the same records
	body   []byte
	key    []byte // of the record, nil for none or several
	offset int64  // of the record, in a request with one
	index  int    // in the batch
}

// check refuses what cannot be sent, before anything is.
func (s *settings) check(batch connectors.Batch) (refused []connectors.RecordError) {
	if !s.json {
		return nil
	}
	for i, m := range batch.Messages {
		if m.Value == nil || jsontext.Value(m.Value).IsValid() {
			continue
		}
		refused = append(refused, connectors.RecordError{Index: i, Offset: m.Offset, Err: connectors.Poison(errors.New(
			"the value is not valid JSON, which the body has to be; set content_type to send bytes as they are"))})
	}
	return refused
}

// single makes a request of each record. A tombstone is null.
func (s *settings) single(job string, p connectors.Plan, batch connectors.Batch) []shipment {
	out := make([]shipment, len(batch.Messages))
	for i, m := range batch.Messages {
		out[i] = shipment{
			id: fmt.Sprintf("%s-%s-%d-%d", job, p.Partition.Topic, p.Partition.Partition, m.Offset), body: s.value(m),
			key: m.Key, offset: m.Offset, index: i,
		}
	}
	return out
}

func (s *settings) value(m connectors.Message) []byte {
	if m.Value == nil && s.json {
		return []byte("null")
	}
	return m.Value
}

// whole makes one request of all records. Its id names the first and last
// offset and the number of records: without one that was refused it is another.
func (s *settings) whole(job string, p connectors.Plan, batch connectors.Batch) shipment {
	var b bytes.Buffer
	array := s.body == "array"
	if array {
		b.WriteByte('[')
	}
	for i, m := range batch.Messages {
		v := jsontext.Value(bytes.Clone(s.value(m)))
		switch {
		case array && i > 0:
			b.WriteByte(',')
		case !array && bytes.ContainsAny(v, "\r\n"): // it has to stay in its line
			_ = v.Compact() // it is valid
		}
		b.Write(v)
		if !array {
			b.WriteByte('\n')
		}
	}
	if array {
		b.WriteByte(']')
	}
	n := len(batch.Messages)
	return shipment{
		id: fmt.Sprintf("%s-%s-%d-%d-%d-%d", job, p.Partition.Topic, p.Partition.Partition,
			batch.Messages[0].Offset, batch.Messages[n-1].Offset, n),
		body: b.Bytes(),
	}
}

// sign is the signature of Standard Webhooks: its version, and the HMAC of id,
// time and body.
func sign(secret []byte, id string, at time.Time, body []byte) string {
	mac := hmac.New(sha256.New, secret)
	fmt.Fprintf(mac, "%s.%d.", id, at.Unix())
	mac.Write(body)
	return "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

// request makes the HTTP request of a shipment.
func (s *settings) request(ctx context.Context, one shipment, now time.Time) *http.Request {
	req := (&http.Request{
		Method: s.method, URL: s.url, Host: s.url.Host, Header: http.Header{},
		Body: io.NopCloser(bytes.NewReader(one.body)), ContentLength: int64(len(one.body)),
		GetBody: func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(one.body)), nil },
	}).WithContext(ctx)
	h := req.Header
	for name, value := range s.headers {
		h.Set(name, value)
	}
	h.Set("Content-Type", s.contentType)
	h.Set("Idempotency-Key", one.id)
	h.Set("Webhook-Id", one.id)
	h.Set("Webhook-Timestamp", strconv.FormatInt(now.Unix(), 10))
	if one.key != nil {
		h.Set(keyHeader, url.QueryEscape(string(one.key)))
	}
	if len(s.secret) > 0 {
		h.Set("Webhook-Signature", sign(s.secret, one.id, now, one.body))
	}
	if s.bearer != "" {
		h.Set("Authorization", "Bearer "+s.bearer)
	}
	return req
}

// once sends a shipment and reads the answer.
func (w *writer) once(ctx context.Context, one shipment) error {
	ctx, cancel := context.WithTimeout(ctx, w.timeout)
	defer cancel()
	resp, err := w.client.Do(w.request(ctx, one, w.clock()))
	if err != nil {
		return w.transportError(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil && resp.StatusCode < 300 && w.success != nil {
		return w.transportError(err) // what the answer says decides
	}
	return judge(response{resp.StatusCode, resp.Header, body}, w.success, w.clock())
}

// transportError classifies an error without an answer. net/http's own text
// has the address in it, which may be a secret.
func (w *writer) transportError(err error) error {
	if u, ok := errors.AsType[*url.Error](err); ok {
		err = u.Err
	}
	if errors.Is(err, errAddress) {
		return connectors.Fatal(fmt.Errorf("connect to %s: %w", w.url.Hostname(), err))
	}
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "dial" {
		return connectors.Retry(0, fmt.Errorf("connect to %s: %w", w.url.Hostname(), err))
	}
	if errors.Is(err, context.DeadlineExceeded) {
		err = fmt.Errorf("no answer within %v: %w", w.timeout, err)
	}
	return connectors.Unknown(fmt.Errorf("request to %s: %w", w.url.Hostname(), err))
}
