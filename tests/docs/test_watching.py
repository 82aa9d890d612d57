"""What the page on watching asks Prometheus for is measured, and its files are right."""

import re
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from avtomatika_trio.orchestrator._metrics import Metrics

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "how-to" / "watch-jobs.md"
FOLDER = ROOT / "docs" / "examples" / "watching"
ALERTS = (FOLDER / "alerts.yml").read_text("utf-8")

#: On the line of the key, or in a block below it.
_EXPRESSION = re.compile(r"^ +expr: (?:\|\n((?: {10}.*\n)+)|(.*)\n)", re.MULTILINE)

EXPRESSIONS = [
    *re.findall(r"\| `(.*avtomatika_.*)` \|", PAGE.read_text("utf-8")),
    *("".join(groups) for groups in _EXPRESSION.findall(ALERTS)),
]


def measured() -> set[str]:
    """The names that a query may have."""
    endings = {
        "counter": ["_total"],
        "gauge": [""],
        "histogram": ["_bucket", "_sum", "_count"],
    }
    families = text_string_to_metric_families(Metrics().as_text().decode())
    return {f"{it.name}{end}" for it in families for end in endings.get(it.type, ())}


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_what_is_asked_for_is_measured(expression: str) -> None:
    assert set(re.findall(r"avtomatika_\w+", expression)) <= measured()
    assert expression.count("(") == expression.count(")")
    assert "avtomatika_" in expression or expression.startswith("up{job=")


def test_nothing_that_the_page_names_is_missing() -> None:
    assert len(EXPRESSIONS) == 15
    named = re.findall(r"avtomatika_\w+_(?:total|bucket|sum|count)", PAGE.read_text("utf-8"))
    assert set(named) <= measured()


def test_every_alert_has_an_expression_and_the_scrape_is_what_they_are_about() -> None:
    assert ALERTS.count("- alert: ") == len(_EXPRESSION.findall(ALERTS)) == 6
    scrape = (FOLDER / "prometheus.yml").read_text("utf-8")
    assert "job_name: avtomatika\n" in scrape
    assert "metrics_path: /_public/metrics\n" in scrape
    assert 'up{job="avtomatika"}' in ALERTS
    assert "- alerts.yml\n" in scrape
