package conntest

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// GoPlugin builds a plugin of this module, by its folder, and returns its file.
func GoPlugin(t testing.TB, folder string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), filepath.Base(folder))
	cmd := exec.Command("go", "build", "-o", path, "./"+folder)
	cmd.Dir = moduleRoot(t)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build ./%s: %v\n%s", folder, err, out)
	}
	return path
}

// PythonPlugin packs a plugin in Python, by its file, into one file with the
// module that it needs, as docs/plugins.md tells authors to.
func PythonPlugin(t testing.TB, file string) string {
	t.Helper()
	python, dir, root := Python(t, "grpc, cryptography"), t.TempDir(), moduleRoot(t)
	build := filepath.Join(dir, "build")
	if err := os.Mkdir(build, 0o700); err != nil {
		t.Fatal(err)
	}
	for from, to := range map[string]string{
		"plugins/python/entrepot_plugin.py": "entrepot_plugin.py", "plugins/python/entrepot_plugin_pb.py": "entrepot_plugin_pb.py", file: "__main__.py",
	} {
		text, err := os.ReadFile(filepath.Join(root, from))
		if err == nil {
			err = os.WriteFile(filepath.Join(build, to), text, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(dir, filepath.Base(file))
	if out, err := exec.Command(python, "-m", "zipapp", build, "-p", python, "-o", path).CombinedOutput(); err != nil {
		t.Fatalf("zipapp: %v\n%s", err, out)
	}
	return path
}

// SHA256 is the checksum of a file, as plugins: in a node's file has it.
func SHA256(t testing.TB, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
}
