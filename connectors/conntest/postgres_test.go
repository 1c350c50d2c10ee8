//go:build unix

package conntest

import "testing"

func TestPostgres(t *testing.T) {
	a, b := Postgres(t), Postgres(t)
	if a == b {
		t.Fatalf("two calls gave the same database, %s", a)
	}
}

func TestPostgresServerComesBack(t *testing.T) {
	s := OwnPostgres(t)
	s.Database(t)
	if _, err := s.psql("test1", "CREATE TABLE kept AS SELECT 1 AS n"); err != nil {
		t.Fatal(err)
	}
	for _, end := range []func(){s.Stop, s.Crash} {
		end()
		if _, err := s.psql("test1", "SELECT 1"); err == nil {
			t.Fatal("a stopped server answers")
		}
		s.Start(t)
		if n, err := s.psql("test1", "SELECT n FROM kept"); err != nil || n != "1" {
			t.Fatalf("got %q, %v", n, err)
		}
	}
}
