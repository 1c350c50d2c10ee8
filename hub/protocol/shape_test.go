package protocol

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"reflect"
	"runtime"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// fill puts random values into everything of a kmsg request.
func fill(rng *rand.Rand, v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer:
		if rng.IntN(3) > 0 {
			v.Set(reflect.New(v.Type().Elem()))
			fill(rng, v.Elem())
		}
	case reflect.Struct:
		if tags, ok := v.Addr().Interface().(*kmsg.Tags); ok {
			for range rng.IntN(3) {
				tags.Set(100+rng.Uint32N(100), bytes.Repeat([]byte{9}, rng.IntN(5)))
			}
			return
		}
		for i := range v.NumField() {
			if f := v.Field(i); f.CanSet() && v.Type().Field(i).Name != "Version" {
				fill(rng, f)
			}
		}
	case reflect.Slice:
		if rng.IntN(5) == 0 {
			return
		}
		n := rng.IntN(4)
		v.Set(reflect.MakeSlice(v.Type(), n, n))
		for i := range n {
			fill(rng, v.Index(i))
		}
	case reflect.Array:
		for i := range v.Len() {
			fill(rng, v.Index(i))
		}
	case reflect.String:
		v.SetString(strings.Repeat("s", rng.IntN(4)))
	case reflect.Bool:
		v.SetBool(rng.IntN(2) == 0)
	case reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		v.SetInt(rng.Int64N(100))
	case reflect.Uint8:
		v.SetUint(rng.Uint64N(256))
	}
}

// everyVersion calls f for each API and each version that is served.
func everyVersion(f func(a *api, req kmsg.Request)) {
	for _, a := range apis {
		for v := a.min; v <= a.max; v++ {
			req := kmsg.RequestForKey(a.key)
			req.SetVersion(v)
			f(a, req)
		}
	}
}

// The shapes say the same as kmsg: whatever kmsg encodes is walked exactly to
// its end.
func TestShapesAgreeWithTheCodec(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	everyVersion(func(a *api, req kmsg.Request) {
		if got, want := a.flexible(req.GetVersion()), req.IsFlexible(); got != want {
			t.Errorf("%s v%d: flexible %v, want %v", a.name, req.GetVersion(), got, want)
		}
		for range 200 {
			one := kmsg.RequestForKey(a.key)
			fill(rng, reflect.ValueOf(one).Elem())
			one.SetVersion(req.GetVersion())
			b := one.AppendTo(nil)
			w := walk{b: b, left: maxElements, version: req.GetVersion(), flexible: req.IsFlexible()}
			w.fields(a.shape.fields)
			if w.flexible {
				w.tags(a.shape.tags, w.version)
			}
			if w.bad != "" || len(w.b) != 0 {
				t.Fatalf("%s v%d: %q, %d bytes left of %d\n% x", a.name, req.GetVersion(), w.bad, len(w.b), len(b), b)
			}
		}
	})
}

// A body that passes is one that kmsg can read, and a request cannot make kmsg
// allocate more than its bytes are worth.
func TestLyingLengthsCostNothing(t *testing.T) {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	everyVersion(func(a *api, req kmsg.Request) {
		for _, lie := range [][]byte{
			bytes.Repeat([]byte{0x7f}, 1<<16), bytes.Repeat([]byte{0}, 1<<16),
			bytes.Repeat([]byte{0xff, 0xff, 0xff, 0xff, 0x0f}, 1<<12), bytes.Repeat([]byte{1}, 1<<16),
			bytes.Repeat([]byte{0, 0, 0xff, 0xff}, 1<<13), bytes.Repeat([]byte{0, 1, 0, 0}, 1<<14),
		} {
			if a.shape.check(lie, req.GetVersion()) == nil {
				one := kmsg.RequestForKey(a.key)
				one.SetVersion(req.GetVersion())
				_ = one.ReadFrom(lie)
			}
		}
	})
	runtime.ReadMemStats(&after)
	if n := after.TotalAlloc - before.TotalAlloc; n > 512<<20 {
		t.Errorf("%d MiB were allocated", n>>20)
	}
}

func TestShapeRefusesTooManyElements(t *testing.T) {
	b := binary.BigEndian.AppendUint32(nil, maxElements+1)
	b = append(b, make([]byte, 4*(maxElements+1))...)
	err := metadataAPI.shape.check(b, 1)
	if err == nil || !strings.Contains(err.Error(), "claims") {
		t.Fatalf("got %v", err)
	}
}
