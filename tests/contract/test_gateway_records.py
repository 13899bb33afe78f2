"""Reads, receipts, lists and readiness over real connections."""

from grpc_health.v1 import health_pb2, health_pb2_grpc

from cbmdhi.command.v1 import code_pb2
from cbmdhi.command.v1.command_pb2 import BreakGlass, Consent, Role, SealedReason
from cbmdhi.gateway.v1 import gateway_pb2, gateway_pb2_grpc
from cbmdhi.protocol import command, envelope, hpke
from cbmdhi.protocol.ids import uuid7
from services.runtime.errors import code_name
from tests.contract.gateway_calls import CLINICIAN, ENGINE, PATIENT, records, refusal
from tests.contract.gateway_member import Member
from tests.support.fakes.gateway_people import CHANNEL, put
from tests.support.waiting import until

pytest_plugins = ("tests.contract.gateway_fixtures",)


async def test_a_reader_reads_decrypts_and_a_refusal_is_a_receipt_without_content(member: Member) -> None:
    one = put(ENGINE, PATIENT)
    engine, clinician = member.session(ENGINE), member.session(CLINICIAN, "clinician")
    submit = gateway_pb2_grpc.CommandServiceStub(engine.channel).Submit
    await submit(gateway_pb2.SubmitRequest(group=one.group, contents=one.contents), metadata=engine.metadata)
    access = CLINICIAN.access(PATIENT.address, one.body.record_id)
    request = gateway_pb2.ReadRequest(command=access)

    answer = await records(clinician).Read(request, metadata=clinician.metadata)
    again = await records(clinician).Read(request, metadata=clinician.metadata)

    key = hpke.open(
        CLINICIAN.hpke_keys[0],
        answer.opened.sealed_data_key,
        hpke.DATA_KEY,
        CLINICIAN.address,
        answer.receipt.command_id,
        one.body.record_id,
        "1",
    )
    binding = envelope.Binding(PATIENT.address, one.body.record_id, 1)
    assert envelope.open(answer.opened.blocks, key, binding).content == one.contents[0].content
    assert (again.receipt.already_committed, again.receipt.tx_id) == (True, answer.receipt.tx_id)
    assert member.storage.opened == [answer.receipt.tx_id] * 2

    refused = CLINICIAN.access(PATIENT.address, one.body.record_id)
    header, _ = command.parse(refused)
    member.ledger.refuse[header.command_id] = (code_pb2.CODE_FORBIDDEN, "no consent permits it")
    no = await records(clinician).Read(gateway_pb2.ReadRequest(command=refused), metadata=clinician.metadata)
    assert (code_name(no.receipt.code), no.receipt.reason) == ("FORBIDDEN", "no consent permits it")
    assert no.receipt.tx_id
    assert not no.HasField("opened")
    assert len(member.storage.opened) == 2


async def test_a_chart_is_read_in_one_call_and_one_bad_command_harms_no_other(member: Member) -> None:
    engine, clinician = member.session(ENGINE), member.session(CLINICIAN, "clinician")
    submit = gateway_pb2_grpc.CommandServiceStub(engine.channel).Submit
    written = [put(ENGINE, PATIENT) for _ in range(4)]
    for one in written:
        request = gateway_pb2.SubmitRequest(group=one.group, contents=one.contents)
        await submit(request, metadata=engine.metadata)
    commands = [CLINICIAN.access(PATIENT.address, one.body.record_id) for one in written]
    commands[1] = ENGINE.access(PATIENT.address, written[1].body.record_id)
    refused, _ = command.parse(commands[2])
    member.ledger.refuse[refused.command_id] = (code_pb2.CODE_FORBIDDEN, "no consent permits it")

    request = gateway_pb2.ReadManyRequest(commands=commands)
    first = (await records(clinician).ReadMany(request, metadata=clinician.metadata)).results
    again = (await records(clinician).ReadMany(request, metadata=clinician.metadata)).results

    assert code_name(first[1].error.code) == "FORBIDDEN"
    assert code_name(first[2].read.receipt.code) == "FORBIDDEN"
    assert not first[2].read.HasField("opened")
    for index in (0, 3):
        opened = first[index].read.opened
        assert opened.record.record_id == written[index].body.record_id
        assert opened.blocks[0] == member.storage.stored[opened.record.content.cid][0]
        receipt = again[index].read.receipt
        assert (receipt.already_committed, receipt.tx_id) == (True, first[index].read.receipt.tx_id)
    none = records(clinician).ReadMany(gateway_pb2.ReadManyRequest(), metadata=clinician.metadata)
    assert await refusal(none) == ("INVALID", "commands")
    unknown = records(clinician).ReadMany(request, metadata=(("authorization", "Bearer x"),))
    assert (await refusal(unknown))[0] == "UNAUTHENTICATED"


async def test_a_read_is_signed_by_the_caller_and_is_a_read(member: Member) -> None:
    caller = member.session(ENGINE)
    theirs = CLINICIAN.access(PATIENT.address, uuid7())
    consent = Consent(consent_id=uuid7(), patient=PATIENT.address)
    no_access = ENGINE.sign_command(command.make(consent, channel=CHANNEL))

    for signed, code in ((theirs, "FORBIDDEN"), (no_access, "INVALID")):
        call = records(caller).Read(gateway_pb2.ReadRequest(command=signed), metadata=caller.metadata)
        assert (await refusal(call))[0] == code
    signers = {one.item.group.commands[0].signer for batch in member.ledger.submitted for one in batch}
    assert signers <= {member.device.address}


async def test_a_receipt_is_found_by_its_signer_alone(member: Member) -> None:
    one = put(ENGINE, PATIENT)
    engine, clinician = member.session(ENGINE), member.session(CLINICIAN, "clinician")
    stub = gateway_pb2_grpc.CommandServiceStub(engine.channel)
    request = gateway_pb2.GetReceiptRequest(command_id=one.command_id)
    assert (await refusal(stub.GetReceipt(request, metadata=engine.metadata)))[0] == "NOT_FOUND"

    await stub.Submit(
        gateway_pb2.SubmitRequest(group=one.group, contents=one.contents), metadata=engine.metadata
    )

    found = await stub.GetReceipt(request, metadata=engine.metadata)
    assert found.receipt.receipt.command_id == one.command_id
    theirs = gateway_pb2_grpc.CommandServiceStub(clinician.channel)
    assert (await refusal(theirs.GetReceipt(request, metadata=clinician.metadata)))[0] == "NOT_FOUND"


async def test_a_broken_glass_is_shown_to_the_reviewers_whom_the_clinician_named(member: Member) -> None:
    named, other, command_id = ENGINE, PATIENT, uuid7()
    body = BreakGlass(sealed_reasons=[SealedReason(reviewer=named.address, sealed=bytes(1200))])
    signed = CLINICIAN.sign_command(command.make(body, channel=CHANNEL, command_id=command_id))
    member.ledger.glasses[command_id, CLINICIAN.address] = signed
    request = gateway_pb2.GetBrokenGlassRequest(break_glass_id=command_id, clinician=CLINICIAN.address)

    for role in ("administrator", "privacy_officer"):
        reviewer = member.session(named, role)
        answer = await records(reviewer).GetBrokenGlass(request, metadata=reviewer.metadata)
        assert answer.command == signed
    for person, role, code in (
        (other, "privacy_officer", "NOT_FOUND"),
        (named, "clinician", "FORBIDDEN"),
    ):
        caller = member.session(person, role)
        call = records(caller).GetBrokenGlass(request, metadata=caller.metadata)
        assert (await refusal(call))[0] == code
    reviewer = member.session(named, "administrator")
    for path in ("break_glass_id", "clinician"):
        wrong = gateway_pb2.GetBrokenGlassRequest(break_glass_id=command_id, clinician=CLINICIAN.address)
        setattr(wrong, path, "Dr. Somebody")
        call = records(reviewer).GetBrokenGlass(wrong, metadata=reviewer.metadata)
        assert await refusal(call) == ("INVALID", path)


async def test_lists_proofs_and_blobs(member: Member) -> None:
    patient = member.session(PATIENT, "patient")
    stub = records(patient)

    consents = await stub.ListConsents(gateway_pb2.ListConsentsRequest(), metadata=patient.metadata)
    audit = await stub.ListAudit(gateway_pb2.ListAuditRequest(), metadata=patient.metadata)
    assert consents.consents.patient == PATIENT.address
    assert audit.next_page_token == PATIENT.address
    bad_cid = stub.GetBlob(gateway_pb2.GetBlobRequest(cid="../x"), metadata=patient.metadata)
    assert await refusal(bad_cid) == ("INVALID", "cid")
    bad_id = stub.GetProof(gateway_pb2.GetProofRequest(command_id="a/b"), metadata=patient.metadata)
    assert await refusal(bad_id) == ("INVALID", "command_id")


async def test_the_device_registers_itself_and_serves_on(member: Member) -> None:
    await until(lambda: member.ledger.committed, "the device is registered")
    (key,) = member.ledger.committed
    assert key[0] == member.device.address
    registered = command.parse(member.ledger.submitted[0][0].item.group.commands[0])[1].register_identity
    assert registered.role == Role.ROLE_DEVICE
    assert registered.hpke_public_key == member.device.hpke_keys[1]


async def test_another_services_trouble_shows_in_readiness_and_ones_own_in_health_too(member: Member) -> None:
    stub = health_pb2_grpc.HealthStub(member.connect(ENGINE))
    assert (await stub.Check(health_pb2.HealthCheckRequest())).status == 1
    member.life.readiness.add("identity", _gone)
    report = await member.life.readiness.report()
    assert (report.ready, report.problems["identity"]) == (True, "away")
    member.life.readiness.add("own", _gone)

    async def not_serving() -> bool:
        return (await stub.Check(health_pb2.HealthCheckRequest())).status == 2

    await until(not_serving, "it says so")


async def _gone() -> str:
    return "away"
