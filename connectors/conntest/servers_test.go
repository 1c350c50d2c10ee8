//go:build unix

package conntest

import (
	"net"
	"net/url"
	"testing"
)

func TestRabbitMQServerComesBack(t *testing.T) {
	s := OwnRabbitMQ(t)
	if err := s.put("/api/queues/%2F/kept", `{"durable":true}`); err != nil {
		t.Fatal(err)
	}
	u, err := url.Parse(s.VirtualHost(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, end := range []func(){s.Stop, s.Crash} {
		end()
		if c, err := net.Dial("tcp", u.Host); err == nil {
			_ = c.Close()
			t.Fatal("a stopped server answers")
		}
		s.Start(t)
		if err := s.put("/api/queues/%2F/kept", `{"durable":false}`); err == nil {
			t.Fatal("the durable queue has gone: it could be declared as another one")
		}
	}
}

func TestClickHouseServerComesBack(t *testing.T) {
	server, engine := OwnClickHouse(t), OwnClickHouseEngine(t)
	comesBack(t, &server.server, server.Query)
	comesBack(t, &engine.server, engine.Query)
}

func comesBack(t *testing.T, s *server, ask func(query string) (string, error)) {
	if _, err := ask("CREATE TABLE kept ENGINE = MergeTree ORDER BY n AS SELECT 1 AS n"); err != nil {
		t.Fatal(err)
	}
	for _, end := range []func(){s.Stop, s.Crash} {
		end()
		if _, err := ask("SELECT 1"); err == nil {
			t.Fatal("a stopped server answers")
		}
		s.Start(t)
		if n, err := ask("SELECT n FROM kept"); err != nil || n != "1" {
			t.Fatalf("got %q, %v", n, err)
		}
	}
}
