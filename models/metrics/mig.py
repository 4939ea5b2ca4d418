"""The mutual information gap (Chen et al. 2018, "Isolating sources of disentanglement")."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from gated_vae.models.metrics.arrays import check_arrays, varies
from gated_vae.models.metrics.gaps import Gap, gap
from gated_vae.models.metrics.information import bin_codes, bin_factors, entropy, mutual_information


def mig(codes: npt.ArrayLike, factors: npt.ArrayLike, *, bins: int = 20) -> Gap:
    """Gap between the two codes that tell most about a factor, as a share of the factor's entropy, averaged.

    Codes are cut into `bins` equal widths; factors of at most 100 different whole numbers are taken as classes and others
    cut likewise. `matrix` holds I(code; factor) / H(factor). Counting bins overstates information when rows are few:
    10,000 rows or more are customary.

    Parameters
    ----------
    codes, factors:
        (n, M) encoder means and (n, K) true factors.

    Raises
    ------
    ValueError
        For shapes that do not fit, values that are not finite, or fewer than two bins.
    """
    codes, factors = check_arrays(codes, factors)
    classes = bin_factors(factors, bins)
    varying = varies(factors)
    information = mutual_information(bin_codes(codes, bins), classes)
    return gap(information / np.where(varying, entropy(classes), 1.0), varying)
