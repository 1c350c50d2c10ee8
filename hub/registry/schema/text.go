package schema

import (
	"bytes"
	"encoding/json"
)

// jsonText writes a JSON value without white space, its members sorted by name.
// What decodeJSON gave can always be written.
func jsonText(v any) string {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		panic("schema: a decoded JSON value cannot be encoded: " + err.Error())
	}
	return string(bytes.TrimRight(b.Bytes(), "\n"))
}
