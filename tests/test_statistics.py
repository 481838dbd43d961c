import math
from dataclasses import astuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate
from scipy.stats import chi2, describe, norm

from pairs_lit.statistics import (
    Summary,
    compute_critical_t,
    compute_t_detectable_errors,
    summarise,
    summarise_rows,
)

samples = st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=40)


@given(values=samples)
def test_summary_is_numpys_with_the_samples_std(values: list[float]) -> None:
    summary = summarise(values)
    expected = (len(values), np.mean(values), np.std(values, ddof=1), np.median(values), min(values), max(values))
    assert astuple(summary) == pytest.approx(expected, rel=1e-12, abs=1e-12)


@pytest.mark.filterwarnings(
    "ignore:Precision loss", "ignore:overflow"
)  # skewness and kurtosis, which are not used here
@given(values=samples)
def test_summary_agrees_with_scipy(values: list[float]) -> None:
    summary, expected = summarise(values), describe(values)
    assert (summary.n, summary.min, summary.max) == (expected.nobs, *expected.minmax)
    assert summary.mean == pytest.approx(expected.mean, rel=1e-9, abs=1e-9)
    assert summary.std == pytest.approx(math.sqrt(expected.variance), rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("count", [0, 1, 2, 9])
def test_summaries_of_rows_are_those_of_each_row(count: int) -> None:
    values = np.random.default_rng(0).normal(size=(3, count))
    mean, std = summarise_rows(values)
    each = [summarise(row.tolist()) for row in values]
    np.testing.assert_allclose(mean, [row.mean for row in each], rtol=1e-15)
    np.testing.assert_allclose(std, [row.std for row in each], rtol=1e-15)
    assert [part.shape for part in summarise_rows(np.empty(0))] == [(0,), (0,)]


def test_a_case_worked_by_hand() -> None:
    summary = summarise([2, 4, 4, 4, 5, 5, 7, 9])  # squares of the deviations: 9 + 1 + 1 + 1 + 0 + 0 + 4 + 16 = 32
    assert astuple(summary) == pytest.approx((8, 5.0, math.sqrt(32 / 7), 4.5, 2.0, 9.0))


def test_one_value_has_no_std() -> None:
    summary = summarise([0.25])
    assert (summary.n, summary.mean, summary.median, summary.min, summary.max) == (1, 0.25, 0.25, 0.25, 0.25)
    assert math.isnan(summary.std)


def test_no_value_has_only_its_count() -> None:
    n, *figures = astuple(summarise([]))
    assert n == 0
    assert len(figures) == 5
    assert all(math.isnan(figure) for figure in figures)


def test_equal_values_have_std_zero() -> None:
    assert summarise([0.5, 0.5, 0.5]).std == 0


@pytest.mark.parametrize(
    ("summary", "html"),
    [
        (summarise([0.5, 0.7]), "0.6000 ± 0.1414 (n = 2); median 0.6000; min 0.5000; max 0.7000"),
        (summarise([0.5]), "0.5000 (n = 1); median 0.5000; min 0.5000; max 0.5000"),
        (Summary(10, 0.5, 0.1), "0.5000 ± 0.1000 (n = 10)"),
    ],
)
def test_a_notebook_shows_mean_std_and_n(summary: Summary, html: str) -> None:
    assert summary._repr_html_() == html


@pytest.mark.parametrize("freedom", [1.0, 1.05, 1.1, 1.2, 2.0, 3.3, 9.0, 200.0])
def test_the_detectable_difference_has_80_percent_power(freedom: float) -> None:
    """For some of these, scipy's distribution of t is NaN near the result; here, the normal power is integrated."""
    shift, critical = compute_t_detectable_errors(freedom), compute_critical_t(freedom)

    def compute_density(variance: float) -> float:
        bound = critical * math.sqrt(variance / freedom)
        return float((norm.sf(bound - shift) + norm.cdf(-bound - shift)) * chi2.pdf(variance, freedom))

    points = chi2.ppf([0.001, 0.01, 0.1, 0.5, 0.9], freedom)
    power, _ = integrate.quad(compute_density, 0, chi2.isf(1e-12, freedom), limit=500, points=points)
    assert power == pytest.approx(0.8, abs=1e-6)
