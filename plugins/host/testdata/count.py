"""A source in Python, for tests: it counts, in splits that its config names."""

import time

import entrepot_plugin as plugin


class Count(plugin.Source):
    spec = plugin.Spec(
        type="py-count", summary="Counts.", guarantee="exactly-once into the hub (the number is the position)", since="1.0.0",
        fields=[
            plugin.Field("splits", plugin.TEXTS, required=True, example="[a, b]", description="Names of the splits."),
            plugin.Field("count", plugin.WHOLE, default=60, min=1, max=1 << 40, example="60", description="How many records each split has."),
            plugin.Field("size", plugin.SIZE, default=0, example="1KiB", description="How many bytes a record has besides."),
            plugin.Field("follow", plugin.TRUTH, default=False, example="true", description="Wait at the end."),
            plugin.Field("pause", plugin.DURATION, default=0.01, example="1s", description="How long one wait is."),
            plugin.Field("login", plugin.OBJECT, description="A login.", fields=[
                plugin.Field("user", plugin.TEXT, default="nobody", example="alice", description="A name."),
                plugin.Field("password", plugin.SECRET, example="${env:X}", description="A secret."),
            ]),
        ])

    def validate(self, config, live):
        if "" in config["splits"]:
            return [plugin.Finding("a split has no name", field="splits", hint="want a text")]
        if live and config["login"]["password"] != "open sesame":
            return [plugin.Finding(f"{config['login']['user']} may not log in", field="login.password")]
        if not live and config["login"]["password"] is not None:
            return [plugin.Finding("a secret was revealed to a check without I/O")]
        return []

    def splits(self, config):
        yield [plugin.Split(name) for name in config["splits"]]

    def open(self, task, split, position):
        if position is not None and len(position) != 8:
            raise plugin.Fatal(f"position {position!r} is not of this source")
        return Reader(task.config, split.id, -1 if position is None else int.from_bytes(position, "big"))


class Reader:
    def __init__(self, config, split, last):
        self.config, self.split, self.next = config, split, last + 1

    def read(self, limits):
        out, size = [], 0
        while self.next < self.config["count"]:
            value = b'{"split":"%s","n":%d}' % (self.split.encode(), self.next) + b" " * self.config["size"]
            if out and (0 < limits.records <= len(out) or 0 < limits.bytes < size + len(value)):
                break
            out.append(plugin.Message(value=value, position=self.next.to_bytes(8, "big"), origin=self.split, line=self.next + 1,
                                      headers=[("empty", b""), ("null", None)]))
            size += len(value)
            self.next += 1
        if out:
            return out
        if not self.config["follow"]:
            raise plugin.End
        time.sleep(min(limits.wait, self.config["pause"]))
        return []

    def committed(self, position):
        pass

    def close(self):
        pass


if __name__ == "__main__":
    plugin.serve("py-count", "1.0.0", sources=[Count()])
