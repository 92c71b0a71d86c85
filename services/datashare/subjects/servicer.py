"""SubjectService over gRPC."""

import grpc

from puhui.datashare.v1 import subjects_pb2, subjects_pb2_grpc
from services.datashare.subjects.app import ResolveSubject


class SubjectServicer(subjects_pb2_grpc.SubjectServiceServicer):
    """Translates SubjectService.

    Args:
        resolve: the use case.
    """

    def __init__(self, resolve: ResolveSubject) -> None:
        self._resolve = resolve

    async def ResolveSubject(
        self,
        request: subjects_pb2.ResolveSubjectRequest,
        context: grpc.aio.ServicerContext[object, object],
    ) -> subjects_pb2.ResolveSubjectResponse:
        return subjects_pb2.ResolveSubjectResponse(subject_id=await self._resolve(request.uscc))
