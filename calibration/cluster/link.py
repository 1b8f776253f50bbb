"""The process that speaks Ray for a calibration: `python link.py`. Standard library and Ray only.

It reads the key of the connection from its standard input, and writes its port to its standard output.

Ray ends a process that has lost its cluster, and ComfyUI is not to end with it; so this is a process of its own, which the
calibration starts again when it is gone. It is run as a script, so that Ray takes the class Seat along by value: a worker
needs no more than Ray to receive it, and everything else comes from the ComfyUI and the pack of the worker's machine.

From the calibration: (address, workers), then ("home", home), ("hire", worker), ("call", worker, call, method, arguments),
("fire", worker); the end of the connection ends everything. To it: ("ready", cluster), ("failed", text),
("answer", worker, call, value, bytes), ("error", worker, call, text), ("lost", worker, text).
"""

from __future__ import annotations

import contextlib
import os
import pickle
import secrets
import socket
import sys
import threading
from multiprocessing.connection import Connection, Listener


OLDEST = (2, 52)
"""The first version of Ray that can ask whoever comes for a token."""

LOCAL = {"RAY_AUTH_MODE": "token", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
"""For a cluster that is started here. The second one has Ray take the loopback address on every system, as it does by itself
on those two: ``_node_ip_address`` does not, it replaces the loopback address by one that others reach."""


class Seat:
    """The actor: starts ComfyUI headless in its process and hands calls to the pack that ComfyUI loads."""

    def __init__(self, home: dict) -> None:
        self._home = home
        self._station = None

    def open(self, order: dict) -> dict:
        """Start ComfyUI and the calibration's nodes up to their samples; what the worker is, or why it cannot work."""
        import importlib
        import os
        import platform
        import sys
        import tempfile

        home = self._home
        path, arguments = home["path"], list(home["arguments"])
        if platform.node() != home["host"]:
            import shlex

            path = os.environ.get("COMFYUI_PATH", path)
            arguments = shlex.split(os.environ.get("COMFYUI_ARGS", ""))
        if not os.path.isfile(os.path.join(path, "main.py")):
            return {
                "refused": f"there is no ComfyUI at {path} on {platform.node()}: set COMFYUI_PATH to the folder of its "
                "main.py before `ray start` there"
            }
        own = tempfile.mkdtemp(prefix="lemica-worker-")
        arguments += ["--temp-directory", own, "--output-directory", own, "--database-url", "sqlite:///:memory:"]
        if home["cpu"] and "--cpu" not in arguments:
            arguments.append("--cpu")
        # Ray puts the folder of this script on every worker's path, where its short names could hide others.
        sys.path[:] = [one for one in sys.path if not one.endswith(os.path.join("calibration", "cluster"))]
        sys.argv = ["main.py", *arguments]
        sys.path.insert(0, path)
        os.chdir(path)
        import comfy.options

        comfy.options.enable_args_parsing()
        import cuda_malloc  # sets up the allocator as main.py does, before torch is imported
        import main

        main.cuda_malloc = cuda_malloc
        if home["cpu"]:
            import torch

            torch.set_num_threads(1)
        _, server, _ = main.start_comfyui()
        import nodes

        node = nodes.NODE_CLASS_MAPPINGS.get(order["class_type"])
        if node is None:
            return {
                "refused": f"the ComfyUI at {path} on {platform.node()} has no node {order['class_type']}: install this "
                "pack in its custom_nodes"
            }
        root = node.__module__.partition(".")[0]
        self._station = importlib.import_module(f"{root}.nodes.worker").Station(server, order)
        return self._station.open() | {"pid": os.getpid(), "host": platform.node()}

    def run(self, kind: str, place: int, item: object) -> dict:
        """Make a run; what came of it, or how it failed."""
        return self._station.run(kind, place, item)

    def glance(self) -> bytes | None:
        """The newest preview since the last one that was asked for, as JPEG."""
        return None if self._station is None else self._station.glance()


class Link:
    """Actors and their calls, for the calibration at the other end of a connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._lock = threading.Lock()
        self._actors: dict[int, object] = {}

    def start(self, address: str, workers: int) -> dict:
        """Join the cluster at the address, or start one here for "local"; what it has."""
        import ray

        host, colon, port = address.rpartition(":")
        if colon and port.isdigit():  # Ray itself tries for half a minute
            socket.create_connection((host, int(port)), timeout=10).close()
        quiet = {"log_to_driver": False, "logging_level": "error", "namespace": "lemica"}
        if address == "local":
            cpus = max(workers, os.cpu_count() or 1)
            ray.init(
                address="local", num_cpus=cpus, include_dashboard=False, object_store_memory=100 * 1024 * 1024, **quiet
            )
        else:
            ray.init(address=address, **quiet)
        found = ray.cluster_resources()
        return {"gpus": int(found.get("GPU", 0)), "cpus": int(found.get("CPU", 0)), "version": ray.__version__}

    def hire(self, worker: int, home: dict) -> None:
        """Have one more actor; it begins when the cluster has room."""
        import ray

        seat = type("Seat", (Seat,), {"glance": ray.method(concurrency_group="side")(Seat.glance)})
        actor = ray.remote(concurrency_groups={"side": 1})(seat)
        resources = {"num_cpus": 1, "num_gpus": 0 if home["cpu"] else 1}
        self._actors[worker] = actor.options(max_restarts=0, **resources).remote(home)

    def call(self, worker: int, call: int, method: str, arguments: tuple) -> None:
        """Have an actor do something; the answer is sent when it is there."""
        import ray

        actor = self._actors.get(worker)
        if actor is None:
            return
        sent = len(pickle.dumps(arguments))
        future = getattr(actor, method).remote(*arguments).future()

        def answer(future: object) -> None:
            error = future.exception()
            if error is None:
                value = future.result()
                self.tell("answer", worker, call, value, sent + len(pickle.dumps(value)))
            elif isinstance(error, ray.exceptions.RayTaskError):
                self.tell("error", worker, call, str(error))
            else:
                self.tell("lost", worker, str(error).strip().partition("\n")[0])

        future.add_done_callback(answer)

    def fire(self, worker: int) -> None:
        """End an actor."""
        import ray

        if actor := self._actors.pop(worker, None):
            ray.kill(actor)

    def tell(self, *message: object) -> None:
        """Send a message to the calibration."""
        with self._lock, contextlib.suppress(BrokenPipeError, OSError):
            self._connection.send(message)


def main() -> None:
    key = bytes.fromhex(sys.stdin.readline().strip())
    with Listener(("127.0.0.1", 0), authkey=key) as listener:
        sys.stdout.write(f"{listener.address[1]}\n")
        sys.stdout.flush()
        os.dup2(2, 1)  # nobody reads what Ray prints
        connection = listener.accept()
    link = Link(connection)
    address, workers = connection.recv()
    if address == "local":  # before Ray is imported, which reads them then
        os.environ.update(LOCAL, RAY_AUTH_TOKEN=secrets.token_hex(32))
    try:
        import ray
    except ImportError as error:
        link.tell("failed", f"{error}. Install Ray in the Python that runs ComfyUI: {sys.executable} -m pip install \"ray>=2.52\"")
        return
    if tuple(map(int, ray.__version__.split(".")[:2])) < OLDEST:
        wanted = ".".join(map(str, OLDEST))
        link.tell(
            "failed", f"Ray is {ray.__version__}, tokens keep others out from {wanted} on. Install Ray anew: "
            f'{sys.executable} -m pip install "ray>={wanted}"'
        )
        return
    try:
        found = link.start(address, workers)
    except (OSError, RuntimeError, ValueError) as error:
        link.tell("failed", f"{error}".strip())
        return
    home = None
    link.tell("ready", found)
    try:
        while True:
            kind, *rest = connection.recv()
            if kind == "home":
                home = rest[0]
            elif kind == "hire":
                link.hire(rest[0], home)
            elif kind == "call":
                link.call(*rest)
            elif kind == "fire":
                link.fire(rest[0])
    except EOFError:
        ray.shutdown()


if __name__ == "__main__":
    main()
