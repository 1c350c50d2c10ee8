package auth

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/entrepot-hub/entrepot/hub/auth/authtest"
	"github.com/entrepot-hub/entrepot/hub/catalog"
)

// checker knows alice, whose password is "pass word=,ü".
func checker(t testing.TB, cfg SASLConfig) *SASL {
	t.Helper()
	creds := map[catalog.ScramMechanism]catalog.Scram{}
	for _, m := range []catalog.ScramMechanism{catalog.ScramSHA256, catalog.ScramSHA512} {
		c, err := NewScram("alice", "pass word=,ü", m, 4096, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		creds[m] = c
	}
	cfg.Scram = func(user string, m catalog.ScramMechanism) (catalog.Scram, bool) {
		c, ok := creds[m]
		return c, ok && user == "alice"
	}
	return NewSASL(cfg)
}

func step(t testing.TB, s *SASL, mechanism string, messages ...string) (answers []string, who *Session, err error) {
	t.Helper()
	x, ok := s.Begin(mechanism)
	if !ok {
		t.Fatalf("%s is not known", mechanism)
	}
	for _, m := range messages {
		var a []byte
		if a, who, err = x.Step(t.Context(), []byte(m)); err != nil {
			return answers, nil, err
		}
		answers = append(answers, string(a))
	}
	return answers, who, nil
}

// A password is compared as a whole: neither its length nor its beginning
// lets anybody in.
func TestPlain(t *testing.T) {
	s := checker(t, SASLConfig{})
	if _, who, err := step(t, s, Plain, "\x00alice\x00pass word=,ü"); err != nil || who.Principal != alice {
		t.Fatal(who, err)
	}
	if _, who, err := step(t, s, Plain, "alice\x00alice\x00pass word=,ü"); err != nil || who.Principal != alice {
		t.Error("acting as herself:", err)
	}
	for _, m := range []string{
		"", "\x00", "\x00\x00", "\x00\x00\x00", "alice", "\x00alice\x00", "\x00alice\x00p", "\x00alice\x00pass word=,", "\x00alice\x00pass word=,ü ",
		"\x00alice\x00xxxxxxxxxxxxx", "\x00alice\x00PASS WORD=,ü", "\x00Alice\x00pass word=,ü", "\x00bob\x00pass word=,ü", "bob\x00alice\x00pass word=,ü",
		"\x00alice\x00pass word=,ü\x00", "\x00alice\x00" + strings.Repeat("x", maxPassword+1),
	} {
		if _, who, err := step(t, s, Plain, m); !errors.Is(err, ErrFailed) || who != nil {
			t.Errorf("%.40q: %v, %v", m, who, err)
		}
	}
}

// The whole exchange of RFC 5802 with messages made here, and what differs.
func TestScram(t *testing.T) {
	s := checker(t, SASLConfig{})
	for mechanism, kind := range map[string]catalog.ScramMechanism{ScramSHA256: catalog.ScramSHA256, ScramSHA512: catalog.ScramSHA512} {
		for what, c := range map[string]struct {
			first, password, nonce string
			in                     bool
		}{
			"right":                    {"n,,n=alice,r=abc", "pass word=,ü", "%s", true},
			"acting as herself":        {"n,a=alice,n=alice,r=abc", "pass word=,ü", "%s", true},
			"with extensions":          {"n,,n=alice,r=abc,tokenauth=false", "pass word=,ü", "%s", true},
			"librdkafka before 2.6.1":  {"n,,n=alice,r=abc", "pass word=,ü", "abc%s", true},
			"wrong password":           {"n,,n=alice,r=abc", "pass word=,", "%s", false},
			"unknown user":             {"n,,n=bob,r=abc", "pass word=,ü", "%s", false},
			"acting as another":        {"n,a=root,n=alice,r=abc", "pass word=,ü", "%s", false},
			"another nonce":            {"n,,n=alice,r=abc", "pass word=,ü", "abcdef", false},
			"only the client's nonce":  {"n,,n=alice,r=abc", "pass word=,ü", "abc", false},
			"the nonce and some more":  {"n,,n=alice,r=abc", "pass word=,ü", "%sx", false},
			"channel binding":          {"p=tls-unique,,n=alice,r=abc", "pass word=,ü", "%s", false},
			"a name with a stray sign": {"n,,n=ali=ce,r=abc", "pass word=,ü", "%s", false},
			"no nonce":                 {"n,,n=alice,r=", "pass word=,ü", "%s", false},
		} {
			x, _ := s.Begin(mechanism)
			who, err := exchange(t.Context(), x, kind, c.first, c.password, c.nonce)
			if in := who != nil; in != c.in || in && (err != nil || who.Principal != alice) {
				t.Errorf("%s %s: let in %v (%v), want %v", mechanism, what, in, err, c.in)
			}
		}
	}
}

// exchange is a client of SCRAM.
func exchange(ctx context.Context, x Exchange, kind catalog.ScramMechanism, first, password, nonce string) (*Session, error) {
	a, _, err := x.Step(ctx, []byte(first))
	if err != nil {
		return nil, err
	}
	var given, salt64 string
	var iterations int32
	for f := range strings.SplitSeq(string(a), ",") {
		switch {
		case strings.HasPrefix(f, "r="):
			given = f[2:]
		case strings.HasPrefix(f, "s="):
			salt64 = f[2:]
		case strings.HasPrefix(f, "i="):
			_, _ = fmt.Sscan(f[2:], &iterations)
		}
	}
	salt, err := base64.StdEncoding.DecodeString(salt64)
	if err != nil || iterations < catalog.MinScramIterations {
		return nil, fmt.Errorf("the challenge %q: %w", a, err)
	}
	if strings.Contains(nonce, "%s") {
		nonce = fmt.Sprintf(nonce, given)
	}
	parts := strings.SplitN(first, ",", 3)
	without := "c=" + base64.StdEncoding.EncodeToString([]byte(parts[0]+","+parts[1]+",")) + ",r=" + nonce
	signed := parts[2] + "," + string(a) + "," + without
	salted, err := saltPassword(kind, password, salt, iterations)
	if err != nil {
		return nil, err
	}
	proof := sign(kind, salted, "Client Key")
	for i, b := range sign(kind, storedKey(kind, salted), signed) {
		proof[i] ^= b
	}
	last, who, err := x.Step(ctx, []byte(without+",p="+base64.StdEncoding.EncodeToString(proof)))
	if err != nil {
		return nil, err
	}
	if want := "v=" + base64.StdEncoding.EncodeToString(sign(kind, sign(kind, salted, "Server Key"), signed)); string(last) != want {
		return who, fmt.Errorf("the server does not prove itself: %q, want %q", last, want)
	}
	return who, nil
}

// A user who does not exist is asked the same as one who does, and always the
// same.
func TestAStrangersChallenge(t *testing.T) {
	s := checker(t, SASLConfig{})
	salt := func(user string) string {
		a, _, err := step(t, s, ScramSHA512, "n,,n="+user+",r=abc")
		if err != nil {
			t.Fatal(err)
		}
		return a[0][strings.Index(a[0], ",s="):]
	}
	if salt("bob") != salt("bob") || salt("bob") == salt("carol") {
		t.Error("the salts of strangers give them away")
	}
	if len(salt("bob")) != len(salt("alice")) {
		t.Errorf("%q for a stranger, %q for a user", salt("bob"), salt("alice"))
	}
}

func TestBearerTokens(t *testing.T) {
	issuer := authtest.NewIssuer(t)
	now := time.Now()
	s := checker(t, SASLConfig{Tokens: NewOIDC(OIDCConfig{Issuer: issuer.URL, Audience: "hub"}), MaxSession: 2 * time.Hour})
	claims := func(change map[string]any) map[string]any {
		c := map[string]any{"iss": issuer.URL, "aud": "hub", "sub": "oscar", "exp": now.Add(time.Hour).Unix(), "iat": now.Unix()}
		for k, v := range change {
			c[k] = v
		}
		return c
	}
	say := func(token string) string { return "n,,\x01auth=Bearer " + token + "\x01\x01" }
	_, who, err := step(t, s, OAuthBearer, say(issuer.Token(claims(nil))))
	if err != nil || who.Principal != User("oscar") || who.Expires.Unix() != now.Add(time.Hour).Unix() {
		t.Fatalf("%+v, %v", who, err)
	}
	_, who, err = step(t, s, OAuthBearer, say(issuer.Token(claims(map[string]any{"exp": now.Add(9 * time.Hour).Unix()}))))
	if err != nil || who.Expires.After(now.Add(2*time.Hour+time.Minute)) {
		t.Errorf("a session longer than it may be: %+v, %v", who, err)
	}
	good := issuer.Token(claims(nil))
	cut := strings.LastIndex(good, ".")
	for what, message := range map[string]string{
		"unsecured":          say(issuer.Unsecured(claims(nil))),
		"signature cut off":  say(good[:cut+1]),
		"another signature":  say(good[:cut+1] + strings.Repeat("A", len(good)-cut-1)),
		"expired":            say(issuer.Token(claims(map[string]any{"exp": now.Add(-time.Minute).Unix()}))),
		"not yet":            say(issuer.Token(claims(map[string]any{"nbf": now.Add(time.Hour).Unix()}))),
		"another issuer":     say(issuer.Token(claims(map[string]any{"iss": "https://elsewhere.example"}))),
		"another audience":   say(issuer.Token(claims(map[string]any{"aud": "other"}))),
		"no subject":         say(issuer.Token(claims(map[string]any{"sub": ""}))),
		"a subject of lists": say(issuer.Token(claims(map[string]any{"sub": []string{"oscar"}}))),
		"no token":           say(""),
		"garbage":            "\x01\x01\x01",
		"basic":              "n,,\x01auth=Basic abc\x01\x01",
		"nothing":            "",
	} {
		if _, who, err := step(t, s, OAuthBearer, message); !errors.Is(err, ErrFailed) || who != nil {
			t.Errorf("%s: %v, %v", what, who, err)
		}
	}
	issuer.Rotate("two")
	if _, _, err := step(t, s, OAuthBearer, say(issuer.Token(claims(nil)))); err != nil {
		t.Errorf("after the issuer changed its key: %v", err)
	}
	if _, _, err := step(t, checker(t, SASLConfig{}), OAuthBearer, say(good)); !errors.Is(err, ErrFailed) {
		t.Errorf("without an issuer: %v", err)
	}
	gone := NewOIDC(OIDCConfig{Issuer: "http://127.0.0.1:1", Audience: "hub"})
	for range 2 {
		if _, _, err := gone.Verify(t.Context(), good); err == nil {
			t.Error("a token of an issuer that does not answer is taken")
		}
	}
}

func FuzzExchange(f *testing.F) {
	f.Add(byte(0), "\x00alice\x00x", "")
	f.Add(byte(1), "n,,n=alice,r=abc", "c=biws,r=abc,p=YWJj")
	f.Add(byte(2), "n,a=x,n=a=2C,r=y,m=z", "c=,r=,p=")
	f.Add(byte(3), "n,,\x01auth=Bearer a.b.c\x01\x01", "\x01")
	s := checker(f, SASLConfig{})
	f.Fuzz(func(t *testing.T, mechanism byte, first, second string) {
		x, _ := s.Begin(Mechanisms()[int(mechanism)%4])
		for _, m := range []string{first, second} {
			_, who, err := x.Step(t.Context(), []byte(m))
			if who != nil {
				t.Fatalf("%q, %q let %v in", first, second, who)
			}
			if err != nil {
				if !errors.Is(err, ErrFailed) {
					t.Fatalf("%v is no failed login", err)
				}
				return
			}
		}
	})
}
