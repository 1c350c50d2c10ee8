package hubtest

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// A parrot lets nobody in and repeats in its refusal everything that it was
// sent, as the most talkative of servers would.
type parrot struct {
	addr    string
	refused atomic.Int64 // connections or requests
}

// newParrot serves connections by speak, which reads what the client sends
// until it has its password and answers in the client's protocol.
func newParrot(t *testing.T, speak func(net.Conn) error) *parrot {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	p := &parrot{addr: l.Addr().String()}
	go func() { // ends with the listener
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { // ends within the deadline
				defer func() { _ = c.Close() }()
				_ = c.SetDeadline(time.Now().Add(10 * time.Second))
				if speak(c) == nil {
					p.refused.Add(1)
				}
				_, _ = io.Copy(io.Discard, c) // until the client has read it and leaves
			}()
		}
	}()
	return p
}

// newHTTPParrot repeats address, headers and body.
func newHTTPParrot(t *testing.T) *parrot {
	t.Helper()
	p := &parrot{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		text := strings.Map(printable, fmt.Sprintf("no entry: %s %v %s", r.RequestURI, r.Header, body))
		w.Header().Set("X-Amz-Error-Message", text)
		w.WriteHeader(http.StatusForbidden)
		_, _ = io.WriteString(w, text)
		p.refused.Add(1)
	}))
	t.Cleanup(server.Close)
	p.addr = strings.TrimPrefix(server.URL, "http://")
	return p
}

func printable(r rune) rune {
	if r < ' ' || r > '~' {
		return ' '
	}
	return r
}

// postgresParrot asks for the password in clear (protocol 3.0).
func postgresParrot(c net.Conn) error {
	if _, err := postgresMessage(c, 0); err != nil { // the startup message
		return err
	}
	if _, err := c.Write([]byte{'R', 0, 0, 0, 8, 0, 0, 0, 3}); err != nil {
		return err
	}
	password, err := postgresMessage(c, 1)
	if err != nil {
		return err
	}
	fields := fmt.Sprintf("SFATAL\x00VFATAL\x00C28P01\x00Mnobody with the password %s comes in\x00\x00", strings.TrimRight(string(password), "\x00"))
	_, err = c.Write(append(binary.BigEndian.AppendUint32([]byte{'E'}, uint32(4+len(fields))), fields...))
	return err
}

// postgresMessage reads a message behind its tag of so many bytes.
func postgresMessage(c net.Conn, tag int) ([]byte, error) {
	head := make([]byte, tag+4)
	if _, err := io.ReadFull(c, head); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(head[tag:])
	if n < 4 || n > 1<<16 {
		return nil, fmt.Errorf("a message of %d bytes", n)
	}
	body := make([]byte, n-4)
	_, err := io.ReadFull(c, body)
	return body, err
}

// clickhouseParrot answers the hello, which has the password, with an exception.
func clickhouseParrot(c net.Conn) error {
	hello := make([]byte, 1<<12)
	n, err := c.Read(hello)
	if err != nil {
		return err
	}
	answer := append([]byte{2}, binary.LittleEndian.AppendUint32(nil, 516)...)
	for _, text := range []string{"DB::Exception", strings.Map(printable, "no entry: "+string(hello[:n])), ""} {
		answer = append(binary.AppendUvarint(answer, uint64(len(text))), text...)
	}
	_, err = c.Write(append(answer, 0))
	return err
}

// amqpParrot plays AMQP 0-9-1 as far as start-ok, which has the password.
func amqpParrot(c net.Conn) error {
	if _, err := io.ReadFull(c, make([]byte, 8)); err != nil {
		return err
	}
	start := append([]byte{0, 10, 0, 10, 0, 9, 0, 0, 0, 0}, longText("PLAIN")...)
	if err := amqpFrame(c, append(start, longText("en_US")...)); err != nil {
		return err
	}
	head := make([]byte, 7)
	if _, err := io.ReadFull(c, head); err != nil {
		return err
	}
	body := make([]byte, binary.BigEndian.Uint32(head[3:])+1)
	if _, err := io.ReadFull(c, body); err != nil {
		return err
	}
	said := strings.Map(printable, string(body[max(0, bytes.Index(body, []byte("PLAIN"))):]))
	why := "no entry: " + said[:min(len(said), 200)]
	return amqpFrame(c, append(append([]byte{0, 10, 0, 50, 403 >> 8, 403 & 255, byte(len(why))}, why...), 0, 10, 0, 11))
}

func longText(s string) []byte {
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(s))), s...)
}

func amqpFrame(c net.Conn, method []byte) error {
	frame := append([]byte{1, 0, 0}, longText(string(method))...)
	_, err := c.Write(append(frame, 0xce))
	return err
}
