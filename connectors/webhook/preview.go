package webhook

import (
	"context"
	"fmt"

	"github.com/entrepot-hub/entrepot/connectors"
)

// Preview implements connectors.Previewer. Nothing is sent: an endpoint has no
// way to be asked without effect.
func (Sink) Preview(_ context.Context, task connectors.TaskContext, sample []connectors.Message) (out connectors.Preview, err error) {
	s, err := settingsOf(task.Config)
	if err == nil {
		err = s.reveal(task.Config)
	}
	if err != nil {
		return out, connectors.Fatal(err)
	}
	out.Target = fmt.Sprintf("an endpoint of %s, by %s with body: %s", s.url.Hostname(), s.method, s.body)
	out.Refused = s.check(connectors.Batch{Messages: sample})
	out.Notes = append(out.Notes, "no request was made: what the endpoint says to records is not known")
	return out, nil
}

// Replayed implements connectors.Replayer.
func (Sink) Replayed(connectors.Config, string, []connectors.Move) string {
	return "the requests are sent again; single ones have the Idempotency-Key that they had before, those of whole plans may have another"
}
