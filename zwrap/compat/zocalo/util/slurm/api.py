"""The client of slurmrestd that python-zocalo has, for code that talks to Slurm itself.

zwrap's own submissions go another way (`schedulers/slurm/rest.py`).
"""

from __future__ import annotations

import base64
import json as jsonlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import httpx

from zwrap.compat.zocalo.util import responses
from zwrap.compat.zocalo.util.slurm import models
from zwrap.configuration.site import Configuration
from zwrap.errors import ConfigurationError
from zwrap.host.hiding import without_secrets

TIMEOUT_S = 60.0
"""Default of the longest wait for an answer, in seconds."""

Parameters = Mapping[str, Any]
"""Query parameters, or a form."""


class TokenError(ConfigurationError, RuntimeError):
    """There is no usable token for slurmrestd; python-zocalo raises RuntimeError then."""


def validate_is_jwt(token: str) -> bool:
    """Return whether a text is a token (RFC 7519): header, claims and signature."""
    parts = token.split(".")
    if len(parts) != 3:
        return False
    try:
        decoded = [
            jsonlib.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
            for part in parts[:2]
        ]
    except (ValueError, RecursionError):  # neither base64 nor JSON
        return False
    return all(isinstance(each, dict) for each in decoded)


class SlurmRestApi:
    """A client of slurmrestd.

    Methods that send raise, if slurmrestd refuses, an error that is a ``requests.HTTPError``, too,
    where package requests is loaded; `response` of it is the answer.
    """

    def __init__(
        self,
        url: str,
        version: str = "v0.0.44",
        user_name: str | None = None,
        user_token: str | Path | None = None,
    ) -> None:
        """Take the address, such as ``http://host:6820``, and the identity.

        Args:
            url: Address without a path.
            version: Version of the API.
            user_name: Name of the user; None: that of the token.
            user_token: A token, or the path of a file that holds one.

        Raises:
            TokenError: The text is not a token, or the file cannot be read.
        """
        self.url = url.rstrip("/")
        self.version = version
        self.user_name = user_name
        self.user_token = _token(user_token)
        headers = {"X-SLURM-USER-TOKEN": self.user_token}
        if user_name:
            headers["X-SLURM-USER-NAME"] = user_name
        self.session = httpx.Client(headers=headers, timeout=TIMEOUT_S)

    @classmethod
    def from_zocalo_configuration(cls, zc: Configuration, cluster: str = "slurm") -> Self:
        """Return a client for the slurmrestd of a configuration plugin (`slurm` or `iris`).

        Raises ConfigurationError if no section of that plugin is active.
        """
        given = getattr(zc, cluster, None)
        if not given:
            raise ConfigurationError(
                f"There is no slurmrestd {cluster!r} in your environment: a section with 'plugin: "
                f"{cluster}' must be active."
            )
        return cls(
            url=given["url"],
            version=given["api_version"],
            user_name=given.get("user"),
            user_token=given.get("user_token"),
        )

    def get(
        self, endpoint: str, params: Parameters | None = None, timeout: float | None = None
    ) -> httpx.Response:
        """Send a GET request; `timeout` is in seconds."""
        return self._request("GET", endpoint, params=params, timeout=timeout)

    def put(
        self,
        endpoint: str,
        params: Parameters | None = None,
        json: Parameters | None = None,
        timeout: float | None = None,
    ) -> httpx.Response:
        """Send a PUT request with a JSON body."""
        return self._request("PUT", endpoint, params=params, json=json, timeout=timeout)

    def post(
        self,
        endpoint: str,
        data: Parameters | None = None,
        json: Parameters | None = None,
        timeout: float | None = None,
    ) -> httpx.Response:
        """Send a POST request with a JSON body, or a form (`data`)."""
        return self._request("POST", endpoint, data=data, json=json, timeout=timeout)

    def delete(
        self, endpoint: str, params: Parameters | None = None, timeout: float | None = None
    ) -> httpx.Response:
        """Send a DELETE request."""
        return self._request("DELETE", endpoint, params=params, timeout=timeout)

    def get_jobs(self) -> models.OpenapiJobInfoResp:
        """Return the answer on all jobs; those are in ``jobs.root``."""
        return models.OpenapiJobInfoResp(**self.get(f"slurm/{self.version}/jobs").json())

    def get_job_info(self, job_id: int) -> models.JobInfo:
        """Return one job; LookupError if the answer holds none."""
        answer = self.get(f"slurm/{self.version}/job/{job_id}").json()
        found = models.OpenapiJobInfoResp(**{"jobs": [], **answer}).jobs.root
        if not found:
            raise LookupError(f"slurmrestd at {self.url} answered on job {job_id} without a job.")
        job: models.JobInfo = found[0]
        return job

    def submit_job(self, job_submission: models.JobSubmitReq) -> models.OpenapiJobSubmitResponse:
        """Submit a job; `job_id` of the answer is its id, ``errors.root`` what is wrong with it."""
        body = job_submission.model_dump(exclude_defaults=True)
        answer = self.post(f"slurm/{self.version}/job/submit", json=body)
        return models.OpenapiJobSubmitResponse(**answer.json())

    def _request(
        self, method: str, endpoint: str, *, timeout: float | None, **content: Parameters | None
    ) -> httpx.Response:
        """Send a request, and raise the errors that the class names."""
        url = f"{self.url}/{endpoint}"
        limit = TIMEOUT_S if timeout is None else timeout
        try:
            response = self.session.request(method, url, timeout=limit, **content)  # type: ignore[arg-type]
        except httpx.HTTPError as error:
            sentence = f"slurmrestd at {url} cannot be used: {error or type(error).__name__}."
            raise responses.unreachable(without_secrets(sentence)) from None
        if response.is_success:
            return response
        sentence = (
            f"slurmrestd refused {method} {url}: {response.status_code} {response.reason_phrase}."
        )
        raise responses.refused(without_secrets(sentence), response)


def _token(given: str | Path | None) -> str:
    """Return a token, or the one in a file; TokenError if there is none."""
    if given is None:
        raise TokenError(
            "slurmrestd needs a token: key 'user_token' of the section, a token or the path of a "
            "file that holds one."
        )
    if isinstance(given, Path) or os.path.isfile(given):  # noqa: PTH113 - a token may be too long for Path.is_file
        try:
            return Path(given).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise TokenError(
                f"The token for slurmrestd in {given} cannot be read: {error}."
            ) from None
    if not validate_is_jwt(given):
        raise TokenError(
            "The token for slurmrestd (key 'user_token') is neither a token nor the path of a file "
            "that is there; `scontrol token` makes one."
        )
    return given
