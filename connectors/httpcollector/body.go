package httpcollector

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

// encoding is how a body holds its events.
type encoding uint8

const (
	encodingNone  encoding = iota // not one that is understood
	encodingJSON                  // an object, or an array of objects
	encodingLines                 // an object in each line
	encodingAny                   // either of the two, as text/plain does not tell
	encodingForm                  // one event, of texts
)

// encodingOf reads a Content-Type.
func encodingOf(contentType string) encoding {
	if contentType == "" {
		return encodingAny
	}
	media, _, err := mime.ParseMediaType(contentType)
	if err != nil {
		return encodingNone
	}
	switch media {
	case "application/json":
		return encodingJSON
	case "application/x-ndjson", "application/ndjson", "application/jsonl", "application/x-jsonlines":
		return encodingLines
	case "text/plain":
		return encodingAny
	case "application/x-www-form-urlencoded":
		return encodingForm
	}
	if strings.HasPrefix(media, "application/") && strings.HasSuffix(media, "+json") {
		return encodingJSON
	}
	return encodingNone
}

// maxItems bounds what one body makes in memory besides its own bytes.
const maxItems = 20_000

// refusal is why an event or a whole body is not taken.
type refusal struct {
	status int
	reason string
}

func (r *refusal) Error() string { return r.reason }

func refuse(status int, format string, args ...any) *refusal {
	return &refusal{status, fmt.Sprintf(format, args...)}
}

// split cuts a body into the bytes of its events, which are not looked at any
// closer. batch says that the body can hold several. An error is a *refusal.
func split(body []byte, kind encoding) (items [][]byte, batch bool, err error) {
	body = bytes.TrimSpace(bytes.TrimPrefix(body, []byte("\uFEFF")))
	switch {
	case len(body) == 0:
		return nil, false, refuse(http.StatusBadRequest, "the body is empty, want a JSON object, an array of them, or one in each line")
	case kind == encodingForm:
		item, err := formEvent(string(body))
		if err != nil {
			return nil, false, err
		}
		return [][]byte{item}, false, nil
	case kind == encodingLines:
		items, err = splitLines(body)
		return items, true, err
	case body[0] == '[':
		items, err = splitArray(body)
		return items, true, err
	case kind == encodingAny && bytes.IndexByte(body, '\n') >= 0 && !jsontext.Value(body).IsValid():
		items, err = splitLines(body)
		return items, true, err
	}
	return [][]byte{body}, false, nil
}

func splitLines(body []byte) ([][]byte, error) {
	var out [][]byte
	for line := range bytes.Lines(body) {
		if line = bytes.TrimSpace(line); len(line) == 0 {
			continue
		}
		if len(out) == maxItems {
			return nil, tooMany()
		}
		out = append(out, line[:len(line):len(line)])
	}
	return out, nil
}

func tooMany() error {
	return refuse(http.StatusRequestEntityTooLarge, "more than %d events in one body", maxItems)
}

// splitArray finds the elements. What is wrong inside of one, duplicate names
// or bytes that are no UTF-8, is found later and refuses that one alone.
func splitArray(body []byte) ([][]byte, error) {
	d := jsontext.NewDecoder(bytes.NewBuffer(body), jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))
	if _, err := d.ReadToken(); err != nil {
		return nil, notJSON(err)
	}
	var out [][]byte
	for {
		kind := d.PeekKind()
		if kind == ']' {
			break
		}
		v, err := d.ReadValue()
		if err != nil {
			return nil, notJSON(err)
		}
		if len(out) == maxItems {
			return nil, tooMany()
		}
		end := int(d.InputOffset())
		out = append(out, body[end-len(v):end:end])
	}
	if _, err := d.ReadToken(); err != nil {
		return nil, notJSON(err)
	}
	if _, err := d.ReadToken(); !errors.Is(err, io.EOF) {
		return nil, refuse(http.StatusBadRequest, "there is more after the array")
	}
	if len(out) == 0 {
		return nil, refuse(http.StatusBadRequest, "the array is empty")
	}
	return out, nil
}

// notJSON says where the fault is, without the text around it.
func notJSON(err error) *refusal {
	if s, ok := errors.AsType[*jsontext.SyntacticError](err); ok {
		return refuse(http.StatusBadRequest, "not JSON at byte %d: %v", s.ByteOffset, s.Err)
	}
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
		return refuse(http.StatusBadRequest, "not JSON: it ends too soon")
	}
	return refuse(http.StatusBadRequest, "not JSON: %v", err)
}

// formEvent makes an object of a form's or a query's fields: texts, and arrays
// of texts for those that are there more than once.
func formEvent(text string) ([]byte, error) {
	fields, err := url.ParseQuery(text)
	if err != nil {
		return nil, refuse(http.StatusBadRequest, "not a form: %v", err)
	}
	delete(fields, siteParameter)
	out := []byte{'{'}
	for _, name := range sortedNames(fields) {
		out = append(appendText(out, name), ':')
		values := fields[name]
		if len(values) == 1 {
			out = append(appendText(out, values[0]), ',')
			continue
		}
		out = append(out, '[')
		for _, v := range values {
			out = append(appendText(out, v), ',')
		}
		out = append(bytes.TrimSuffix(out, []byte{','}), ']', ',')
	}
	return append(bytes.TrimSuffix(out, []byte{','}), '}'), nil
}

// appendText appends a JSON string; bytes that are no UTF-8 become U+FFFD.
func appendText(b []byte, s string) []byte {
	out, err := jsontext.AppendQuote(b, strings.ToValidUTF8(s, "\uFFFD"))
	if err != nil { // it is valid
		panic(fmt.Sprintf("httpcollector: quote %q: %v", s, err))
	}
	return out
}
