import pytest

from kdlight.report.hacking import judge_curves


@pytest.mark.parametrize(
    ("golden", "proxy", "verdict", "best"),
    [
        # The published U: the proxy falls on while the golden figure has turned.
        ([0.199, 0.1146, 0.1197, 0.1467], [0.2, 0.1066, 0.1043, 0.1231], "hacked", 1),
        ([0.2, 0.1, 0.08, 0.079], [0.2, 0.1, 0.06, 0.05], "none", 3),
        ([0.2, 0.1, 0.12, 0.15], [0.2, 0.1, 0.11, 0.14], "over-fitted", 1),
        # Within the noise.
        ([0.2, 0.0743, 0.0749], [0.2, 0.06, 0.05], "none", 1),
    ],
)
def test_curves(golden, proxy, verdict, best):
    found = judge_curves(golden, proxy)
    assert (found.verdict, found.best) == (verdict, best)
    assert found.rise == pytest.approx(golden[-1] / golden[best] - 1)
