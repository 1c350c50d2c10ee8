package ctl

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"
)

// access is how a site that asks for TLS or a login is reached. Every field is
// a flag, and before that a variable of the environment.
type access struct {
	tls          bool
	ca           string
	cert, key    string
	mechanism    string
	username     string
	passwordFile string
}

// tlsFlags are those that the admin API has, too.
func (c *cli) tlsFlags(cmd *cobra.Command) {
	a, flags := &c.access, cmd.PersistentFlags()
	flags.BoolVar(&a.tls, "tls", c.getenv("ENTREPOT_TLS") == "true", "speak TLS, with the system's roots; or ENTREPOT_TLS=true")
	flags.StringVar(&a.ca, "tls-ca", c.getenv("ENTREPOT_TLS_CA"), "speak TLS, with the roots in `FILE` (PEM); or ENTREPOT_TLS_CA")
	flags.StringVar(&a.cert, "tls-cert", c.getenv("ENTREPOT_TLS_CERT"), "own certificate, `FILE` (PEM); or ENTREPOT_TLS_CERT")
	flags.StringVar(&a.key, "tls-key", c.getenv("ENTREPOT_TLS_KEY"), "its key, `FILE` (PEM); or ENTREPOT_TLS_KEY")
}

func (c *cli) loginFlags(cmd *cobra.Command) {
	a, flags := &c.access, cmd.PersistentFlags()
	c.userFlags(cmd)
	mechanism := c.getenv("ENTREPOT_SASL_MECHANISM")
	if mechanism == "" {
		mechanism = "SCRAM-SHA-512"
	}
	flags.StringVar(&a.mechanism, "sasl-mechanism", mechanism, "how to log in: PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512; or ENTREPOT_SASL_MECHANISM")
}

// userFlags say who logs in.
func (c *cli) userFlags(cmd *cobra.Command) {
	a, flags := &c.access, cmd.PersistentFlags()
	flags.StringVar(&a.username, "username", c.getenv("ENTREPOT_USERNAME"), "log in as `NAME`; or ENTREPOT_USERNAME")
	flags.StringVar(&a.passwordFile, "password-file", c.getenv("ENTREPOT_PASSWORD_FILE"), "password of that user, `FILE` with one line; or ENTREPOT_PASSWORD_FILE")
}

// config is the configuration of TLS; nil: none is spoken.
func (a access) config() (*tls.Config, error) {
	if !a.tls && a.ca == "" && a.cert == "" {
		return nil, nil
	}
	cfg := &tls.Config{MinVersion: tls.VersionTLS12}
	if a.ca != "" {
		pem, err := os.ReadFile(a.ca)
		if err != nil {
			return nil, UsageError{fmt.Errorf("--tls-ca: %w", err)}
		}
		cfg.RootCAs = x509.NewCertPool()
		if !cfg.RootCAs.AppendCertsFromPEM(pem) {
			return nil, usagef("--tls-ca %s: there is no certificate in it, want PEM", a.ca)
		}
	}
	if a.cert != "" || a.key != "" {
		cert, err := tls.LoadX509KeyPair(a.cert, a.key)
		if err != nil {
			return nil, UsageError{fmt.Errorf("--tls-cert and --tls-key: %w", err)}
		}
		cfg.Certificates = []tls.Certificate{cert}
	}
	return cfg, nil
}

// options are those of the Kafka client.
func (a access) options() (opts []kgo.Opt, err error) {
	cfg, err := a.config()
	if err != nil {
		return nil, err
	}
	if cfg != nil {
		opts = append(opts, kgo.DialTLSConfig(cfg))
	}
	if a.username == "" {
		return opts, nil
	}
	login, err := a.login()
	return append(opts, kgo.SASL(login)), err
}

func (a access) login() (sasl.Mechanism, error) {
	password, err := readPassword("--password-file", a.passwordFile)
	if err != nil {
		return nil, err
	}
	switch a.mechanism {
	case "PLAIN":
		return plain.Auth{User: a.username, Pass: password}.AsMechanism(), nil
	case "SCRAM-SHA-256":
		return scram.Auth{User: a.username, Pass: password}.AsSha256Mechanism(), nil
	case "SCRAM-SHA-512":
		return scram.Auth{User: a.username, Pass: password}.AsSha512Mechanism(), nil
	}
	return nil, usagef("--sasl-mechanism is %q: want PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512", a.mechanism)
}

// readPassword reads the one line of a file. Passwords do not stand on the
// command line, where every process of the machine can read them.
func readPassword(flag, path string) (string, error) {
	if path == "" {
		return "", usagef("%s is missing: want a file with the password", flag)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return "", UsageError{fmt.Errorf("%s: %w", flag, err)}
	}
	password := strings.TrimRight(string(text), "\r\n")
	if password == "" || strings.ContainsAny(password, "\r\n") {
		return "", usagef("%s %s: want one line, the password", flag, path)
	}
	return password, nil
}
