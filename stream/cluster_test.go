package stream

import (
	"context"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// TestOwnNodeMakesTopics: a job has its topics made by the node that it runs on,
// whichever its client takes for the controller: that one may be frozen.
func TestOwnNodeMakesTopics(t *testing.T) {
	cluster, err := kfake.NewCluster(kfake.NumBrokers(3))
	if err != nil {
		t.Fatal(err)
	}
	defer cluster.Close()
	var asked int32
	cluster.ControlKey(int16(kmsg.CreateTopics), func(r kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		asked = cluster.CurrentNode()
		resp := r.ResponseKind().(*kmsg.CreateTopicsResponse)
		for _, topic := range r.(*kmsg.CreateTopicsRequest).Topics {
			made := kmsg.NewCreateTopicsResponseTopic()
			made.Topic = topic.Topic
			resp.Topics = append(resp.Topics, made)
		}
		return resp, nil, true
	})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for node, addr := range cluster.ListenAddrs() {
		cl, err := kgo.NewClient(kgo.SeedBrokers(addr))
		if err != nil {
			t.Fatal(err)
		}
		defer cl.Close()
		if _, err := kadm.NewClient(cl).BrokerMetadata(ctx); err != nil { // now it knows the controller
			t.Fatal(err)
		}
		if err := ensureTopic(ctx, cl, "t", 1, nil); err != nil || asked != int32(node) {
			t.Errorf("node %d runs the job, and node %d was asked for its topic: %v", node, asked, err)
		}
	}
}
