package kafka

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"time"

	"github.com/segmentio/kafka-go/protocol"
	"github.com/segmentio/kafka-go/protocol/apiversions"
	"github.com/segmentio/kafka-go/protocol/saslauthenticate"
	"github.com/segmentio/kafka-go/protocol/saslhandshake"
	"github.com/segmentio/kafka-go/sasl"

	"github.com/entrepot-hub/entrepot/connectors"
)

const (
	// answerWithin is how long a broker may take for an answer.
	answerWithin = 30 * time.Second
	// dialWithin bounds a connection with its handshakes.
	dialWithin = 10 * time.Second
	// maxAnswer is the longest answer that is read, in bytes. A longer length
	// is not Kafka's protocol: often it is TLS spoken to a plain client.
	maxAnswer = 512 << 20
)

// conn is one connection to a broker. One request is under way at a time.
type conn struct {
	net      net.Conn
	addr     string
	clientID string
	number   int32 // of the last request
	versions map[protocol.ApiKey]versionRange
	broken   bool // what comes next on it belongs to an earlier request
}

type versionRange struct{ min, max int16 }

// dial connects, proves the client's identity and asks what the broker speaks.
func (l *link) dial(ctx context.Context, addr string) (*conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialWithin)
	defer cancel()
	plain, err := l.connect(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	c := &conn{net: plain, addr: addr, clientID: l.clientID}
	if l.tls != nil {
		secure, err := l.secure(ctx, plain, addr)
		if err != nil {
			_ = plain.Close()
			return nil, fmt.Errorf("TLS with %s: %w", addr, err)
		}
		c.net = secure
	}
	if err := c.greet(ctx, l.sasl); err != nil {
		_ = c.net.Close()
		return nil, err
	}
	return c, nil
}

func (c *conn) greet(ctx context.Context, mechanism sasl.Mechanism) error {
	c.versions = map[protocol.ApiKey]versionRange{protocol.ApiVersions: {0, 0}}
	m, err := c.ask(ctx, new(apiversions.Request))
	if err != nil {
		return err
	}
	answer := m.(*apiversions.Response)
	if answer.ErrorCode != 0 {
		return failed("ask "+c.addr+" what it speaks", answer.ErrorCode)
	}
	for _, k := range answer.ApiKeys {
		c.versions[protocol.ApiKey(k.ApiKey)] = versionRange{k.MinVersion, k.MaxVersion}
	}
	if mechanism == nil {
		return nil
	}
	return c.authenticate(ctx, mechanism)
}

func (c *conn) authenticate(ctx context.Context, mechanism sasl.Mechanism) error {
	m, err := c.ask(ctx, &saslhandshake.Request{Mechanism: mechanism.Name()})
	if err != nil {
		return err
	}
	if h := m.(*saslhandshake.Response); h.ErrorCode != 0 {
		return connectors.Fatalf("%s does not offer SASL %s, only %v: %w", c.addr, mechanism.Name(), h.Mechanisms, code(h.ErrorCode))
	}
	host, port, err := net.SplitHostPort(c.addr)
	if err != nil {
		return err
	}
	n, _ := strconv.Atoi(port)
	session, text, err := mechanism.Start(sasl.WithMetadata(ctx, &sasl.Metadata{Host: host, Port: n}))
	for done := false; !done && err == nil; {
		if m, err = c.ask(ctx, &saslauthenticate.Request{AuthBytes: text}); err != nil {
			return err
		}
		answer := m.(*saslauthenticate.Response)
		if answer.ErrorCode != 0 {
			return connectors.Fatalf("%s refuses the login by SASL %s: %w: %s", c.addr, mechanism.Name(), code(answer.ErrorCode), answer.ErrorMessage)
		}
		done, text, err = session.Next(ctx, answer.AuthBytes)
	}
	if err != nil {
		return connectors.Fatalf("log in to %s by SASL %s: %w", c.addr, mechanism.Name(), err)
	}
	return nil
}

// version chooses the newest version of an API that we know up to ours and
// that the broker speaks.
func (c *conn) version(key protocol.ApiKey, oldest, newest int16) (int16, error) {
	r, ok := c.versions[key]
	if v := min(newest, r.max); ok && v >= max(oldest, r.min) {
		return v, nil
	}
	return 0, connectors.Fatalf("%s does not speak %s in a version from %d to %d", c.addr, key, oldest, newest)
}

// ask sends one of kafka-go's messages and decodes the answer with it.
func (c *conn) ask(ctx context.Context, req protocol.Message) (protocol.Message, error) {
	key := req.ApiKey()
	v, err := c.version(key, key.MinVersion(), key.MaxVersion())
	if err != nil {
		return nil, err
	}
	if p, ok := req.(protocol.PreparedMessage); ok {
		p.Prepare(v)
	}
	frame, err := c.exchange(ctx, key.String(), func(w io.Writer, number int32) error {
		return protocol.WriteRequest(w, v, number, c.clientID, req)
	})
	if err != nil {
		return nil, err
	}
	m, err := decoded(frame, key, v)
	if err != nil {
		c.broken = true
		return nil, fmt.Errorf("%s of %s: %w", key, c.addr, err)
	}
	return m, nil
}

// decoded is kafka-go's decoder. It trusts the lengths that it reads: its
// panics end here, but an array of a wrong length can take all memory.
func decoded(frame []byte, key protocol.ApiKey, v int16) (m protocol.Message, err error) {
	defer func() {
		if p := recover(); p != nil {
			m, err = nil, fmt.Errorf("%w: %v", errAnswer, p)
		}
	}()
	_, m, err = protocol.ReadResponse(bytes.NewReader(frame), key, v)
	return m, err
}

// errAnswer says that an answer is not what the protocol has.
var errAnswer = errors.New("the broker's answer is not readable")

// exchange writes a request and reads the frame of its answer, with the
// length before it. After an error the connection is of no use any more. When
// ctx has ended, its error is returned.
func (c *conn) exchange(ctx context.Context, what string, write func(w io.Writer, number int32) error) ([]byte, error) {
	if c.broken {
		return nil, fmt.Errorf("%s: the connection to %s is broken", what, c.addr)
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	_ = c.net.SetDeadline(time.Now().Add(answerWithin))
	unhook := context.AfterFunc(ctx, func() { _ = c.net.SetDeadline(time.Unix(1, 0)) })
	c.number++
	err := write(c.net, c.number)
	var frame []byte
	if err == nil {
		frame, err = readFrame(c.net, c.number)
	}
	if !unhook() { // ctx has ended: the deadline is gone
		c.broken = true
	}
	if err == nil {
		return frame, nil
	}
	c.broken = true
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	return nil, fmt.Errorf("%s at %s: %w", what, c.addr, err)
}

// readFrame reads one answer, with its length, and checks whose it is.
func readFrame(r io.Reader, number int32) ([]byte, error) {
	var head [8]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	n := int64(binary.BigEndian.Uint32(head[:]))
	if n < 4 || n > maxAnswer {
		return nil, fmt.Errorf("%w: a length of %d bytes (does the broker want TLS?)", errAnswer, n)
	}
	if got := int32(binary.BigEndian.Uint32(head[4:])); got != number {
		return nil, fmt.Errorf("%w: it is of request %d, not of %d", errAnswer, got, number)
	}
	// Grown as bytes come, so that a wrong length takes no memory.
	var b bytes.Buffer
	b.Grow(int(min(n+4, 1<<20)))
	b.Write(head[:])
	if _, err := io.CopyN(&b, r, n-4); err != nil {
		return nil, fmt.Errorf("after %d of %d bytes: %w", b.Len()-4, n, err)
	}
	return b.Bytes(), nil
}

func (c *conn) close() { _ = c.net.Close() }
