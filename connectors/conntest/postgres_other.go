//go:build !unix

package conntest

import "testing"

// Postgres is for systems on which the server's processes can be supervised.
func Postgres(t testing.TB) (dsn string) {
	t.Helper()
	t.Skip("a private PostgreSQL server needs a Unix system")
	return ""
}
