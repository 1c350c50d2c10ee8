package wire

import (
	"bytes"
	"encoding/base64"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/bufbuild/protocompile"
	"google.golang.org/protobuf/cmd/protoc-gen-go/internal_gengo"
	"google.golang.org/protobuf/compiler/protogen"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/pluginpb"
)

var update = flag.Bool("update", false, "write the generated files anew")

// TestGenerated: the Go and Python code of plugin.proto is as its compiler
// makes it. To write it anew:
//
//	go test ./plugins/wire -run Generated -update
func TestGenerated(t *testing.T) {
	file := compiled(t)
	for path, want := range map[string][]byte{
		"plugin.pb.go":                    goCode(t, file),
		"../python/entrepot_plugin_pb.py": pythonCode(t, file),
	} {
		if *update {
			if err := os.WriteFile(path, want, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if have, err := os.ReadFile(path); err != nil || !bytes.Equal(have, want) {
			t.Errorf("%s is not what plugin.proto gives (%v): go test ./plugins/wire -run Generated -update", path, err)
		}
	}
}

func compiled(t *testing.T) *descriptorpb.FileDescriptorProto {
	t.Helper()
	c := protocompile.Compiler{Resolver: &protocompile.SourceResolver{}, SourceInfoMode: protocompile.SourceInfoStandard}
	files, err := c.Compile(t.Context(), "plugin.proto")
	if err != nil {
		t.Fatal(err)
	}
	return protodesc.ToFileDescriptorProto(files[0])
}

func goCode(t *testing.T, file *descriptorpb.FileDescriptorProto) []byte {
	t.Helper()
	gen, err := protogen.Options{}.New(&pluginpb.CodeGeneratorRequest{
		FileToGenerate: []string{"plugin.proto"}, Parameter: proto.String("paths=source_relative"),
		ProtoFile: []*descriptorpb.FileDescriptorProto{file},
	})
	if err != nil {
		t.Fatal(err)
	}
	internal_gengo.GenerateFile(gen, gen.Files[0])
	out := gen.Response()
	if out.Error != nil || len(out.File) != 1 {
		t.Fatalf("%d files, %s", len(out.File), out.GetError())
	}
	return []byte(out.File[0].GetContent())
}

// pythonCode is a module with a class for each message. It holds the compiled
// descriptor, of which Python's protobuf makes the classes when it is imported.
func pythonCode(t *testing.T, file *descriptorpb.FileDescriptorProto) []byte {
	t.Helper()
	plain := proto.CloneOf(file)
	plain.SourceCodeInfo = nil
	raw, err := proto.MarshalOptions{Deterministic: true}.Marshal(plain)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	b.WriteString("# Generated from plugins/wire/plugin.proto: go test ./plugins/wire -run Generated -update\n")
	b.WriteString("import base64\n\nfrom google.protobuf import descriptor_pool, message_factory\n\n_FILE = base64.b64decode(\n")
	for text := base64.StdEncoding.EncodeToString(raw); text != ""; {
		n := min(100, len(text))
		fmt.Fprintf(&b, "    %q\n", text[:n])
		text = text[n:]
	}
	b.WriteString(")\n_pool = descriptor_pool.DescriptorPool()\n_pool.AddSerializedFile(_FILE)\n\n\ndef _message(name):\n")
	fmt.Fprintf(&b, "    return message_factory.GetMessageClass(_pool.FindMessageTypeByName(%q + name))\n\n\n", file.GetPackage()+".")
	for _, m := range file.GetMessageType() {
		fmt.Fprintf(&b, "%s = _message(%q)\n", m.GetName(), m.GetName())
	}
	return []byte(b.String())
}
