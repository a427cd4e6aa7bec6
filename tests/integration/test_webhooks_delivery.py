import base64
import datetime as dt
import json
import ssl
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from sqlalchemy import select, update
from standardwebhooks import Webhook

from indexer.db.encoders import Encoders
from indexer.db.galleries import Galleries
from indexer.db.jobs import Jobs
from indexer.db.models import Job, JobState, WebhookDelivery, utc_now
from indexer.db.rows import NewEncoder
from indexer.db.session import Database
from indexer.db.webhooks import Deliveries
from indexer.errors import InvalidRequest
from indexer.jobs.webhooks import BACKOFF_S, JITTER, DeliveryReport, deliver_due, require_receiver
from indexer.settings import Settings, WebhookSettings
from indexer.types import EncoderId, GalleryId, JobId
from tests.webhook_receiver import Receiver, running_receiver
from voxdex_client import verify_webhook
from voxdex_client.errors import WebhookVerificationError

SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()
_SPEC = NewEncoder(EncoderId("0575cb64/legacy"), "ecapa", "speechbrain", "0" * 64, "legacy", 192)


@pytest.fixture
def settings(record_settings: Settings) -> Settings:
    return _with(record_settings, secret=SECRET, allow_private=True)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with running_receiver() as running:
        yield running


def _with(settings: Settings, **webhooks: Any) -> Settings:
    return settings.model_copy(update={"webhooks": WebhookSettings(**webhooks)})


def _ended_job(database: Database, url: str | None, *, state: JobState = JobState.SUCCEEDED, number: int = 0) -> JobId:
    with database.session_scope() as session:
        encoder = Encoders(session).register(_SPEC)
        gallery_id = GalleryId(Galleries(session).get_or_create("secret archive", encoder).id)
        job_id = Jobs(session).start(gallery_id, kind="folder", source=f"/archive/ann-lee/{number}", found=3)
        job = Jobs(session).get(job_id)
        job.webhook_url, job.done, job.failed = url, 2, 1
        Jobs(session).finish(job_id, state)
        Deliveries(session).add(job)
    return job_id


def _row(database: Database, job_id: JobId) -> WebhookDelivery:
    with database.read_scope() as session:
        return session.scalars(select(WebhookDelivery).where(WebhookDelivery.job_id == job_id)).one()


def _make_due(database: Database) -> None:
    with database.session_scope() as session:
        session.execute(
            update(WebhookDelivery)
            .where(WebhookDelivery.next_attempt_at.is_not(None))
            .values(next_attempt_at=utc_now() - dt.timedelta(seconds=1))
        )


def test_a_receiver_is_told_once_of_a_jobs_end_in_a_message_that_both_verifiers_accept(
    database: Database, settings: Settings, receiver: Receiver
) -> None:
    job_id = _ended_job(database, receiver.url, state=JobState.SUCCEEDED_WITH_ERRORS)
    assert deliver_due(database, settings) == DeliveryReport(delivered=1)
    assert deliver_due(database, settings) == DeliveryReport()
    [message] = receiver.received
    payload = Webhook(SECRET).verify(message.body, message.headers)
    assert payload["type"] == "job.succeeded_with_errors"
    event = verify_webhook(SECRET, message.body, message.headers)
    assert (event.type, event.data.job_id, event.data.found, event.data.done, event.data.failed) == (
        "job.succeeded_with_errors",
        job_id,
        3,
        2,
        1,
    )
    assert message.headers["content-type"] == "application/json"
    assert message.headers["host"] == f"127.0.0.1:{receiver.port}"
    row = _row(database, job_id)
    assert row.delivered_at is not None
    assert (row.attempts, row.next_attempt_at, row.last_error) == (1, None, None)


def test_a_message_holds_no_names_and_no_paths(database: Database, settings: Settings, receiver: Receiver) -> None:
    _ended_job(database, receiver.url)
    deliver_due(database, settings)
    [message] = receiver.received
    assert b"ann-lee" not in message.body
    assert b"archive" not in message.body
    assert set(json.loads(message.body)) == {"type", "timestamp", "data"}


def test_a_changed_body_another_secret_and_an_old_message_are_told_apart(
    database: Database, settings: Settings, receiver: Receiver
) -> None:
    _ended_job(database, receiver.url)
    deliver_due(database, settings)
    [message] = receiver.received
    other = "whsec_" + base64.b64encode(b"x" * 32).decode()
    for secret, body, headers in (
        (SECRET, message.body.replace(b'"failed":1', b'"failed":0'), message.headers),
        (other, message.body, message.headers),
        (SECRET, message.body, message.headers | {"webhook-id": "msg_other"}),
        (SECRET, message.body, message.headers | {"webhook-timestamp": "1700000000"}),
        (SECRET, message.body, message.headers | {"webhook-timestamp": "soon"}),
        (SECRET, message.body, message.headers | {"webhook-signature": "v1,%%% v2,AAAA"}),
        (SECRET, message.body, {"webhook-id": "msg_1"}),
    ):
        with pytest.raises(WebhookVerificationError):
            verify_webhook(secret, body, headers)
    old = dt.datetime.now(dt.UTC) - dt.timedelta(minutes=6)
    signed = {
        "webhook-id": "msg_1",
        "webhook-timestamp": str(int(old.timestamp())),
        "webhook-signature": Webhook(SECRET).sign("msg_1", old, message.body.decode()),
    }
    with pytest.raises(WebhookVerificationError, match="last 300 s"):
        verify_webhook(SECRET, message.body, signed)
    assert verify_webhook(SECRET, message.body, signed, tolerance_s=600).id == "msg_1"


def test_a_refused_message_is_sent_again_with_the_same_id_until_it_is_taken(
    database: Database, settings: Settings, receiver: Receiver
) -> None:
    job_id = _ended_job(database, receiver.url)
    receiver.statuses = [500, 302]
    receiver.location = f"http://127.0.0.1:{receiver.port}/elsewhere"
    for attempt, status in ((1, 500), (2, 302)):
        before = utc_now()
        assert deliver_due(database, settings) == DeliveryReport(postponed=1)
        assert deliver_due(database, settings) == DeliveryReport()  # not before its time
        row = _row(database, job_id)
        assert (row.attempts, row.last_error) == (attempt, f"the receiver answered {status}")
        assert row.next_attempt_at is not None
        waits_s = (row.next_attempt_at - before).total_seconds()
        assert BACKOFF_S[attempt - 1] <= waits_s <= BACKOFF_S[attempt - 1] * (1 + JITTER) + 60
        _make_due(database)
    assert deliver_due(database, settings) == DeliveryReport(delivered=1)
    assert len({message.headers["webhook-id"] for message in receiver.received}) == 1
    assert [message.path for message in receiver.received] == ["/hook"] * 3  # no redirect was followed


@pytest.mark.parametrize("trickle", [False, True], ids=["silent", "trickling"])
def test_a_receiver_that_takes_too_long_is_left_and_tried_again(
    database: Database, settings: Settings, receiver: Receiver, trickle: bool
) -> None:
    job_id = _ended_job(database, receiver.url)
    receiver.delay_s, receiver.trickle = (0.0, True) if trickle else (5.0, False)
    assert deliver_due(database, settings, timeout_s=0.3) == DeliveryReport(postponed=1)
    assert _row(database, job_id).last_error == "no answer within 0.3 s"


def test_a_receiver_that_is_not_there_is_tried_as_often_as_the_settings_say(
    database: Database, settings: Settings
) -> None:
    with running_receiver() as stopped:
        url = stopped.url
    job_id = _ended_job(database, url + "?token=mine")
    settings = _with(settings, secret=SECRET, allow_private=True, attempts=3)
    reports = []
    for _ in range(4):
        reports.append(deliver_due(database, settings))
        _make_due(database)
    assert reports == [DeliveryReport(postponed=1)] * 2 + [DeliveryReport(given_up=1), DeliveryReport()]
    row = _row(database, job_id)
    assert (row.attempts, row.next_attempt_at, row.delivered_at) == (3, None, None)
    assert row.last_error == "the receiver cannot be reached (ConnectError)"


def test_a_receiver_that_answers_gone_is_not_asked_again(
    database: Database, settings: Settings, receiver: Receiver
) -> None:
    _ended_job(database, receiver.url)
    receiver.statuses = [410]
    assert deliver_due(database, settings) == DeliveryReport(given_up=1)


def test_senders_that_race_send_each_message_once(database: Database, settings: Settings, receiver: Receiver) -> None:
    jobs = [_ended_job(database, receiver.url, number=number) for number in range(12)]
    receiver.delay_s = 0.2
    with ThreadPoolExecutor(4) as pool:
        reports = list(pool.map(lambda _: deliver_due(database, settings), range(4)))
    assert sum(report.delivered for report in reports) == len(jobs)
    told = [json.loads(message.body)["data"]["job_id"] for message in receiver.received]
    assert sorted(told) == sorted(jobs)


def test_a_message_whose_sender_died_is_taken_up_by_another_and_given_up_when_the_tries_are_used_up(
    database: Database, settings: Settings, receiver: Receiver
) -> None:
    job_id = _ended_job(database, receiver.url)
    now = utc_now()
    with database.session_scope() as session:
        [claim] = Deliveries(session).claim_due(now, until=now + dt.timedelta(seconds=300), attempts=8, limit=32)
    assert deliver_due(database, settings) == DeliveryReport()
    _make_due(database)
    assert deliver_due(database, settings) == DeliveryReport(delivered=1)
    assert _row(database, job_id).attempts == 2
    with database.session_scope() as session:  # the first sender was not dead, and reports late
        Deliveries(session).failed(claim, "no answer", next_attempt_at=now)
    assert _row(database, job_id).delivered_at is not None

    other = _ended_job(database, receiver.url, number=1)
    with database.session_scope() as session:
        Deliveries(session).claim_due(utc_now(), until=utc_now(), attempts=8, limit=32)
    assert deliver_due(database, _with(settings, secret=SECRET, allow_private=True, attempts=1)) == DeliveryReport()
    assert _row(database, other).next_attempt_at is None


def test_a_job_that_is_taken_up_again_ends_with_a_message_of_its_own(
    database: Database, settings: Settings, receiver: Receiver
) -> None:
    job_id = _ended_job(database, receiver.url, state=JobState.SUCCEEDED_WITH_ERRORS)
    deliver_due(database, settings)
    with database.session_scope() as session:
        Deliveries(session).add(Jobs(session).get(job_id))  # the same end, noted twice
    assert deliver_due(database, settings) == DeliveryReport()
    with database.session_scope() as session:
        Jobs(session).finish(job_id, JobState.SUCCEEDED)
        Deliveries(session).add(Jobs(session).get(job_id))
    assert deliver_due(database, settings) == DeliveryReport(delivered=1)
    first, second = receiver.received
    assert first.headers["webhook-id"] != second.headers["webhook-id"]
    assert json.loads(second.body)["type"] == "job.succeeded"


def test_an_end_that_nobody_was_told_of_is_told_though_the_job_was_taken_up_again(
    database: Database, settings: Settings, receiver: Receiver
) -> None:
    job_id = _ended_job(database, receiver.url, state=JobState.SUCCEEDED_WITH_ERRORS)
    with database.session_scope() as session:
        Jobs(session).finish(job_id, JobState.SUCCEEDED)
        Deliveries(session).add(Jobs(session).get(job_id))
    assert deliver_due(database, settings) == DeliveryReport(delivered=2)
    told = {message.headers["webhook-id"]: json.loads(message.body)["type"] for message in receiver.received}
    assert sorted(told.values()) == ["job.succeeded", "job.succeeded_with_errors"]


def test_a_failure_that_nobody_foresaw_costs_its_own_message_only(
    database: Database, settings: Settings, receiver: Receiver
) -> None:
    broken, whole = _ended_job(database, receiver.url), _ended_job(database, receiver.url)
    with database.session_scope() as session:
        # No header holds this.
        session.execute(update(WebhookDelivery).where(WebhookDelivery.job_id == broken).values(message_id="msg_\u20ac"))
    assert deliver_due(database, settings) == DeliveryReport(delivered=1, postponed=1)
    assert _row(database, whole).delivered_at is not None
    assert _row(database, broken).last_error == "sending failed unexpectedly (UnicodeEncodeError)"


def test_a_job_that_nobody_asked_to_hear_of_leaves_no_message(database: Database) -> None:
    _ended_job(database, None)
    with database.read_scope() as session:
        assert session.scalars(select(WebhookDelivery)).all() == []


def test_the_end_of_a_job_that_goes_on_is_refused(database: Database, receiver: Receiver) -> None:
    job_id = _ended_job(database, receiver.url)
    with database.session_scope() as session:
        job = session.get_one(Job, job_id)
        job.state = JobState.RUNNING
        with pytest.raises(ValueError, match="has not ended"):
            Deliveries(session).add(job)


def test_a_receiver_inside_a_private_network_is_never_called_unless_the_settings_allow_it(
    database: Database, settings: Settings, receiver: Receiver
) -> None:
    # Accepted at submit, as a name may be; when it is called, it leads to this machine.
    strict = _with(settings, secret=SECRET)
    for url in (
        receiver.url,
        f"https://localtest.invalid.localhost:{receiver.port}/",
        f"https://[::1]:{receiver.port}/",
    ):
        job_id = _ended_job(database, url)
        assert deliver_due(database, strict) == DeliveryReport(given_up=1)
        assert _row(database, job_id).next_attempt_at is None
    assert receiver.received == []


def test_messages_wait_while_there_is_no_secret_that_signs(
    database: Database, settings: Settings, receiver: Receiver
) -> None:
    _ended_job(database, receiver.url)
    assert deliver_due(database, _with(settings)) == DeliveryReport()
    assert deliver_due(database, _with(settings, secret="whsec_YWJj", allow_private=True)) == DeliveryReport()
    assert deliver_due(database, settings) == DeliveryReport(delivered=1)


def test_tls_checks_the_certificate_of_the_name_at_the_address_that_was_resolved(
    database: Database, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = _server_tls(tmp_path, "localhost")
    with running_receiver(context) as receiver:
        _ended_job(database, receiver.url)
        assert deliver_due(database, settings) == DeliveryReport(postponed=1)  # nobody vouches for it
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "localhost.pem"))
        _make_due(database)
        assert deliver_due(database, settings) == DeliveryReport(delivered=1)
        assert receiver.names_asked_for[-1] == "localhost"
        assert receiver.received[-1].headers["host"] == f"localhost:{receiver.port}"
    other = _server_tls(tmp_path, "elsewhere.example")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "elsewhere.example.pem"))
    with running_receiver(other) as receiver:
        _ended_job(database, receiver.url)
        assert deliver_due(database, settings) == DeliveryReport(postponed=1)
        assert receiver.received == []


def _server_tls(folder: Path, name: str) -> ssl.SSLContext:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    chain, secret = folder / f"{name}.pem", folder / f"{name}.key"
    chain.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    secret.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain, secret)
    return context


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("http://example.org/hook", "not encrypted"),
        ("https://127.0.0.1/hook", "private network"),
        ("https://169.254.169.254/latest/meta-data", "private network"),
        ("https://[::ffff:10.0.0.1]/hook", "private network"),
        ("https://localhost./hook", "private network"),
        ("https://printer.local/hook", "private network"),
        ("https://ann:secret@example.org/hook", "user or a password"),
        ("ftp://example.org/hook", "no web address"),
        ("https:///hook", "no web address"),
        ("https://example.org:port/", "no URL"),
        ("https://example.org:99999/", "no URL"),
        ("https://xn--/", "no URL"),
        ("https://example.org/" + "a" * 2000, "2020 characters"),
        ("hook", "no web address"),
    ],
)
def test_a_receiver_that_may_not_be_called_is_refused_when_the_job_is_asked_for(url: str, reason: str) -> None:
    with pytest.raises(InvalidRequest, match=reason) as refusal:
        require_receiver(url, WebhookSettings(secret=SECRET))
    assert "secret" not in str(refusal.value)


def test_a_receiver_is_refused_while_nothing_can_be_signed() -> None:
    url = "https://example.org/hook"
    assert require_receiver(url, WebhookSettings(secret=SECRET)) == url
    for secret, reason in ((None, "WEBHOOKS__SECRET first"), ("whsec_a%", "not whsec_"), ("whsec_YWJj", "3 bytes")):
        with pytest.raises(InvalidRequest, match=reason):
            require_receiver(url, WebhookSettings(secret=secret))


def test_where_private_networks_are_allowed_plain_http_and_loopback_are_receivers() -> None:
    trusting = WebhookSettings(secret=SECRET, allow_private=True)
    for url in ("http://10.0.0.7:9000/hook", "http://localhost/hook", "http://[::1]/"):
        assert require_receiver(url, trusting) == url
