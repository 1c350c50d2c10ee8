package rabbitmq

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/entrepot-hub/entrepot/connectors"
)

const (
	connectTimeout = 10 * time.Second // of the network and of the handshake
	answerTimeout  = 30 * time.Second
	closeTimeout   = 5 * time.Second
)

// link is one connection. It is never made again: who loses it opens another.
type link struct {
	conn *amqp.Connection
	net  net.Conn
}

// address is where to connect: one of several nodes after the other is tried.
type address struct {
	urls []string
	name string // how the broker calls the connection
}

func addressOf(task connectors.TaskContext) (address, error) {
	text, err := task.Config.Secret("url").Reveal()
	if err != nil {
		return address{}, connectors.Fatalf("url: %w", err)
	}
	a := address{name: strings.TrimSpace("entrepot " + task.Job + " " + task.Task)}
	for one := range strings.SplitSeq(text, ",") {
		one = strings.TrimSpace(one)
		if _, err := amqp.ParseURI(one); err != nil { // the parser's error may have the password in it
			return address{}, connectors.Fatalf("url: it cannot be read, want amqp://user:password@host:5672/vhost, or amqps with TLS; letters such as @ and / in the password are written %%40 and %%2F")
		}
		a.urls = append(a.urls, one)
	}
	return a, nil
}

// connect opens a connection to the first node that takes one.
func (a address) connect(ctx context.Context) (*link, error) {
	var first error
	for _, url := range a.urls {
		l, err := dial(ctx, url, a.name)
		if errors.Is(err, amqp.ErrCredentials) {
			// The broker refuses a login by closing the connection, some
			// seconds later. A broker that ends would look the same, once.
			l, err = dial(ctx, url, a.name)
		}
		if err == nil {
			return l, nil
		}
		if first == nil {
			first = connectError(ctx, err)
		}
	}
	return nil, first
}

// connect opens a connection by the url of a task.
func connect(ctx context.Context, task connectors.TaskContext) (*link, error) {
	a, err := addressOf(task)
	if err != nil {
		return nil, err
	}
	return a.connect(ctx)
}

func dial(ctx context.Context, url, name string) (*link, error) {
	l := &link{}
	stop := func() bool { return true }
	cfg := amqp.Config{
		Locale: "en_US", Heartbeat: 10 * time.Second,
		Properties: amqp.Table{"connection_name": name, "product": "entrepot"},
		Dial: func(network, addr string) (net.Conn, error) {
			d := net.Dialer{Timeout: connectTimeout}
			conn, err := d.DialContext(ctx, network, addr)
			if err != nil {
				return nil, err
			}
			l.net = conn
			stop = context.AfterFunc(ctx, l.cut)
			return conn, conn.SetDeadline(time.Now().Add(connectTimeout)) // the driver takes it off
		},
	}
	var err error
	l.conn, err = amqp.DialConfig(url, cfg)
	stop()
	if err != nil && l.net != nil {
		l.cut()
	}
	if err == nil && ctx.Err() != nil {
		l.close()
		err = ctx.Err()
	}
	return l, err
}

// cut ends the connection without a word: whatever waits for it returns.
func (l *link) cut() { _ = l.net.Close() }

// within runs calls to the broker, which know no context, and cuts the
// connection when ctx ends first.
func (l *link) within(ctx context.Context, calls func() error) error {
	stop := context.AfterFunc(ctx, l.cut)
	defer stop()
	return calls()
}

// ask is within for calls that the broker should answer at once.
func (l *link) ask(ctx context.Context, calls func() error) error {
	limited, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	err := l.within(limited, calls)
	if err != nil && ctx.Err() == nil && limited.Err() != nil {
		return fmt.Errorf("the broker has not answered within %v: %w", answerTimeout, err)
	}
	return err
}

// close takes leave of the broker, and waits for what the driver has started.
func (l *link) close() {
	if l == nil {
		return
	}
	timer := time.AfterFunc(closeTimeout, l.cut)
	defer timer.Stop()
	_ = l.conn.Close()
	l.cut()
}
