package ctl

import (
	"bytes"
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
	return c.send(ctx, method, path, nil, into)
}

// send is call with a body.
func (c *cli) send(ctx context.Context, method, path string, body, into any) error {
	return c.request(ctx, endpoint{c.admin, "--admin", defaultAdmin, "the admin address of an Entrepot node", false}, method, path, body, into)
}

// endpoint is where a command speaks HTTP: what its flag says, what should be
// there, and whether it asks for a login.
type endpoint struct {
	url, flag, example, what string
	login                    bool
}

// request sends body, if there is one, as JSON and decodes the answer.
func (c *cli) request(ctx context.Context, to endpoint, method, path string, body, into any) error {
	base, err := to.base()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, requestTime)
	defer cancel()
	var content io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return err
		}
		content = bytes.NewReader(text)
	}
	req, err := http.NewRequestWithContext(ctx, method, base+path, content)
	if err != nil {
		return usagef("%s %s: %w", to.flag, to.url, err)
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if to.login {
		password, err := readPassword("--password-file", c.access.passwordFile)
		if err != nil {
			return err
		}
		req.SetBasicAuth(c.access.username, password)
	}
	secure, err := c.access.config()
	if err != nil {
		return err
	}
	client := &http.Client{Transport: &http.Transport{
		TLSClientConfig:   secure,
		DialContext:       (&net.Dialer{Timeout: dialTime}).DialContext,
		Proxy:             http.ProxyFromEnvironment,
		DisableKeepAlives: true, // one request, then the process ends
	}}
	resp, err := client.Do(req)
	if err != nil {
		return fmt.Errorf("no node answers at %s (%w); start one with `entrepot serve --dev`, or give %s URL", base, httpCause(err), to.flag)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return fmt.Errorf("read the answer of %s: %w", base+path, err)
	}
	return to.decode(base+path, resp, answer, into)
}

func (to endpoint) decode(from string, resp *http.Response, body []byte, into any) error {
	if resp.StatusCode/100 != 2 {
		var failure struct {
			Error   string
			Message string // the schema registry's
		}
		if json.Unmarshal(body, &failure) == nil && failure.Error+failure.Message != "" {
			return errors.New(failure.Error + failure.Message)
		}
		return fmt.Errorf("%s answers %s; is this %s?", from, resp.Status, to.what)
	}
	if into == nil {
		return nil
	}
	if err := json.Unmarshal(body, into); err != nil {
		return fmt.Errorf("%s does not answer as an Entrepot node does (%w); give %s with %s URL", from, err, to.what, to.flag)
	}
	return nil
}

// base takes a URL, or host:port.
func (to endpoint) base() (string, error) {
	s := to.url
	if !strings.Contains(s, "://") {
		s = "http://" + s
	}
	u, err := url.Parse(s)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return "", usagef("%s %s: want a URL such as %s", to.flag, s, to.example)
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
