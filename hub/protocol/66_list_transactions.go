package protocol

import (
	"cmp"
	"context"
	"fmt"
	"regexp"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/entrepot-hub/entrepot/hub/catalog"
	"github.com/entrepot-hub/entrepot/hub/txn"
)

// ListTransactions: v0-2 (flexible)
//
// Behaviour:
//   - The transactional IDs that this node coordinates (KIP-664), those that all
//     of the filters let through. States that nobody knows are answered.
//
// Version notes:
//   - v1: only transactions open for as long (KIP-994); v2: pattern (KIP-1152),
//     INVALID_REGULAR_EXPRESSION
var listTransactionsAPI = api{
	key: 66, name: "ListTransactions", min: 0, max: 2,
	shape:  body(0, list(str()), list(fixed(8)), fixed(8).from(1), str().from(2)),
	needs:  needs(on(catalog.OpDescribe, catalog.ResourceTransactionalID)),
	handle: plain[kmsg.ListTransactionsRequest]((*Server).listTransactions),
}

func (s *Server) listTransactions(ctx context.Context, r *request, req *kmsg.ListTransactionsRequest) kmsg.Response {
	resp := kmsg.NewPtrListTransactionsResponse()
	for _, name := range req.StateFilters {
		if _, ok := txn.ParseState(name); !ok {
			resp.UnknownStateFilters = append(resp.UnknownStateFilters, name)
		}
	}
	pattern, err := wholeMatch(orEmpty(req.TransactionalIDPattern))
	if err != nil {
		resp.ErrorCode = kerr.InvalidRegularExpression.Code
		return resp
	}
	now := s.cfg.Clock()
	var got []kmsg.ListTransactionsResponseTransactionState
	err = s.txns.each(ctx, func(x *txn.Txn) {
		rec := x.Describe()
		if filterTransaction(req, now, rec) && (pattern == nil || pattern.MatchString(x.ID())) {
			got = append(got, kmsg.ListTransactionsResponseTransactionState{
				TransactionalID: x.ID(), ProducerID: rec.Producer.ID, TransactionState: rec.State.String(),
			})
		}
	})
	if err != nil {
		resp.ErrorCode = code(err)
		return resp
	}
	slices.SortFunc(got, func(a, b kmsg.ListTransactionsResponseTransactionState) int {
		return cmp.Compare(a.TransactionalID, b.TransactionalID)
	})
	resp.TransactionStates = slices.DeleteFunc(got, func(x kmsg.ListTransactionsResponseTransactionState) bool {
		return s.may(r, catalog.OpDescribe, catalog.ResourceTransactionalID, x.TransactionalID) != nil
	})
	return resp
}

// filterTransaction applies the filters on the state, the producer and the
// age of an open transaction.
func filterTransaction(req *kmsg.ListTransactionsRequest, now time.Time, rec txn.Record) bool {
	switch {
	case len(req.StateFilters) > 0 && !slices.Contains(req.StateFilters, rec.State.String()):
		return false
	case len(req.ProducerIDFilters) > 0 && !slices.Contains(req.ProducerIDFilters, rec.Producer.ID):
		return false
	case req.Version >= 1 && req.DurationFilterMillis >= 0:
		return len(rec.Partitions) > 0 && now.UnixMilli()-rec.Started > req.DurationFilterMillis
	}
	return true
}

// wholeMatch compiles an expression that matches whole names; nil for none.
func wholeMatch(pattern string) (*regexp.Regexp, error) {
	if pattern == "" {
		return nil, nil
	}
	re, err := regexp.Compile("^(?:" + pattern + ")$")
	if err != nil {
		return nil, fmt.Errorf("pattern %q: %w", pattern, err)
	}
	return re, nil
}
