package meta

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/entrepot-hub/entrepot/hub/catalog"
	"github.com/entrepot-hub/entrepot/hub/peer"
	"github.com/entrepot-hub/entrepot/record"
)

// What a node says to another that asked it to commit a command: one byte, and
// the index, or a text.
const (
	forwardDone    byte = iota + 1 // committed at the index
	forwardRefused                 // not proposed: this node does not lead
	forwardFailed                  // whether it is in the log is not known
)

// asked tells what came of asking the node that leads the catalog.
func asked(leader int32, out []byte, err error) (uint64, error) {
	if errors.Is(err, peer.ErrNotConnected) {
		return 0, fmt.Errorf("%w: %w", errNotProposed, err)
	}
	if err != nil {
		return 0, fmt.Errorf("the catalog: %w: %w", record.ErrTimeout, err)
	}
	if len(out) > 0 {
		switch out[0] {
		case forwardDone:
			if index, n := binary.Uvarint(out[1:]); n == len(out)-1 && n > 0 {
				return index, nil
			}
		case forwardRefused:
			return 0, fmt.Errorf("%w: node %d says: %s", errNotProposed, leader, out[1:])
		case forwardFailed:
			return 0, fmt.Errorf("the catalog: %w: node %d says: %s", record.ErrTimeout, leader, out[1:])
		}
	}
	return 0, fmt.Errorf("the catalog: %w: node %d answers %q", record.ErrTimeout, leader, out)
}

// Answer commits a command for another node.
func (m *Catalog) Answer(ctx context.Context, cmd []byte) ([]byte, error) {
	if _, err := catalog.Decode(cmd); err != nil {
		return nil, err
	}
	if err := m.group.Serving(); err != nil {
		return append([]byte{forwardRefused}, err.Error()...), nil
	}
	index, err := m.propose(ctx, cmd)
	if err != nil {
		return append([]byte{forwardFailed}, err.Error()...), nil
	}
	return binary.AppendUvarint([]byte{forwardDone}, index), nil
}
