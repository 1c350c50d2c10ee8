package host

import (
	"io"
	"testing"

	"github.com/entrepot-hub/entrepot/connectors"
	"github.com/entrepot-hub/entrepot/plugins/wire"
)

// TestReaderFolds: what nobody asked for is a breach, and an end does not hide
// one that came before it.
func TestReaderFolds(t *testing.T) {
	messages := &wire.ReadResponse{Of: &wire.ReadResponse_Messages{Messages: &wire.Messages{Messages: []*wire.Message{{Position: []byte{1}}}}}}
	end := &wire.ReadResponse{Of: &wire.ReadResponse_End{End: &wire.End{}}}
	committed := &wire.ReadResponse{Of: &wire.ReadResponse_Committed{Committed: &wire.CommitDone{Id: 7}}}
	fresh := func() *reader {
		return &reader{stream: &stream[wire.ReadResponse]{sess: &session{plugin: &plugin{}}}, done: map[int64]*wire.CommitDone{}}
	}
	r := fresh()
	if err := r.fold(committed); connectors.ClassOf(err) != connectors.ClassFatal {
		t.Errorf("an answer to no commit: %v", err)
	}
	r.done[7] = nil
	if err := r.fold(committed); err != nil || r.done[7] == nil {
		t.Errorf("the answer to a commit: %v", err)
	}
	if err := r.fold(end); err != nil || r.end != io.EOF {
		t.Errorf("an end: %v, %v", err, r.end)
	}
	if err := r.fold(messages); connectors.ClassOf(err) != connectors.ClassFatal {
		t.Errorf("messages after the end: %v", err)
	}
	r = fresh()
	breach := connectors.Fatalf("a breach")
	r.stop(breach)
	for _, in := range []*wire.ReadResponse{messages, end} {
		if err := r.fold(in); err != nil || r.end != breach || len(r.pending) > 0 {
			t.Errorf("after a breach: %v, reading ends by %v, %d messages", err, r.end, len(r.pending))
		}
	}
}
