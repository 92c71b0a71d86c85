"""Who may call what: the packaged policy, files that cannot be used, and changes while running."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.metrics import NoOpMeter

from services.gateway.policy.domain import Bounds, Denied, Granted, Policy, Question, Rule
from services.gateway.policy.file import DEFAULT, Policies, load, read
from services.gateway.routes import access
from services.kit.config import ConfigError
from tests.fakes.policies import bounded

ACCESS = access()
SCORE = "puhui.scoring.v1.ScoringService/Score"
FETCH = "puhui.datashare.v1.AccessService/FetchSummary"
TEXT = DEFAULT.read_text(encoding="utf-8")


def test_every_method_of_every_role_has_a_place() -> None:
    policy = load(DEFAULT, ACCESS)
    without = [
        (role, method)
        for method, roles in ACCESS.items()
        for role in roles
        if not policy.places(role, method)
    ]
    assert without == []


def test_every_rule_has_a_case() -> None:
    assert load(DEFAULT, ACCESS).uncovered() == []


def test_bounds_of_a_participant_go_before_its_roles_and_those_before_the_default(
    tmp_path: Path,
) -> None:
    policy = load(bounded(tmp_path, par_1={"rate": 7}), ACCESS)
    default, bank, one = (
        policy.bounds(role, name)
        for role, name in (("FIRM", "x"), ("BANK", "x"), ("BANK", "par_1"))
    )
    assert (default.rate, bank.rate, one.rate) == (100, 1000, 7)
    assert (one.daily, one.message_bytes) == (bank.daily, default.message_bytes)


ROLES = ("BANK", "FIRM", "PROVIDER")
METHODS = ("p.S/A", "p.S/B", "p.T/A")
PRODUCTS = {
    name: read(DEFAULT, ACCESS).products[name]
    for name in ("credit_reporting", "data_service", "platform")
}
BOUNDS = Bounds(1, 1, 1, 1, 1, 1, 1, 1, 1)
some = st.lists(st.sampled_from(ROLES), unique=True).map(tuple)
rules = st.lists(
    st.tuples(
        st.sampled_from(sorted(PRODUCTS)),
        some,
        st.lists(st.sampled_from([*METHODS, "p.S/*"]), unique=True).map(tuple),
    ),
    max_size=5,
)


@given(
    rules,
    st.dictionaries(st.sampled_from(METHODS), some.map(frozenset)),
    st.sampled_from(ROLES),
    st.sampled_from(METHODS),
    st.lists(st.sampled_from(sorted(PRODUCTS)), unique=True).map(tuple),
    st.sampled_from(["", *PRODUCTS, "unknown"]),
)
def test_what_is_granted_is_allowed_by_the_proto_a_rule_and_a_licence(
    given_rules: list[tuple[str, tuple[str, ...], tuple[str, ...]]],
    proto: dict[str, frozenset[str]],
    role: str,
    method: str,
    held: tuple[str, ...],
    asked: str,
) -> None:
    made = tuple(Rule(number, *each) for number, each in enumerate(given_rules, 1))
    policy = Policy(PRODUCTS, made, BOUNDS, {}, {}, (), proto)
    decided = policy.decide(Question(role, method, held, asked))
    fitting = {
        rule.product
        for rule in made
        if role in rule.roles
        and (method in rule.methods or ("p.S/*" in rule.methods and method.startswith("p.S/")))
    }
    usable = {each for each in fitting if not PRODUCTS[each].licensed or each in held}
    if role not in proto.get(method, ()):
        assert isinstance(decided, Denied)
        assert decided.reason == "ROLE_NOT_ALLOWED"
    elif isinstance(decided, Granted):
        assert decided.product in usable
        assert asked in ("", decided.product)
    else:
        assert not (usable & {asked} if asked else usable)
        denied = not (fitting & {asked} if asked else fitting)
        assert decided.reason == ("POLICY_DENIED" if denied else "PRODUCT_NOT_LICENSED")
    granted = isinstance(policy.decide(Question(role, method, held)), Granted)
    assert (method in policy.may(role, held)) == granted


RULE = '[[rules]]\nproduct = "{}"\nroles = ["{}"]\nmethods = ["{}"]\n'


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ("[[ruls]]\n", "ruls is unknown: did you mean rules?"),
        (RULE.format("platform", "BANC", SCORE), "BANC is unknown: did you mean BANK?"),
        (RULE.format("platfrom", "BANK", SCORE), "did you mean platform?"),
        (RULE.format("platform", "BANK", SCORE + "s"), f"did you mean {SCORE}?"),
        (
            RULE.format("platform", "BANK", "puhui.scoring.v1.ScoreService/*"),
            "did you mean puhui.scoring.v1.ScoringService/*?",
        ),
        (RULE.format("platform", "FIRM", SCORE), "FIRM may call none of its methods"),
        (RULE.format("credit_reporting", "BANK", SCORE), "is unreachable, rules before it"),
        ("[products.other]\nzh = ''\nen = ''\nlicensed = true\n", "has no rule"),
        ("[products.other]\nzh = ''\nen = ''\n", "must say `licensed"),
        ("[limits.participants.p]\nrat = 1\n", "rat is unknown: did you mean rate?"),
        ("[limits.participants.p]\nrate = 0\n", "rate of"),
        ("[limits.participants.p]\nburst = 1.5\n", "must be a whole number"),
        ("[limits.participants.p]\nmessage_bytes = 99_000_000\n", "to 1.67772e+07"),
        ("[limits.roles.BANKS]\nrate = 1\n", "BANKS is unknown: did you mean BANK?"),
        (f'[[case]]\nrole = "BANK"\nmethod = "{SCORE}"\nexpect = "platform"\n', "and gets PRODUCT"),
        (
            f'[[case]]\nrole = "BANK"\nmethod = "{SCORE}"\nexpect = "POLICY_DENID"\n',
            "did you mean POLICY_DENIED?",
        ),
        ("x = [", "is not TOML"),
    ],
)
def test_what_is_wrong_with_a_file_is_named(tmp_path: Path, more: str, said: str) -> None:
    file = tmp_path / "policy.toml"
    file.write_text(f"{TEXT}\n{more}")
    with pytest.raises(ConfigError) as error:
        load(file, ACCESS)
    assert said in str(error.value)


def test_all_problems_are_told_at_once(tmp_path: Path) -> None:
    file = tmp_path / "policy.toml"
    file.write_text("version = 2\nrules = 5\n[products]\nx = 1\n")
    with pytest.raises(ConfigError) as error:
        load(file, ACCESS)
    for said in ("must be 1", "[[rules]]", "must be a table", "must say all"):
        assert said in str(error.value)


def test_a_changed_file_counts_and_a_broken_or_missing_one_does_not(tmp_path: Path) -> None:
    file = bounded(tmp_path, par_1={"rate": 1})
    policies = Policies(file, ACCESS, NoOpMeter("test"))

    def rate() -> float:
        return policies.current.bounds("BANK", "par_1").rate

    bounded(tmp_path, par_1={"rate": 22})
    policies.refresh()
    assert rate() == 22
    file.write_text("version = 9")
    policies.refresh()
    assert rate() == 22
    file.unlink()
    policies.refresh()
    assert rate() == 22
    bounded(tmp_path, par_1={"rate": 333})
    policies.refresh()
    assert rate() == 333


def test_a_file_swapped_under_its_name_counts(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    old = bounded(tmp_path / "a", par_1={"rate": 1})
    new = bounded(tmp_path / "b", par_1={"rate": 2})
    os.utime(new, ns=(old.stat().st_atime_ns, old.stat().st_mtime_ns))
    link = tmp_path / "policy.toml"
    link.symlink_to(old)
    policies = Policies(link, ACCESS, NoOpMeter("test"))
    link.unlink()
    link.symlink_to(new)
    policies.refresh()
    assert policies.current.bounds("BANK", "par_1").rate == 2


def test_a_gateway_does_not_start_on_a_broken_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        Policies(tmp_path / "absent", ACCESS, NoOpMeter("test"))


@pytest.mark.parametrize("role", ["OPERATOR", "PROVIDER"])
def test_who_the_proto_does_not_name_gets_no_data(role: str) -> None:
    decided = load(DEFAULT, ACCESS).decide(Question(role, FETCH, ("credit_reporting",)))
    assert isinstance(decided, Denied)
