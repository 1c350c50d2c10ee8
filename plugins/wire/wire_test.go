package wire

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"reflect"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"github.com/entrepot-hub/entrepot/connectors"
	"github.com/entrepot-hub/entrepot/record"
)

// over takes a message over the wire.
func over[M proto.Message](t interface{ Fatal(...any) }, m, into M) M {
	b, err := proto.Marshal(m)
	if err == nil {
		err = proto.Unmarshal(b, into)
	}
	if err != nil {
		t.Fatal(err)
	}
	return into
}

// TestMessages: a message is the same on the other side, null told from empty.
func TestMessages(t *testing.T) {
	maybe := rapid.Custom(func(t *rapid.T) []byte {
		if rapid.Bool().Draw(t, "null") {
			return nil
		}
		return rapid.SliceOfN(rapid.Byte(), 0, 40).Draw(t, "bytes")
	})
	rapid.Check(t, func(t *rapid.T) {
		m := connectors.Message{
			Key: maybe.Draw(t, "key"), Value: maybe.Draw(t, "value"), Timestamp: rapid.Int64().Draw(t, "time"),
			Original: maybe.Draw(t, "original"), Position: maybe.Draw(t, "position"), Place: maybe.Draw(t, "place"), ID: maybe.Draw(t, "id"),
			Origin: connectors.Origin{Name: "file", Line: 7}, Mark: rapid.Bool().Draw(t, "mark"), Pinned: rapid.Bool().Draw(t, "pinned"),
			Partition: record.TopicPartition{Topic: "t", Partition: rapid.Int32().Draw(t, "partition")}, Offset: rapid.Int64().Draw(t, "offset"),
		}
		if rapid.Bool().Draw(t, "same") {
			m.Original = bytes.Clone(m.Value)
		}
		for range rapid.IntRange(0, 3).Draw(t, "headers") {
			m.Headers = append(m.Headers, record.Header{Key: "h", Value: maybe.Draw(t, "header")})
		}
		if got := over(t, FromMessage(&m), &Message{}).Message(); !reflect.DeepEqual(got, m) {
			t.Fatalf("%#v\nwant %#v", got, m)
		}
	})
	m := connectors.Message{Err: connectors.Poisonf("a line of %d bytes", 9), Original: []byte("x")}
	if got := over(t, FromMessage(&m), &Message{}).Message(); connectors.ClassOf(got.Err) != connectors.ClassPoison || got.Err.Error() != "a line of 9 bytes" {
		t.Errorf("%v", got.Err)
	}
}

// TestNoUTF8: texts that are not UTF-8 do not break the stream: an error is
// shown as well as it can be, and a header that would change makes poison.
func TestNoUTF8(t *testing.T) {
	const bad = "caf\xe9"
	m := connectors.Message{Value: []byte(bad), Origin: connectors.Origin{Name: bad}, Err: connectors.Poisonf("the value %s", bad)}
	got := over(t, FromMessage(&m), &Message{}).Message()
	if string(got.Value) != bad || got.Origin.Name != "caf?" || got.Err.Error() != "the value caf?" {
		t.Errorf("%#v, %v", got, got.Err)
	}
	m = connectors.Message{Value: []byte(bad), Headers: []record.Header{{Key: "good"}, {Key: bad}}}
	got = over(t, FromMessage(&m), &Message{}).Message()
	if connectors.ClassOf(got.Err) != connectors.ClassPoison || string(got.Value) != bad {
		t.Errorf("%#v, %v", got, got.Err)
	}
	for _, err := range []error{errors.New(bad), connectors.Unknown(errors.New(bad))} {
		if back := over(t, FromError(err), &Error{}).Err(); connectors.ClassOf(back) != connectors.ClassOf(err) {
			t.Errorf("%v: %v", err, back)
		}
	}
}

func allKinds() []connectors.Field {
	fields := []connectors.Field{
		{Name: "string", Kind: connectors.KindString, Default: "a", Options: []string{"a", "b"}},
		{Name: "int", Kind: connectors.KindInt, Default: int64(7), Min: 1, Max: 9},
		{Name: "float", Kind: connectors.KindFloat, Default: 0.5},
		{Name: "bool", Kind: connectors.KindBool, Default: true},
		{Name: "duration", Kind: connectors.KindDuration, Default: time.Second},
		{Name: "size", Kind: connectors.KindSize, Default: int64(4096)},
		{Name: "secret", Kind: connectors.KindSecret},
		{Name: "secrets", Kind: connectors.KindSecretMap},
		{Name: "strings", Kind: connectors.KindStrings, Default: []string{"x"}},
		{Name: "map", Kind: connectors.KindStringMap, Default: map[string]string{"k": "v"}},
	}
	inner := append([]connectors.Field{}, fields...)
	return append(fields,
		connectors.Field{Name: "object", Kind: connectors.KindObject, Fields: inner},
		connectors.Field{Name: "objects", Kind: connectors.KindObjects, Fields: inner})
}

func given() map[string]any {
	plain := map[string]any{
		"string": "b", "int": 3, "float": 1.25, "bool": false, "duration": time.Minute, "size": 1 << 20, "secret": "hunter2", "secrets": map[string]string{"token": "hunter2"},
		"strings": []string{"p", "q"}, "map": map[string]string{"a": "b"},
	}
	all := map[string]any{"object": plain, "objects": []map[string]any{plain, {}}}
	for k, v := range plain {
		all[k] = v
	}
	return all
}

// TestConfigs: each kind of value comes over, secrets only where they are
// revealed, and defaults are the other side's own.
func TestConfigs(t *testing.T) {
	cfg, err := connectors.NewConfig(allKinds(), given())
	if err != nil {
		t.Fatal(err)
	}
	open := func(s connectors.Secret) (string, error) { return s.Reveal() }
	for name, reveal := range map[string]func(connectors.Secret) (string, error){"revealed": open, "hidden": nil} {
		object, err := FromConfig(allKinds(), cfg, reveal)
		if err != nil {
			t.Fatal(err)
		}
		got, err := over(t, object, &Object{}).Config(allKinds())
		if err != nil || fmt.Sprint(got.Shown()) != fmt.Sprint(cfg.Shown()) {
			t.Errorf("%s: %v\n%v\n%v", name, err, got.Shown(), cfg.Shown())
		}
		for _, s := range []connectors.Secret{got.Secret("secret"), got.Object("object").Secret("secret"), got.Objects("objects")[0].Secret("secret"), got.SecretMap("secrets")["token"]} {
			if text, err := s.Reveal(); (text == "hunter2") != (reveal != nil) || (err == nil) != (reveal != nil) {
				t.Errorf("%s: the secret is %q, %v", name, text, err)
			}
		}
		if reveal == nil && bytes.Contains([]byte(fmt.Sprint(object)), []byte("hunter2")) {
			t.Error("a hidden secret is on the wire")
		}
		if empty := got.Objects("objects")[1]; empty.Has("int") || empty.Int("int") != 7 {
			t.Errorf("%s: defaults are sent, or lost", name)
		}
	}
	if _, err := FromConfig(allKinds(), cfg, func(connectors.Secret) (string, error) { return "", errors.New("no such file") }); err == nil {
		t.Error("a secret that cannot be revealed is left out")
	}
	broken := &Object{Fields: map[string]*Value{"int": {Of: &Value_Whole{Whole: 10}}}}
	if _, err := broken.Config(allKinds()); err == nil {
		t.Error("a value out of range is taken")
	}
}

// TestSpecs: a spec is the same on the other side, but for its checks.
func TestSpecs(t *testing.T) {
	spec := connectors.Spec{Type: "x", Summary: "s", Guarantee: "g", Since: "1", Fields: allKinds()}
	got, err := over(t, FromSpec(spec), &Spec{}).Spec()
	if err != nil || fmt.Sprint(got) != fmt.Sprint(spec) {
		t.Errorf("%v\n%v\n%v", err, got, spec)
	}
}

// TestKinds: each kind of the contract has its number on the wire.
func TestKinds(t *testing.T) {
	for k := connectors.KindString; k.String() != fmt.Sprintf("kind %d", k); k++ {
		if valueKind(k) == ValueKind_VALUE_UNSPECIFIED {
			t.Errorf("kind %q has no number", k)
		}
	}
}

func TestErrors(t *testing.T) {
	base := errors.New("no route")
	for _, err := range []error{
		nil, base, connectors.Retry(3*time.Second, base), connectors.Poison(base), connectors.Fatal(base), connectors.Unknown(base),
		connectors.Fatal(fmt.Errorf("x: %w", connectors.ErrFenced)), context.Canceled, context.DeadlineExceeded,
	} {
		got := FromError(err).Err()
		if err == nil {
			if got != nil {
				t.Errorf("no error became %v", got)
			}
			continue
		}
		if connectors.ClassOf(got) != connectors.ClassOf(err) || got.Error() != err.Error() ||
			connectors.RetryAfter(got) != connectors.RetryAfter(err) || errors.Is(got, connectors.ErrFenced) != errors.Is(err, connectors.ErrFenced) {
			t.Errorf("%v (%v) became %v (%v)", err, connectors.ClassOf(err), got, connectors.ClassOf(got))
		}
	}
}

// FuzzOutside: what the other side sends may be anything; it is taken or
// refused, and nothing panics.
func FuzzOutside(f *testing.F) {
	m := connectors.Message{Key: []byte("k"), Value: []byte("v"), Original: []byte("v"), Position: []byte{1}}
	spec := FromSpec(connectors.Spec{Type: "x", Fields: allKinds()})
	cfg, err := connectors.NewConfig(allKinds(), given())
	if err != nil {
		f.Fatal(err)
	}
	object, err := FromConfig(allKinds(), cfg, nil)
	if err != nil {
		f.Fatal(err)
	}
	for _, one := range []proto.Message{FromMessage(&m), spec, object, FromError(connectors.Unknown(errors.New("x"))), &RecordError{Index: 1, Offset: 2}} {
		b, err := proto.Marshal(one)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var message Message
		if proto.Unmarshal(b, &message) == nil {
			m := message.Message()
			if again := FromMessage(&m); again.Cost() > message.Cost()+len(m.Original) {
				t.Errorf("a message costs %d, and %d when it is sent on", message.Cost(), again.Cost())
			}
		}
		var spec Spec
		if proto.Unmarshal(b, &spec) == nil {
			_, _ = spec.Spec()
		}
		var object Object
		if proto.Unmarshal(b, &object) == nil {
			_, _ = object.Config(allKinds())
		}
		var failed Error
		if proto.Unmarshal(b, &failed) == nil {
			_ = failed.Err()
		}
		var refused RecordError
		if proto.Unmarshal(b, &refused) == nil {
			_, _ = Refused([]*RecordError{&refused, &refused}, connectors.Batch{Messages: make([]connectors.Message, 3)})
		}
	})
}
