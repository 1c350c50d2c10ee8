package docs

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// bannedNames say nothing about what a package owns.
var bannedNames = []string{"util", "utils", "common", "internal", "types", "model", "old", "v2"}

// source is one parsed file of a package.
type source struct {
	name string // path from the module's root
	test bool
	file *ast.File
}

func TestPackages(t *testing.T) {
	texts := map[string]string{}
	for _, p := range listPackages(t) {
		if slices.Contains(bannedNames, filepath.Base(p.Dir)) {
			t.Errorf("package %s: the name says nothing about what it owns", p.short)
		}
		files := parse(t, p)
		text := checkComment(t, p, files)
		if other, twice := texts[text]; twice && text != "" {
			t.Errorf("packages %s and %s have the same package comment", p.short, other)
		}
		texts[text] = p.short
		for _, f := range files {
			checkFile(t, f)
		}
	}
}

// checkComment wants exactly one package comment, in the usual form, which
// names the goroutines if the package starts any. A folder that has nothing
// but tests needs none.
func checkComment(t *testing.T, p pkg, files []source) (text string) {
	t.Helper()
	var with []string
	code, starts := false, ""
	for _, f := range files {
		if f.test {
			continue
		}
		code = true
		if f.file.Doc != nil {
			with, text = append(with, f.name), f.file.Doc.Text()
		}
		if starts == "" && startsGoroutine(f.file) {
			starts = f.name
		}
	}
	switch {
	case !code:
	case len(with) == 0:
		t.Errorf("package %s has no package comment", p.short)
	case len(with) > 1:
		t.Errorf("package %s has %d package comments, want one: %s", p.short, len(with), strings.Join(with, ", "))
	case p.Name == "main" && !strings.HasPrefix(text, "Command "):
		t.Errorf("%s: the comment of a command begins with \"Command NAME\"", with[0])
	case p.Name != "main" && !strings.HasPrefix(text, "Package "+p.Name+" "):
		t.Errorf("%s: the package comment begins with \"Package %s\"", with[0], p.Name)
	case starts != "" && !strings.Contains(text, "Goroutines"):
		t.Errorf("%s starts a goroutine, but the package comment of %s has no paragraph \"Goroutines\" that says which exist and what ends each", starts, p.short)
	}
	return text
}

// startsGoroutine finds go statements and calls of WaitGroup.Go and its like.
func startsGoroutine(file *ast.File) (found bool) {
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.GoStmt:
			found = true
		case *ast.CallExpr:
			sel, ok := n.Fun.(*ast.SelectorExpr)
			found = found || ok && sel.Sel.Name == "Go"
		}
		return !found
	})
	return found
}

// checkFile bans init outside tests and sleeping inside them.
func checkFile(t *testing.T, f source) {
	t.Helper()
	for _, d := range f.file.Decls {
		if fn, ok := d.(*ast.FuncDecl); ok && !f.test && fn.Recv == nil && fn.Name.Name == "init" && !ast.IsGenerated(f.file) {
			t.Errorf("%s: has an init function; build the value where it is used, or in a constructor", f.name)
		}
	}
	if !f.test {
		return
	}
	if sleeps(f.file) && !slices.Contains(clocks, f.name) {
		t.Errorf("%s: a test sleeps; wait for the condition, step a clock, or use testing/synctest", f.name)
	}
}

// clocks have a function by which a bubble's time goes on, for several of its
// goroutines at once, which synctest.Wait is not for.
var clocks = []string{"hub/peer/memnet_test.go", "stream/harness_test.go"}

// sleeps finds time.Sleep, and what comes to the same: waiting for nothing but
// time.After. A benchmark may let time go by that it measures.
func sleeps(file *ast.File) (found bool) {
	for _, d := range file.Decls {
		if fn, ok := d.(*ast.FuncDecl); ok && strings.HasPrefix(fn.Name.Name, "Benchmark") {
			continue
		}
		limits := map[ast.Node]bool{} // cases of a select
		ast.Inspect(d, func(n ast.Node) bool {
			if c, ok := n.(*ast.CommClause); ok {
				limits[c.Comm] = true
			}
			found = found || isSleep(n) && !limits[n] && !inBubble(d, n)
			return !found
		})
	}
	return found
}

func isSleep(n ast.Node) bool {
	if isCall(n, "time", "Sleep") {
		return true
	}
	alone, ok := n.(*ast.ExprStmt)
	if !ok {
		return false
	}
	receive, ok := alone.X.(*ast.UnaryExpr)
	return ok && receive.Op == token.ARROW && isCall(receive.X, "time", "After")
}

func isCall(n ast.Node, pkg, name string) bool {
	call, ok := n.(*ast.CallExpr)
	if !ok {
		return false
	}
	sel, ok := call.Fun.(*ast.SelectorExpr)
	if !ok || sel.Sel.Name != name {
		return false
	}
	x, ok := sel.X.(*ast.Ident)
	return ok && x.Name == pkg
}

// inBubble reports whether a node lies inside the function given to
// synctest.Test, where sleeping takes no time, or in a declaration that calls
// synctest.Wait, which panics anywhere else.
func inBubble(d ast.Decl, inner ast.Node) (inside bool) {
	ast.Inspect(d, func(n ast.Node) bool {
		inside = inside || isCall(n, "synctest", "Wait") ||
			isCall(n, "synctest", "Test") && n.Pos() < inner.Pos() && inner.End() < n.End()
		return !inside
	})
	return inside
}

// TestSourceCatches plants what checkFile and checkComment look for.
func TestSourceCatches(t *testing.T) {
	parseText := func(text string) *ast.File {
		f, err := parser.ParseFile(token.NewFileSet(), "x.go", text, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	const nap = "time.Sleep" + "(1)" // in two parts: a search for sleeping tests should not find this one
	for text, want := range map[string]bool{
		"func TestX() { " + nap + " }":                              true,
		"func TestX() { <-time.After(1) }":                          true,
		"func TestX() { select { case <-time.After(1): } }":         false, // a limit, as a rule
		"func TestX() { synctest.Test(t, func() { " + nap + " }) }": false,
		"func step() { synctest.Wait(); <-time.After(1) }":          false,
		"func BenchmarkX() { <-time.After(1) }":                     false,
	} {
		if got := sleeps(parseText("package x\n" + text)); got != want {
			t.Errorf("sleeping found %v, want %v in: %s", got, want, text)
		}
	}
	for text, want := range map[string]bool{
		"package x\nfunc f() { go f() }":     true,
		"package x\nfunc f() { wg.Go(f) }":   true,
		"package x\nfunc f() { wg.Wait() }":  false,
		"package x\n// go f()\nfunc f() { }": false,
	} {
		if got := startsGoroutine(parseText(text)); got != want {
			t.Errorf("startsGoroutine %v, want %v in: %s", got, want, text)
		}
	}
}

// parse reads every Go file of p, those left out by build tags too.
func parse(t *testing.T, p pkg) (files []source) {
	t.Helper()
	abs, err := filepath.Abs(root)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range slices.Concat(p.GoFiles, p.IgnoredGoFiles, p.TestGoFiles, p.XTestGoFiles) {
		path := filepath.Join(p.Dir, name)
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ParseComments)
		if err != nil {
			t.Error(err)
			continue
		}
		rel, err := filepath.Rel(abs, path)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, source{name: rel, test: strings.HasSuffix(name, "_test.go"), file: file})
	}
	return files
}
