"""What the pack does that Python, numpy or torch will soon do no more fails every test that comes across it."""

from __future__ import annotations

import warnings

import pytest


@pytest.mark.parametrize("kind", [DeprecationWarning, PendingDeprecationWarning, FutureWarning])
def test_a_warning_that_the_pack_causes_is_an_error_and_one_of_others_is_not(kind):
    with pytest.raises(kind):
        warnings.warn_explicit("soon gone", kind, "run.py", 1, module="lemica.cache.run")
    with pytest.warns(kind):
        warnings.warn_explicit("soon gone", kind, "samplers.py", 1, module="comfy.samplers")
