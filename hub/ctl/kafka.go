package ctl

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// How long the commands wait for a node: it is asked a handful of times, so a
// site in a restart is waited out, and one that is not there is not.
const (
	dialTime  = 3 * time.Second
	retryTime = 10 * time.Second
)

// kafkaClient connects to the site. The caller closes it.
func (c *cli) kafkaClient(ctx context.Context, extra ...kgo.Opt) (*kgo.Client, error) {
	seeds, err := seeds(c.brokers)
	if err != nil {
		return nil, err
	}
	if err := reachable(ctx, seeds); err != nil {
		return nil, err
	}
	secure, err := c.access.options()
	if err != nil {
		return nil, err
	}
	opts := append([]kgo.Opt{
		kgo.SeedBrokers(seeds...),
		kgo.ClientID("entrepot"),
		kgo.DialTimeout(dialTime),
		kgo.RetryTimeout(retryTime),
		kgo.RequestRetries(5),
	}, append(secure, extra...)...)
	client, err := kgo.NewClient(opts...)
	if err != nil {
		return nil, UsageError{err}
	}
	ping, cancel := context.WithTimeout(ctx, retryTime)
	defer cancel()
	if err := client.Ping(ping); err != nil {
		client.Close()
		if errors.Is(err, kerr.SaslAuthenticationFailed) {
			return nil, fmt.Errorf("%s refuses the login of %s; see --username, --password-file and --sasl-mechanism", strings.Join(seeds, ", "), c.access.username)
		}
		return nil, fmt.Errorf("%s does not answer the Kafka protocol (%w); if it asks for TLS or a login, see --tls-ca and --username, else give the address of a node's Kafka listener with --brokers", strings.Join(seeds, ", "), err)
	}
	return client, nil
}

// withAdmin runs f with a client for topics and groups, for no longer than a
// command that asks and prints may take.
func (c *cli) withAdmin(ctx context.Context, f func(context.Context, *kadm.Client) error) error {
	ctx, cancel := context.WithTimeout(ctx, requestTime)
	defer cancel()
	client, err := c.kafkaClient(ctx)
	if err != nil {
		return err
	}
	defer client.Close()
	return f(ctx, kadm.NewClient(client))
}

// seeds checks the addresses; a missing port is the usual one.
func seeds(brokers []string) ([]string, error) {
	var all []string
	for _, b := range brokers {
		b = strings.TrimSpace(b)
		if b == "" {
			continue
		}
		if strings.Contains(b, "://") {
			return nil, usagef("--brokers %s: want host:port, not a URL; the admin URL goes to --admin", b)
		}
		if _, _, err := net.SplitHostPort(b); err != nil {
			host := strings.Trim(b, "[]")
			if strings.Contains(host, ":") && net.ParseIP(host) == nil {
				return nil, usagef("--brokers %s: want host:port", b)
			}
			b = net.JoinHostPort(host, "9092")
		}
		all = append(all, b)
	}
	if len(all) == 0 {
		return nil, usagef("--brokers is empty: want host:port,...")
	}
	return all, nil
}

// reachable dials the addresses in turn until one answers. The client would
// find out as well, but slowly, and it would not say what to do.
func reachable(ctx context.Context, addrs []string) error {
	dialer := net.Dialer{Timeout: dialTime}
	var last error
	for _, addr := range addrs {
		conn, err := dialer.DialContext(ctx, "tcp", addr)
		if err == nil {
			return conn.Close()
		}
		last = err
	}
	return fmt.Errorf("no hub answers at %s (%w); start one with `entrepot serve --dev`, or give --brokers host:port", strings.Join(addrs, ", "), cause(last))
}

// cause drops the address from a dial error; the sentence has it already.
func cause(err error) error {
	if op, ok := errors.AsType[*net.OpError](err); ok {
		return op.Err
	}
	return err
}

// explain adds what to do to an error that the hub answered with. message is
// what it said beside the code, if anything.
func explain(what string, err error, message string) error {
	if err == nil {
		return nil
	}
	if message != "" {
		return fmt.Errorf("%s: %s (%w)", what, strings.TrimSuffix(message, "."), codeOnly(err))
	}
	var advice string
	switch {
	case errors.Is(err, kerr.UnknownTopicOrPartition):
		advice = "; `entrepot topic list` shows what is there"
	case errors.Is(err, kerr.TopicAlreadyExists):
		advice = "; give --if-not-exists to accept that"
	case errors.Is(err, kerr.NonEmptyGroup), errors.Is(err, kerr.UnknownMemberID):
		advice = "; stop the group's consumers first"
	case errors.Is(err, kerr.GroupIDNotFound):
		advice = "; `entrepot group list` shows what is there"
	case errors.Is(err, kerr.TransactionalIDNotFound):
		advice = "; `entrepot txn list` shows what is there"
	case errors.Is(err, kerr.InvalidReplicationFactor):
		advice = "; a site needs as many nodes as a topic has replicas"
	case errors.Is(err, kerr.SecurityDisabled):
		advice = "; ACLs decide nothing until the node's file has security.authorize: true"
	case errors.Is(err, kerr.TopicAuthorizationFailed), errors.Is(err, kerr.GroupAuthorizationFailed), errors.Is(err, kerr.ClusterAuthorizationFailed):
		advice = "; `entrepot acl list` shows who may do what"
	case errors.Is(err, context.DeadlineExceeded):
		advice = "; the site did not answer in time"
	}
	return fmt.Errorf("%s: %w%s", what, told(err), advice)
}

// toldError is a Kafka error in other words.
type toldError struct {
	text string
	err  error
}

func (e toldError) Error() string { return e.text }
func (e toldError) Unwrap() error { return e.err }

// codeOnly shows a Kafka error by its name.
func codeOnly(err error) error {
	if k, ok := errors.AsType[*kerr.Error](err); ok {
		return toldError{k.Message, err}
	}
	return err
}

// told shows it by its name and description, without the full stop that would
// stand in the middle of our sentence.
func told(err error) error {
	if k, ok := errors.AsType[*kerr.Error](err); ok {
		return toldError{k.Message + ": " + strings.TrimSuffix(k.Description, "."), err}
	}
	return err
}
