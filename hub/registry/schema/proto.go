package schema

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/bufbuild/protocompile"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
)

// protoSchema is one .proto file. It is the same schema as another one if they
// compile to the same descriptor: comments and white space do not count.
type protoSchema struct {
	file       protoreflect.FileDescriptor
	descriptor *descriptorpb.FileDescriptorProto
}

// rootFile is the name of the schema itself while it is compiled, as it has
// none of its own.
const rootFile = "default"

// parseProto takes a .proto file as text, or, as some clients send it, its
// FileDescriptorProto in base64.
func parseProto(text string, deps []Dependency) (*Schema, error) {
	s, err := compileProto(text, deps)
	if err != nil {
		return nil, err
	}
	if _, isBinary := decodeProto(text); isBinary {
		text = s.readable(text, deps)
	}
	identity, err := proto.MarshalOptions{Deterministic: true}.Marshal(s.descriptor)
	if err != nil {
		return nil, err
	}
	return &Schema{Text: text, Identity: string(identity), impl: s}, nil
}

// readable is the schema as a .proto file, if nothing is lost by that; custom
// options would be, and then the given text stays.
func (s *protoSchema) readable(text string, deps []Dependency) string {
	printed := protoText(s.descriptor)
	again, err := compileProto(printed, deps)
	if err != nil || !proto.Equal(again.descriptor, s.descriptor) {
		return text
	}
	return printed
}

func decodeProto(text string) (*descriptorpb.FileDescriptorProto, bool) {
	raw, err := base64.StdEncoding.DecodeString(text)
	if err != nil || len(raw) == 0 {
		return nil, false
	}
	var fd descriptorpb.FileDescriptorProto
	if err := proto.Unmarshal(raw, &fd); err != nil {
		return nil, false
	}
	return &fd, true
}

func compileProto(text string, deps []Dependency) (*protoSchema, error) {
	sources := map[string]string{}
	for _, d := range deps {
		sources[d.Name] = d.Text
	}
	sources[rootFile] = text
	c := protocompile.Compiler{
		Resolver: protocompile.WithStandardImports(protocompile.ResolverFunc(func(name string) (protocompile.SearchResult, error) {
			source, ok := sources[name]
			if !ok {
				return protocompile.SearchResult{}, fmt.Errorf("no reference of the name %q is given; list it under references with its subject and version", name)
			}
			if fd, ok := decodeProto(source); ok {
				fd.Name = &name
				eachField(fd, addJSONName)
				return protocompile.SearchResult{Proto: fd}, nil
			}
			return protocompile.SearchResult{Source: strings.NewReader(source)}, nil
		})),
		MaxParallelism: 1,
	}
	files, err := c.Compile(context.Background(), rootFile)
	if err != nil {
		return nil, errors.New(strings.TrimPrefix(err.Error(), rootFile+":"))
	}
	fd := protodesc.ToFileDescriptorProto(files[0])
	fd.Name, fd.SourceCodeInfo = nil, nil
	eachField(fd, dropJSONName)
	if fd.GetSyntax() == "proto2" { // the default, which not every compiler writes
		fd.Syntax = nil
	}
	return &protoSchema{files[0], fd}, nil
}

// eachField visits the fields of all messages, and the extensions.
func eachField(fd *descriptorpb.FileDescriptorProto, visit func(*descriptorpb.FieldDescriptorProto)) {
	var message func(m *descriptorpb.DescriptorProto)
	message = func(m *descriptorpb.DescriptorProto) {
		for _, f := range slices.Concat(m.Field, m.Extension) {
			visit(f)
		}
		for _, n := range m.NestedType {
			message(n)
		}
	}
	for _, m := range fd.MessageType {
		message(m)
	}
	for _, x := range fd.Extension {
		visit(x)
	}
}

// dropJSONName and addJSONName settle JSON names that follow from the names:
// some compilers write them and some do not, and ours wants them.
func dropJSONName(f *descriptorpb.FieldDescriptorProto) {
	if f.JsonName != nil && (f.GetJsonName() == jsonName(f.GetName()) || f.Extendee != nil) {
		f.JsonName = nil
	}
}

func addJSONName(f *descriptorpb.FieldDescriptorProto) {
	if f.JsonName == nil {
		f.JsonName = proto.String(jsonName(f.GetName()))
	}
}

// jsonName is the name that Protobuf gives a field in JSON by itself.
func jsonName(name string) string {
	var b strings.Builder
	up := false
	for _, c := range []byte(name) {
		switch {
		case c == '_':
			up = true
			continue
		case up && 'a' <= c && c <= 'z':
			c -= 'a' - 'A'
		}
		up = false
		b.WriteByte(c)
	}
	return b.String()
}

// normalized is the file as printed from its descriptor.
func (s *protoSchema) normalized() string { return protoText(s.descriptor) }

// Serialized is a Protobuf schema as base64 of its FileDescriptorProto, which
// is what clients without a compiler ask for; any other schema is its text.
func (s *Schema) Serialized() string {
	p, ok := s.impl.(*protoSchema)
	if !ok {
		return s.Text
	}
	raw, err := proto.Marshal(p.descriptor)
	if err != nil {
		return s.Text
	}
	return base64.StdEncoding.EncodeToString(raw)
}
