package stream

import (
	"encoding/base64"
	"strconv"

	"github.com/entrepot-hub/entrepot/record"
)

// HeaderSource is the header that tells which message of which source a
// record is: job / split / place (connectors.Message.Place), or of a queue
// job / split / ~ID. A job that was cut off finds by it which of its outputs
// are already in (docs/adr/0009). A job's name has no slash and the text of a
// position or an ID has none either, so the three parts are one unique name
// even where the split's has slashes.
const HeaderSource = "entrepot-src"

// idMark stands before an ID, where a position would be; no position's text
// has it.
const idMark = "~"

// sourcePrefix begins the source names of all outputs of a split.
func sourcePrefix(job, split string) string { return job + "/" + split + "/" }

// sourceName names one message of a source.
func sourceName(prefix string, p []byte) []byte {
	n := base64.RawURLEncoding.EncodedLen(len(p))
	b := make([]byte, len(prefix)+n)
	copy(b, prefix)
	base64.RawURLEncoding.Encode(b[len(prefix):], p)
	return b
}

// sinkSource names one record that a sink could not write.
func sinkSource(job string, tp record.TopicPartition, offset int64) []byte {
	return strconv.AppendInt([]byte(sourcePrefix(job, tp.String())), offset, 10)
}
