package webhook

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/entrepot-hub/entrepot/connectors"
	"github.com/entrepot-hub/entrepot/record"
	"github.com/entrepot-hub/entrepot/stream/expr"
)

// maxAnswer is how much of an answer is read, in bytes; maxShown how much of
// it stands in an error.
const (
	maxAnswer = 64 << 10
	maxShown  = 200
)

// response is what came back.
type response struct {
	status int
	header http.Header
	body   []byte
}

// errDenied says that the endpoint takes nothing from us. The other records
// would be answered alike, so the plan ends, and the job tells why it waits.
var errDenied = errors.New("check bearer, signing_secret and the rights there")

// judge reads an answer: nil is done; of class Poison is a record that the
// endpoint refuses; of class Retry may be tried again; of class Fatal needs
// somebody to change the config.
func judge(r response, success *expr.Program, now time.Time) error {
	err := fmt.Errorf("the endpoint answered %d %s: %q", r.status, http.StatusText(r.status), shown(r.body))
	switch {
	case r.status >= 200 && r.status < 300:
		return succeeded(r, success)
	case r.status >= 300 && r.status < 400:
		return connectors.Fatalf("the endpoint answered %d, a redirect, and these are not followed: set url to where it really is", r.status)
	case r.status == http.StatusUnauthorized, r.status == http.StatusForbidden, r.status == http.StatusProxyAuthRequired:
		return connectors.Retry(retryAfter(r.header.Get("Retry-After"), now), fmt.Errorf("%w; %w", err, errDenied))
	case r.status == http.StatusRequestTimeout, r.status == http.StatusTooEarly, r.status == http.StatusTooManyRequests,
		r.status >= 500, r.status < 200:
		return connectors.Retry(retryAfter(r.header.Get("Retry-After"), now), err)
	}
	return connectors.Poison(err)
}

// succeeded asks the expression about an answer of class 2xx.
func succeeded(r response, success *expr.Program) error {
	if success == nil {
		return nil
	}
	rec := record.Record{Value: r.body}
	for name, values := range r.header {
		rec.Headers = append(rec.Headers, record.Header{Key: strings.ToLower(name), Value: []byte(strings.Join(values, ", "))})
	}
	ok, err := success.Bool(&expr.Input{Record: &rec})
	if err != nil {
		return connectors.Retry(0, fmt.Errorf("success_when cannot be told of the answer %q: %w", shown(r.body), err))
	}
	if !ok {
		return connectors.Retry(0, fmt.Errorf("success_when is false for the answer %d: %q", r.status, shown(r.body)))
	}
	return nil
}

func shown(body []byte) string {
	return strings.ToValidUTF8(string(body[:min(len(body), maxShown)]), "\uFFFD")
}

// longestRetryAfter is what an endpoint can make us wait.
const longestRetryAfter = 10 * time.Minute

// retryAfter reads seconds or a date; 0 is nothing that can be read.
func retryAfter(text string, now time.Time) time.Duration {
	if text = strings.TrimSpace(text); text == "" {
		return 0
	}
	if n, err := strconv.ParseUint(text, 10, 32); err == nil {
		return min(time.Duration(n)*time.Second, longestRetryAfter)
	}
	at, err := http.ParseTime(text)
	if err != nil {
		return 0
	}
	return min(max(at.Sub(now), 0), longestRetryAfter)
}
