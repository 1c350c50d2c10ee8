package rabbitmq

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/entrepot-hub/entrepot/connectors"
)

// said is the broker's own word in an error: a channel or connection that it
// has closed.
func said(err error) (*amqp.Error, bool) {
	var e *amqp.Error
	return e, errors.As(err, &e) && e.Server
}

// absent reports whether the broker says that there is no such queue or exchange.
func absent(err error) bool {
	e, word := said(err)
	return word && e.Code == amqp.NotFound
}

// connectError gives an error of a connection that did not come about its
// class.
func connectError(ctx context.Context, err error) error {
	var (
		certificate *tls.CertificateVerificationError
		host        x509.HostnameError
		authority   x509.UnknownAuthorityError
		record      tls.RecordHeaderError
	)
	const what = "connect to RabbitMQ"
	e, word := said(err)
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("%s: %w", what, ctx.Err())
	case errors.As(err, &certificate), errors.As(err, &host), errors.As(err, &authority):
		return connectors.Fatal(fmt.Errorf("%s: the broker's certificate is not trusted; see cacertfile and server_name_indication of the url: %w", what, err))
	case errors.As(err, &record):
		return connectors.Fatal(fmt.Errorf("%s: the port does not speak TLS, is it that of amqp? %w", what, err))
	case errors.Is(err, amqp.ErrCredentials), errors.Is(err, amqp.ErrSASL), word && e.Code == amqp.AccessRefused:
		return connectors.Fatal(fmt.Errorf("%s: the login is refused; check user and password of the url: %w", what, err))
	case word && e.Code == amqp.NotAllowed && !strings.Contains(e.Reason, "limit"):
		return connectors.Fatal(fmt.Errorf("%s: check the virtual host at the end of the url, and the user's permissions for it: %w", what, err))
	}
	return connectors.Retry(0, fmt.Errorf("%s: %w", what, err))
}

// hints say what would be right, by the broker's code.
var hints = map[int]string{
	amqp.AccessRefused:      "the user of the url needs the permission: configure to declare, write to publish and to bind, read to consume",
	amqp.NotFound:           "create it at the broker, or set declare: true",
	amqp.PreconditionFailed: "make the config say what is there, or set declare: false, or delete it at the broker",
}

// refusal is the broker's answer to a call.
type refusal struct {
	what string
	word *amqp.Error
}

func (r refusal) Error() string {
	return fmt.Sprintf("%s: the broker says: %s (%d)", r.what, r.word.Reason, r.word.Code)
}

func (r refusal) Unwrap() error { return r.word }

// setupError gives an error while a channel, queue or exchange is made ready
// its class: what only people can mend is Fatal.
func setupError(ctx context.Context, what string, err error) error {
	if err == nil || connectors.ClassOf(err) == connectors.ClassFatal {
		return err
	}
	if ctx.Err() != nil {
		return fmt.Errorf("%s: %w", what, ctx.Err())
	}
	e, word := said(err)
	if !word {
		return connectors.Retry(0, fmt.Errorf("%s: %w", what, err))
	}
	var text error = refusal{what, e}
	if hint := hints[e.Code]; hint != "" {
		text = fmt.Errorf("%w; %s", text, hint)
	}
	switch e.Code {
	case amqp.PreconditionFailed, amqp.AccessRefused, amqp.NotAllowed, amqp.NotImplemented, amqp.CommandInvalid, amqp.SyntaxError:
		return connectors.Fatal(text)
	}
	return connectors.Retry(0, text)
}

// endOf is why a channel has ended.
func endOf(closed <-chan *amqp.Error) error {
	select {
	case e, ok := <-closed:
		if ok && e != nil {
			return e
		}
	default:
	}
	return amqp.ErrClosed
}
