package schema

import (
	"encoding/base64"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
)

func msg(body string) string { return "syntax = \"proto3\";\npackage p;\nmessage M { " + body + " }\n" }

// TestProtoReads holds the language guide's rules on updating a message type,
// and those of Confluent's registry where it is stricter (messages, packages,
// oneofs).
func TestProtoReads(t *testing.T) {
	const a = "string a = 1;"
	reads(t, Protobuf, []readCase{
		{"the same", msg(a), msg(a), both},
		{"field added", msg(a), msg(a + "int32 b = 2;"), both},
		{"field renamed", msg(a), msg("string z = 1;"), both},
		{"int32 to int64", msg("int32 a = 1;"), msg("int64 a = 1;"), both},
		{"int32 to bool", msg("int32 a = 1;"), msg("bool a = 1;"), both},
		{"int32 to sint32", msg("int32 a = 1;"), msg("sint32 a = 1;"), neither},
		{"fixed32 to sfixed32", msg("fixed32 a = 1;"), msg("sfixed32 a = 1;"), both},
		{"fixed32 to fixed64", msg("fixed32 a = 1;"), msg("fixed64 a = 1;"), neither},
		{"string to bytes", msg(a), msg("bytes a = 1;"), both},
		{"string to int32", msg(a), msg("int32 a = 1;"), neither},
		{"field number changed", msg(a), msg("string a = 2;"), both},
		{"enum to int32", msg("enum E { Z = 0; } E a = 1;"), msg("enum E { Z = 0; } int32 a = 1;"), both},
		{"constant added", msg("enum E { Z = 0; } E a = 1;"), msg("enum E { Z = 0; Y = 1; } E a = 1;"), both},
		{"message removed", msg(a) + "message N {}", msg(a), oldReadsNew},
		{"message added", msg(a), msg(a) + "message N {}", newReadsOld},
		{"package changed", msg(a), strings.Replace(msg(a), "package p", "package q", 1), neither},
		{"numbers repeated", msg("int32 a = 1;"), msg("repeated int32 a = 1;"), neither},
		{"strings repeated", msg(a), msg("repeated string a = 1;"), both},
		{"a reserved number used", msg("reserved 2;" + a), msg(a + "string b = 2;"), oldReadsNew},
		{"one field into a oneof", msg(a), msg("oneof o { string a = 1; }"), both | onlyNew},
		{"two fields into a oneof", msg(a + "string b = 2;"), msg("oneof o { string a = 1; string b = 2; }"), oldReadsNew},
		{"removed from a oneof", msg("oneof o { string a = 1; string b = 2; }"), msg("oneof o { string a = 1; }"), oldReadsNew},
		{"optional is no oneof", msg("optional string a = 1; optional string b = 2;"), msg("optional string a = 1;"), both},
		{"message type changed", msg("N a = 1;") + "message N{} message O{}", msg("O a = 1;") + "message N{} message O{}", neither},
		{"nested field changed", msg("message N { int32 x = 1; } N a = 1;"), msg("message N { string x = 1; } N a = 1;"), neither},
		{"map value changed", msg("map<string, int32> a = 1;"), msg("map<string, string> a = 1;"), neither},
		{"map value widened", msg("map<string, int32> a = 1;"), msg("map<string, int64> a = 1;"), both},
		{"required added", "syntax=\"proto2\"; message M {}", "syntax=\"proto2\"; message M { required int32 a = 1; }", neither},
		{"services ignored", msg(a), msg(a) + "service S { rpc F(M) returns (M); }", both},
		{"recursive", msg("M a = 1;"), msg("M a = 1; int32 b = 2;"), both},
	})
}

func TestProtoIdentity(t *testing.T) {
	sameSchema(t, Protobuf, []string{msg("string a = 1;"), "// hello\n" + msg("/* x */ string a=1 ;"), msg(`string a = 1 [json_name = "a"];`)})
	differentSchemas(t, Protobuf, []string{msg("string a = 1;"), msg("string b = 1;"), msg("optional string a = 1;"), msg(`string a = 1 [deprecated = true];`), msg("string a = 1;") + "message N {}"})
}

const everything = `syntax = "proto2";
package a.b;
import "google/protobuf/timestamp.proto";
import public "other.proto";
option java_package = "x.\"y\"";
option optimize_for = CODE_SIZE;
message M {
  option deprecated = true;
  required string s = 1 [default = "a\tb\"c", json_name = "es"];
  optional bytes b = 2 [default = "\001\\x"];
  repeated int32 many = 3 [packed = true, deprecated = true];
  map<string, N> named = 4;
  map<int64, bytes> raw = 5;
  oneof choice { int32 one = 6; google.protobuf.Timestamp two = 7; }
  optional double inf = 8 [default = inf];
  optional E e = 9 [default = B];
  message N { optional a.b.M back = 1; enum Inner { Z = 0; } }
  extensions 100 to 199;
  extensions 1000 to max;
  reserved 20, 30 to 40;
  reserved "old", "older";
}
enum E { option allow_alias = true; A = 0; B = 1; C = 1 [deprecated = true]; reserved 5 to 7; reserved "X"; }
extend M { optional string ext = 100; }
service S { rpc Call (M) returns (stream M.N) { option idempotency_level = NO_SIDE_EFFECTS; } rpc Other (stream M) returns (O); }
`

// TestProtoText: what is printed from a descriptor compiles to the same
// descriptor, and a descriptor in base64 is the same schema as its text.
func TestProtoText(t *testing.T) {
	deps := []Dependency{{"other.proto", `syntax = "proto3"; package a.b; message O {}`}}
	for _, text := range []string{everything, `edition = "2023"; message M { string a = 1; }`, `syntax = "proto3"; message M { optional int32 x_y = 1; repeated M ms = 2; oneof o { string a = 4; } }`} {
		s, err := Parse(Protobuf, text, deps)
		if err != nil {
			t.Fatal(err)
		}
		raw, err := proto.Marshal(s.impl.(*protoSchema).descriptor)
		if err != nil {
			t.Fatal(err)
		}
		b, err := Parse(Protobuf, base64.StdEncoding.EncodeToString(raw), deps)
		if err != nil {
			t.Fatal(err)
		}
		if b.Identity != s.Identity {
			t.Errorf("as a descriptor it is another schema:\n%s", b.Text)
		}
		if !strings.Contains(b.Text, "message M {") {
			t.Errorf("not printed as text:\n%s", protoText(s.impl.(*protoSchema).descriptor))
		}
		if n, err := s.Normalize(deps); err != nil || n.Identity != s.Identity {
			t.Errorf("normalized: %v", err)
		}
	}
}

// TestProtoCustomOptions: an option that cannot be printed is not lost.
func TestProtoCustomOptions(t *testing.T) {
	const text = `syntax = "proto3"; import "google/protobuf/descriptor.proto";
extend google.protobuf.MessageOptions { string note = 50000; }
message M { option (note) = "n"; }`
	s := parse(t, Protobuf, text)
	b := parse(t, Protobuf, s.Serialized())
	if b.Text != s.Serialized() {
		t.Errorf("text %s", b.Text)
	}
	if n, err := s.Normalize(nil); err != nil || n.Identity != s.Identity {
		t.Errorf("normalize lost the option: %v", err)
	}
}
