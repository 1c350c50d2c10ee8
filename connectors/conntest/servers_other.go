//go:build !unix

package conntest

import "testing"

// Private servers are for systems on which their processes can be supervised.

// Postgres skips the test.
func Postgres(t testing.TB) (dsn string) { return unsupervised(t, "PostgreSQL") }

// RabbitMQ skips the test.
func RabbitMQ(t testing.TB) (amqp, management string) { return unsupervised(t, "RabbitMQ"), "" }

// Kafka skips the test.
func Kafka(t testing.TB) (broker string) { return unsupervised(t, "Apache Kafka") }

// ClickHouse skips the test.
func ClickHouse(t testing.TB) (dsn string) { return unsupervised(t, "ClickHouse") }

// ClickHouseEngine skips the test.
func ClickHouseEngine(t testing.TB) (dsn string) { return unsupervised(t, "chdb") }

// Moto skips the test.
func Moto(t testing.TB) string { return unsupervised(t, "moto") }

// HDFS skips the test.
func HDFS(t testing.TB) (rpc, web string) { return unsupervised(t, "HDFS"), "" }

func unsupervised(t testing.TB, what string) string {
	t.Helper()
	t.Skipf("a private %s server needs a Unix system", what)
	return ""
}
