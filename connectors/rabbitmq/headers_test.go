package rabbitmq

import (
	"math"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/entrepot-hub/entrepot/connectors"
	"github.com/entrepot-hub/entrepot/record"
)

// TestHeadersAreReadable: what programs that know nothing of AMQP see.
func TestHeadersAreReadable(t *testing.T) {
	headers, err := kafkaHeaders(amqp.Table{
		"text": "é", "int": int32(-5), "ok": true, "price": amqp.Decimal{Scale: 2, Value: -5}, "at": time.Unix(1431857103, 0),
		"half": 0.5, "raw": []byte{0, 1}, "none": nil, "amqp.type": "mine",
		"x-death": []any{amqp.Table{"count": int64(3), "queue": "q", "time": time.Unix(7, 0), "odd": "\xff"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, h := range headers {
		lines = append(lines, h.Key+"="+string(h.Value))
	}
	want := `amqp.header.amqp.type=mine
at=1431857103
half=0.5
int=-5
none=
ok=true
price=-0.05
raw=` + "\x00\x01" + `
text=é
x-death=[{"count":3,"odd":"/w==","queue":"q","time":7}]
amqp.types={"at":"T","half":"d","int":"I","none":"V","ok":"t","price":"D","raw":"x","x-death":[{"count":"l","odd":"S64","queue":"S","time":"T"}]}`
	if got := strings.Join(lines, "\n"); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// randomValue makes a value of any type that AMQP has.
func randomValue(r *rand.Rand, depth int) any {
	text := func() string {
		b := make([]byte, r.IntN(6))
		for i := range b {
			b[i] = byte(r.Uint32())
		}
		if r.IntN(2) == 0 {
			return string(b)
		}
		return strings.ToValidUTF8(string(b), "é\"<")
	}
	n := 16
	if depth == 0 {
		n = 14
	}
	switch r.IntN(n) {
	case 0:
		return r.IntN(2) == 0
	case 1:
		return int8(r.Uint32())
	case 2:
		return uint8(r.Uint32())
	case 3:
		return int16(r.Uint32())
	case 4:
		return uint16(r.Uint32())
	case 5:
		return int32(r.Uint32())
	case 6:
		return r.Uint32()
	case 7:
		return int64(r.Uint64())
	case 8:
		return []float32{float32(math.Inf(-1)), math.MaxFloat32, 0.1, math.SmallestNonzeroFloat32, float32(r.NormFloat64())}[r.IntN(5)]
	case 9:
		return []float64{math.Inf(1), math.MaxFloat64, 0.1, math.Copysign(0, -1), r.NormFloat64()}[r.IntN(5)]
	case 10:
		return amqp.Decimal{Scale: uint8(r.Uint32()), Value: int32(r.Uint32())}
	case 11:
		return time.Unix(int64(r.Uint64()), 0)
	case 12:
		return []byte(text())
	case 13:
		return []any{nil, text()}[r.IntN(2)]
	case 14:
		all := make([]any, r.IntN(4))
		for i := range all {
			all[i] = randomValue(r, depth-1)
		}
		return all
	}
	t := amqp.Table{}
	for range r.IntN(4) {
		t[strings.ToValidUTF8(text(), "k")] = randomValue(r, depth-1)
	}
	return t
}

// TestHeadersComeBack: every table becomes headers and the same table again.
func TestHeadersComeBack(t *testing.T) {
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 0))
	for i := range 20_000 {
		in := amqp.Table{}
		for _, name := range []string{"a", "b", "amqp.content-type", "amqp.header.x", "amqp.types"}[:1+r.IntN(5)] {
			in[name] = randomValue(r, 3)
		}
		headers, err := kafkaHeaders(in)
		if err != nil {
			t.Fatalf("seed %d, table %d: %v", seed, i, err)
		}
		out, err := amqpHeaders(headers)
		if err != nil || !reflect.DeepEqual(in, out) {
			t.Fatalf("seed %d, table %d: %v\n%#v\n%#v", seed, i, err, in, out)
		}
	}
}

// TestForeignHeaders: of any Kafka client.
func TestForeignHeaders(t *testing.T) {
	got, err := amqpHeaders([]record.Header{{Key: "a", Value: []byte("1")}, {Key: "b"}, {Key: "a", Value: []byte("2")}, {Key: "a", Value: []byte("\xff")}, {Key: "x-delivery-count", Value: []byte("7")}})
	if want := (amqp.Table{"a": []any{"1", "2", "\xff"}, "b": nil}); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%#v, %v", got, err)
	}
	for _, bad := range [][]record.Header{
		{{Key: strings.Repeat("n", 256)}},
		{{Key: "CC", Value: []byte("orders")}},
		{{Key: "amqp.types", Value: []byte("[]")}},
		{{Key: "a", Value: []byte("x")}, {Key: "amqp.types", Value: []byte(`{"a":"I"}`)}},
		{{Key: "a", Value: []byte("2147483648")}, {Key: "amqp.types", Value: []byte(`{"a":"I"}`)}},
		{{Key: "a", Value: []byte("[1]")}, {Key: "amqp.types", Value: []byte(`{"a":["I","I"]}`)}},
		{{Key: "a", Value: []byte("1")}, {Key: "amqp.types", Value: []byte(`{"a":5}`)}},
	} {
		if _, err := amqpHeaders(bad); connectors.ClassOf(err) != connectors.ClassPoison {
			t.Errorf("%.60v: %v", bad, err)
		}
	}
}

// FuzzHeaders: whatever stands in a topic is a table or poison, and a table
// that came of it comes back.
func FuzzHeaders(f *testing.F) {
	f.Add("a", []byte("[1,{}]"), []byte(`{"a":["I",{}]}`))
	f.Add("amqp.header.b", []byte("NaN"), []byte(`{"amqp.b":"f"}`))
	f.Add("CC", []byte(`["x"]`), []byte(`{"CC":["S"]}`))
	f.Fuzz(func(t *testing.T, name string, value, types []byte) {
		table, err := amqpHeaders([]record.Header{{Key: name, Value: value}, {Key: headerTypes, Value: types}})
		if err != nil {
			if connectors.ClassOf(err) != connectors.ClassPoison {
				t.Fatal(err)
			}
			return
		}
		if err := table.Validate(); err != nil {
			t.Fatalf("the driver does not take %#v: %v", table, err)
		}
		headers, err := kafkaHeaders(table)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := amqpHeaders(headers); err != nil {
			t.Fatal(err)
		}
	})
}
