"""A bare gRPC echo of 60 doubles on uvloop: what grpcio itself costs on this machine.

As a program it serves on loopback and writes its port to stdout.
"""

import asyncio
from typing import Any

import grpc
import uvloop
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from services.kit.server import until_signal

METHOD = "/puhui.bench.Echo/Echo"
DOUBLES = 60


def message_type() -> type[Any]:
    """The message: doubles, nothing else."""
    field = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(
        name="puhui/bench/echo.proto",
        package="puhui.bench",
        syntax="proto3",
        message_type=[
            descriptor_pb2.DescriptorProto(
                name="Doubles",
                field=[
                    field(
                        name="values",
                        number=1,
                        type=field.TYPE_DOUBLE,
                        label=field.LABEL_REPEATED,
                    )
                ],
            )
        ],
    )
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("puhui.bench.Doubles"))


def request() -> bytes:
    """What is sent, and what comes back."""
    body: bytes = message_type()(values=[n / 7 for n in range(DOUBLES)]).SerializeToString()
    return body


async def serve() -> None:
    """Serves until SIGTERM."""
    doubles = message_type()

    async def echo(message: Any, context: object) -> Any:
        return doubles(values=message.values)

    handler = grpc.unary_unary_rpc_method_handler(
        echo,
        request_deserializer=doubles.FromString,
        response_serializer=doubles.SerializeToString,
    )
    server = grpc.aio.server()
    service, name = METHOD[1:].split("/")
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler(service, {name: handler}),)
    )
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(port, flush=True)
    await until_signal()
    await server.stop(None)


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve())
