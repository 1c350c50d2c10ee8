package httpcollector

import (
	"bytes"
	"errors"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/entrepot-hub/entrepot/connectors"
)

// maxID is the longest event_id, in bytes; maxText the longest text that is
// taken over into the envelope, which the payload still has whole.
const (
	maxID   = 128
	maxText = 2048
)

// visit is what a request says of all its events.
type visit struct {
	site      string
	received  time.Time
	ip        string // "" is not kept
	agent     string
	bot       bool
	anonymous string // id of the cookie
	referer   string // the page, when the event does not name it
	private   bool   // nothing that tells who it was
	consent   bool   // is needed
	from      string // for people: where it came in
}

// event is what the collector itself reads of a payload.
type event struct {
	id, page, anonymous string
	clientTime          []byte // JSON
	consent             bool
}

// readEvent checks that raw is one JSON object, and takes what it needs.
func readEvent(raw []byte) (event, *refusal) {
	var e event
	d := jsontext.NewDecoder(bytes.NewBuffer(raw))
	if d.PeekKind() != '{' {
		if _, err := d.ReadValue(); err != nil {
			return e, notJSON(err)
		}
		return e, refuse(http.StatusBadRequest, "an event has to be a JSON object")
	}
	if _, err := d.ReadToken(); err != nil {
		return e, notJSON(err)
	}
	for d.PeekKind() != '}' {
		name, err := d.ReadToken()
		if err != nil {
			return e, notJSON(err)
		}
		if err := e.member(d, name.String()); err != nil {
			var r *refusal
			if errors.As(err, &r) {
				return e, r
			}
			return e, notJSON(err)
		}
	}
	if _, err := d.ReadToken(); err != nil {
		return e, notJSON(err)
	}
	if _, err := d.ReadToken(); !errors.Is(err, io.EOF) {
		return e, refuse(http.StatusBadRequest, "there is more after the object")
	}
	return e, nil
}

// member reads the value of one name. An error is a *refusal or of the decoder.
func (e *event) member(d *jsontext.Decoder, name string) error {
	switch name {
	case "event_id", "page", "anonymous_id", "client_time", "consent":
	default:
		return d.SkipValue()
	}
	v, err := d.ReadValue()
	if err != nil {
		return err
	}
	text, isText := textOf(v)
	switch name {
	case "event_id":
		if !isText || text == "" || len(text) > maxID {
			return refuse(http.StatusBadRequest, "event_id has to be a text of 1 to %d bytes", maxID)
		}
		e.id = text
	case "page":
		e.page = cut(text)
	case "anonymous_id":
		e.anonymous = cut(text)
	case "client_time":
		if k := v.Kind(); (k == '"' || k == '0') && len(v) <= maxID {
			e.clientTime = bytes.Clone(v)
		}
	case "consent":
		e.consent = string(v) == "true" || isText && (text == "true" || text == "1") // a form has only texts
	}
	return nil
}

func textOf(v jsontext.Value) (string, bool) {
	if v.Kind() != '"' {
		return "", false
	}
	b, err := jsontext.AppendUnquote(nil, v)
	return string(b), err == nil
}

func cut(s string) string {
	if len(s) > maxText {
		return strings.ToValidUTF8(s[:maxText], "")
	}
	return s
}

// message wraps one event. It returns nil for one that is to be dropped.
// newID is called when the event has none.
func (v *visit) message(raw []byte, newID func() string) (*connectors.Message, *refusal) {
	e, wrong := readEvent(raw)
	if wrong != nil {
		return nil, wrong
	}
	if v.consent && !e.consent {
		return nil, nil
	}
	m := &connectors.Message{
		Timestamp: v.received.UnixMilli(), Original: raw,
		Origin: connectors.Origin{Name: v.from},
	}
	if e.id != "" {
		m.ID = []byte(v.site + "\x00" + e.id)
	} else {
		e.id = newID()
	}
	if v.private {
		e.anonymous = ""
	} else if e.anonymous == "" {
		e.anonymous = v.anonymous
	}
	if e.page == "" {
		e.page = v.referer
	}
	if e.anonymous != "" {
		m.Key = []byte(e.anonymous)
	}
	m.Value = v.envelope(e, raw)
	return m, nil
}

// envelope is the value of the record: the payload as it came, and around it
// what the server knows better than the client.
func (v *visit) envelope(e event, raw []byte) []byte {
	b := make([]byte, 0, len(raw)+len(v.agent)+len(e.page)+320)
	text := func(name, value string) {
		if value != "" {
			b = append(append(b, name...), ':')
			b = append(appendText(b, value), ',')
		}
	}
	b = append(b, '{')
	text(`"event_id"`, e.id)
	b = append(b, `"received_at":"`...)
	b = v.received.UTC().AppendFormat(b, "2006-01-02T15:04:05.000000Z")
	b = append(b, `",`...)
	if e.clientTime != nil {
		b = append(append(append(b, `"client_time":`...), e.clientTime...), ',')
	}
	text(`"site"`, v.site)
	if !v.private {
		text(`"ip"`, v.ip)
		text(`"user_agent"`, v.agent)
	}
	b = append(b, `"bot":`...)
	b = append(strconv.AppendBool(b, v.bot), ',')
	text(`"anonymous_id"`, e.anonymous)
	text(`"page"`, e.page)
	b = append(append(b, `"payload":`...), raw...)
	return append(b, '}')
}

func sortedNames(fields url.Values) []string { return slices.Sorted(maps.Keys(fields)) }
