package httpcollector

import (
	"compress/gzip"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	_ "embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/entrepot-hub/entrepot/connectors"
)

//go:embed t.js
var snippet []byte

// pixel is a transparent GIF of one pixel.
const pixel = "GIF89a\x01\x00\x01\x00\x80\x00\x00\x00\x00\x00\x00\x00\x00!\xf9\x04\x01\x00\x00\x00\x00,\x00\x00\x00\x00\x01\x00\x01\x00\x00\x02\x02D\x01\x00;"

// siteParameter names the site in the query.
const siteParameter = "site"

// retryAfter is what a client should wait before it sends again, in seconds.
const retryAfter = "1"

func (s *server) routes() http.Handler {
	sum := sha256.Sum256(snippet)
	tag := `"` + hex.EncodeToString(sum[:8]) + `"`
	mux := http.NewServeMux()
	mux.HandleFunc("/collect", func(w http.ResponseWriter, r *http.Request) { s.serve(w, r, s.collect, http.MethodPost) })
	mux.HandleFunc("/p.gif", func(w http.ResponseWriter, r *http.Request) { s.serve(w, r, s.pixel, http.MethodGet) })
	mux.HandleFunc("GET /t.js", func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Type", "text/javascript; charset=utf-8")
		h.Set("Cache-Control", "public, max-age=3600")
		h.Set("Cross-Origin-Resource-Policy", "cross-origin")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("ETag", tag)
		if r.Header.Get("If-None-Match") == tag {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		_, _ = w.Write(snippet)
	})
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok\n") })
	return mux
}

// serve does what is the same for all ways to send: who may, and what a
// browser needs to be told about other origins.
func (s *server) serve(w http.ResponseWriter, r *http.Request, handle func(http.ResponseWriter, *http.Request, *visit) *refusal, method string) {
	if !s.enter() {
		answer(w, refuse(http.StatusServiceUnavailable, "%v", errClosed))
		return
	}
	defer s.leave()
	one, wrong := s.siteOf(r)
	if wrong != nil {
		answer(w, wrong)
		return
	}
	if wrong := s.cors(w, r, one, method); wrong != nil {
		answer(w, wrong)
		return
	}
	switch r.Method {
	case method:
	case http.MethodOptions:
		w.WriteHeader(http.StatusNoContent)
		return
	default:
		w.Header().Set("Allow", method+", OPTIONS")
		answer(w, refuse(http.StatusMethodNotAllowed, "want %s", method))
		return
	}
	if one != nil && !one.knows(r.Header.Get("Authorization")) {
		w.Header().Set("WWW-Authenticate", "Bearer")
		answer(w, refuse(http.StatusUnauthorized, "this site needs Authorization: Bearer with its token"))
		return
	}
	v := s.visitOf(w, r, one)
	if v == nil { // the visitor does not want to be counted
		handle = ignored
	}
	if wrong := handle(w, r, v); wrong != nil {
		answer(w, wrong)
	}
}

// siteOf is who sends; nil when there is no list of sites.
func (s *server) siteOf(r *http.Request) (*site, *refusal) {
	if len(s.sites) == 0 {
		return nil, nil
	}
	one, ok := s.sites[r.URL.Query().Get(siteParameter)]
	if !ok {
		return nil, refuse(http.StatusForbidden, "?site= has to be the key of a site")
	}
	return one, nil
}

// knows compares the token in a time that does not tell how much was right.
func (o *site) knows(authorization string) bool {
	token, _ := strings.CutPrefix(authorization, "Bearer ")
	return o.token == "" || subtle.ConstantTimeCompare([]byte(token), []byte(o.token)) == 1
}

// cors lets pages of other origins send with credentials. That needs the very
// origin in the answer: with a star browsers drop the answer without a word.
func (s *server) cors(w http.ResponseWriter, r *http.Request, one *site, method string) *refusal {
	h := w.Header()
	h.Add("Vary", "Origin")
	origin := r.Header.Get("Origin")
	if origin == "" {
		return nil
	}
	if one != nil && len(one.origins) > 0 && !slices.Contains(one.origins, origin) {
		return refuse(http.StatusForbidden, "pages of this origin may not send for this site")
	}
	h.Set("Access-Control-Allow-Origin", origin)
	h.Set("Access-Control-Allow-Credentials", "true")
	h.Set("Access-Control-Expose-Headers", "Retry-After")
	if r.Method == http.MethodOptions {
		h.Set("Access-Control-Allow-Methods", method+", OPTIONS")
		h.Set("Access-Control-Allow-Headers", "Content-Type, Content-Encoding, Authorization")
		h.Set("Access-Control-Max-Age", "86400")
	}
	return nil
}

// visitOf reads what the headers say; nil is somebody to leave alone.
func (s *server) visitOf(w http.ResponseWriter, r *http.Request, one *site) *visit {
	wish := s.privacy.wish(r.Header.Get("Sec-GPC"), r.Header.Get("DNT"))
	agent := cut(strings.ToValidUTF8(r.UserAgent(), "\uFFFD"))
	v := &visit{
		received: s.clock(), agent: agent, bot: isBot(agent), private: wish == anonymise, consent: s.privacy.consent,
		ip:      s.privacy.shownIP(clientOf(r.RemoteAddr, r.Header.Values("X-Forwarded-For"), s.privacy.proxies)),
		referer: cut(strings.ToValidUTF8(r.Referer(), "\uFFFD")), from: s.addr,
	}
	if one != nil {
		v.site, v.from = one.name, one.name
	}
	if wish == drop || v.bot && s.privacy.dropBots {
		return nil
	}
	if s.cookie.name != "" && !v.private {
		v.anonymous = s.recognise(w, r)
	}
	return v
}

// recognise reads the visitor's cookie. One that is new gets it unless consent
// is needed, which only the event tells.
func (s *server) recognise(w http.ResponseWriter, r *http.Request) string {
	if c, err := r.Cookie(s.cookie.name); err == nil && len(c.Value) > 0 && len(c.Value) <= maxID {
		return c.Value
	}
	if s.privacy.consent {
		return ""
	}
	id := newID()
	http.SetCookie(w, &http.Cookie{
		Name: s.cookie.name, Value: id, Path: "/", Domain: s.cookie.domain, MaxAge: int(s.cookie.age / time.Second),
		HttpOnly: true, SameSite: s.cookie.sameSite, Secure: s.cookie.sameSite == http.SameSiteNoneMode || r.TLS != nil,
	})
	return id
}

// newID is a random UUID.
func newID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // it does not fail
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// ignored answers as if it had been taken.
func ignored(w http.ResponseWriter, r *http.Request, _ *visit) *refusal {
	if r.Method == http.MethodGet {
		return sendPixel(w)
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func sendPixel(w http.ResponseWriter) *refusal {
	w.Header().Set("Content-Type", "image/gif")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Cross-Origin-Resource-Policy", "cross-origin")
	_, _ = io.WriteString(w, pixel)
	return nil
}

// pixel takes one event out of the query.
func (s *server) pixel(w http.ResponseWriter, r *http.Request, v *visit) *refusal {
	raw, err := formEvent(r.URL.RawQuery)
	if err != nil {
		return asRefusal(err)
	}
	held := int64(len(raw))
	if err := s.intake.reserve(held); err != nil {
		return unavailable(err)
	}
	if _, wrong := s.deliver(r, v, [][]byte{raw}, held); len(wrong) > 0 {
		return wrong[0].refusal
	}
	return sendPixel(w)
}

// collect takes the events of a body.
func (s *server) collect(w http.ResponseWriter, r *http.Request, v *visit) *refusal {
	kind := encodingOf(r.Header.Get("Content-Type"))
	if kind == encodingNone {
		return refuse(http.StatusUnsupportedMediaType, "want Content-Type application/json, application/x-ndjson, application/x-www-form-urlencoded, or text/plain with JSON")
	}
	held := s.limits.body
	if n := r.ContentLength; n >= 0 && r.Header.Get("Content-Encoding") == "" {
		if n > held {
			return tooLarge(held)
		}
		held = n
	}
	if err := s.intake.reserve(held); err != nil {
		return unavailable(err)
	}
	body, wrong := s.readBody(r, held)
	if wrong != nil {
		s.intake.release(held)
		return wrong
	}
	items, batch, err := split(body, kind)
	if err != nil {
		s.intake.release(held)
		return asRefusal(err)
	}
	total, refused := s.deliver(r, v, items, held)
	switch {
	case len(refused) == 0 && s.wait:
		w.WriteHeader(http.StatusNoContent)
	case len(refused) == 0:
		w.WriteHeader(http.StatusAccepted)
	case !batch || refused[0].status == http.StatusServiceUnavailable:
		return refused[0].refusal
	default:
		sendResults(w, total, refused)
	}
	return nil
}

func tooLarge(most int64) *refusal {
	return refuse(http.StatusRequestEntityTooLarge, "the body is larger than %d bytes", most)
}

// readBody reads at most the limit, which also ends a gzip bomb.
func (s *server) readBody(r *http.Request, hint int64) ([]byte, *refusal) {
	var in io.Reader = r.Body
	switch r.Header.Get("Content-Encoding") {
	case "", "identity":
	case "gzip":
		z, err := gzip.NewReader(io.LimitReader(r.Body, s.limits.body))
		if err != nil {
			return nil, refuse(http.StatusBadRequest, "the body is not gzip: %v", err)
		}
		in, hint = z, min(hint, 16<<10)
	default:
		return nil, refuse(http.StatusUnsupportedMediaType, "want Content-Encoding gzip or none")
	}
	body := make([]byte, 0, min(hint, 64<<10)+1)
	for {
		n, err := in.Read(body[len(body):cap(body)])
		body = body[:len(body)+n]
		switch {
		case int64(len(body)) > s.limits.body:
			return nil, tooLarge(s.limits.body)
		case errors.Is(err, io.EOF):
			return body, nil
		case err != nil:
			return nil, refuse(http.StatusBadRequest, "the body ends too soon or comes too slowly")
		}
		if len(body) == cap(body) {
			body = slices.Grow(body, int(min(int64(cap(body)), s.limits.body+1)))
		}
	}
}

// result is why one event of a body was not taken.
type result struct {
	index int
	*refusal
}

// deliver makes records of the events, hands them over and waits until they
// are committed. It owns the held bytes from now on. When the events that are
// right cannot be promised, the only result is a 503.
func (s *server) deliver(r *http.Request, v *visit, items [][]byte, held int64) (taken int, refused []result) {
	p := &parcel{messages: make([]connectors.Message, 0, len(items)), bytes: held}
	for i, raw := range items {
		if int64(len(raw)) > s.limits.event {
			refused = append(refused, result{i, refuse(http.StatusRequestEntityTooLarge, "the event is larger than %d bytes", s.limits.event)})
			continue
		}
		m, wrong := v.message(raw, newID)
		switch {
		case wrong != nil:
			refused = append(refused, result{i, wrong})
		case m != nil:
			p.messages = append(p.messages, *m)
			taken++
		default: // dropped, as somebody wishes
			taken++
		}
	}
	if len(p.messages) == 0 {
		s.intake.release(held)
		return taken, refused
	}
	if err := s.hand(r, p); err != nil {
		return 0, []result{{0, unavailable(err)}}
	}
	return taken, refused
}

// hand passes a parcel on and waits for its commit.
func (s *server) hand(r *http.Request, p *parcel) error {
	if err := s.intake.put(p); err != nil {
		s.intake.release(p.bytes)
		return err
	}
	if !s.wait {
		return nil
	}
	late := time.NewTimer(s.patience)
	defer late.Stop()
	select {
	case <-p.done:
		return p.err
	case <-late.C:
		return fmt.Errorf("the events are not committed after %v, send them again", s.patience)
	case <-r.Context().Done():
		return r.Context().Err()
	}
}

func unavailable(err error) *refusal {
	return refuse(http.StatusServiceUnavailable, "%v", err)
}

func asRefusal(err error) *refusal {
	if r, ok := errors.AsType[*refusal](err); ok {
		return r
	}
	return refuse(http.StatusBadRequest, "%v", err)
}

// answer sends a refusal as a small JSON object.
func answer(w http.ResponseWriter, r *refusal) {
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	if r.status == http.StatusServiceUnavailable {
		h.Set("Retry-After", retryAfter)
	}
	w.WriteHeader(r.status)
	b := append([]byte(`{"status":`), strconv.Itoa(r.status)...)
	_, _ = w.Write(append(appendText(append(b, `,"reason":`...), r.reason), "}\n"...))
}

// sendResults tells which events of a body were not taken.
func sendResults(w http.ResponseWriter, taken int, refused []result) {
	status := http.StatusMultiStatus
	if taken == 0 {
		status = http.StatusBadRequest
	}
	b := fmt.Appendf(nil, `{"accepted":%d,"refused":%d,"results":[`, taken, len(refused))
	for i, r := range refused {
		if i > 0 {
			b = append(b, ',')
		}
		b = fmt.Appendf(b, `{"index":%d,"status":%d,"reason":`, r.index, r.status)
		b = append(appendText(b, r.reason), '}')
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write(append(b, "]}\n"...))
}
