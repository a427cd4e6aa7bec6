import base64
import datetime as dt
import json
import re
from pathlib import Path
from typing import Any

import pytest
from standardwebhooks import Webhook

from indexer.settings import load_settings
from tests.api_kit import serving, wav
from tests.conftest import REPOSITORY
from voxdex_client import Client

PAGES = tuple(REPOSITORY / page for page in ("api/client/README.md", "docs/python-client.md", "docs/webhooks.md"))
SECRET = "whsec_" + base64.b64encode(bytes(32)).decode()


def examples(page: Path) -> list[str]:
    return re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)


def test_every_example_of_the_pages_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for seed, name in enumerate(("ada", "unknown", "caller", "one", "other", "a", "b")):
        (tmp_path / f"{name}.wav").write_bytes(wav(seed=seed))
    (tmp_path / "silence.wav").write_bytes(b"no audio at all")
    archive = tmp_path / "archive" / "bo"
    archive.mkdir(parents=True)
    (archive / "1.wav").write_bytes(wav(seed=9))
    (archive / "torn.wav").write_bytes(b"")
    code = [example for page in PAGES for example in examples(page)]
    assert len(code) == 7
    settings = load_settings(home=tmp_path / "home", database={}, jobs={"sweep_s": 0.5})
    with serving(settings) as service, Client(str(service.base_url)) as voxdex:
        given = {"voxdex": voxdex, "Client": Client, **_message()}
        for example in code:
            example = example.replace("http://127.0.0.1:8080", str(service.base_url)).replace("whsec_...", SECRET)
            example = example.replace(', key="vdx_..."', "")
            example = example.replace("/archive/2026", str(tmp_path / "archive"))
            exec(compile(example, "example", "exec"), dict(given))
    printed = capsys.readouterr().out
    for said in ("accept", "succeeded_with_errors", "corrupt-audio", "unsupported-format", "msg_1 job.succeeded 7"):
        assert said in printed


def _message() -> dict[str, Any]:
    now = dt.datetime.now(dt.UTC)
    counts = {"found": 1, "done": 1, "duplicate": 0, "failed": 0, "audio_s": 1.0, "speech_s": 1.0}
    data = {"job_id": 7, "gallery_id": 1, "state": "succeeded", **counts}
    data |= {"created_at": now.isoformat(), "finished_at": now.isoformat()}
    body = json.dumps({"type": "job.succeeded", "timestamp": now.isoformat(), "data": data})
    headers = {"Webhook-Id": "msg_1", "Webhook-Timestamp": str(int(now.timestamp()))}
    headers["Webhook-Signature"] = Webhook(SECRET).sign("msg_1", now, body)
    return {"secret": SECRET, "body": body.encode(), "headers": headers}
