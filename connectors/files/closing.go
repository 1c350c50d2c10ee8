package files

import (
	"errors"
	"time"

	"github.com/entrepot-hub/entrepot/connectors"
)

// closing says when a folder is complete, and what is done with it then.
type closing struct {
	clock    clock
	lateness time.Duration
	idle     time.Duration
	reissue  time.Duration
	target   int64 // bytes of a merged file; 0 merges none
	after    time.Duration
}

func manifestField() connectors.Field {
	return connectors.Field{
		Name: "manifest", Kind: connectors.KindObject, Example: "{lateness: 10m}",
		Description: "publish _MANIFEST.json and _SUCCESS in a folder when its time is over and its rows are those of the topic; `manifest: {}` takes the defaults. partition_by needs the time. What was loaded is kept in _ledger, so an offset that is set back does not load records twice",
		Fields: []connectors.Field{
			{Name: "lateness", Kind: connectors.KindDuration, Default: 5 * time.Minute, Max: int64(30 * 24 * time.Hour), Example: "1h", Description: "how far behind the newest records others may come: a folder is closed when the least of the partitions' event times is so far past its end"},
			{Name: "idle", Kind: connectors.KindDuration, Default: time.Minute, Min: int64(100 * time.Millisecond), Max: int64(24 * time.Hour), Example: "5m", Description: "a partition that was loaded to its end, and to which nothing came for so long, holds up no folder whose time is over by the clock"},
			{Name: "reissue", Kind: connectors.KindDuration, Default: 10 * time.Minute, Max: int64(24 * time.Hour), Example: "1m", Description: "rows that come after a folder was closed are written into it all the same; so long after a version of its manifest comes the next one, with them"},
		},
	}
}

func compactField() connectors.Field {
	return connectors.Field{
		Name: "compact", Kind: connectors.KindObject, Example: "{target: 128MiB}",
		Description: "merge the small files of closed folders, those of each partition in the order of their offsets; needs manifest. A reader that lists a folder may see rows twice for the moment between the merged file and the removal of its parts, one that goes by the manifest does not",
		Fields: []connectors.Field{
			{Name: "target", Kind: connectors.KindSize, Default: int64(256 << 20), Min: 1 << 10, Max: 1 << 30, Example: "128MiB", Description: "size of the merged files; they are closed when they have reached it, and files that have it are left alone"},
			{Name: "after", Kind: connectors.KindDuration, Default: 30 * time.Minute, Max: int64(30 * 24 * time.Hour), Example: "2h", Description: "how long no late rows have come; where there are more than 32 files of a partition it is done after a tenth of that"},
		},
	}
}

func closingOf(cfg connectors.Config, t *template) (*closing, error) {
	if !cfg.Has("manifest") {
		if cfg.Has("compact") {
			return nil, fieldError{"compact", errors.New("only closed folders are compacted, so manifest is needed: write manifest: {}")}
		}
		return nil, nil
	}
	m := cfg.Object("manifest")
	c := &closing{lateness: m.Duration("lateness"), idle: m.Duration("idle"), reissue: m.Duration("reissue")}
	var err error
	if c.clock, err = t.clock(); err != nil {
		return nil, fieldError{"manifest", err}
	}
	if cfg.Has("compact") {
		o := cfg.Object("compact")
		c.target, c.after = o.Size("target"), o.Duration("after")
	}
	return c, nil
}
