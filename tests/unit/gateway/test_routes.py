"""What is exposed, by the access options of the .proto files."""

from services.gateway.routes import DATASHARE, GATEWAY, PARTICIPANTS, SCORING, exposed, full_name
from services.kit.calls import roles_of

INTERNAL = {
    "/puhui.datashare.v1.AccessService/BatchFetchSummaries",
    "/puhui.datashare.v1.ParticipantService/VerifyKey",
    "/puhui.datashare.v1.ChangeService/ListChanges",
}


def test_everything_for_participants_is_exposed_and_nothing_else() -> None:
    methods = [method for package in (GATEWAY, DATASHARE, SCORING) for method in exposed(package)]
    found = {full_name(method) for method in methods}
    assert not found & INTERNAL
    assert {
        "/puhui.gateway.v1.GatewayService/WhoAmI",
        "/puhui.datashare.v1.RecordService/PushRecords",
        "/puhui.datashare.v1.CatalogueService/ListRecordTypes",
        "/puhui.scoring.v1.ScoringService/BatchScore",
    } <= found
    assert all(roles_of(method) & PARTICIPANTS for method in methods)


def test_no_method_streams_only_its_request_which_cannot_be_forwarded() -> None:
    for package in (GATEWAY, DATASHARE, SCORING):
        for method in exposed(package):
            assert method.server_streaming or not method.client_streaming
