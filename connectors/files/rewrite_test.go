package files

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"slices"
	"testing"
)

// places are all kinds of store, each with an empty folder. Those whose server
// is missing are skipped loudly.
func places(t *testing.T, test func(t *testing.T, s store)) {
	for name, open := range map[string]func(t *testing.T) store{
		"file":           func(t *testing.T) store { return &localStore{root: t.TempDir(), disk: osDisk{}} },
		"s3 by gofakes3": func(t *testing.T) store { return fakeBucket(t).store },
		"s3 by moto":     func(t *testing.T) store { return motoBucket(t).store },
		"hdfs by Hadoop": func(t *testing.T) store { return hadoop(t, "hdfs") },
		"web by Hadoop":  func(t *testing.T) store { return hadoop(t, "webhdfs") },
	} {
		t.Run(name, func(t *testing.T) { test(t, open(t)) })
	}
}

func hadoop(t *testing.T, scheme string) store {
	cfg := newLakeHDFS(t, scheme).config(nil)
	s, err := settingsOf(cfg)
	if err != nil {
		t.Fatal(err)
	}
	st, err := openStore(t.Context(), s.location, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = st.Close("_tmp") })
	return st
}

// TestRewrite: what closing an hour needs of a store beyond what loading does.
func TestRewrite(t *testing.T) {
	places(t, func(t *testing.T, s store) {
		ctx := t.Context()
		big := make([]byte, 300<<10)
		for i := range big {
			big[i] = byte(i * i >> 3)
		}
		for _, text := range [][]byte{[]byte("first"), big} {
			if err := s.Put(ctx, "_tmp/conntest/put", "dt=a b/_MANIFEST.json", text); err != nil {
				t.Fatal(err)
			}
			if got, err := s.Read(ctx, "dt=a b/_MANIFEST.json"); err != nil || !bytes.Equal(got, text) {
				t.Fatalf("%d bytes, %v, want %d", len(got), err, len(text))
			}
		}
		if names, err := s.List(ctx, "dt=a b"); err != nil || !slices.Equal(names, []string{"_MANIFEST.json"}) {
			t.Errorf("the folder has %q, %v", names, err)
		}
		f, err := s.Open(ctx, "dt=a b/_MANIFEST.json")
		if err != nil || f.Size() != int64(len(big)) {
			t.Fatal(f, err)
		}
		for range 50 {
			at, n := rand.IntN(len(big)), 1+rand.IntN(rangedBlock*2)
			got := make([]byte, n)
			read, err := f.ReadAt(got, int64(at))
			if want := big[at:min(len(big), at+n)]; !bytes.Equal(got[:read], want) || (err != nil) != (len(want) < n) || err != nil && !errors.Is(err, io.EOF) {
				t.Fatalf("%d bytes at %d: %d, %v", n, at, read, err)
			}
		}
		if err := f.Close(); err != nil {
			t.Error(err)
		}
		for range 2 {
			if err := s.Remove(ctx, "dt=a b/_MANIFEST.json"); err != nil {
				t.Error(err)
			}
		}
		if there, err := s.Exists(ctx, "dt=a b/_MANIFEST.json"); there || err != nil {
			t.Errorf("it is there after its removal: %t, %v", there, err)
		}
		if _, err := s.Open(ctx, "dt=a b/_MANIFEST.json"); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("opened after its removal: %v", err)
		}
	})
}
