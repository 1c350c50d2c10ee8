package protocol

import (
	"context"
	"fmt"
	"math"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/entrepot-hub/entrepot/hub/catalog"
	"github.com/entrepot-hub/entrepot/record"
)

// ListOffsets: v1-11
//
// Behaviour:
//   - Times below 0 are questions: -1 the end (of what is stable for
//     read_committed), -2 the start, -3 the record with the largest timestamp
//     (v7+), -4 the start of what is on this disk (v8+), -5 the end of what is
//     tiered (v9+) and -6 the start of what is still to be tiered (v11+): there
//     is no tier, both are -1.
//   - A time after the last record gives offset -1.
//
// Version notes:
//   - v2: isolation level; v4: leader epochs; v6: flexible; v10: timeout
var listOffsetsAPI = api{
	key: 2, name: "ListOffsets", min: 1, max: 11,
	shape: body(6, fixed(4), fixed(1).from(2), array(str(), array(
		fixed(4), fixed(4).from(4), fixed(8))), fixed(4).from(10)),
	needs:  needs(on(catalog.OpDescribe, catalog.ResourceTopic)),
	handle: plain[kmsg.ListOffsetsRequest]((*Server).listOffsets),
}

const (
	timeLatest        = -1
	timeEarliest      = -2
	timeMax           = -3
	timeEarliestLocal = -4
	timeLatestTiered  = -5
	timePendingUpload = -6
)

func (s *Server) listOffsets(_ context.Context, r *request, req *kmsg.ListOffsetsRequest) kmsg.Response {
	resp := kmsg.NewPtrListOffsetsResponse()
	st := s.meta.State()
	for _, rt := range req.Topics {
		ot := kmsg.NewListOffsetsResponseTopic()
		ot.Topic = rt.Topic
		t, err := s.findFor(r, catalog.OpDescribe, st, false, rt.Topic, record.TopicID{})
		for i := range rt.Partitions {
			rp, op := &rt.Partitions[i], kmsg.NewListOffsetsResponseTopicPartition()
			op.Partition, op.Offset, op.Timestamp = rp.Partition, -1, -1
			var p Partition
			perr := err
			if perr == nil {
				p, perr = s.serving(t, rp.Partition)
			}
			if perr == nil {
				perr = listOne(p, req, rp, &op)
			}
			op.ErrorCode = code(perr)
			ot.Partitions = append(ot.Partitions, op)
		}
		resp.Topics = append(resp.Topics, ot)
	}
	return resp
}

func listOne(p Partition, req *kmsg.ListOffsetsRequest, rp *kmsg.ListOffsetsRequestTopicPartition, op *kmsg.ListOffsetsResponseTopicPartition) error {
	o := p.Offsets()
	if req.Version >= 4 {
		if err := checkEpoch(rp.CurrentLeaderEpoch, o.LeaderEpoch); err != nil {
			return err
		}
	}
	if rp.Timestamp < 0 && req.Version < firstVersionOf(rp.Timestamp) {
		return fmt.Errorf("%w: time %d in ListOffsets v%d", errUnknownMode, rp.Timestamp, req.Version)
	}
	end := o.HighWatermark
	if req.IsolationLevel == readCommitted {
		end = o.LastStable
	}
	switch rp.Timestamp {
	case timeLatest:
		op.Offset, op.LeaderEpoch = end, o.LeaderEpoch
	case timeEarliest, timeEarliestLocal:
		op.Offset, op.LeaderEpoch = o.Start, epochAt(p, o)
	case timeLatestTiered, timePendingUpload:
	default:
		return listByTime(p, rp.Timestamp, end, op)
	}
	return nil
}

// firstVersionOf is the version in which a question came into being.
func firstVersionOf(time int64) int16 {
	switch time {
	case timeLatest, timeEarliest:
		return 1
	case timeMax:
		return 7
	case timeEarliestLocal:
		return 8
	case timeLatestTiered:
		return 9
	case timePendingUpload:
		return 11
	}
	return math.MaxInt16
}

// epochAt is the leader epoch of the first record, -1 when it cannot be told:
// the client then does without.
func epochAt(p Partition, o record.Offsets) int32 {
	chunk, err := p.Read(o.Start, 1)
	if err != nil || len(chunk.Batches) == 0 {
		return -1
	}
	epoch := chunk.Batches[0].LeaderEpoch()
	if chunk.Release != nil {
		chunk.Release()
	}
	return epoch
}

func listByTime(p Partition, ms, end int64, op *kmsg.ListOffsetsResponseTopicPartition) error {
	var (
		at  record.TimeOffset
		err error
	)
	if ms == timeMax {
		at, err = latestTime(p)
	} else {
		at, err = p.OffsetForTime(ms)
	}
	if err != nil || at.Offset < 0 || at.Offset >= end {
		return err
	}
	op.Offset, op.Timestamp, op.LeaderEpoch = at.Offset, at.Timestamp, at.LeaderEpoch
	return nil
}

// latestTime finds the first record with the largest timestamp: the time t for
// which there is a record at t or later, but none at t+1 or later.
func latestTime(p Partition) (record.TimeOffset, error) {
	best, err := p.OffsetForTime(0)
	low, high := best.Timestamp, int64(math.MaxInt64)
	for err == nil && best.Offset >= 0 && low < high {
		mid := low + (high-low)/2 + 1
		var at record.TimeOffset
		if at, err = p.OffsetForTime(mid); err == nil && at.Offset >= 0 {
			best, low = at, max(mid, at.Timestamp)
		} else {
			high = mid - 1
		}
	}
	return best, err
}
