"""What every service shares and nothing more.

A service's `__main__.py` is a straight line: configuration, adapters, service, serve.

    async def serve(config: NotifyConfig, life: Lifecycle) -> None:
        file = config.require_data_directory() / "inbox.db"
        inbox = Inbox(await life.enter(Database(file, MIGRATIONS)))
        server = GrpcServer(config, life)
        server.add(notify_pb2_grpc.add_InboxServiceServicer_to_server, InboxServicer(inbox))
        await life.serve(server)

    if __name__ == "__main__":
        run(serve, NotifyConfig.load())

    errors      MeshError, codes, gRPC and HTTP statuses        peers      who is calling
    config      ServiceConfig and its sections                  client     connect, call, stream
    lifecycle   run, Lifecycle: resources, tasks, shutdown      server     GrpcServer
    events      JetStream publisher and durable consumer        batching   MicroBatcher
    retry       RetryBudget, backoff                            readiness  checks of dependencies
    telemetry   logs, traces, metrics                           sqlite     Database
"""
