package auth

import (
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha512"
	"fmt"
	"hash"
	"io"

	"github.com/entrepot-hub/entrepot/hub/catalog"
)

// newHash is the hash of a mechanism; SHA-512 for anything but SHA-256.
func newHash(m catalog.ScramMechanism) func() hash.Hash {
	if m == catalog.ScramSHA256 {
		return sha256.New
	}
	return sha512.New
}

// NewScram makes the credential that stands for a password (RFC 5802, section
// 3). The password is taken as its bytes are, as Kafka does.
func NewScram(user, password string, m catalog.ScramMechanism, iterations int32, random io.Reader) (catalog.Scram, error) {
	salt := make([]byte, 16)
	if _, err := io.ReadFull(random, salt); err != nil {
		return catalog.Scram{}, fmt.Errorf("draw a salt: %w", err)
	}
	salted, err := saltPassword(m, password, salt, iterations)
	if err != nil {
		return catalog.Scram{}, err
	}
	return ScramOfSalted(user, salted, salt, m, iterations), nil
}

// ScramOfSalted makes a credential of a password that was salted already, as
// AlterUserScramCredentials sends it.
func ScramOfSalted(user string, salted, salt []byte, m catalog.ScramMechanism, iterations int32) catalog.Scram {
	return catalog.Scram{
		User: user, Mechanism: m, Iterations: iterations, Salt: salt,
		StoredKey: storedKey(m, salted), ServerKey: sign(m, salted, "Server Key"),
	}
}

func saltPassword(m catalog.ScramMechanism, password string, salt []byte, iterations int32) ([]byte, error) {
	h := newHash(m)
	return pbkdf2.Key(h, password, salt, int(iterations), h().Size())
}

func storedKey(m catalog.ScramMechanism, salted []byte) []byte {
	h := newHash(m)()
	h.Write(sign(m, salted, "Client Key"))
	return h.Sum(nil)
}

func sign(m catalog.ScramMechanism, key []byte, text string) []byte {
	mac := hmac.New(newHash(m), key)
	_, _ = io.WriteString(mac, text) // never fails
	return mac.Sum(nil)
}

// passwordFits compares a password with a credential in a time that depends on
// neither.
func passwordFits(password string, c catalog.Scram) bool {
	salted, err := saltPassword(c.Mechanism, password, c.Salt, c.Iterations)
	return err == nil && hmac.Equal(storedKey(c.Mechanism, salted), c.StoredKey)
}

// stranger makes up the credential of a user who does not exist: the same one
// each time he is asked for, with keys that nobody knows. A login for him takes
// the same road to its end as one with a wrong password.
type stranger struct{ secret [32]byte }

func newStranger() (s stranger) {
	_, _ = rand.Read(s.secret[:]) // never fails
	return s
}

func (s stranger) credential(user string, m catalog.ScramMechanism) catalog.Scram {
	key := sign(m, s.secret[:], "salt of "+user)
	return catalog.Scram{
		User: user, Mechanism: m, Iterations: catalog.MinScramIterations, Salt: key[:16],
		StoredKey: sign(m, s.secret[:], "stored key of "+user), ServerKey: sign(m, s.secret[:], "server key of "+user),
	}
}
