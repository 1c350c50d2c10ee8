"""A plugin, for tests, that does not notice the end of its standard input."""

import sys
import threading

import entrepot_plugin as plugin


class Nothing(plugin.Source):
    spec = plugin.Spec(type="nothing", summary="Has nothing.", guarantee="exactly-once (there is nothing)", since="1.0.0")

    def splits(self, config):
        yield []


class Never:
    buffer = None

    def read(self, n):
        threading.Event().wait()


if __name__ == "__main__":
    Never.buffer = sys.stdin = Never()
    plugin.serve("deaf", "1.0.0", sources=[Nothing()])
