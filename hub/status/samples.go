package status

import (
	"github.com/entrepot-hub/entrepot/hub/admin"
	"github.com/entrepot-hub/entrepot/hub/replica"
)

// Samples implements admin.Samples: metrics of what this node leads, of what is
// missing, and of the check of what is on the disk.
func (v *View) Samples() []admin.Sample {
	p := v.parts.Load()
	if p == nil {
		return nil
	}
	leads, under, offline := 0, 0, 0
	for _, t := range p.Catalog.State().Topics() {
		for n, part := range t.Partitions {
			leader, _ := p.Leader(t.Name, int32(n))
			switch {
			case leader < 0:
				offline++
			case leader == p.Node:
				leads++
				if c, known := p.Leaders.Leader(t.ID, int32(n)); known && c.InSync != nil && len(c.InSync) < len(part.Replicas) {
					under++
				}
			}
		}
	}
	all := []admin.Sample{
		{Name: "partitions_led", Help: "Partitions that this node leads.", Value: float64(leads)},
		{Name: "partitions_under_replicated", Help: "Partitions led here some of whose replicas have not caught up.", Value: float64(under)},
		{Name: "partitions_offline", Help: "Partitions of the site that nobody leads, as far as this node knows.", Value: float64(offline)},
	}
	if v.cfg.Scrub {
		all = append(all, scrubbed(p.Set)...)
	}
	return all
}

// scrubbed tells how far the check of what is on the disk is, and what it found.
func scrubbed(set *replica.Set) []admin.Sample {
	s := set.Scrubbed()
	running, last := 0.0, 0.0
	if s.Running {
		running = 1
	}
	if !s.LastPass.IsZero() {
		last = float64(s.LastPass.UnixMilli()) / 1000
	}
	return []admin.Sample{
		{Name: "scrub_running", Help: "1 while what is on the disk is read and checked.", Value: running},
		{Name: "scrub_pass_bytes", Help: "Bytes read in this pass, or the last one.", Value: float64(s.Bytes)},
		{Name: "scrub_last_pass_seconds", Help: "When the last pass over everything ended, seconds since 1970; 0: never.", Value: last},
		{Name: "scrub_damaged_total", Help: "Logs found damaged by the check since the node started.", Counter: true, Value: float64(s.Damaged)},
		{Name: "scrub_bad_indexes_total", Help: "Segments found by the check whose index had decayed or was never finished.", Counter: true, Value: float64(s.Indexes)},
		{Name: "scrub_mended_indexes_total", Help: "Indexes of those segments that were written anew from what they index.", Counter: true, Value: float64(s.Mended)},
	}
}
