"""Requests for recommendations, which another service makes.

GET /recommendations  {"products": [...], "degraded": whether the service did not answer}

The page is worth showing without them: when they stay away, the list is empty, and that is said.
Attempts of one request carry its trace id, as AWS X-Ray wants it.
"""

import json
from http import HTTPStatus
from random import Random

from chaosgrade.policies.retry_notation import NotedPolicy
from chaosgrade.policies.retry_quota import RetryQuota
from chaosgrade.stage.workload.http_server import Handlers, Request, json_response
from chaosgrade.stage.workload.service_client import Answer, ServiceClient

_TRACE = "x-amzn-trace-id"


class RecommendationRequests:
    """Answers them.

    Args:
        service: asks the other service.
        url: of its recommendations.
        policy: how it is tried again.
        headers: of every answer.
    """

    def __init__(
        self, service: ServiceClient, url: str, policy: NotedPolicy, *headers: str
    ) -> None:
        self._service = service
        self._url = url
        self._retry = policy.retry
        self._quota = None if policy.quota is None else RetryQuota(policy.quota)
        self._random = Random()
        self._headers = headers

    def routes(self) -> Handlers:
        """Who answers what."""
        return {("GET", "/recommendations"): self._list}

    async def _list(self, request: Request) -> bytes:
        trace = request.headers.get(_TRACE)
        headers = {_TRACE: trace} if trace else {}

        async def ask() -> Answer:
            return await self._service.get(self._url, headers)

        answer = await self._retry.call(
            ask, retry_if=_may_help, random=self._random, quota=self._quota
        )
        products = json.loads(answer.body)["products"] if answer.ok else []
        told = {"products": products, "degraded": not answer.ok}
        return json_response(HTTPStatus.OK, told, *self._headers)


def _may_help(answer: Answer) -> bool:
    """Whether another try may end better."""
    return answer.status in (0, 429) or answer.status >= 500
