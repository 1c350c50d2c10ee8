"""Confluent's Python client against the schema registry: its admin calls, and
each of its serializers through a topic and back.

    schema_registry.py BROKERS REGISTRY_URL
"""
import sys

from confluent_kafka import Consumer, Producer
from confluent_kafka.schema_registry import Schema, SchemaReference, SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer, AvroSerializer
from confluent_kafka.schema_registry.error import SchemaRegistryError
from confluent_kafka.schema_registry.json_schema import JSONDeserializer, JSONSerializer
from confluent_kafka.schema_registry.protobuf import ProtobufDeserializer, ProtobufSerializer
from confluent_kafka.serialization import MessageField, SerializationContext
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, timestamp_pb2

brokers, url = sys.argv[1:]
client = SchemaRegistryClient({"url": url})
producer = Producer({"bootstrap.servers": brokers})


def there_and_back(topic, values, serializer, deserializer, same=lambda a, b: a == b):
    where = SerializationContext(topic, MessageField.VALUE)
    for value in values:
        producer.produce(topic, serializer(value, where))
    assert producer.flush(30) == 0, "not all records were delivered"
    consumer = Consumer({"bootstrap.servers": brokers, "group.id": "g-" + topic, "auto.offset.reset": "earliest"})
    consumer.subscribe([topic])
    got = []
    while len(got) < len(values):
        message = consumer.poll(30)
        assert message is not None, f"{topic}: only {len(got)} of {len(values)} records came"
        assert message.error() is None, message.error()
        got.append(deserializer(message.value(), where))
    consumer.close()
    assert all(map(same, got, values)), (got, values)
    print(f"{topic}: {len(got)} records, schema id {client.get_latest_version(topic + '-value').schema_id}")


def refused(code, call, *args):
    try:
        call(*args)
    except SchemaRegistryError as e:
        assert e.error_code == code, e
        return
    raise AssertionError(f"{call} {args} was not refused with {code}")


# Avro, with a reader's schema that is not the writer's.
USER = """{"type": "record", "name": "User", "namespace": "example",
  "fields": [{"name": "name", "type": "string"}, {"name": "age", "type": "int"}]}"""
READER = """{"type": "record", "name": "User", "namespace": "example",
  "fields": [{"name": "name", "type": "string"}, {"name": "age", "type": "long"}, {"name": "mail", "type": "string", "default": "none"}]}"""
there_and_back("avro", [{"name": f"user {i}", "age": i} for i in range(100)], AvroSerializer(client, USER), AvroDeserializer(client, READER),
               lambda a, b: a == {**b, "mail": "none"})

# JSON Schema.
ORDER = """{"$schema": "http://json-schema.org/draft-07/schema#", "title": "Order", "type": "object",
  "properties": {"id": {"type": "integer"}, "note": {"type": "string"}}, "required": ["id"], "additionalProperties": false}"""
there_and_back("json", [{"id": i, "note": "é <&>"} for i in range(100)], JSONSerializer(ORDER, client), JSONDeserializer(ORDER, schema_registry_client=client))

# Protobuf: a message that imports another file of ours and a known one. The
# client sends descriptors in base64 and registers the import as a reference.
pool = descriptor_pool.DescriptorPool()
pool.AddSerializedFile(timestamp_pb2.DESCRIPTOR.serialized_pb)
money = descriptor_pb2.FileDescriptorProto(name="shop/money.proto", package="shop", syntax="proto3")
m = money.message_type.add(name="Money")
m.field.add(name="units", number=1, type=3, label=1)
m.field.add(name="currency_code", number=2, type=9, label=1)
sale = descriptor_pb2.FileDescriptorProto(name="shop/sale.proto", package="shop", syntax="proto3",
                                          dependency=["shop/money.proto", "google/protobuf/timestamp.proto"])
m = sale.message_type.add(name="Other")
m = sale.message_type.add(name="Sale")
m.field.add(name="id", number=1, type=9, label=1)
m.field.add(name="price", number=2, type=11, type_name=".shop.Money", label=1)
m.field.add(name="at", number=3, type=11, type_name=".google.protobuf.Timestamp", label=1)
m.field.add(name="tags", number=4, type=9, label=3)
for f in (money, sale):
    pool.AddSerializedFile(f.SerializeToString())
Sale = message_factory.GetMessageClass(pool.FindMessageTypeByName("shop.Sale"))
sales = []
for i in range(100):
    s = Sale(id=str(i), tags=["a", "b"])
    s.price.units, s.price.currency_code, s.at.seconds = i, "EUR", 1_700_000_000
    sales.append(s)
conf = {"use.deprecated.format": False}
there_and_back("proto", sales, ProtobufSerializer(Sale, client, conf), ProtobufDeserializer(Sale, conf, client))
registered = client.get_latest_version("proto-value")
assert [r.name for r in registered.schema.references] == ["shop/money.proto"], registered.schema.references
assert "message Sale {" in registered.schema.schema_str, registered.schema.schema_str

# What an administrator does.
assert client.get_subjects() == ["avro-value", "json-value", "proto-value", "shop/money.proto"], client.get_subjects()
same = client.register_schema("avro-value", Schema(USER, "AVRO"))
assert client.register_schema("copy", Schema(USER, "AVRO")) == same == client.lookup_schema("avro-value", Schema(USER, "AVRO")).schema_id
refused(409, client.register_schema, "avro-value", Schema('"string"', "AVRO"))
refused(42201, client.register_schema, "bad", Schema("{", "AVRO"))
refused(40401, client.get_latest_version, "nobody")
refused(40402, client.get_version, "copy", 9)
refused(40403, client.get_schema, 12345)
assert client.test_compatibility("avro-value", Schema(READER, "AVRO"))
assert not client.test_compatibility("avro-value", Schema('"string"', "AVRO"))
assert client.get_compatibility() == "BACKWARD"
client.set_compatibility("copy", "NONE")
assert client.get_compatibility("copy") == "NONE"
client.register_schema("copy", Schema('"string"', "AVRO"))
assert client.get_versions("copy") == [1, 2]
refused(42206, client.delete_version, "shop/money.proto", 1)
assert client.delete_version("copy", 2) == 2
refused(40405, client.delete_subject, "copy", True)
assert client.delete_subject("copy") == [1]
refused(40404, client.delete_subject, "copy")
assert client.delete_subject("copy", permanent=True) == [1, 2]
assert "copy" not in client.get_subjects()
item = client.register_schema("item", Schema('{"type": "record", "name": "Item", "namespace": "n", "fields": [{"name": "sku", "type": "string"}]}', "AVRO"))
holder = Schema('{"type": "record", "name": "Holder", "fields": [{"name": "i", "type": "n.Item"}]}', "AVRO", [SchemaReference("n.Item", "item", 1)])
there_and_back("holder", [{"i": {"sku": "x"}}], AvroSerializer(client, holder), AvroDeserializer(client))
print("all is well")
