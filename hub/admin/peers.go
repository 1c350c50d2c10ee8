package admin

import (
	"strconv"
	"time"
)

// PeerLink is what goes between this node and another one of its site in one
// class: heartbeat, append, bulk or control.
type PeerLink struct {
	Node   string `json:"node"` // empty: never reached
	NodeID int32  `json:"node_id"`
	Class  string `json:"class"`
	// Since is when this node connected to the other; zero: it is not
	// connected, and Error says why.
	Since time.Time `json:"since,omitzero"`
	Error string    `json:"error,omitempty"`
	// Accepted is when the other connected to this node; zero: it is not.
	Accepted         time.Time `json:"accepted,omitzero"`
	Version          uint16    `json:"version,omitempty"` // of the peer protocol
	Connects         int64     `json:"connects"`
	RoundTripSeconds float64   `json:"round_trip_seconds"` // of the last keep-alive
	QueueBytes       int64     `json:"queue_bytes"`        // that wait to be sent
	Dropped          int64     `json:"dropped"`            // messages that were not sent
	SentFrames       int64     `json:"sent_frames"`
	SentBytes        int64     `json:"sent_bytes"`
	ReceivedFrames   int64     `json:"received_frames"`
	ReceivedBytes    int64     `json:"received_bytes"`
}

func peerSamples(peers []PeerLink) (samples []Sample) {
	for _, p := range peers {
		// By ID: a node that was never reached has no name yet.
		of := labels{"node_id": strconv.Itoa(int(p.NodeID)), "class": p.Class}
		samples = append(samples,
			Sample{Name: "peer_connected", Help: "1 when this node has a connection to the other for a class of traffic.", Labels: of, Value: truth(!p.Since.IsZero())},
			Sample{Name: "peer_connects_total", Help: "Connections that this node made.", Counter: true, Labels: of, Value: float64(p.Connects)},
			Sample{Name: "peer_round_trip_seconds", Help: "Time of the last keep-alive and its answer.", Labels: of, Value: p.RoundTripSeconds},
			Sample{Name: "peer_queue_bytes", Help: "Bytes that wait to be sent.", Labels: of, Value: float64(p.QueueBytes)},
			Sample{Name: "peer_dropped_messages_total", Help: "Messages not sent because there was no connection or too many waited; Raft sends again.", Counter: true, Labels: of, Value: float64(p.Dropped)},
			Sample{Name: "peer_sent_bytes_total", Help: "Bytes sent over connections of both ends.", Counter: true, Labels: of, Value: float64(p.SentBytes)},
			Sample{Name: "peer_received_bytes_total", Help: "Bytes received over connections of both ends.", Counter: true, Labels: of, Value: float64(p.ReceivedBytes)})
	}
	return samples
}
