package file

import (
	"context"

	"github.com/entrepot-hub/entrepot/connectors"
)

// Sample implements connectors.Sampler: the first lines of each log.
func (s Source) Sample(ctx context.Context, task connectors.TaskContext, most int) (connectors.Sample, error) {
	all, err := connectors.ReadSample(ctx, s, task, most)
	return connectors.Sample{Messages: all}, err
}
