package hub

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl/oauth"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"

	"github.com/entrepot-hub/entrepot/connectors/strict"
	"github.com/entrepot-hub/entrepot/hub/auth/authtest"
	"github.com/entrepot-hub/entrepot/hub/hubtest"
)

// parsed is a site on free ports with text laid over it.
func parsed(t *testing.T, c Config, text string) Config {
	t.Helper()
	c, errs := Parse("n.yaml", []byte(text), c, strict.FromOS())
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	return c
}

// secureClient is an ordinary Kafka client that gives up soon.
func secureClient(t *testing.T, addr string, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	cl, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(addr), kgo.RequestRetries(2), kgo.RecordDeliveryTimeout(20 * time.Second), kgo.UnknownTopicRetries(1)}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	return cl
}

func produceOne(t *testing.T, cl *kgo.Client, topic string) error {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	return cl.ProduceSync(ctx, &kgo.Record{Topic: topic, Value: []byte("v")}).FirstErr()
}

func clientTLS(t *testing.T, a *authtest.Authority, files *authtest.Files) *tls.Config {
	t.Helper()
	c := &tls.Config{RootCAs: x509.NewCertPool(), MinVersion: tls.VersionTLS12}
	c.RootCAs.AppendCertsFromPEM(a.PEM())
	if files != nil {
		cert, err := tls.LoadX509KeyPair(files.Cert, files.Key)
		if err != nil {
			t.Fatal(err)
		}
		c.Certificates = []tls.Certificate{cert}
	}
	return c
}

// Each listener has its own security, and a client stays on the one it came in
// on.
func TestListenersChooseTheirSecurity(t *testing.T) {
	a := authtest.NewAuthority(t)
	server := a.Issue("server", pkix.Name{CommonName: "server"}, time.Hour)
	alice := a.Issue("alice", pkix.Name{CommonName: "alice"}, time.Hour)
	issuer := authtest.NewIssuer(t)
	t.Setenv("HUB_TEST_PASSWORD", "opens")
	c := parsed(t, config(t, "east"), fmt.Sprintf(`
listeners:
  kafka: {addr: "127.0.0.1:0"}
  extra:
    login: {addr: "127.0.0.1:0", tls: {cert: %[1]q, key: %[2]q}, sasl: [PLAIN, SCRAM-SHA-256, SCRAM-SHA-512, OAUTHBEARER]}
    certs: {addr: "127.0.0.1:0", tls: {cert: %[1]q, key: %[2]q, client_ca: %[3]q}}
  admin: {addr: "127.0.0.1:0", tls: {cert: %[1]q, key: %[2]q}}
security:
  users: {bob: "${env:HUB_TEST_PASSWORD}"}
  oauth: {issuer: %[4]q, audience: hub}
`, server.Cert, server.Key, a.CA, issuer.URL))
	h, _ := start(t, c, Deps{})
	login, certs := h.address("login"), h.address("certs")
	token := issuer.Token(map[string]any{"iss": issuer.URL, "aud": "hub", "sub": "oscar", "exp": time.Now().Add(time.Hour).Unix()})
	roots := kgo.DialTLSConfig(clientTLS(t, a, nil))
	for what, opts := range map[string][]kgo.Opt{
		"plain":  {kgo.SASL(plain.Auth{User: "bob", Pass: "opens"}.AsMechanism()), kgo.SeedBrokers(login), roots},
		"256":    {kgo.SASL(scram.Auth{User: "bob", Pass: "opens"}.AsSha256Mechanism()), kgo.SeedBrokers(login), roots},
		"512":    {kgo.SASL(scram.Auth{User: "bob", Pass: "opens"}.AsSha512Mechanism()), kgo.SeedBrokers(login), roots},
		"oauth":  {kgo.SASL(oauth.Auth{Token: token}.AsMechanism()), kgo.SeedBrokers(login), roots},
		"mtls":   {kgo.SeedBrokers(certs), kgo.DialTLSConfig(clientTLS(t, a, &alice))},
		"simple": {},
	} {
		cl := secureClient(t, h.Kafka(), append(opts, kgo.AllowAutoTopicCreation())...)
		if err := produceOne(t, cl, "t-"+what); err != nil {
			t.Errorf("%s: %v", what, err)
		}
		brokers, err := kadm.NewClient(cl).ListBrokers(t.Context())
		if err != nil || len(brokers) != 1 {
			t.Errorf("%s: %v, %v", what, brokers, err)
		}
		for _, b := range brokers {
			if got, want := fmt.Sprintf("%s:%d", b.Host, b.Port), cl.OptValue(kgo.SeedBrokers).([]string)[0]; got != want {
				t.Errorf("%s: told of %s, want the listener it came in on, %s", what, got, want)
			}
		}
	}
	for what, opts := range map[string][]kgo.Opt{
		"in clear":             {kgo.SeedBrokers(login), kgo.SASL(plain.Auth{User: "bob", Pass: "opens"}.AsMechanism())},
		"no login":             {kgo.SeedBrokers(login), roots},
		"no certificate":       {kgo.SeedBrokers(certs), roots},
		"unsecured token":      {kgo.SeedBrokers(login), roots, kgo.SASL(oauth.Auth{Token: issuer.Unsecured(map[string]any{"iss": issuer.URL, "aud": "hub", "sub": "oscar", "exp": time.Now().Add(time.Hour).Unix()})}.AsMechanism())},
		"for another audience": {kgo.SeedBrokers(login), roots, kgo.SASL(oauth.Auth{Token: issuer.Token(map[string]any{"iss": issuer.URL, "aud": "x", "sub": "oscar", "exp": time.Now().Add(time.Hour).Unix()})}.AsMechanism())},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		if err := secureClient(t, login, append(opts, kgo.RequestRetries(0))...).Ping(ctx); err == nil {
			t.Errorf("%s: is let in", what)
		}
		cancel()
	}
}

// Two sites that let nobody in without TLS and a login mirror each other's
// topics.
func TestSecuredSitesAreMirrored(t *testing.T) {
	a := authtest.NewAuthority(t)
	server := a.Issue("server", pkix.Name{CommonName: "server"}, time.Hour)
	t.Setenv("HUB_TEST_PASSWORD", "opens")
	text := fmt.Sprintf(`
listeners:
  kafka: {addr: "127.0.0.1:0", tls: {cert: %q, key: %q}, sasl: [SCRAM-SHA-512]}
security: {users: {link: "${env:HUB_TEST_PASSWORD}"}}
links:
  tls: {ca: %q}
  sasl: {mechanism: SCRAM-SHA-512, username: link, password: "${env:HUB_TEST_PASSWORD}"}
`, server.Cert, server.Key, a.CA)
	east, _ := start(t, parsed(t, config(t, "east"), text), Deps{})
	west, _ := start(t, parsed(t, config(t, "west", east.WAN()), text), Deps{})
	opts := []kgo.Opt{kgo.DialTLSConfig(clientTLS(t, a, nil)), kgo.SASL(scram.Auth{User: "link", Pass: "opens"}.AsSha512Mechanism())}
	cl := secureClient(t, east.Kafka(), opts...)
	to := "west"
	if _, err := kadm.NewClient(cl).CreateTopic(t.Context(), 2, 1, map[string]*string{"mirror.to": &to}, "clicks"); err != nil {
		t.Fatal(err)
	}
	for range 20 {
		if err := produceOne(t, cl, "clicks"); err != nil {
			t.Fatal(err)
		}
	}
	until(t, func() bool {
		return west.Has("clicks") && west.Offsets("clicks", 0).HighWatermark+west.Offsets("clicks", 1).HighWatermark == 20
	})
}

// librdkafka logs in with SCRAM over TLS.
func TestKcatLogsInOverTLS(t *testing.T) {
	path := hubtest.Tool(t, "kcat")
	a := authtest.NewAuthority(t)
	server := a.Issue("server", pkix.Name{CommonName: "server"}, time.Hour)
	alice := a.Issue("alice", pkix.Name{CommonName: "alice"}, time.Hour)
	t.Setenv("HUB_TEST_PASSWORD", "opens")
	h, _ := start(t, parsed(t, config(t, "east"), fmt.Sprintf(`
listeners:
  kafka: {addr: "127.0.0.1:0", tls: {cert: %[1]q, key: %[2]q}, sasl: [PLAIN, SCRAM-SHA-256, SCRAM-SHA-512]}
  extra: {certs: {addr: "127.0.0.1:0", tls: {cert: %[1]q, key: %[2]q, client_ca: %[3]q}}}
security: {users: {bob: "${env:HUB_TEST_PASSWORD}"}}
`, server.Cert, server.Key, a.CA)), Deps{})
	kcat := func(addr, stdin string, args ...string) (string, error) {
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		cmd := exec.CommandContext(ctx, path, append([]string{"-b", addr, "-X", "ssl.ca.location=" + a.CA}, args...)...)
		cmd.Stdin = strings.NewReader(stdin)
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	for _, m := range []string{"PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"} {
		login := []string{"-X", "security.protocol=SASL_SSL", "-X", "sasl.mechanism=" + m, "-X", "sasl.username=bob", "-X", "sasl.password=opens"}
		topic := "k-" + m
		if out, err := kcat(h.Kafka(), "one\n", append(login, "-P", "-t", topic)...); err != nil {
			t.Errorf("%s: %v\n%s", m, err, out)
		}
		out, err := kcat(h.Kafka(), "", append(login, "-C", "-t", topic, "-o", "beginning", "-e", "-q")...)
		if err != nil || out != "one\n" {
			t.Errorf("%s: consumed %q, %v", m, out, err)
		}
	}
	out, err := kcat(h.Kafka(), "", "-X", "security.protocol=SASL_SSL", "-X", "sasl.mechanism=SCRAM-SHA-512", "-X", "sasl.username=bob", "-X", "sasl.password=wrong", "-L", "-m", "3")
	if err == nil || !strings.Contains(out, "authentication failed: invalid credentials") {
		t.Errorf("a wrong password: %v\n%s", err, out)
	}
	if out, err := kcat(h.address("certs"), "two\n", "-X", "security.protocol=SSL", "-X", "ssl.certificate.location="+alice.Cert, "-X", "ssl.key.location="+alice.Key, "-P", "-t", "c"); err != nil {
		t.Errorf("mTLS: %v\n%s", err, out)
	}
}

// kafka-python logs in with SCRAM over TLS.
func TestKafkaPythonLogsInOverTLS(t *testing.T) {
	python := os.Getenv("ENTREPOT_TEST_PYTHON")
	if python == "" {
		hubtest.Missing(t, "ENTREPOT_TEST_PYTHON names no Python with kafka-python")
	}
	a := authtest.NewAuthority(t)
	server := a.Issue("server", pkix.Name{CommonName: "server"}, time.Hour)
	t.Setenv("HUB_TEST_PASSWORD", "opens")
	h, _ := start(t, parsed(t, config(t, "east"), fmt.Sprintf(`
listeners: {kafka: {addr: "127.0.0.1:0", tls: {cert: %q, key: %q}, sasl: [PLAIN, SCRAM-SHA-256, SCRAM-SHA-512]}}
security: {users: {bob: "${env:HUB_TEST_PASSWORD}"}}
`, server.Cert, server.Key)), Deps{})
	const script = `
import sys
from kafka import KafkaProducer, KafkaConsumer
addr, ca = sys.argv[1:]
for m in ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]:
    how = dict(bootstrap_servers=addr, security_protocol="SASL_SSL", ssl_cafile=ca, sasl_mechanism=m, sasl_plain_username="bob", sasl_plain_password="opens")
    p = KafkaProducer(**how)
    p.send("p-" + m, b"one").get(timeout=20)
    p.close()
    c = KafkaConsumer("p-" + m, auto_offset_reset="earliest", consumer_timeout_ms=20000, **how)
    assert next(c).value == b"one", m
    c.close()
print("done")
`
	ctx, cancel := context.WithTimeout(t.Context(), 90*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, python, "-c", script, h.Kafka(), a.CA).CombinedOutput()
	if err != nil || !strings.Contains(string(out), "done") {
		t.Errorf("%v\n%s", err, out)
	}
}
