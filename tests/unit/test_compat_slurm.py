"""`zwrap.compat.zocalo.util.slurm`: the client of slurmrestd for code that asks Slurm itself."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from zwrap.compat.zocalo.util import slurm
from zwrap.compat.zocalo.util.slurm import models
from zwrap.compat.zocalo.util.slurm.records import NoFieldError
from zwrap.configuration.site import Configuration
from zwrap.errors import ConfigurationError, MessageError, TransportError


def part(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


TOKEN = f"{part({'alg': 'HS256'})}.{part({'sun': 'me'})}.c2ln"
JOBS = {
    "jobs": [
        {
            "job_id": 7,
            "job_state": ["RUNNING", "A_NEW_ONE"],
            "user_name": "gda2",
            "time_limit": {"set": True, "infinite": False, "number": 5},
            "nodes": "n1",
        }
    ],
    "errors": [{"error_number": 2017, "error": "No"}],
    "warnings": [],
    "meta": {"slurm": {"release": "23.11.1"}},
}


def api(answer: Callable[[httpx.Request], httpx.Response], **given: Any) -> slurm.SlurmRestApi:
    client = slurm.SlurmRestApi("http://slurm:6820/", "v0.0.40", "me", TOKEN)
    client.session = httpx.Client(
        transport=httpx.MockTransport(answer), headers=client.session.headers
    )
    return client


def test_jobs_are_records_with_the_fields_that_the_server_sends() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        assert request.headers["X-SLURM-USER-NAME"] == "me"
        assert request.headers["X-SLURM-USER-TOKEN"] == TOKEN
        assert request.url.path in ("/slurm/v0.0.40/jobs", "/slurm/v0.0.40/job/7")
        return httpx.Response(200, json=JOBS)

    found = api(answer).get_jobs()
    assert found == models.OpenapiJobInfoResp(**JOBS)
    [job] = found.jobs.root
    assert job == api(answer).get_job_info(7) == next(iter(dict(found.jobs)["root"]))
    assert isinstance(job, models.JobInfo)
    assert models.JobStateEnum.RUNNING in job.job_state
    assert [state.name for state in job.job_state] == ["RUNNING", "A_NEW_ONE"]
    assert job.time_limit.number == 5
    assert found.errors.root[0].error_number == 2017
    assert found.meta.slurm.release == "23.11.1"
    assert not hasattr(job, "partition")
    with pytest.raises(
        NoFieldError, match=r"JobInfo of slurmrestd has no field 'sate'. It has: job"
    ):
        _ = job.sate
    assert found.model_dump() == JOBS


def test_a_job_is_sent_without_the_fields_that_are_none() -> None:
    bodies = []

    def answer(request: httpx.Request) -> httpx.Response:
        bodies.append(json.loads(request.content))
        return httpx.Response(200, json={"job_id": 12, "errors": []})

    job = models.JobDescMsg(
        name="x",
        environment=["A=b"],
        account=None,
        time_limit=models.Uint32NoValStruct(number=5, set=True),
    )
    found = api(answer).submit_job(models.JobSubmitReq(script="#!/bin/sh", job=job))
    assert (found.job_id, found.errors.root) == (12, [])
    wanted = {"name": "x", "environment": ["A=b"], "time_limit": {"number": 5, "set": True}}
    assert bodies == [{"script": "#!/bin/sh", "job": wanted}]


def test_a_refusal_and_a_server_that_is_away_are_told_apart() -> None:
    def refuse(request: httpx.Request) -> httpx.Response:
        return httpx.Response(404, text="no such job")

    def away(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused")

    with pytest.raises(
        MessageError, match=r"refused GET http://slurm:6820/.*/job/1: 404"
    ) as caught:
        api(refuse).get_job_info(1)
    assert caught.value.response.text == "no such job"
    with pytest.raises(TransportError, match=r"slurmrestd at http://slurm:6820/.* cannot be used"):
        api(away).get_jobs()
    with pytest.raises(LookupError, match="on job 5 without a job"):
        api(lambda request: httpx.Response(200, json={})).get_job_info(5)
    for send in (api(refuse).put, api(refuse).post, api(refuse).delete):
        with pytest.raises(MessageError, match="404"):
            send("slurm/x")


def test_a_token_is_one_or_in_a_file(tmp_path: Path) -> None:
    file = tmp_path / "token"
    with pytest.raises(RuntimeError, match=r"token for slurmrestd in .*token cannot be read"):
        slurm.SlurmRestApi("http://s", user_token=file)
    with pytest.raises(ConfigurationError, match="neither a token nor the path of a file"):
        slurm.SlurmRestApi("http://s", user_token=str(file))
    with pytest.raises(RuntimeError, match="neither a token nor the path"):
        slurm.SlurmRestApi("http://s", user_token="x" * 5000)
    with pytest.raises(RuntimeError, match="needs a token"):
        slurm.SlurmRestApi("http://s")
    file.write_text("secret\n")
    assert slurm.SlurmRestApi("http://s", user_token=file).user_token == "secret"
    assert slurm.SlurmRestApi("http://s", user_token=str(file)).user_token == "secret"
    assert slurm.validate_is_jwt(TOKEN)
    for wrong in ("a.b", "a.b.c", f"{part([1])}.{part({})}.x", "é.é.é"):
        assert not slurm.validate_is_jwt(wrong)


def test_the_site_says_which_slurmrestd() -> None:
    zc = Configuration.from_string(
        f"""
        version: 1
        far: {{plugin: iris, url: http://iris, api_version: v0.0.44, user: me, user_token: {TOKEN}}}
        environments: {{default: [far]}}
        """
    ).activate()
    client = slurm.SlurmRestApi.from_zocalo_configuration(zc, cluster="iris")
    assert (client.url, client.version, client.user_name) == ("http://iris", "v0.0.44", "me")
    with pytest.raises(ConfigurationError, match="There is no slurmrestd 'slurm'"):
        slurm.SlurmRestApi.from_zocalo_configuration(zc)
