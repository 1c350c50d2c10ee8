package docs

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/entrepot-hub/entrepot/connectors"
	"github.com/entrepot-hub/entrepot/connectors/all"
)

var update = flag.Bool("update", false, "write the generated part of docs/connectors anew")

// The generated part of a page stands between these; the rest is by hand.
const (
	begin = "<!-- From the connector's own description: go test ./docs -run Connectors -update -->\n"
	end   = "<!-- End of the generated part. -->\n"
)

// TestConnectors holds the page of each connector to what it says of itself.
func TestConnectors(t *testing.T) {
	reg := all.Builtin()
	types := slices.Compact(slices.Sorted(slices.Values(append(reg.SourceTypes(), reg.SinkTypes()...))))
	index := "| type | source | sink |\n|---|---|---|\n"
	for _, typ := range types {
		var part strings.Builder
		cells := [2]string{"–", "–"}
		if s, ok := reg.Sources[typ]; ok {
			cells[0] = s.Spec().Guarantee
			writeSpec(&part, "source", s.Spec())
		}
		if s, ok := reg.Sinks[typ]; ok {
			cells[1] = s.Spec().Guarantee
			writeSpec(&part, "sink", s.Spec())
		}
		index += fmt.Sprintf("| [%s](%s.md) | %s | %s |\n", typ, typ, cell(cells[0]), cell(cells[1]))
		checkPage(t, typ, "# `"+typ+"`\n\n", part.String())
	}
	checkPage(t, "README", "# Connectors\n\nEach has a page: its fields, and what it guarantees by which mechanism. How a\njob is written around it is in `configs/`.\n\n", index)
}

// checkPage compares, or writes, the generated part of a page.
func checkPage(t *testing.T, name, head, part string) {
	t.Helper()
	path := filepath.Join("connectors", name+".md")
	b, err := os.ReadFile(path)
	page := string(b)
	if err != nil {
		page = head
	}
	before, rest, found := strings.Cut(page, begin)
	_, after, _ := strings.Cut(rest, end)
	if !found && err == nil {
		before += "\n"
	}
	want := before + begin + "\n" + strings.TrimRight(part, "\n") + "\n\n" + end + after
	if want == string(b) {
		return
	}
	if !*update {
		t.Errorf("docs/%s is not what the connector says of itself; run go test ./docs -run Connectors -update", path)
		return
	}
	if err := os.WriteFile(path, []byte(want), 0o600); err != nil {
		t.Fatal(err)
	}
}

func writeSpec(b *strings.Builder, kind string, s connectors.Spec) {
	fmt.Fprintf(b, "## As a %s\n\n%s\n\nGuarantee: %s.\n\n", kind, s.Summary, s.Guarantee)
	fmt.Fprintf(b, "```yaml\n%s:\n  type: %s\n", kind, s.Type)
	for _, f := range s.Fields {
		if f.Required && f.Example != "" {
			fmt.Fprintf(b, "  %s: %s\n", f.Name, quoteYAML(f))
		}
	}
	b.WriteString("```\n\n| field | kind | default | what it does |\n|---|---|---|---|\n")
	writeFields(b, "", s.Fields)
	b.WriteString("\n")
}

// quoteYAML puts a text in quotes; other kinds are written as in the example.
func quoteYAML(f connectors.Field) string {
	if f.Kind == connectors.KindString || f.Kind == connectors.KindSecret {
		return fmt.Sprintf("%q", strings.Trim(f.Example, `"'`))
	}
	return f.Example
}

func writeFields(b *strings.Builder, prefix string, fields []connectors.Field) {
	for _, f := range fields {
		standard := "–"
		switch {
		case f.Required:
			standard = "required"
		case f.Default != nil:
			standard = "`" + defaultText(f) + "`"
		}
		text := strings.TrimSuffix(f.Description, ".") + "."
		if len(f.Options) > 0 {
			text += " One of `" + strings.Join(f.Options, "`, `") + "`."
		}
		if f.Example != "" {
			text += " Example: `" + f.Example + "`."
		}
		fmt.Fprintf(b, "| `%s%s` | %s | %s | %s |\n", prefix, f.Name, f.Kind, cell(standard), cell(text))
		if f.Kind == connectors.KindObjects {
			writeFields(b, prefix+f.Name+"[].", f.Fields)
			continue
		}
		writeFields(b, prefix+f.Name+".", f.Fields)
	}
}

// defaultText is a default as a file would have it.
func defaultText(f connectors.Field) string {
	switch v := f.Default.(type) {
	case []string:
		return "[" + strings.Join(v, ", ") + "]"
	case string:
		if v == "" {
			return `""`
		}
	case time.Duration:
		text := v.String() // 1h0m0s
		if rest, ok := strings.CutSuffix(text, "m0s"); ok {
			text = rest + "m"
		}
		if rest, ok := strings.CutSuffix(text, "h0m"); ok {
			text = rest + "h"
		}
		return text
	case int64:
		if f.Kind == connectors.KindSize {
			for _, u := range []struct {
				name  string
				bytes int64
			}{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}} {
				if v >= u.bytes && v%u.bytes == 0 {
					return fmt.Sprintf("%d%s", v/u.bytes, u.name)
				}
			}
		}
	}
	return fmt.Sprint(f.Default)
}

// cell is text that stays in its cell of a table.
func cell(s string) string {
	return strings.NewReplacer("|", `\|`, "\n", " ").Replace(s)
}
