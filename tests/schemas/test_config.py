"""The configuration's defaults and refusals, each with its path and reason (contract 3)."""

import json
from datetime import timedelta
from typing import Any

import pytest
from pydantic import ValidationError

from schemas.config import KINDS, Configuration, ReportDirection, Timing, item_id
from schemas.oscp.v20 import Action
from schemas.topology import Asset, bound
from tests.builders import T0, configuration

CIRCUITS = [{"id": f"feeder-{n}", "rated_import_kw": 100, "rated_export_kw": 50} for n in (1, 2)]
SCOPES = [{"id": f"mg-{n}", "circuit_id": f"feeder-{n}"} for n in (1, 2)]
PARTNERS = [{"id": "vector"}, {"id": "other"}]


def asset(**changes: Any) -> dict[str, Any]:
    return {"id": "a", "scope_id": "mg-1", "category": "CONSUMPTION", **changes}


def group(**changes: Any) -> dict[str, Any]:
    return {"partner_id": "vector", "group_id": "G-1", "scope_id": "mg-1", **changes}


def two_of_each(**changes: Any) -> dict[str, Any]:
    return {"circuits": CIRCUITS, "scopes": SCOPES, "assets": [asset()], "partners": PARTNERS, "groups": [group()], **changes}


def test_two_of_each_is_fine():
    Configuration.model_validate(two_of_each())


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        # an unknown reference
        ({"scopes": [{"id": "mg-1", "circuit_id": "feeder-9"}]}, r"scopes\[0\]\.circuit_id: there is no circuit 'feeder-9'"),
        ({"assets": [asset(scope_id="mg-9")]}, r"assets\[0\]\.scope_id: there is no scope 'mg-9'"),
        ({"groups": [group(partner_id="nobody")]}, r"groups\[0\]\.partner_id: there is no partner 'nobody'"),
        ({"groups": [group(), group(group_id="G-2", scope_id="mg-9")]}, r"groups\[1\]\.scope_id: there is no scope 'mg-9'"),
        # what may be there once only
        ({"groups": [group(), group(group_id="G-2")]}, r"groups\[1\]\.scope_id: partner 'vector' already has group 'G-1' on scope 'mg-1'"),
        (
            {"groups": [group(), group(partner_id="other", scope_id="mg-2")]},
            r"groups\[1\]\.group_id: 'G-1' already belongs to partner 'vector'",
        ),
        ({"groups": [group(), group(scope_id="mg-2")]}, r"groups\[1\]\.group_id: 'G-1' already belongs"),
        (
            {"assets": [asset(connection_meter=True), asset(id="b", connection_meter=True)]},
            r"assets\[1\]\.connection_meter: scope 'mg-1' already has the connection meter 'a'",
        ),
        (
            {"scopes": [SCOPES[0], {"id": "mg-2", "circuit_id": "feeder-1"}]},
            r"scopes\[1\]\.circuit_id: circuit 'feeder-1' already belongs to scope 'mg-1'",
        ),
        ({"circuits": [*CIRCUITS, CIRCUITS[0]]}, r"circuits\[2\]\.id: 'feeder-1' is there twice"),
        ({"scopes": [*SCOPES, {"id": "mg-1"}]}, r"scopes\[2\]\.id: 'mg-1' is there twice"),
        ({"assets": [asset(), asset()]}, r"assets\[1\]\.id: 'a' is there twice"),
        (
            {"partners": [*PARTNERS, {"id": "vector/nz"}]},
            r"partners\[2\]\.id: 'vector/nz' begins with partner 'vector' and '/', .*; write another id, such as 'vector-nz'",
        ),
        ({"partners": [*PARTNERS, {"id": "vector"}]}, r"partners\[2\]\.id: 'vector' is there twice"),
        ({"assets": [asset(valid_from="2026-10-20T11:00:00Z", valid_to="2026-10-20T11:00:00Z")]}, r"assets\[0\]\.valid_to: must be after"),
        # an unknown field, and values that mean nothing
        ({"assets": [asset(max_kw=3)]}, r"assets\.0\.max_kw\s+Extra inputs"),
        ({"sites": []}, r"sites\s+Extra inputs"),
        ({"partners": [{"id": "vector", "measurements": {"unit": "MWH"}}, PARTNERS[1]]}, r"partners\.0\.measurements\.unit"),
        ({"partners": [{"id": "vector", "profile": "taipower"}, PARTNERS[1]]}, r"partners\.0\.profile"),
        ({"timing": {"lateness": "soon"}}, r"timing\.lateness"),
        ({"timing": {"tardiness": "PT1M"}}, r"timing\.tardiness\s+Extra inputs"),
        ({"scopes": [{"id": "mg-1", "time_zone": "Pacific/Ackland"}]}, r"unknown time zone 'Pacific/Ackland'"),
        ({"scopes": [{"id": "mg-1", "phases": 2.5}]}, r"scopes\.0\.phases"),
        ({"circuits": [{"id": "feeder 1", "rated_import_kw": 1, "rated_export_kw": 1}]}, r"circuits\.0\.id"),
        ({"circuits": [{"id": "feeder-1", "rated_import_kw": -1, "rated_export_kw": 1}]}, r"rated_import_kw"),
        ({"circuits": [{"id": "feeder-1", "rated_import_kw": float("nan"), "rated_export_kw": 1}]}, r"rated_import_kw"),
        ({"circuits": [{"id": "feeder-1"}]}, r"rated_export_kw\s+Field required"),
    ],
)
def test_refusals_name_the_path_and_the_reason(changes: dict[str, Any], words: str):
    with pytest.raises(ValidationError, match=words):
        Configuration.model_validate(two_of_each(**changes))


def partner(**changes: Any) -> dict[str, Any]:
    return {"partners": [{"id": "vector", **changes}, PARTNERS[1]]}


def oauth(url: str) -> dict[str, Any]:
    return {"oauth": {"token_url": url, "client_id": "us", "client_secret_file": "/run/secret"}}


POSITIVE = ("lateness", "idle_after", "provisional_every", "report_deadline", "asset_expiry")
UNWORKABLE = [
    *((({"timing": {name: "-PT1S"}}), f"timing.{name}", "-PT1S") for name in Timing.model_fields),
    *((({"timing": {name: "PT0S"}}), f"timing.{name}", "longer than nothing") for name in POSITIVE),
    ({"timing": {"max_interpolation": "PT2H"}}, "timing.correction_horizon", "write correction_horizon: PT7200S or longer"),
    ({"timing": {"correction_horizon": "PT59M"}}, "timing.correction_horizon", "shorter than max_interpolation (PT3600S)"),
    ({"groups": [group(fallback_hold="-PT1S")]}, "groups.0.fallback_hold", "must not be negative"),
    (partner(wants={"heartbeat_interval": "PT0.9S"}), "partners.0.wants.heartbeat_interval", "from PT1S to P1D"),
    (partner(wants={"heartbeat_interval": "P1DT1S"}), "partners.0.wants.heartbeat_interval", "from PT1S to P1D"),
    (partner(wants={"heartbeat_interval": "-PT5M"}), "partners.0.wants.heartbeat_interval", "from PT1S to P1D"),
    (partner(heartbeat_grace="-PT1S"), "partners.0.heartbeat_grace", "must not be negative"),
    (partner(measurements={"report_horizon": "PT0S"}), "partners.0.measurements.report_horizon", "longer than nothing"),
    *(
        (partner(base_url=url), "partners.0.base_url", words)
        for url, words in [
            ("", "absolute http(s) URL"),
            ("cp.example", "absolute http(s) URL"),
            ("/oscp/cp/2.0", "absolute http(s) URL"),
            ("ftp://cp.example", "absolute http(s) URL"),
            ("https://", "absolute http(s) URL"),
            ("https://:8443/x", "absolute http(s) URL"),
            ("https://cp.example/a b", "absolute http(s) URL"),
            ("https://[::1/x", "is not a URL"),
            ("https://cp.example:99999", "is not a URL"),
            ("https://us:sesame@cp.example", "user or password"),
            ("https://cp.example/x?key=1", "no query or fragment"),
            ("http://cp.example", "plain http"),
            ("https://localhost:8443", "names this machine"),
            ("https://127.0.0.1", "loopback address (127.0.0.1)"),
            ("https://[::1]:1/x", "loopback address (::1)"),
            ("https://[::ffff:10.0.0.1]", "private address"),
            ("https://10.1.2.3/x", "allow_private_addresses: true"),
            ("https://169.254.169.254/latest", "never called"),
        ]
    ),
    (partner(base_url="http://0.0.0.0", allow_private_addresses=True), "partners.0.base_url", "never called"),
    (partner(base_url="ftp://10.1.2.3", allow_private_addresses=True), "partners.0.base_url", "absolute http(s) URL"),
    (partner(**oauth("login.example/token")), "partners.0.oauth.token_url", "absolute http(s) URL"),
    (partner(**oauth("http://login.example/token")), "partners.0.oauth.token_url", "plain http"),
    (partner(**oauth("https://192.168.1.1/token")), "partners.0.oauth.token_url", "private address"),
    (partner(paths={"UpdateAssets": "/x"}), "partners.0.paths.UpdateAssets", "no OSCP message; write one of Register, "),
    (partner(paths={"Heartbeat": "beat"}), "partners.0.paths.Heartbeat", "must begin with '/'"),
    (partner(paths={"Heartbeat": "/a b"}), "partners.0.paths.Heartbeat", "no blanks"),
    (partner(headers={"My Key": {"file": "k"}}), "partners.0.headers.My Key", "not an HTTP header name"),
    (partner(headers={"": {"file": "k"}}), "partners.0.headers.", "not an HTTP header name"),
    *(
        (partner(headers={name: {"file": "k"}}), f"partners.0.headers.{name}", "leave it out")
        for name in ("authorization", "Content-Type", "Host", "X-Request-ID", "X-Correlation-ID")
    ),
    (partner(tls={"client_cert_file": "c"}), "partners.0.tls.client_key_file", "missing beside client_cert_file"),
    (partner(tls={"client_key_file": "k"}), "partners.0.tls.client_cert_file", "missing beside client_key_file"),
]


@pytest.mark.parametrize(("changes", "path", "words"), UNWORKABLE)
def test_what_cannot_work_is_refused_at_its_path_with_the_cure(changes: dict[str, Any], path: str, words: str):
    with pytest.raises(ValidationError) as refusal:
        Configuration.model_validate(two_of_each(**changes))
    (found,) = refusal.value.errors(include_url=False)
    assert ".".join(str(part) for part in found["loc"]) == path
    assert words in found["msg"]
    assert "sesame" not in found["msg"]


@pytest.mark.parametrize(
    "changes",
    [
        {"timing": {"register_wait": "PT0S", "max_hold": "PT0S", "future": "PT0S"}},
        {"timing": {"max_interpolation": "PT0S", "correction_horizon": "PT0S"}},
        {"timing": {"max_interpolation": "PT2H", "correction_horizon": "PT2H"}},
        {"groups": [group(fallback_hold="PT0S")]},
        {"partners": [*PARTNERS, {"id": "nz/vector"}, {"id": "vector-2/nz"}]},
        partner(wants={"heartbeat_interval": None}, heartbeat_grace="PT0S"),
        partner(wants={"heartbeat_interval": "PT1S"}),
        partner(wants={"heartbeat_interval": "P1D"}),
        partner(base_url="HTTPS://cp.example:8443/oscp/cp/2.0/", **oauth("https://login.example/token?tenant=1")),
        partner(base_url="https://8.8.8.8", tls={"client_cert_file": "c", "client_key_file": "k", "ca_file": "a"}),
        partner(base_url="http://127.0.0.1:9000/cp", allow_private_addresses=True, **oauth("http://localhost/token")),
        partner(base_url="https://[fd00::1]/cp", allow_private_addresses=True),
        partner(paths={action.value: "/custom/path" for action in Action}, headers={"Ocp-Apim-Subscription-Key": {"file": "k"}}),
    ],
)
def test_what_can_work_is_taken(changes: dict[str, Any]):
    Configuration.model_validate(two_of_each(**changes))


def test_all_that_is_wrong_is_said_at_once():
    with pytest.raises(ValidationError) as refusal:
        Configuration.model_validate(two_of_each(assets=[asset(scope_id="x")], groups=[group(scope_id="y")]))
    assert "no scope 'x'" in str(refusal.value)
    assert "no scope 'y'" in str(refusal.value)


def test_the_defaults_are_the_contracts():
    partner = configuration().partners[0]
    assert [style.value for style in partner.wants.measurement_configuration] == ["INTERMITTENT"]
    assert partner.wants.heartbeat_interval == timedelta(minutes=5)
    assert partner.heartbeat_grace == timedelta(seconds=90)
    assert [message.value for message in partner.measurements.messages] == ["ASSET"]
    assert [style.value for style in partner.measurements.styles] == ["INTERMITTENT"]
    assert partner.measurements.unit == "KWH"
    assert {key: [each.value for each in value] for key, value in partner.measurements.directions.items()} == {
        "GENERATION": ["EXPORT"],
        "CONSUMPTION": ["IMPORT"],
        "CHARGING": ["IMPORT"],
        "STORAGE": ["IMPORT", "EXPORT"],
        "group": ["NET"],
    }
    assert partner.measurements.report_horizon == timedelta(days=7)
    assert (partner.compliance_errors, partner.max_body, partner.max_rate, partner.legacy) == ("EACH_QUARTER", None, 20, ())
    found = configuration().groups[0]
    assert (found.fallback_hold, found.safe_import_kw, found.safe_export_kw) == (timedelta(hours=1), None, None)
    assert (found.when_unknown, found.tolerance) == ("keep", 0.0)
    timing = Timing()
    assert (timing.lateness, timing.idle_after, timing.register_wait) == (timedelta(minutes=1), timedelta(seconds=10), timedelta(minutes=2))
    assert (timing.max_interpolation, timing.max_hold, timing.report_deadline) == (
        timedelta(hours=1),
        timedelta(minutes=5),
        timedelta(minutes=5),
    )


def test_directions_given_keep_the_defaults_of_the_rest():
    given = {"id": "vector", "measurements": {"directions": {"CONSUMPTION": ["NET"]}}}
    directions = configuration(partners=[given]).partners[0].measurements.directions
    assert directions["CONSUMPTION"] == (ReportDirection.NET,)
    assert directions["GENERATION"] == (ReportDirection.EXPORT,)


def test_a_configuration_survives_json():
    whole = configuration()
    assert Configuration.model_validate_json(whole.model_dump_json()) == whole


def test_looking_things_up():
    whole = configuration()
    assert whole.circuit("feeder-17") is whole.circuits[0]
    assert whole.scope("mg-1") is whole.scopes[0]
    assert whole.asset("mg-1-pv") is whole.assets[1]
    assert whole.partner("vector") is whole.partners[0]
    assert whole.group("vector", "VEC-0001") is whole.group_by_id("VEC-0001") is whole.groups[0]
    assert whole.groups_of_scope("mg-1") == whole.groups_of_partner("vector") == whole.groups
    assert whole.members("mg-1", T0) == whole.assets
    assert (whole.circuit("x"), whole.scope("x"), whole.asset("x"), whole.partner("x"), whole.group_by_id("x")) == (None,) * 5
    assert whole.group("other", "VEC-0001") is None


def test_a_binding_holds_for_whole_quarters_from_its_beginning_to_its_end():
    quarter = timedelta(minutes=15)
    bounded = Asset.model_validate(asset(valid_from=T0, valid_to=T0 + quarter))
    assert [bound(bounded, T0 + n * quarter) for n in (-1, 0, 1)] == [False, True, False]
    assert bound(Asset.model_validate(asset()), T0)


def test_the_ids_of_items():
    plain = json.loads(configuration().model_dump_json())
    assert [item_id(kind, plain[kind] if kind == "timing" else plain[kind][0]) for kind in KINDS] == [
        "feeder-17",
        "mg-1",
        "mg-1-grid",
        "vector",
        "vector/VEC-0001",
        "timing",
    ]


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"partners": [{"id": "vector", "heartbeat_grace": "P999999999D"}]}, "heartbeat_grace"),
        ({"partners": [{"id": "vector", "measurements": {"report_horizon": "P800000D"}}]}, "report_horizon"),
        ({"groups": [group(fallback_hold="P3661D")]}, "fallback_hold"),
        ({"groups": [group(safe_import_kw=1e308)]}, "safe_import_kw"),
        ({"circuits": [{**CIRCUITS[0], "rated_export_kw": 1e12}]}, "rated_export_kw"),
        ({"scopes": [{**SCOPES[0], "nominal_voltage_v": 1e300}]}, "nominal_voltage_v"),
    ],
)
def test_numbers_no_instant_and_no_sum_survives_are_refused(changes: dict[str, Any], field: str):
    """They would be taken, and end a flow when they are first reckoned with."""
    with pytest.raises(ValidationError, match=field):
        Configuration.model_validate(two_of_each(**changes))
