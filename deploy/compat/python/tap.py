"""Prints how checks end, in the form of the Test Anything Protocol."""
import traceback

count = 0


def check(name):
    """Runs the function that it decorates, as the check of that name."""
    def run(function):
        global count
        count += 1
        try:
            function()
            print(f"ok {count} - {name}", flush=True)
        except BaseException:
            print(f"not ok {count} - {name}", flush=True)
            for line in traceback.format_exc().splitlines():
                print(f"# {line}", flush=True)
        return function
    return run


def equal(got, want, what="got"):
    if got != want:
        raise AssertionError(f"{what}: {got!r}, want {want!r}")
