package protocol

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"reflect"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/entrepot-hub/entrepot/hub/auth"
	"github.com/entrepot-hub/entrepot/hub/catalog"
	"github.com/entrepot-hub/entrepot/hub/group"
	"github.com/entrepot-hub/entrepot/hub/txn"
	"github.com/entrepot-hub/entrepot/record"
)

// target is a server without a network that handles requests for fuzzing. It
// begins anew now and then: what a fuzzer creates would pile up.
type target struct {
	t     testing.TB
	s     *Server
	m     *memSite
	uses  int
	end   context.CancelFunc
	wg    sync.WaitGroup
	local net.Addr
}

func newTarget(t testing.TB) *target {
	ta := &target{t: t, local: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 9092}}
	ta.start()
	t.Cleanup(ta.stop)
	return ta
}

func (ta *target) start() {
	cfg := quick()
	cfg.Limits.FetchWait = time.Millisecond
	cfg.AutoCreate = true
	ta.m = newMemSite()
	for _, cmd := range []catalog.Command{
		catalog.SiteInit{Site: "here", SiteID: 3},
		catalog.RegisterNode{Name: "n1", Site: "here", Kafka: "127.0.0.1:9092"},
		catalog.CreateTopic{Name: "s", ID: record.TopicID{1}, Partitions: 3, Replicas: 1},
		catalog.CreateTopic{Name: "ss", ID: record.TopicID{2}, Partitions: 3, Replicas: 1, Config: map[string]string{"cleanup.policy": "compact"}},
	} {
		if _, err := ta.m.Propose(ta.t.Context(), cmd); err != nil {
			ta.t.Fatal(err)
		}
	}
	ta.s = New(cfg, ta.m, ta.m)
	ctx, cancel := context.WithCancel(context.Background())
	ta.end = cancel
	ta.wg.Go(func() { _ = ta.s.Run(ctx) })
}

func (ta *target) stop() {
	ta.end()
	ta.wg.Wait()
	ta.m.close()
}

// handle passes a frame through the server and decodes the answer with kmsg.
// It reports whether the frame was a request at all.
func (ta *target) handle(b []byte) bool {
	if ta.uses++; ta.uses%500 == 0 {
		ta.stop()
		ta.start()
	}
	if len(b) < requestHeader {
		return false
	}
	r, err := parseRequest(frame{bytes: b})
	if err != nil {
		if !errors.Is(err, errMalformed) && !errors.Is(err, errUnsupported) {
			ta.t.Fatalf("neither malformed nor unsupported: %v", err)
		}
		return false
	}
	watchdog := time.AfterFunc(10*time.Second, func() { panic(fmt.Sprintf("it takes more than 10 s: %x", b)) })
	defer watchdog.Stop()
	r.local, r.host, r.fetches = ta.local, "127.0.0.1", &fetches{}
	ctx, cancel := context.WithTimeout(ta.t.Context(), 20*time.Millisecond)
	defer cancel()
	a, err := r.api.handle(ta.s, ctx, r)
	if err != nil {
		if !errors.Is(err, errMalformed) {
			ta.t.Fatalf("%s v%d: %v", r.api.name, r.version, err)
		}
		return false
	}
	c := &conn{s: ta.s, cut: ctx}
	ta.decode(r, c.encode(nil, &pending{r: r, a: a}))
	return true
}

func (ta *target) decode(r *request, bufs []buffer) {
	var b []byte
	for _, p := range bufs {
		if p.late != nil {
			whole, err := io.ReadAll(p.late)
			if err != nil {
				ta.t.Fatal(err)
			}
			p.b = whole
		}
		b = append(b, p.b...)
	}
	if len(b) == 0 {
		return // acks=0, or cut
	}
	if n := int(binary.BigEndian.Uint32(b)); n != len(b)-4 {
		ta.t.Fatalf("%s v%d: the answer has %d bytes and says %d", r.api.name, r.version, len(b)-4, n)
	}
	b = b[8:]
	if r.api.flexible(r.version) && r.api.key != apiVersionsKey {
		b = b[1:]
	}
	resp := kmsg.ResponseForKey(r.api.key)
	resp.SetVersion(r.version)
	if err := resp.ReadFrom(b); err != nil {
		ta.t.Fatalf("%s v%d: the answer cannot be read: %v", r.api.name, r.version, err)
	}
}

// requestBytes is a request without its length.
func requestBytes(req kmsg.Request) []byte {
	return kmsg.NewRequestFormatter(kmsg.FormatterClientID("f")).AppendRequest(nil, req, 7)[4:]
}

// realRequests are random requests of every version, with real batches in them.
func realRequests(rng *rand.Rand, each int) (all [][]byte) {
	b := record.NewBuilder(record.None)
	_ = b.Append(record.Record{Value: []byte("v")})
	one, _ := b.Build()
	everyVersion(func(a *api, req kmsg.Request) {
		for range each {
			r := kmsg.RequestForKey(a.key)
			fill(rng, reflect.ValueOf(r).Elem())
			r.SetVersion(req.GetVersion())
			if p, ok := r.(*kmsg.ProduceRequest); ok {
				for i := range p.Topics {
					for j := range p.Topics[i].Partitions {
						p.Topics[i].Partitions[j].Records = one
					}
				}
			}
			all = append(all, requestBytes(r))
		}
	})
	return all
}

// Every version of every request is answered, and what is cut or changed in it
// is answered or refused.
func TestRandomRequestsAreAnsweredOrRefused(t *testing.T) {
	ta := newTarget(t)
	rng := rand.New(rand.NewPCG(3, 4))
	answered := 0
	for _, b := range realRequests(rng, 4) {
		if !ta.handle(append([]byte{}, b...)) {
			t.Fatalf("refused: API %d v%d", b[1], b[3])
		}
		for range 8 {
			m := append([]byte{}, b[:requestHeader+rng.IntN(len(b)-requestHeader+1)]...)
			if len(m) > requestHeader && rng.IntN(2) == 0 {
				m = append([]byte{}, b...)
				for range 1 + rng.IntN(3) {
					m[requestHeader+rng.IntN(len(m)-requestHeader)] = byte(rng.Uint32())
				}
			}
			if ta.handle(m) {
				answered++
			}
		}
	}
	if answered == 0 {
		t.Error("no changed request was answered: the test changes too much")
	}
}

func FuzzRequest(f *testing.F) {
	for _, b := range realRequests(rand.New(rand.NewPCG(1, 1)), 1) {
		f.Add(b)
	}
	ta := newTarget(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		ta.t = t
		ta.handle(b)
	})
}

// FuzzConnection feeds bytes to a connection and takes whatever comes back.
func FuzzConnection(f *testing.F) {
	rng := rand.New(rand.NewPCG(1, 1))
	var all []byte
	for i, b := range realRequests(rng, 1) {
		framed := append(binary.BigEndian.AppendUint32(nil, uint32(len(b))), b...)
		if all = append(all, framed...); i%10 == 0 {
			f.Add(all)
			all = nil
		}
	}
	f.Add([]byte{0x7f, 0xff, 0xff, 0xff})
	ta := newTarget(f)
	ta.s.log = slog.New(slog.DiscardHandler)
	f.Fuzz(func(t *testing.T, b []byte) {
		ta.t = t
		if ta.uses++; ta.uses%200 == 0 {
			ta.stop()
			ta.start()
		}
		client, server := net.Pipe()
		var wg sync.WaitGroup
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		wg.Go(func() { ta.s.ServeConn(ctx, timeless{server}) })
		wg.Go(func() { _, _ = io.Copy(io.Discard, client) })
		_, _ = client.Write(b)
		_ = client.Close()
		wg.Wait()
		if n := ta.s.Stats(); n.Connections != 0 {
			t.Errorf("%+v", n)
		}
	})
}

// FuzzGroupRecord reads what stands in __consumer_offsets.
func FuzzGroupRecord(f *testing.F) {
	k := offsetKey("g", record.TopicPartition{Topic: "t", Partition: 1})
	f.Add(k, []byte{0, 3, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0})
	gk := kmsg.GroupMetadataKey{Version: 2, Group: "g"}
	f.Add(gk.AppendTo(nil), []byte{0, 3, 0, 1, 'c', 0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0})
	for _, v := range []group.Entry{
		{Key: group.EntryKey{Kind: group.GroupEntry}, Value: group.GroupEpoch{Epoch: 1}},
		{Key: group.EntryKey{Kind: group.MemberEntry, Name: "m"}, Value: group.ConsumerMember{Topics: []string{"t"}}},
		{Key: group.EntryKey{Kind: group.CurrentEntry, Name: "m"}, Value: group.Current{Assigned: group.Assignment{{1}: {0, 1}}}},
		{Key: group.EntryKey{Kind: group.RegexEntry, Name: "a.*"}, Value: group.Resolved{Topics: []string{"a"}}},
	} {
		f.Add(entryKey("g", v.Key), entryValue(v.Value))
	}
	f.Fuzz(func(t *testing.T, key, value []byte) {
		groups := map[string]*keptGroup{}
		_ = readGroupRecord(groups, 7, record.Record{Key: key, Value: value})
		_ = readGroupRecord(groups, record.NoProducer, record.Record{Key: key, Value: value})
		for id, g := range groups {
			_, _ = g.live(id, group.Default(), time.Time{})
		}
	})
}

// FuzzTransactionRecord reads what stands in __transaction_state.
func FuzzTransactionRecord(f *testing.F) {
	for _, rec := range []*txn.Record{
		{Producer: txn.Producer{ID: 3, Epoch: 1}, Previous: -1, Next: -1, Timeout: time.Minute, Started: -1},
		{
			Producer: txn.Producer{ID: 3, Epoch: 1<<15 - 1}, Previous: 2, Next: 4, State: txn.PrepareCommit, Version: 2,
			Partitions: []record.TopicPartition{{Topic: "a", Partition: 1}, {Topic: "b", Partition: 2}},
		},
	} {
		r := txnRecord(5, txnWrite{txn.New("x", txn.Default(), time.Now()), &txn.Write{Record: rec}})
		f.Add(r.Key, r.Value)
	}
	f.Fuzz(func(t *testing.T, key, value []byte) {
		all := map[string]txn.Record{}
		_ = readTxnRecord(all, record.Record{Key: key, Value: value})
		for id, rec := range all {
			back := map[string]txn.Record{}
			x, _ := txn.Load(id, txn.Default(), time.Now(), rec)
			again := x.Describe()
			if err := readTxnRecord(back, txnRecord(5, txnWrite{x, &txn.Write{Record: &again}})); err != nil || !reflect.DeepEqual(back[id], again) {
				t.Errorf("%+v came back as %+v: %v", again, back[id], err)
			}
		}
	})
}

// FuzzLogin feeds bytes to a connection that has to log in. What is served is
// served to one who knows the password, which no fuzzer finds.
func FuzzLogin(f *testing.F) {
	framed := func(reqs ...kmsg.Request) (all []byte) {
		for _, r := range reqs {
			b := requestBytes(r)
			all = append(binary.BigEndian.AppendUint32(all, uint32(len(b))), b...)
		}
		return all
	}
	for _, m := range auth.Mechanisms() {
		hello := &kmsg.SASLHandshakeRequest{Version: 1, Mechanism: m}
		for _, token := range []string{"\x00alice\x00wrong", "n,,n=alice,r=abc", "n,a=alice,n=a=2Cb,r=x,tokenauth=true", "n,,\x01auth=Bearer x\x01\x01"} {
			f.Add(framed(&kmsg.ApiVersionsRequest{Version: 3}, hello, &kmsg.SASLAuthenticateRequest{Version: 2, SASLAuthBytes: []byte(token)},
				&kmsg.SASLAuthenticateRequest{Version: 2, SASLAuthBytes: []byte("c=biws,r=abc,p=YWJj")}, &kmsg.MetadataRequest{Version: 9}))
			f.Add(append(framed(&kmsg.SASLHandshakeRequest{Mechanism: m}), append([]byte{0, 0, 0, byte(len(token))}, token...)...))
		}
	}
	ta := newTarget(f)
	cfg := guarded(f)
	cfg.Limits.Refuse, cfg.Limits.Login = time.Nanosecond, time.Second
	s := New(cfg, ta.m, ta.m)
	s.log = slog.New(slog.DiscardHandler)
	door := &Listener{Name: MainListener, SASL: auth.Mechanisms()}
	f.Fuzz(func(t *testing.T, b []byte) {
		client, server := net.Pipe()
		var wg sync.WaitGroup
		wg.Go(func() { s.serveConn(t.Context(), door, timeless{server}) })
		wg.Go(func() { _, _ = io.Copy(io.Discard, client) })
		_, _ = client.Write(b)
		_ = client.Close()
		wg.Wait()
		if n := s.Stats(); n.Connections != 0 || n.Requests["Metadata"] != 0 || s.strangers.used() != 0 {
			t.Fatalf("%+v, %d bytes of strangers are held", n, s.strangers.used())
		}
	})
}
