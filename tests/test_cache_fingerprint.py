"""Fingerprints: equal for what nodes build anew at every step, different for whatever tells two evaluations apart."""

from __future__ import annotations

from functools import partial
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

LEAVES = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(), st.binary())
VALUES = st.recursive(
    LEAVES | st.frozensets(st.integers()),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner, inner), max_leaves=12,
)


@pytest.fixture(scope="module")
def cache(comfy: ModuleType) -> ModuleType:
    from lemica.cache import fingerprint

    return fingerprint


def copied(value: Any) -> Any:
    """The same value in containers of its own, dicts filled the other way round."""
    if isinstance(value, dict):
        return {key: copied(item) for key, item in reversed(value.items())}
    return type(value)(map(copied, value)) if isinstance(value, (list, tuple)) else value


@given(value=VALUES)
def test_a_copy_has_the_same_fingerprint(cache, value):
    told = cache.fingerprint(value)
    assert told == cache.fingerprint(copied(value)) and hash(told) == hash(cache.fingerprint(copied(value)))


@given(options=st.dictionaries(st.text(), VALUES), key=st.text(min_size=1), one=LEAVES, other=LEAVES)
def test_any_flag_tells_two_evaluations_apart(cache, options, key, one, other):
    key = f"flag {key}"
    first, second = ({"transformer_options": {**options, key: value}} for value in (one, other))
    assert (cache.fingerprint(first) == cache.fingerprint(second)) == (one == other)
    assert cache.fingerprint(first) != cache.fingerprint({"transformer_options": options})


def test_functions_built_anew_are_the_same_and_others_are_not(cache):
    def node(strength: float):
        def patch(x: float) -> float:
            return x * strength

        return patch, lambda x: x, lambda x: x + 1

    class Patch:
        def apply(self) -> None: ...

        def replace(self) -> None: ...

    first, second = node(1.0), node(2.0)
    assert [cache.fingerprint(f) for f in first] == [cache.fingerprint(f) for f in second]
    assert len({cache.fingerprint(f) for f in first}) == 3
    assert cache.fingerprint(Patch().apply) == cache.fingerprint(Patch().apply) != cache.fingerprint(Patch().replace)
    assert cache.fingerprint(partial(first[0], 1)) != cache.fingerprint(partial(first[0], 2))
    assert cache.fingerprint(Patch()) == cache.fingerprint(Patch()) != cache.fingerprint(object())


def test_tensors_go_by_shape_and_are_not_read(cache):
    import torch
    from comfy.conds import CONDConstant, CONDRegular

    def told(*shape: int, dtype: torch.dtype = torch.float32):
        return cache.fingerprint({"model_conds": {"x": CONDRegular(torch.empty(shape, dtype=dtype, device="meta"))}})

    assert told(2, 3) == told(2, 3) != told(3, 2)
    assert told(2, 3) != told(2, 3, dtype=torch.float16)
    assert cache.fingerprint(CONDConstant(24)) == cache.fingerprint(CONDConstant(24)) != cache.fingerprint(CONDConstant(25))


def test_windows_go_by_their_frames(cache):
    from comfy.context_windows import IndexListContextWindow

    def told(*frames: int):
        return cache.fingerprint({"context_window": IndexListContextWindow(list(frames), total_frames=9)})

    assert told(0, 1, 2) == told(0, 1, 2) != told(1, 2, 3)


def test_what_names_the_step_or_the_device_is_left_out(cache):
    import torch

    def told(**options: object):
        return cache.fingerprint({"transformer_options": {"flag": 1, **options}})

    assert told(sigmas=torch.ones(1), sample_sigmas=torch.ones(3), lemica=object(), cond_or_uncond=[0, 1]) == told()


def test_a_container_that_holds_itself_has_a_fingerprint(cache):
    def told(flag: int):
        holder: dict[str, Any] = {"flag": flag}
        holder["self"] = [holder]
        return cache.fingerprint(holder)

    assert told(1) == told(1) != told(2)
