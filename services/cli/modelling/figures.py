"""Measured figures as commands show them."""

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from services.scoring.training.evidence import Figure

FIGURES: Final = {
    "auc": "AUC",
    "gini": "Gini",
    "ks": "KS",
    "brier": "Brier",
    "log_loss": "log-loss",
    "calibration_slope": "calibration slope",
    "calibration_intercept": "calibration intercept",
    "ece": "ECE",
}
"""Their names, in the order in which they are shown."""


def shown(figure: "Figure") -> str:
    """A figure with its interval, else with its spread over folds."""
    if figure.low is not None and figure.high is not None:
        return f"{figure.value:.3f} [{figure.low:.3f}, {figure.high:.3f}]"
    spread = "" if figure.deviation is None else f" ± {figure.deviation:.3f}"
    return f"{figure.value:.3f}{spread}"
