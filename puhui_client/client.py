"""The client: one connection to the gateway, every method of the platform."""

from types import TracebackType
from typing import Self

from puhui.datashare.v1.accesses_pb2_grpc import AccessServiceStub
from puhui.datashare.v1.catalogue_pb2_grpc import CatalogueServiceStub
from puhui.datashare.v1.consents_pb2_grpc import ConsentServiceStub
from puhui.datashare.v1.credentials_pb2_grpc import CredentialServiceStub
from puhui.datashare.v1.deliveries_pb2_grpc import DeliveryServiceStub
from puhui.datashare.v1.disputes_pb2_grpc import DisputeServiceStub
from puhui.datashare.v1.facts_pb2_grpc import FactServiceStub
from puhui.datashare.v1.incidents_pb2_grpc import IncidentServiceStub
from puhui.datashare.v1.mandates_pb2_grpc import MandateServiceStub
from puhui.datashare.v1.metering_pb2_grpc import MeteringServiceStub
from puhui.datashare.v1.notices_pb2_grpc import NoticeServiceStub
from puhui.datashare.v1.participants_pb2_grpc import ParticipantServiceStub
from puhui.datashare.v1.quality_pb2_grpc import QualityServiceStub
from puhui.datashare.v1.receipts_pb2_grpc import ReceiptServiceStub
from puhui.datashare.v1.records_pb2_grpc import RecordServiceStub
from puhui.datashare.v1.retention_pb2_grpc import RetentionServiceStub
from puhui.datashare.v1.reviews_pb2_grpc import ReviewServiceStub
from puhui.datashare.v1.subjects_pb2_grpc import SubjectServiceStub
from puhui.datashare.v1.wanted_pb2_grpc import WantedServiceStub
from puhui.gateway.v1.gateway_pb2_grpc import GatewayServiceStub
from puhui.scoring.v1.decisions_pb2_grpc import DecisionServiceStub
from puhui.scoring.v1.models_pb2_grpc import ModelServiceStub
from puhui.scoring.v1.products_pb2_grpc import ProductServiceStub
from puhui.scoring.v1.registry_pb2_grpc import RegistryServiceStub
from puhui.scoring.v1.reports_pb2_grpc import ReportServiceStub
from puhui.scoring.v1.scoring_pb2_grpc import ScoringServiceStub
from puhui_client.admission import AdmissionMethods
from puhui_client.bank import BankMethods
from puhui_client.consents import ConsentMethods
from puhui_client.credentials import Credentials
from puhui_client.deliveries import DeliveryMethods
from puhui_client.disputes import DisputeMethods
from puhui_client.firm import FirmMethods
from puhui_client.incidents import IncidentMethods
from puhui_client.notices import NoticeMethods
from puhui_client.platform import PlatformMethods
from puhui_client.provider import ProviderMethods
from puhui_client.quality import QualityMethods
from puhui_client.registry import RegistryMethods
from puhui_client.reports import ReportMethods
from puhui_client.retention import RetentionMethods
from puhui_client.supply import SupplyMethods
from puhui_client.transport import Tls, Transport


class Client(
    ProviderMethods,
    SupplyMethods,
    DeliveryMethods,
    QualityMethods,
    RetentionMethods,
    ConsentMethods,
    DisputeMethods,
    FirmMethods,
    NoticeMethods,
    IncidentMethods,
    BankMethods,
    ReportMethods,
    RegistryMethods,
    PlatformMethods,
    AdmissionMethods,
):
    """A participant's connection to the platform. Make it inside the event loop that uses it.

    Every call has a deadline. Reads, and writes by their `request_id`, are repeated when the
    platform does not answer for a moment; errors are the classes of `puhui_client.errors`.

    Args:
        address: the gateway, "host:port".
        credentials: `puhui_client.oauth.ClientKey` of an institution, or what else gives tokens; a
            text is an API key of the sandbox, "<key_id>.<secret>".
        timeout: seconds for a call that names none.
        tls: None is plaintext: for a sandbox on the same machine only.

    Example:
        >>> import asyncio
        >>> from puhui_client import Client, ConsentError
        >>>
        >>> async def main(api_key: str, subject_id: str, consent_id: str) -> None:
        ...     async with Client("127.0.0.1:7443", api_key) as bank:
        ...         try:
        ...             decision = await bank.score(
        ...                 subject_id, consent_id, officer="Wang 王", file_reference="A-17"
        ...             )
        ...         except ConsentError as refused:
        ...             print(refused.reason)
        ...         else:
        ...             print(decision.score, decision.grade, decision.reasons[0].text_en)
    """

    def __init__(
        self,
        address: str,
        credentials: str | Credentials,
        *,
        timeout: float = 10.0,
        tls: Tls | None = None,
    ) -> None:
        self._transport = Transport(address, credentials, timeout=timeout, tls=tls)
        channel = self._transport.channel
        self._accesses = AccessServiceStub(channel)
        self._catalogue = CatalogueServiceStub(channel)
        self._consents = ConsentServiceStub(channel)
        self._credentials = CredentialServiceStub(channel)
        self._decisions = DecisionServiceStub(channel)
        self._deliveries = DeliveryServiceStub(channel)
        self._disputes = DisputeServiceStub(channel)
        self._facts = FactServiceStub(channel)
        self._gateway = GatewayServiceStub(channel)
        self._incidents = IncidentServiceStub(channel)
        self._mandates = MandateServiceStub(channel)
        self._metering = MeteringServiceStub(channel)
        self._models = ModelServiceStub(channel)
        self._notices = NoticeServiceStub(channel)
        self._participants = ParticipantServiceStub(channel)
        self._products = ProductServiceStub(channel)
        self._quality = QualityServiceStub(channel)
        self._receipts = ReceiptServiceStub(channel)
        self._records = RecordServiceStub(channel)
        self._registry = RegistryServiceStub(channel)
        self._reports = ReportServiceStub(channel)
        self._retention = RetentionServiceStub(channel)
        self._reviews = ReviewServiceStub(channel)
        self._scoring = ScoringServiceStub(channel)
        self._subjects = SubjectServiceStub(channel)
        self._wanted = WantedServiceStub(channel)

    async def ready(self, timeout: float = 10.0) -> None:
        """Wait until the gateway can be reached.

        Args:
            timeout: seconds.

        Raises:
            UnavailableError: it cannot in that time.
        """
        await self._transport.ready(timeout)

    async def close(self) -> None:
        """Close the connection."""
        await self._transport.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()
