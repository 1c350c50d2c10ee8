package protocol

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/entrepot-hub/entrepot/hub/auth"
	"github.com/entrepot-hub/entrepot/hub/group"
	"github.com/entrepot-hub/entrepot/hub/share"
	"github.com/entrepot-hub/entrepot/hub/txn"
)

// Config is a Server's configuration. Default has all but Node.
type Config struct {
	Node      int32  // this node's broker ID, as the catalog gave it
	ClusterID string // the same at all nodes of the site; Kafka's form is 22 characters of base64

	AutoCreate bool  // Metadata and Produce create topics that do not exist
	Partitions int32 // of topics created without a number
	Replicas   int32 // of topics created without a number; 0: three if the site has three nodes, else one

	OffsetsPartitions int32 // of __consumer_offsets, when it is created
	Group             group.Config
	GroupSweep        time.Duration // between searches for expired offsets and transactional IDs

	Share share.Limits // of share groups

	TransactionsPartitions int32 // of __transaction_state, when it is created
	Txn                    txn.Config

	Peers Peers // nil: the site has no other nodes
	// Quorum is the group that orders the catalog, where this node leads it, or an
	// error such as record.ErrNotLeader. nil: it never does.
	Quorum func(ctx context.Context) (Quorum, error)

	LogDir string // what DescribeLogDirs calls the place of the logs

	Authorize *Authorize // nil: everybody may do everything
	SASL      *auth.SASL // logins of the listeners that want one; nil: there are none

	Limits Limits
	Logger *slog.Logger
	Rand   io.Reader        // member, topic and cluster IDs
	Clock  func() time.Time // what is written into records and answers
}

// Limits bound what clients can make the server hold. All bytes are those of
// requests as they were sent.
type Limits struct {
	Request  int   // largest request; larger ones end the connection
	InFlight int64 // requests read and not yet answered, of all connections together
	Pipeline int   // requests read and not yet answered, of one connection
	Pending  int64 // their bytes; at least one request is always read

	Conns      int // open connections; more are closed at once
	ConnsPerIP int

	Idle  time.Duration // a connection without a request for as long is closed
	Frame time.Duration // a request that has begun must be complete within it, and one more for each 8 MiB
	Write time.Duration // a client that reads nothing for as long is cut off
	Drain time.Duration // at the end of the context, for answers still due

	Login     time.Duration // TLS handshake and SASL login must be done within it
	Refuse    time.Duration // after how long a failed login is answered
	Strangers int64         // bytes of requests of all clients that are not logged in yet

	Fetch     int           // largest Fetch answer; one batch is always returned
	FetchWait time.Duration // longest long poll, whatever the client asks for
	Answers   int64         // memory of Fetch answers in flight of all connections; above it they have one batch
	Sessions  int64         // partitions in the Fetch sessions of all connections; above it there are no new ones
}

// Default is a Config with Kafka's values where Kafka has the setting.
func Default() Config {
	return Config{
		ClusterID:         "entrepot",
		Partitions:        1,
		OffsetsPartitions: 8,
		Group:             group.Default(),
		Share:             share.Default(),
		GroupSweep:        10 * time.Minute,

		TransactionsPartitions: 8,
		Txn:                    txn.Default(),

		LogDir: "data",
		Limits: Limits{
			Request:  100 << 20,
			InFlight: 512 << 20,
			Pipeline: 512,
			Pending:  128 << 20,

			Conns:      10_000,
			ConnsPerIP: 5_000,

			Idle:  10 * time.Minute,
			Frame: 30 * time.Second,
			Write: 30 * time.Second,
			Drain: 5 * time.Second,

			Login:     20 * time.Second,
			Refuse:    250 * time.Millisecond,
			Strangers: 32 << 20,

			Fetch:     55 << 20,
			FetchWait: time.Minute,
			Answers:   1 << 30,
			Sessions:  500_000,
		},
		Logger: slog.New(slog.DiscardHandler),
		Rand:   rand.Reader,
		Clock:  time.Now,
	}
}

// Validate says what is wrong with the configuration. It has no effects.
func (c Config) Validate() error {
	var errs []error
	positive := func(name string, v int64) {
		if v < 1 {
			errs = append(errs, fmt.Errorf("%s is %d, want 1 or more", name, v))
		}
	}
	l := c.Limits
	for _, f := range []struct {
		name string
		v    int64
	}{
		{"Partitions", int64(c.Partitions)},
		{"OffsetsPartitions", int64(c.OffsetsPartitions)}, {"TransactionsPartitions", int64(c.TransactionsPartitions)},
		{"Txn.MaxTimeout", int64(c.Txn.MaxTimeout)}, {"Txn.Expiration", int64(c.Txn.Expiration)}, {"Txn.Retry", int64(c.Txn.Retry)},
		{"GroupSweep", int64(c.GroupSweep)},
		{"Share.Deliveries", int64(c.Share.Deliveries)}, {"Share.InFlight", c.Share.InFlight}, {"Share.MaxMembers", int64(c.Share.MaxMembers)},
		{"Limits.Request", int64(l.Request)}, {"Limits.InFlight", l.InFlight},
		{"Limits.Pipeline", int64(l.Pipeline)}, {"Limits.Pending", l.Pending},
		{"Limits.Conns", int64(l.Conns)}, {"Limits.ConnsPerIP", int64(l.ConnsPerIP)},
		{"Limits.Idle", int64(l.Idle)}, {"Limits.Frame", int64(l.Frame)},
		{"Limits.Write", int64(l.Write)}, {"Limits.Drain", int64(l.Drain)},
		{"Limits.Login", int64(l.Login)}, {"Limits.Refuse", int64(l.Refuse)}, {"Limits.Strangers", l.Strangers},
		{"Limits.Fetch", int64(l.Fetch)}, {"Limits.FetchWait", int64(l.FetchWait)}, {"Limits.Answers", l.Answers}, {"Limits.Sessions", l.Sessions},
		{"Group.MinSession", int64(c.Group.MinSession)}, {"Group.MaxMembers", int64(c.Group.MaxMembers)},
	} {
		positive(f.name, f.v)
	}
	if c.Replicas < 0 {
		errs = append(errs, fmt.Errorf("Replicas is %d, want 0 or more", c.Replicas))
	}
	if int64(l.Request) > l.InFlight {
		errs = append(errs, fmt.Errorf("Limits.Request %d is above Limits.InFlight %d: the largest request could never be read", l.Request, l.InFlight))
	}
	if c.Logger == nil || c.Rand == nil || c.Clock == nil {
		errs = append(errs, errors.New("Logger, Rand and Clock must be set"))
	}
	return errors.Join(errs...)
}
