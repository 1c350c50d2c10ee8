package kafka

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"regexp"
	"slices"
	"strconv"
	"time"

	"github.com/segmentio/kafka-go/sasl"
	"github.com/segmentio/kafka-go/sasl/plain"
	"github.com/segmentio/kafka-go/sasl/scram"

	"github.com/entrepot-hub/entrepot/connectors"
	"github.com/entrepot-hub/entrepot/record"
)

// link says how to connect to a cluster.
type link struct {
	brokers  []string
	clientID string
	tls      *tls.Config    // nil: none
	sasl     sasl.Mechanism // nil: none
	connect  func(ctx context.Context, network, addr string) (net.Conn, error)
}

// linkOf reads the files and secrets that the config names.
func linkOf(cfg connectors.Config) (*link, error) {
	l := &link{brokers: cfg.Strings("brokers"), clientID: cfg.String("client_id"), connect: new(net.Dialer).DialContext}
	if t := cfg.Object("tls"); cfg.Has("tls") && t.Bool("enabled") {
		var err error
		if l.tls, err = tlsOf(t); err != nil {
			return nil, connectors.Fatalf("tls: %w", err)
		}
	}
	if cfg.Has("sasl") {
		var err error
		if l.sasl, err = saslOf(cfg.Object("sasl")); err != nil {
			return nil, connectors.Fatalf("sasl: %w", err)
		}
	}
	return l, nil
}

func tlsOf(cfg connectors.Config) (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: cfg.String("server_name")}
	if path := cfg.String("ca"); path != "" {
		text, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("%s holds no certificate in PEM form", path)
		}
	}
	if path := cfg.String("cert"); path != "" {
		pair, err := tls.LoadX509KeyPair(path, cfg.String("key"))
		if err != nil {
			return nil, err
		}
		c.Certificates = []tls.Certificate{pair}
	}
	return c, nil
}

func saslOf(cfg connectors.Config) (sasl.Mechanism, error) {
	password, err := cfg.Secret("password").Reveal()
	if err != nil {
		return nil, fmt.Errorf("password: %w", err)
	}
	user := cfg.String("username")
	switch cfg.String("mechanism") {
	case "scram-sha-256":
		return scram.Mechanism(scram.SHA256, user, password)
	case "scram-sha-512":
		return scram.Mechanism(scram.SHA512, user, password)
	}
	return plain.Mechanism{Username: user, Password: password}, nil
}

// secure speaks TLS on a connection.
func (l *link) secure(ctx context.Context, plain net.Conn, addr string) (net.Conn, error) {
	cfg := l.tls.Clone()
	if cfg.ServerName == "" {
		cfg.ServerName, _, _ = net.SplitHostPort(addr)
	}
	c := tls.Client(plain, cfg)
	return c, c.HandshakeContext(ctx)
}

// sourceSettings are the fields of a source in the form the code needs.
type sourceSettings struct {
	topics   []string
	pattern  *regexp.Regexp // nil: only topics
	follow   bool
	discover time.Duration

	pinned     bool
	committed  bool
	start      int64 // atEarliest, atLatest, or ms since the epoch
	outOfRange string
	group      string

	minBytes, maxBytes int32
	maxWait            time.Duration
}

func sourceSettingsOf(cfg connectors.Config) sourceSettings {
	fetch := cfg.Object("fetch")
	s := sourceSettings{
		topics: cfg.Strings("topics"), follow: cfg.Bool("follow"), discover: cfg.Duration("discover_every"),
		pinned: cfg.String("partition") == "preserve", committed: cfg.String("isolation") == "read_committed",
		outOfRange: cfg.String("offset_out_of_range"), group: cfg.String("group"),
		minBytes: int32(fetch.Size("min_bytes")), maxBytes: int32(fetch.Size("max_bytes")), maxWait: fetch.Duration("max_wait"),
	}
	s.start, _ = startOf(cfg.String("start"))
	if text := cfg.String("topics_regexp"); text != "" {
		s.pattern, _ = wholeName(text)
	}
	return s
}

// wants tells whether a topic is one to read. What Kafka keeps for itself is
// read only when it is named.
func (s sourceSettings) wants(name string, t topic) bool {
	return slices.Contains(s.topics, name) || s.pattern != nil && !t.internal && s.pattern.MatchString(name)
}

// wholeName is a pattern that has to match all of a name.
func wholeName(text string) (*regexp.Regexp, error) { return regexp.Compile("^(?:" + text + ")$") }

func startOf(text string) (int64, error) {
	switch text {
	case "earliest":
		return atEarliest, nil
	case "latest":
		return atLatest, nil
	}
	t, err := time.Parse(time.RFC3339, text)
	if err != nil || t.UnixMilli() < 0 {
		return 0, fmt.Errorf("%q is neither earliest, latest nor a time after 1970 such as 2026-05-17T10:00:00Z", text)
	}
	return t.UnixMilli(), nil
}

// sinkSettings are the fields of a sink in the form the code needs.
type sinkSettings struct {
	topic       string // "": as the hub's
	partitioner string
	transaction bool
	id          string // prefix of transactional ids and groups
	txnTimeout  time.Duration
	codec       record.Codec
	batchBytes  int
	maxRecord   int // 0: ask the topic
	tail        int64
	batching    connectors.Limits
}

func sinkSettingsOf(cfg connectors.Config) sinkSettings {
	batch := cfg.Object("batch")
	s := sinkSettings{
		topic: cfg.String("remote_topic"), partitioner: cfg.String("partition"),
		transaction: cfg.String("exactly_once") == "transaction", id: cfg.String("transactional_id"),
		txnTimeout: cfg.Duration("transaction_timeout"), batchBytes: int(cfg.Size("request_bytes")),
		maxRecord: int(cfg.Size("max_message_bytes")), tail: cfg.Int("resume_scan"),
		batching: connectors.Limits{Records: int(batch.Int("records")), Bytes: int(batch.Size("bytes")), Wait: batch.Duration("every")},
	}
	s.codec, _ = record.ParseCodec(cfg.String("compression"))
	return s
}

// checkLink finds what the single fields of a connection cannot tell.
func checkLink(cfg connectors.Config) []connectors.Finding {
	var all []connectors.Finding
	t := cfg.Object("tls")
	if (t.String("cert") == "") != (t.String("key") == "") {
		all = append(all, connectors.Finding{Field: "tls", Message: "a client's certificate needs its key, and the key its certificate", Hint: "give both cert and key, or neither"})
	}
	encrypted := cfg.Has("tls") && t.Bool("enabled")
	if cfg.Has("sasl") && cfg.Object("sasl").String("mechanism") == "plain" && !encrypted {
		all = append(all, connectors.Finding{Field: "sasl", Message: "the mechanism plain sends the password as it is, and without TLS anybody on the way can read it", Hint: "add tls, or use scram-sha-512", Warning: true})
	}
	return all
}

func checkBrokers(v any) error {
	all := v.([]string)
	if len(all) == 0 {
		return errors.New("no broker is named, want host:port of one at least")
	}
	for _, b := range all {
		host, port, err := net.SplitHostPort(b)
		if n, bad := strconv.Atoi(port); err != nil || host == "" || bad != nil || n < 1 || n > 65535 {
			return fmt.Errorf("%q is not a broker's address, want host:port such as kafka-1.example:9092", b)
		}
	}
	return nil
}

func checkTopic(v any) error { return record.CheckTopicName(v.(string)) }

func checkTopics(v any) error {
	for _, t := range v.([]string) {
		if err := record.CheckTopicName(t); err != nil {
			return err
		}
	}
	return nil
}

func checkPattern(v any) error {
	_, err := wholeName(v.(string))
	return err
}

func checkStart(v any) error {
	_, err := startOf(v.(string))
	return err
}
