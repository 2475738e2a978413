import re
from collections.abc import Sequence
from pathlib import Path

import pytest

from tasks.config.schema import all_keys
from tasks.onetrainer.concept_rows import SAMPLE
from tasks.onetrainer.convert import CONCEPT_ROWS, CONCEPT_TABLES, CONFIG_ROWS, CONFIG_TABLES
from tasks.onetrainer.paths import Paths
from tasks.onetrainer.rows import Left, Table, View, answers
from tasks.onetrainer.samples import SHARED
from tests.tasks.onetrainer import onetrainer_keys

HERE = Paths(Path("/nowhere"), Path("/nowhere"))
OLD = ("align_prop", "circular_mask_generation", "random_rotate_and_crop", "extra_model_name")
LEGACY = {key for key in CONFIG_ROWS if key.startswith(OLD)} | {
    "latent_caching_epochs",
    "loss_function",
}


@pytest.mark.parametrize(
    ("tables", "keys"),
    [
        (CONFIG_TABLES, onetrainer_keys.CONFIG_KEYS),
        (CONCEPT_TABLES, onetrainer_keys.CONCEPT_KEYS),
        ((SAMPLE,), onetrainer_keys.SAMPLE),
    ],
    ids=["config", "concept", "sample"],
)
def test_each_key_of_onetrainers_is_in_exactly_one_table(
    tables: Sequence[Table], keys: Sequence[str]
) -> None:
    counts = {key: sum(key in table for table in tables) for key in keys}
    assert {key: count for key, count in counts.items() if count != 1} == {}
    assert len(set(keys)) == len(keys)


def test_tables_hold_no_key_that_onetrainer_never_had() -> None:
    assert CONFIG_ROWS.keys() - LEGACY == set(onetrainer_keys.CONFIG_KEYS)
    assert CONCEPT_ROWS.keys() == set(onetrainer_keys.CONCEPT_KEYS)
    assert SAMPLE.keys() - {"prior_attention_mask"} == set(onetrainer_keys.SAMPLE)
    assert SHARED.keys() < SAMPLE.keys()


@pytest.mark.parametrize("rows", [CONFIG_ROWS, CONCEPT_ROWS], ids=["config", "concept"])
def test_defaults_are_all_understood_and_lead_to_settings_of_ours(rows: Table) -> None:
    facts = {"multiple": 8, "resolution": "512", "folder": "a"}
    view = View({}, rows, HERE, facts=facts)
    ours = set(all_keys())
    for key, row in rows.items():
        for answer in answers(row, view[key], view):
            if isinstance(answer, Left):
                assert answer.kind != "unknown", (key, answer.why)
                continue
            name = answer.key.replace("*", "0")
            assert (name if rows is CONFIG_ROWS else f"concepts.0.{name}") in ours, key


@pytest.mark.parametrize("rows", [CONFIG_ROWS, CONCEPT_ROWS], ids=["config", "concept"])
@pytest.mark.parametrize("value", ["rubbish", -1, 1e308, [], [None], {"a": 1}, True, "C:\\x"])
def test_no_value_breaks_a_row(rows: Table, value: object) -> None:
    facts = {"multiple": 8, "resolution": "512", "folder": "a"}
    for key, row in rows.items():
        view = View({key: value}, rows, HERE, facts=facts)
        for answer in answers(row, view[key], view):
            assert not isinstance(answer, Left) or answer.why, key


def test_the_page_for_people_from_onetrainer_names_settings_that_exist() -> None:
    page = (Path(__file__).parents[3] / "docs" / "onetrainer.md").read_text()
    named = re.findall(r"`((?:store|model|data|concepts|train)\.[a-z_.]+)`", page)
    ours = {key.replace("concepts.0.", "concepts.") for key in all_keys()}
    assert len(named) > 30
    assert set(named) - ours == set()
