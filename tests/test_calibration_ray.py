"""Calibrations on real Ray workers of this machine: the demo model, the faults that clusters have."""

from __future__ import annotations

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from functools import cache
from ipaddress import ip_address
from pathlib import Path

import pytest
from lemica.calibration.fit_folder import FitFolder
from lemica.calibration.full_run import SKETCH
from lemica.calibration.job_folder import folder_name
from ray_calibration import all_loaded, same
from safetensors.numpy import save_file


@pytest.fixture(scope="module")
def demo(comfy, tmp_path_factory):
    """Two samples of the demo model, and what they come to in this process."""
    from ray_calibration import DemoCalibration

    demo = DemoCalibration(tmp_path_factory.mktemp("ray"))
    demo.alone = demo.run("alone")
    return demo


@pytest.fixture(scope="module", autouse=True)
def token(tmp_path_factory) -> Iterator[None]:
    """A token of the tests' own for their clusters, which let nobody in without it."""
    file = tmp_path_factory.mktemp("token") / "token"
    file.write_text(secrets.token_hex(32))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_MODE", "token")
        patch.setenv("RAY_worker_niceness", "0")
        patch.setenv("RAY_AUTH_TOKEN_PATH", str(file))
        yield


def begin_head(port: int, cores: int = 6) -> subprocess.Popen:
    """A Ray head of its own, up."""
    head = subprocess.Popen(
        [
            sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", f"--port={port}", f"--num-cpus={cores}",
            "--node-ip-address=127.0.0.1", "--include-dashboard=false", "--object-store-memory=100000000",
            "--disable-usage-stats",
        ],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )
    told = []
    for line in head.stdout:
        told.append(line)
        if "Ray runtime started" in line:
            return head
    raise AssertionError("".join(told))


def end_head(head: subprocess.Popen) -> None:
    head.terminate()
    head.wait(60)
    head.stdout.close()


@pytest.fixture(scope="module")
def port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module")
def cluster(port) -> Iterator[str]:
    """The address of a cluster of this machine."""
    head = begin_head(port)
    yield f"127.0.0.1:{port}"
    end_head(head)


class Stop(Exception):
    """Stands for whatever ends a calibration early."""


def stop_at(count: int):
    """A callback that ends the calibration when it was told so often."""
    told = []

    def tell(progress) -> None:
        told.append(progress)
        if len(told) == count:
            raise Stop

    return tell


def test_workers_go_on_with_what_one_process_began_and_it_ends_what_they_left(demo, cluster):
    previews: list[bytes] = []
    killed: list[int] = []
    crew = demo.crew(2, cluster, on_preview=previews.append)
    asked = crew.asked
    told = []

    def kill_one(progress) -> None:
        told.append(progress)
        if len(asked) > 20 and not killed:
            busy = [worker for worker in crew.workers.values() if worker.run is not None and worker.run.kind == "replay"]
            if busy:
                killed.append(busy[0].pid)
                os.kill(busy[0].pid, signal.SIGKILL)

    with pytest.raises(Stop):
        demo.run("shared", on_progress=stop_at(20))
    result = demo.run("shared", crew, kill_one)
    assert killed and crew.account.lost == 1
    assert same(demo.alone, result)
    replays = Counter(run[1:] for run in asked if run[1] == "replay")
    assert sum(replays.values()) - len(replays) <= 1, "a lost worker costs one replay"
    assert previews and all(image.startswith(b"\xff\xd8") for image in previews)
    done = [progress.done for progress in told]
    assert done == sorted(done) and told[-1].seconds_left < told[len(told) // 2].seconds_left

    with pytest.raises(Stop):
        demo.run("back", demo.crew(1, cluster), stop_at(30))
    resumed = demo.run("back")
    assert same(demo.alone, resumed) and resumed.computed < demo.alone.computed
    assert same(demo.alone, demo.run("back"))


@pytest.fixture(scope="module")
def fits(comfy, tmp_path_factory):
    """Gives three samples whose paths are fitted in this mode, and what they come to in this process."""
    from ray_calibration import DemoCalibration

    @cache
    def make(mode: str) -> DemoCalibration:
        demo = DemoCalibration(tmp_path_factory.mktemp("fits"), samples=3, budgets=(5, 3), mode=mode)
        demo.alone = demo.run("alone")
        return demo

    return make


def makers(crew) -> dict[int, list[int]]:
    """Who was asked about the walks of every sample, in order, without repetitions."""
    found: dict[int, list[int]] = {}
    for worker, kind, place, _ in crew.asked:
        if kind in ("products", "finish") and worker not in found.setdefault(place, []):
            found[place].append(worker)
    return found


@pytest.mark.parametrize("mode", ["short", "normal"])
def test_fits_of_workers_are_those_of_one_process_to_the_last_bit_at_the_same_cost(fits, cluster, mode):
    fitted, told = fits(mode), []
    crew = fitted.crew(2, cluster)
    all_loaded(crew)
    result = fitted.run("shared", crew, told.append)
    assert same(fitted.alone, result) and any(map(any, result.outcomes[3].route.weights))
    assert result.computed == fitted.alone.computed == crew.account.computed, "nothing is computed twice"
    assert {kind for _, kind, *_ in crew.asked} == {"full", "products", "finish"}
    assert not [run for run, count in Counter(run[1:] for run in crew.asked).items() if count > 1]
    full = {place: worker for worker, kind, place, _ in crew.asked if kind == "full"}
    assert makers(crew) == {place: [worker] for place, worker in full.items()} and len(set(full.values())) == 2
    done = [progress.done for progress in told]
    assert done == sorted(done) and told[-1].seconds_left < told[len(told) // 2].seconds_left
    folder = FitFolder(fitted.folder / "jobs" / folder_name("shared"), {}, len(result.graph.segments))
    left = [one.full for one in folder.load_all()]
    assert len(left) == 3 and not any(one.whole for one in left), "what makes pictures stays where it was made"
    assert all(len(one.final) <= SKETCH and not one.derivatives.size for one in left)
    assert same(fitted.alone, fitted.run("shared")), "one process reads what they have written"


def test_a_worker_that_is_killed_half_way_through_a_fit_costs_its_own_walks_alone(fits, cluster):
    fitted, killed = fits("normal"), []
    crew = fitted.crew(2, cluster)
    all_loaded(crew)

    def kill_one() -> None:
        asked = [run for run in crew.asked if run[1] == "products"]
        busy = [worker for worker in crew.workers.values() if worker.run is not None and worker.run.kind == "products"]
        if len(asked) > 4 and busy and not killed:
            killed.append(busy[0].number)
            os.kill(busy[0].pid, signal.SIGKILL)

    crew.check = kill_one
    assert same(fitted.alone, fitted.run("killed", crew))
    assert killed and crew.account.lost == 1
    own = {place: found for place, found in makers(crew).items() if killed[0] in found}
    assert own and all(len(found) == 2 and found[0] == killed[0] for found in own.values())
    assert all(len(found) == 1 for place, found in makers(crew).items() if place not in own)
    extra = crew.account.computed - fitted.alone.computed
    assert 0 < extra <= len(own) * (fitted.steps + 5), "their full runs, and a path as far as it was"
    folder = FitFolder(fitted.folder / "jobs" / folder_name("killed"), {}, 0)
    assert all(len(errors) == 3 for errors in folder.fit_errors().values()) and folder.fit_errors()


@pytest.mark.parametrize("stop", [2, 11, 18])
def test_fits_go_on_in_workers_and_in_one_process_where_the_other_stopped(fits, cluster, stop):
    fitted, name = fits("short"), f"shared {stop}"
    with pytest.raises(Stop):
        fitted.run(name, on_progress=stop_at(stop))
    assert same(fitted.alone, fitted.run(name, fitted.crew(2, cluster)))
    name = f"back {stop}"
    with pytest.raises(Stop):
        fitted.run(name, fitted.crew(2, cluster), stop_at(stop + 3))  # what it tells before its workers have loaded the model
    back, known = fitted.run(name), stop == 18
    assert same(fitted.alone, back)
    assert back.computed == fitted.alone.computed - known * 3 * 5, "full runs are made again where they are, fits are not"
    for left in (f"shared {stop}", name):
        assert not list((fitted.folder / "jobs" / folder_name(left)).glob("walk-*"))


def test_workers_that_cannot_load_or_run_out_of_memory_are_named_and_another_does_their_work(demo, cluster, caplog):
    crew = demo.crew(3, cluster, ("load", "memory"))
    assert same(demo.alone, demo.run("faults", crew))
    named = [line for line in caplog.text.splitlines() if "cannot go on" in line]
    assert len(named) == 2
    assert any("header of the checkpoint is broken" in line for line in named)
    assert any("it ran out of memory (Allocation on device)" in line for line in named)


def test_a_worker_ten_times_slower_makes_less_and_the_other_takes_over(demo, cluster):
    crew = demo.crew(2, cluster, ("slow",))
    all_loaded(crew)
    asked = crew.asked
    assert same(demo.alone, demo.run("slow", crew))
    made = Counter(worker for worker, kind, *_ in asked if kind == "replay")
    assert len(made) <= 2 and sum(made.values()) - max(made.values()) < max(made.values()) / 2


def test_workers_of_another_version_are_refused_and_told_apart(demo, cluster):
    from lemica.calibration.job_error import JobError

    facts = demo.order(1).calibration["facts"] | {"ComfyUI": "0.0.1", "wan_tiny.safetensors": "0" * 64}
    with pytest.raises(JobError) as caught:
        demo.run("refused", demo.crew(1, cluster, facts=facts))
    text = str(caught.value)
    assert "does not match the machine that calibrates" in text
    assert "0.0.1 here" in text and "wan_tiny.safetensors is " in text and "the pack" not in text


def test_two_calibrations_on_one_cluster_do_not_disturb_each_other(demo, cluster):
    results, errors = {}, []

    def calibrate(name: str) -> None:
        try:
            results[name] = demo.run(name, demo.crew(1, cluster))
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=calibrate, args=(name,)) for name in ("first", "second")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors and all(same(demo.alone, result) for result in results.values())


def test_a_restarted_head_costs_no_more_than_the_replay_that_was_being_made(demo):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    heads = [begin_head(port)]
    crew = demo.crew(1, f"127.0.0.1:{port}")
    asked = crew.asked

    def restart(progress) -> None:
        if len(asked) > 15 and len(heads) == 1:
            end_head(heads[0])
            heads.append(begin_head(port))

    try:
        assert same(demo.alone, demo.run("head", crew, restart))
    finally:
        end_head(heads[-1])
    assert len(heads) == 2 and crew.account.restarts == 1
    replays = Counter(run[1:] for run in asked if run[1] == "replay")
    assert sum(replays.values()) - len(replays) <= 1


def test_without_ray_or_a_cluster_the_reason_is_told(demo, tmp_path: Path):
    from dataclasses import replace

    from lemica.calibration.cluster.crew import Crew
    from lemica.calibration.job_error import JobError

    order = demo.order(1)
    with pytest.raises(JobError, match="cannot be reached"):
        demo.run("nowhere", Crew(replace(order, address="127.0.0.1:1")))
    bare = Path(os.environ["LEMICA_COMFYUI_PYTHON"])
    probe = subprocess.run([bare, "-c", "import ray"], capture_output=True, check=False)
    if probe.returncode:
        with pytest.raises(JobError, match="Install Ray"):
            demo.run("bare", Crew(replace(order, python=str(bare))))


COME_IN = "import ray; ray.init(address='{address}', logging_level='error'); print('joined')"


def test_a_local_cluster_is_reached_from_this_machine_alone_and_with_its_token_only(comfy, monkeypatch):
    """On a machine that others reach: where it has only the loopback device, nothing else can be listened on."""
    import psutil
    from lemica.calibration.cluster import link
    from lemica.calibration.cluster.channel import Channel

    addresses = {one.address for some in psutil.net_if_addrs().values() for one in some if one.family == socket.AF_INET}
    if all(ip_address(address).is_loopback for address in addresses):
        pytest.skip("this machine has no address but the loopback one")
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN_PATH", "RAY_AUTH_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    channel = Channel(sys.executable, "local", 1)
    try:
        assert channel.first(lambda: None)[0] == "ready"
        channel.send("home", {"cpu": True})
        channel.send("hire", 0)
        channel.send("call", 0, 1, "glance", ())
        assert channel.first(lambda: None)[:4] == ("answer", 0, 1, None), "the worker is there"
        driver = psutil.Process(channel._process.pid)
        listening = [
            (process.name(), socket_.laddr) for process in (driver, *driver.children(recursive=True))
            for socket_ in process.net_connections("inet") if socket_.status == psutil.CONN_LISTEN
        ]
        assert {"gcs_server", "raylet"} <= {name for name, _ in listening} and len(listening) >= 5
        assert not [one for one in listening if not reached_from_here_alone(one[1].ip)]
        (port,) = (address.port for name, address in listening if name == "gcs_server")
        right = gcs_environment(driver)["RAY_AUTH_TOKEN"]
        for mode, token, enters in (("token", right, True), ("token", "0" * 64, False), ("disabled", "", False)):
            told = link.LOCAL | {"RAY_AUTH_MODE": mode, "RAY_AUTH_TOKEN": token}
            joined = subprocess.run(
                [sys.executable, "-c", COME_IN.format(address=f"127.0.0.1:{port}")], env=os.environ | told,
                capture_output=True, text=True, check=False, timeout=120,
            )
            assert (joined.stdout.strip() == "joined") == enters, joined.stderr
    finally:
        channel.close()


def reached_from_here_alone(address: str) -> bool:
    found = ip_address(address)
    return (getattr(found, "ipv4_mapped", None) or found).is_loopback


def gcs_environment(driver) -> dict[str, str]:
    """What the head of a cluster was started with."""
    return next(one for one in driver.children(recursive=True) if one.name() == "gcs_server").environ()


def test_a_ray_without_tokens_is_not_used(demo, tmp_path, monkeypatch):
    """A package of that name and an older version stands for it."""
    from lemica.calibration.cluster.crew import Crew
    from lemica.calibration.job_error import JobError

    (tmp_path / "ray").mkdir()
    (tmp_path / "ray" / "__init__.py").write_text("__version__ = '2.51.2'")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(JobError, match="Ray is 2.51.2.*ray>=2.52"):
        demo.run("old", Crew(demo.order(1)))


def test_a_worker_whose_full_run_is_another_picture_is_not_used(demo, cluster):
    from lemica.calibration.job_error import JobError
    from safetensors import safe_open

    with pytest.raises(Stop):
        demo.run("other", on_progress=stop_at(10))
    (file, *_) = (demo.folder / "jobs" / folder_name("other")).glob("run-*.safetensors")
    with safe_open(file, framework="numpy") as content:
        about = json.loads(content.metadata()["lemica_sample"])
        tensors = {key: content.get_tensor(key) for key in content.keys()}
    save_file(tensors | {"final": 2 * tensors["final"]}, file, {"lemica_sample": json.dumps(about)})
    with pytest.raises(JobError, match="No worker is left.*another picture"):
        demo.run("other", demo.crew(1, cluster))
