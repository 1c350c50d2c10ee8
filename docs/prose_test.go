package docs

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var (
	fence    = regexp.MustCompile("(?s)\n```.*?\n```")
	backtick = regexp.MustCompile("`([^`\n]+)`")
	link     = regexp.MustCompile(`\]\(([^)#:]+)(?:#[^)]*)?\)`)
	pathLike = regexp.MustCompile(`^[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)*/?$`)
	hasExt   = regexp.MustCompile(`\.(go|md|txt|ya?ml|sh|svg|json|toml)$`)
)

// TestPathsInProse: a path that a page names exists. Names in backticks count
// as paths when they have a slash or an extension of ours and are rooted at a
// folder of the module, and so does every relative link.
func TestPathsInProse(t *testing.T) {
	for _, page := range pages(t) {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, missing := range missingPaths(page, string(text)) {
			t.Errorf("%s names %s, which does not exist", strings.TrimPrefix(page, root+"/"), missing)
		}
	}
}

// missingPaths returns the paths named by a page that are not there.
func missingPaths(page, text string) (missing []string) {
	text = fence.ReplaceAllString("\n"+text, "\n")
	exists := func(path string) bool { _, err := os.Stat(path); return err == nil }
	for _, m := range backtick.FindAllStringSubmatch(text, -1) {
		if p := m[1]; isPath(p) && !exists(filepath.Join(root, p)) && !exists(filepath.Join(filepath.Dir(page), p)) {
			missing = append(missing, p)
		}
	}
	for _, m := range link.FindAllStringSubmatch(text, -1) {
		if !exists(filepath.Join(filepath.Dir(page), m[1])) {
			missing = append(missing, m[1])
		}
	}
	return missing
}

// isPath tells `storage/recover.go` and `hub/ctl` from `host:port`, an API
// path such as /v1/links, a package of somebody else, or a word.
func isPath(s string) bool {
	if !pathLike.MatchString(s) || strings.Contains(s, "NNNN") {
		return false
	}
	first, rest, slash := strings.Cut(s, "/")
	if !slash {
		return hasExt.MatchString(s) && s == strings.TrimSpace(s) && ownPage(s)
	}
	info, err := os.Stat(filepath.Join(root, first))
	return err == nil && info.IsDir() && rest != ""
}

// ownPage: without a slash only the pages in the root are meant as paths; a
// bare node.yaml is the reader's own file.
func ownPage(s string) bool {
	return strings.HasSuffix(s, ".md") && s == strings.ToUpper(s[:len(s)-3])+".md"
}

// TestProseCatches plants a path of each kind.
func TestProseCatches(t *testing.T) {
	got := missingPaths("ARCHITECTURE.md", strings.Join([]string{
		"`docs/no-such-page.md` and `docs/nothere/`, a [link](no-such.md#part), `NOSUCH.md`;",
		"but neither `docs/doc.go`, [here](ARCHITECTURE.md), [there](https://example.org/x.md),",
		"`/v1/links`, `127.0.0.1:9092`, `github.com/x/y.go`, `orders/2015`, nor `node.yaml`.",
		"```", "`docs/fenced.md`", "```",
	}, "\n"))
	want := []string{"docs/no-such-page.md", "docs/nothere/", "NOSUCH.md", "no-such.md"}
	if !slices.Equal(got, want) {
		t.Errorf("missing %q, want %q", got, want)
	}
}

// pages lists the Markdown files of the module, without hidden folders and
// what programs leave behind.
func pages(t *testing.T) (found []string) {
	t.Helper()
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && path != root && (strings.HasPrefix(d.Name(), ".") || strings.HasPrefix(d.Name(), "entrepot-")):
			return filepath.SkipDir
		case !d.IsDir() && strings.HasSuffix(path, ".md"):
			found = append(found, path)
		}
		return nil
	})
	if err != nil || len(found) == 0 {
		t.Fatalf("%d pages found: %v", len(found), err)
	}
	return found
}
