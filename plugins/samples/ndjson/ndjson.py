"""A sample plugin in Python: a sink that writes JSON values into files, a line
for each record.

A plan is one file whose name says what it holds, so a plan that is written
again finds that it is done: nothing is written twice. The file is made under
another name, brought to the disk, and then given its own, which never
overwrites.
"""

import json
import os
import time
import uuid

import entrepot_plugin as plugin


class Files(plugin.Sink):
    spec = plugin.Spec(
        type="ndjson",
        summary="Writes JSON values into files, a line for each record.",
        guarantee="exactly-once (named file)",
        since="1.0.0",
        fields=[
            plugin.Field("path", plugin.TEXT, required=True, example="/data/out",
                         description="The folder for the files. It is made when it is missing."),
            plugin.Field("rows", plugin.WHOLE, default=10_000, min=1, max=1_000_000, example="1000",
                         description="How many records a file has at most."),
            plugin.Field("every", plugin.DURATION, default=1.0, min=10_000_000, max=3_600_000_000_000, example="10s",
                         description="How long a record waits at most until its file is written."),
        ])

    def validate(self, config, live):
        if not os.path.isabs(config["path"]):
            return [plugin.Finding(f"{config['path']!r} depends on where the hub was started", field="path", hint="want a path that begins with /")]
        return []

    def batching(self, config):
        return plugin.Limits(records=config["rows"], bytes=8 << 20, wait=config["every"])

    def open(self, task, partitions):
        return Writer(task.config["path"])


class Writer:
    def __init__(self, path):
        self.path, self.tmp = path, os.path.join(path, "_tmp")
        os.makedirs(self.tmp, exist_ok=True)
        for name in os.listdir(self.tmp):  # of writers that were killed
            one = os.path.join(self.tmp, name)
            try:
                if os.path.getmtime(one) < time.time() - 3600:
                    os.remove(one)
            except FileNotFoundError:
                pass

    def resume(self, topic, partition):
        return None  # the names of the files know what is done

    def write(self, plan, messages):
        lines, refused = [], []
        for i, m in enumerate(messages):
            try:
                if b"\n" in m.value:
                    lines.append(json.dumps(json.loads(m.value)).encode())
                else:
                    json.loads(m.value)
                    lines.append(m.value)  # as it is, with its own way to write numbers
            except (ValueError, TypeError) as e:
                refused.append((i, f"the value is not JSON: {e}"))
        if refused or not lines:
            return refused
        if plan.cancelled.is_set():
            raise plugin.Cancelled("before the file was written")
        self.publish(f"{plan.topic}+{plan.partition}+{plan.start:020d}+{plan.end:020d}.ndjson", b"\n".join(lines) + b"\n")
        return []

    def publish(self, name, content):
        tmp = os.path.join(self.tmp, f"{name}.{uuid.uuid4().hex}")
        try:
            with open(tmp, "xb") as f:
                f.write(content)
                f.flush()
                os.fsync(f.fileno())
            try:
                os.link(tmp, os.path.join(self.path, name))  # does not overwrite
            except FileExistsError:
                pass  # this plan was written before
            folder = os.open(self.path, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        finally:
            if os.path.exists(tmp):
                os.remove(tmp)

    def close(self):
        pass


if __name__ == "__main__":
    plugin.serve("ndjson", "1.0.0", sinks=[Files()])
