package schema

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
)

// protoText prints a descriptor as a .proto file. Options that are messages or
// extensions are left out; the caller compares before it relies on the text.
func protoText(fd *descriptorpb.FileDescriptorProto) string {
	w := &protoWriter{unlabelled: fd.GetSyntax() == "proto3" || fd.GetSyntax() == "editions"}
	switch fd.GetSyntax() {
	case "editions":
		w.line(`edition = "%s";`, strings.TrimPrefix(fd.GetEdition().String(), "EDITION_"))
	case "":
		w.line(`syntax = "proto2";`)
	default:
		w.line(`syntax = "%s";`, fd.GetSyntax())
	}
	if pkg := fd.GetPackage(); pkg != "" {
		w.line("package %s;", pkg)
	}
	for i, dep := range fd.Dependency {
		switch {
		case slices.Contains(fd.PublicDependency, int32(i)):
			w.line("import public %q;", dep)
		case slices.Contains(fd.WeakDependency, int32(i)):
			w.line("import weak %q;", dep)
		default:
			w.line("import %q;", dep)
		}
	}
	w.options(fd.Options)
	for _, m := range fd.MessageType {
		w.message(m)
	}
	for _, e := range fd.EnumType {
		w.enum(e)
	}
	w.extensions(fd.Extension)
	for _, s := range fd.Service {
		w.service(s)
	}
	return w.String()
}

type protoWriter struct {
	strings.Builder
	unlabelled bool // a singular field is written without "optional"
	depth      int
}

func (w *protoWriter) line(format string, args ...any) {
	w.WriteString(strings.Repeat("  ", w.depth))
	fmt.Fprintf(w, format, args...)
	w.WriteByte('\n')
}

// block writes a head, what is inside it, and the closing brace.
func (w *protoWriter) block(inside func(), format string, args ...any) {
	w.line(format+" {", args...)
	w.depth++
	inside()
	w.depth--
	w.line("}")
}

func (w *protoWriter) message(m *descriptorpb.DescriptorProto) {
	w.block(func() {
		w.options(m.Options)
		w.fields(m)
		for _, n := range m.NestedType {
			if !n.GetOptions().GetMapEntry() {
				w.message(n)
			}
		}
		for _, e := range m.EnumType {
			w.enum(e)
		}
		w.extensions(m.Extension)
		for _, r := range m.ExtensionRange {
			w.line("extensions %s;", numbers(r.GetStart(), r.GetEnd()-1))
		}
		for _, r := range m.ReservedRange {
			w.line("reserved %s;", numbers(r.GetStart(), r.GetEnd()-1))
		}
		for _, name := range m.ReservedName {
			w.line("reserved %q;", name)
		}
	}, "message %s", m.GetName())
}

// numbers is a range, both ends included.
func numbers(from, to int32) string {
	switch to {
	case from:
		return strconv.Itoa(int(from))
	case 1<<29 - 1, math.MaxInt32:
		return fmt.Sprintf("%d to max", from)
	}
	return fmt.Sprintf("%d to %d", from, to)
}

// fields writes the fields in their order, each oneof where its first one is.
func (w *protoWriter) fields(m *descriptorpb.DescriptorProto) {
	written := map[int32]bool{}
	for _, f := range m.Field {
		if f.OneofIndex == nil || f.GetProto3Optional() {
			w.field(f, m)
			continue
		}
		i := f.GetOneofIndex()
		if written[i] || int(i) >= len(m.OneofDecl) {
			continue
		}
		written[i] = true
		w.block(func() {
			w.options(m.OneofDecl[i].Options)
			for _, member := range m.Field {
				if member.OneofIndex != nil && member.GetOneofIndex() == i && !member.GetProto3Optional() {
					w.field(member, m)
				}
			}
		}, "oneof %s", m.OneofDecl[i].GetName())
	}
}

func (w *protoWriter) field(f *descriptorpb.FieldDescriptorProto, in *descriptorpb.DescriptorProto) {
	kind, isMap := typeText(f, in)
	label := ""
	switch {
	case isMap, f.OneofIndex != nil && !f.GetProto3Optional():
	case f.GetLabel() == descriptorpb.FieldDescriptorProto_LABEL_REPEATED:
		label = "repeated "
	case f.GetLabel() == descriptorpb.FieldDescriptorProto_LABEL_REQUIRED:
		label = "required "
	case !w.unlabelled || f.GetProto3Optional():
		label = "optional "
	}
	w.line("%s%s %s = %d%s;", label, kind, f.GetName(), f.GetNumber(), fieldOptions(f))
}

// typeText is a field's type; isMap when it is map<…>.
func typeText(f *descriptorpb.FieldDescriptorProto, in *descriptorpb.DescriptorProto) (text string, isMap bool) {
	if f.TypeName == nil {
		return strings.ToLower(strings.TrimPrefix(f.GetType().String(), "TYPE_")), false
	}
	if in != nil {
		for _, n := range in.NestedType {
			if n.GetOptions().GetMapEntry() && strings.HasSuffix(f.GetTypeName(), "."+in.GetName()+"."+n.GetName()) && len(n.Field) == 2 {
				key, _ := typeText(n.Field[0], nil)
				value, _ := typeText(n.Field[1], nil)
				return fmt.Sprintf("map<%s, %s>", key, value), true
			}
		}
	}
	return f.GetTypeName(), false
}

func fieldOptions(f *descriptorpb.FieldDescriptorProto) string {
	var all []string
	if f.DefaultValue != nil {
		v := f.GetDefaultValue()
		switch f.GetType() {
		case descriptorpb.FieldDescriptorProto_TYPE_STRING:
			v = quoteProto(v)
		case descriptorpb.FieldDescriptorProto_TYPE_BYTES: // escaped in the descriptor
			v = `"` + v + `"`
		}
		all = append(all, "default = "+v)
	}
	if f.JsonName != nil {
		all = append(all, "json_name = "+quoteProto(f.GetJsonName()))
	}
	all = append(all, optionPairs(f.Options)...)
	if len(all) == 0 {
		return ""
	}
	return " [" + strings.Join(all, ", ") + "]"
}

func (w *protoWriter) options(o proto.Message) {
	for _, pair := range optionPairs(o) {
		w.line("option %s;", pair)
	}
}

// optionPairs are the options that are plain values, as "name = value".
func optionPairs(o proto.Message) (all []string) {
	m := o.ProtoReflect()
	if !m.IsValid() {
		return nil
	}
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		f := fields.Get(i)
		if !m.Has(f) || f.IsList() || f.Message() != nil || f.Name() == "map_entry" {
			continue
		}
		v := m.Get(f)
		text := fmt.Sprint(v.Interface())
		switch f.Kind() {
		case protoreflect.StringKind:
			text = quoteProto(v.String())
		case protoreflect.EnumKind:
			text = string(f.Enum().Values().ByNumber(v.Enum()).Name())
		}
		all = append(all, fmt.Sprintf("%s = %s", f.Name(), text))
	}
	return all
}

// quoteProto writes a string literal, all but printable ASCII in octal.
func quoteProto(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, c := range []byte(s) {
		switch {
		case c == '"' || c == '\\':
			b.WriteByte('\\')
			b.WriteByte(c)
		case c < ' ' || c > '~':
			fmt.Fprintf(&b, `\%03o`, c)
		default:
			b.WriteByte(c)
		}
	}
	b.WriteByte('"')
	return b.String()
}

func (w *protoWriter) enum(e *descriptorpb.EnumDescriptorProto) {
	w.block(func() {
		w.options(e.Options)
		for _, v := range e.Value {
			options := ""
			if pairs := optionPairs(v.Options); len(pairs) > 0 {
				options = " [" + strings.Join(pairs, ", ") + "]"
			}
			w.line("%s = %d%s;", v.GetName(), v.GetNumber(), options)
		}
		for _, r := range e.ReservedRange {
			w.line("reserved %s;", numbers(r.GetStart(), r.GetEnd()))
		}
		for _, name := range e.ReservedName {
			w.line("reserved %q;", name)
		}
	}, "enum %s", e.GetName())
}

func (w *protoWriter) extensions(all []*descriptorpb.FieldDescriptorProto) {
	for _, x := range all {
		w.block(func() { w.field(x, nil) }, "extend %s", x.GetExtendee())
	}
}

func (w *protoWriter) service(s *descriptorpb.ServiceDescriptorProto) {
	stream := map[bool]string{true: "stream "}
	w.block(func() {
		w.options(s.Options)
		for _, m := range s.Method {
			head := fmt.Sprintf("rpc %s(%s%s) returns (%s%s)", m.GetName(), stream[m.GetClientStreaming()], m.GetInputType(), stream[m.GetServerStreaming()], m.GetOutputType())
			if len(optionPairs(m.Options)) == 0 {
				w.line("%s;", head)
				continue
			}
			w.block(func() { w.options(m.Options) }, "%s", head)
		}
	}, "service %s", s.GetName())
}
