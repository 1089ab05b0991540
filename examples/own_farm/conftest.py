import pytest

pytest.register_assert_rewrite("farmx.testing")  # a test of the contract that fails shows the values it compared
