package ctl

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
)

// maxAnswer bounds what is read of an answer of the admin API.
const maxAnswer = 64 << 20

// get asks the admin API and decodes the answer.
func (c *cli) get(ctx context.Context, path string, into any) error {
	return c.call(ctx, http.MethodGet, path, into)
}

// call makes one request of the admin API. An error that the node answered with
// is passed on in its words.
func (c *cli) call(ctx context.Context, method, path string, into any) error {
	base, err := adminURL(c.admin)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, requestTime)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, base+path, nil)
	if err != nil {
		return usagef("--admin %s: %w", c.admin, err)
	}
	client := &http.Client{Transport: &http.Transport{
		DialContext:       (&net.Dialer{Timeout: dialTime}).DialContext,
		Proxy:             http.ProxyFromEnvironment,
		DisableKeepAlives: true, // one request, then the process ends
	}}
	resp, err := client.Do(req)
	if err != nil {
		return fmt.Errorf("no node answers at %s (%w); start one with `entrepot serve --dev`, or give --admin URL", base, httpCause(err))
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return fmt.Errorf("read the answer of %s: %w", base+path, err)
	}
	return decodeAnswer(base+path, resp, body, into)
}

func decodeAnswer(from string, resp *http.Response, body []byte, into any) error {
	if resp.StatusCode != http.StatusOK {
		var failure struct{ Error string }
		if json.Unmarshal(body, &failure) == nil && failure.Error != "" {
			return errors.New(failure.Error)
		}
		return fmt.Errorf("%s answers %s; is this the admin address of an Entrepot node?", from, resp.Status)
	}
	if err := json.Unmarshal(body, into); err != nil {
		return fmt.Errorf("%s does not answer as an Entrepot node does (%w); give the node's admin address with --admin URL", from, err)
	}
	return nil
}

// adminURL takes a URL, or host:port.
func adminURL(s string) (string, error) {
	if !strings.Contains(s, "://") {
		s = "http://" + s
	}
	u, err := url.Parse(s)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return "", usagef("--admin %s: want a URL such as %s", s, defaultAdmin)
	}
	return strings.TrimRight(u.String(), "/"), nil
}

// httpCause drops method, URL and address; the sentence has them already.
func httpCause(err error) error {
	if u, ok := errors.AsType[*url.Error](err); ok {
		err = u.Err
	}
	return cause(err)
}
