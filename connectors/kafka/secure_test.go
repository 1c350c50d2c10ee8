package kafka

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/entrepot-hub/entrepot/connectors"
	"github.com/entrepot-hub/entrepot/connectors/conntest"
	"github.com/entrepot-hub/entrepot/record"
)

const password = "s3cret-of-the-loader"

// TestLoginAndRestart: TLS with each way to log in; then the broker is killed
// while a reader and writers of both kinds are at work.
func TestLoginAndRestart(t *testing.T) {
	keys, ca := certificate(t)
	secure := freeAddr(t)
	listeners := "PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller},SECURE://" + secure
	const of = "listener.name.secure."
	const modules = "org.apache.kafka.common.security."
	s := conntest.OwnKafka(t, "listeners="+listeners, "advertised.listeners="+listeners,
		"listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SECURE:SASL_SSL",
		of+"sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512",
		of+"plain.sasl.jaas.config="+modules+`plain.PlainLoginModule required user_loader="`+password+`";`,
		of+"scram-sha-256.sasl.jaas.config="+modules+"scram.ScramLoginModule required;",
		of+"scram-sha-512.sasl.jaas.config="+modules+"scram.ScramLoginModule required;",
		of+"ssl.keystore.type=PEM", of+"ssl.keystore.location="+keys)
	adm := kadm.NewClient(client(t, s.Broker()))
	for _, m := range []kadm.ScramMechanism{kadm.ScramSha256, kadm.ScramSha512} {
		if _, err := adm.AlterUserSCRAMs(t.Context(), nil, []kadm.UpsertSCRAM{{User: "loader", Mechanism: m, Iterations: 4096, Password: password}}); err != nil {
			t.Fatal(err)
		}
	}
	topic := newTopic(t, s.Broker(), 1)
	write(t, client(t, s.Broker()), topic, 0, "a")
	login := func(mechanism, secret string) connectors.Config {
		return sourceConfig(t, secure, map[string]any{
			"topics": []string{topic}, "follow": false, "tls": map[string]any{"ca": ca},
			"sasl": map[string]any{"mechanism": mechanism, "username": "loader", "password": secret},
		})
	}
	for _, mechanism := range []string{"plain", "scram-sha-256", "scram-sha-512"} {
		r, err := openAt(t, login(mechanism, password), topic, nil)
		if err != nil {
			t.Fatalf("%s: %v", mechanism, err)
		}
		if all := readAll(t, r); len(all) != 1 || string(all[0].Value) != "a" {
			t.Errorf("%s: %v", mechanism, all)
		}
		_, err = openAt(t, login(mechanism, "wr0ng-"+password), topic, nil)
		if connectors.ClassOf(err) != connectors.ClassFatal || strings.Contains(err.Error(), password) {
			t.Errorf("%s with a wrong password: class %v: %v", mechanism, connectors.ClassOf(err), err)
		}
	}
	if _, err := openAt(t, sourceConfig(t, secure, map[string]any{"topics": []string{topic}}), topic, nil); err == nil {
		t.Error("a connection without TLS is let in")
	}
	restart(t, s, topic)
}

func restart(t *testing.T, s *conntest.KafkaServer, topic string) {
	tp := record.TopicPartition{Topic: "hub"}
	out := map[string]string{}
	writers := map[string]connectors.Writer{}
	for _, mode := range []string{"off", "transaction"} {
		out[mode] = newTopic(t, s.Broker(), 2)
		w, err := Sink{}.Open(t.Context(), conntest.Task(sinkConfig(t, s.Broker(), map[string]any{"remote_topic": out[mode], "exactly_once": mode})), []record.TopicPartition{tp})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = w.Close(context.Background()) }()
		plan, batch := rows(tp, 0, 50)
		if _, err := w.Write(t.Context(), plan, batch); err != nil {
			t.Fatal(err)
		}
		writers[mode] = w
	}
	r, err := openAt(t, sourceConfig(t, s.Broker(), map[string]any{"topics": []string{topic}}), topic, nil)
	if err != nil {
		t.Fatal(err)
	}
	if b, err := r.Read(t.Context(), connectors.Limits{Wait: 5 * time.Second}); err != nil || len(b.Messages) != 1 {
		t.Fatal(b, err)
	}
	s.Crash()
	var wg sync.WaitGroup
	for mode, w := range writers {
		wg.Go(func() {
			plan, batch := rows(tp, 50, 100)
			for {
				_, err := w.Write(t.Context(), plan, batch)
				if err == nil {
					return
				}
				if fatal(err) || t.Context().Err() != nil {
					t.Errorf("%s: %v", mode, err)
					return
				}
			}
		})
	}
	if b, err := r.Read(t.Context(), connectors.Limits{Wait: 300 * time.Millisecond}); len(b.Messages) > 0 || connectors.ClassOf(err) == connectors.ClassFatal {
		t.Errorf("while the broker is down: %v, %v", b, err)
	}
	s.Start(t)
	write(t, client(t, s.Broker()), topic, 0, "b")
	until(t, "the reader goes on", func() bool {
		b, err := r.Read(t.Context(), connectors.Limits{Wait: 100 * time.Millisecond})
		if fatal(err) || len(b.Messages) > 1 || len(b.Messages) == 1 && string(b.Messages[0].Value) != "b" {
			t.Fatal(b, err)
		}
		return len(b.Messages) == 1
	})
	wg.Wait()
	for mode, name := range out {
		checkRows(t, mode+" over a restart", s.Broker(), name, 100, 0)
	}
}

func freeAddr(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// certificate makes a server's key and certificate in one file, and its signer,
// which is itself, in another.
func certificate(t testing.TB) (keys, ca string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "broker"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	cert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	dir := t.TempDir()
	keys, ca = filepath.Join(dir, "server.pem"), filepath.Join(dir, "ca.pem")
	for path, text := range map[string]string{
		keys: fmt.Sprintf("%s%s", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}), cert), ca: string(cert),
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return keys, ca
}
