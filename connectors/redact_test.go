package connectors

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"testing"
)

// TestRedactor: what a driver or a server repeats of a secret does not come
// through, however it is written.
func TestRedactor(t *testing.T) {
	fields := []Field{
		{Name: "dsn", Kind: KindSecret}, {Name: "pairs", Kind: KindSecret}, {Name: "nodes", Kind: KindSecret}, {Name: "short", Kind: KindSecret}, {Name: "hook", Kind: KindSecret},
		{Name: "comma", Kind: KindSecret}, {Name: "escaped", Kind: KindSecret}, {Name: "odd", Kind: KindSecret},
		{Name: "headers", Kind: KindSecretMap}, {Name: "user", Kind: KindString},
		{Name: "s3", Kind: KindObject, Fields: []Field{{Name: "key", Kind: KindSecret}}},
		{Name: "sites", Kind: KindObjects, Fields: []Field{{Name: "token", Kind: KindSecret}}},
	}
	cfg, err := NewConfig(fields, map[string]any{
		"dsn": "postgres://u:hunter2%40a+b@h:5432/shop?sslpassword=hunter2-ssl%21", "pairs": `host=h user=u password='hunter2 p' dbname=shop`,
		"nodes": "amqp://u:hunter2-n1@a,amqp://u:hunter2-n2@b", "short": "h", "user": "plain", "hook": "https://h/hooks/hunter2-path?a=hunter2-query&b=c",
		"comma": "postgres://u:hunter2,c@h/shop", "escaped": `host=h password='hunter2\'e\\'`, "odd": "hunter2\"o\n",
		"headers": map[string]string{"X-Key": "hunter2-h"}, "s3": map[string]any{"key": "hunter2-s3"}, "sites": []map[string]any{{"token": "hunter2-t"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	r := cfg.Redactor()
	for _, text := range []string{
		"dial postgres://u:hunter2%40a+b@h:5432/shop?sslpassword=hunter2-ssl%21 failed", `parse "hunter2@a+b"`, "hunter2%40a%2Bb", "wrong hunter2-ssl!", "hunter2-ssl%21",
		"password hunter2 p is wrong", "at amqp://u:hunter2-n2@b", "hunter2-n1", "X-Key: hunter2-h", "GET /hooks/hunter2-path?a=hunter2-query&b=c", "no /hooks/hunter2-path here", "hunter2-s3 hunter2-t hunter2-s3",
		"wrong hunter2,c", `wrong hunter2'e\ here`,
	} {
		got := r.Text(text)
		if strings.Contains(got, "hunter2") || !strings.Contains(got, hidden) {
			t.Errorf("%q becomes %q", text, got)
		}
		if err := r.Error(Fatal(fmt.Errorf("x: %w", errors.New(text)))); strings.Contains(err.Error(), "hunter2") || ClassOf(err) != ClassFatal {
			t.Errorf("%v (%v)", err, ClassOf(err))
		}
		var log bytes.Buffer
		l := slog.New(r.Handler(slog.NewTextHandler(&log, nil))).With("with", text).WithGroup("g")
		l.Info(text, "text", text, "error", fmt.Errorf("x: %w", errors.New(text)), slog.Group("in", "url", &url.Error{Op: "Get", URL: text, Err: errors.New("no")}), "n", 7)
		if strings.Contains(log.String(), "hunter2") || !strings.Contains(log.String(), "g.n=7") {
			t.Errorf("logged: %s", log.String())
		}
	}
	for _, text := range []string{`relation "shop" does not exist on h`, "plain"} {
		if got := r.Text(text); got != text {
			t.Errorf("%q becomes %q", text, got)
		}
	}
	if got := r.Text(`parse "hunter2\"o\n"`); got != `parse "***"` {
		t.Errorf("a secret that is quoted becomes %s", got)
	}
	if got := (Redactor{}).Text("as it is"); got != "as it is" {
		t.Error(got)
	}
}
