package auth

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"strings"
	"time"

	"github.com/entrepot-hub/entrepot/hub/catalog"
)

// scramExchange is the server's side of RFC 5802, without channel binding.
//
// One thing is as Kafka's broker has it rather than as the RFC: the nonce of the
// client's last message must end with the server's part. librdkafka before 2.6.1
// sends its own part twice, and signs what it sends.
type scramExchange struct {
	s         *SASL
	mechanism string
	kind      catalog.ScramMechanism

	user, authz string
	known       bool
	stored      catalog.Scram
	gs2         string // the header of the first message
	ours        string // the server's part of the nonce
	signed      string // both first messages, as they are signed
}

// Step implements Exchange.
func (x *scramExchange) Step(_ context.Context, message []byte) ([]byte, *Session, error) {
	if x.signed == "" {
		first, err := x.first(string(message))
		return []byte(first), nil, err
	}
	last, err := x.final(string(message))
	switch {
	case err != nil:
		return nil, nil, err
	case !x.known:
		return nil, nil, fmt.Errorf("%w: no such user", ErrFailed)
	case x.authz != "" && x.authz != x.user:
		return nil, nil, fmt.Errorf("%w: the client wants to act as somebody else", ErrFailed)
	}
	return []byte(last), x.s.session(x.user, x.mechanism, time.Time{}), nil
}

// first answers n,[a=authzid],n=user,r=nonce[,extensions].
func (x *scramExchange) first(message string) (string, error) {
	parts := strings.SplitN(message, ",", 3)
	if len(parts) < 3 || parts[0] != "n" && parts[0] != "y" {
		return "", fmt.Errorf("%w: the first SCRAM message is not of the form of RFC 5802, or wants channel binding", ErrFailed)
	}
	fields := strings.Split(parts[2], ",")
	if len(fields) < 2 || !strings.HasPrefix(fields[0], "n=") || !strings.HasPrefix(fields[1], "r=") || len(fields[1]) < 3 {
		return "", fmt.Errorf("%w: the first SCRAM message has no user or no nonce", ErrFailed)
	}
	var err error
	if x.user, err = saslName(fields[0][2:]); err != nil {
		return "", err
	}
	if x.authz, err = saslName(strings.TrimPrefix(parts[1], "a=")); err != nil {
		return "", err
	}
	x.gs2 = parts[0] + "," + parts[1] + ","
	x.stored, x.known = x.s.cfg.Scram(x.user, x.kind)
	if !x.known {
		x.stored = x.s.stranger.credential(x.user, x.kind)
	}
	x.ours = rand.Text()
	answer := fmt.Sprintf("%s%s,s=%s,i=%d", fields[1], x.ours, base64.StdEncoding.EncodeToString(x.stored.Salt), x.stored.Iterations)
	x.signed = parts[2] + "," + answer
	return answer, nil
}

// final verifies c=binding,r=nonce[,extensions],p=proof, and answers with the
// server's own signature.
func (x *scramExchange) final(message string) (string, error) {
	cut := strings.LastIndex(message, ",p=")
	if cut < 0 {
		return "", fmt.Errorf("%w: the last SCRAM message has no proof", ErrFailed)
	}
	fields := strings.Split(message[:cut], ",")
	proof, err := base64.StdEncoding.DecodeString(message[cut+3:])
	switch {
	case err != nil || len(proof) != len(x.stored.StoredKey):
		return "", fmt.Errorf("%w: the SCRAM proof is none", ErrFailed)
	case len(fields) < 2 || fields[0] != "c="+base64.StdEncoding.EncodeToString([]byte(x.gs2)):
		return "", fmt.Errorf("%w: the last SCRAM message has another header than the first", ErrFailed)
	case !strings.HasPrefix(fields[1], "r=") || !strings.HasSuffix(fields[1], x.ours):
		return "", fmt.Errorf("%w: the nonce of the last SCRAM message is not the one that was given", ErrFailed)
	}
	signed := x.signed + "," + message[:cut]
	// The proof is the client's key, hidden by a signature that only the
	// stored key can make.
	key := make([]byte, len(proof))
	subtle.XORBytes(key, proof, sign(x.kind, x.stored.StoredKey, signed))
	h := newHash(x.kind)()
	h.Write(key)
	if !hmac.Equal(h.Sum(nil), x.stored.StoredKey) {
		return "", fmt.Errorf("%w: no such user, or a wrong password", ErrFailed)
	}
	return "v=" + base64.StdEncoding.EncodeToString(sign(x.kind, x.stored.ServerKey, signed)), nil
}

// saslName undoes =2C and =3D; another = is an error.
func saslName(s string) (string, error) {
	if strings.Count(s, "=") != strings.Count(s, "=2C")+strings.Count(s, "=3D") {
		return "", fmt.Errorf("%w: a SCRAM name with a = that stands for nothing", ErrFailed)
	}
	return strings.NewReplacer("=2C", ",", "=3D", "=").Replace(s), nil
}
