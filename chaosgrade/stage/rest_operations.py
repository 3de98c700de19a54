"""Names of operations in services that tell them by method, path and parameters only."""

from functools import cache
from typing import Any

import botocore.session
from botocore.exceptions import UnknownServiceError
from moto.core.request import Request
from moto.core.routing import get_service_router
from werkzeug.exceptions import HTTPException

_ALIASES = {
    "airflow": "mwaa",
    "apigateway": "apigateway apigatewayv2",
    "aps": "amp",
    "awsssoportal": "sso",
    "elasticfilesystem": "efs",
    "es": "es opensearch",
    "execute-api": "apigatewaymanagementapi",
    "geo": "location",
    "iotdata": "iot-data",
    "lex": "lexv2-models lexv2-runtime",
    "mobiletargeting": "pinpoint",
    "s3express": "s3",
    "ses": "sesv2",
    "sso-oauth": "sso-oidc",
}
"""Services by the name that requests are signed for, where boto3 has another name for them."""

_TWINS = {("s3express", "ListBuckets"): "ListDirectoryBuckets"}
"""Operations that are told from another by nothing but the name that requests are signed for."""


def operation(service: str, environ: dict[str, Any]) -> str:
    """The operation's name, such as "StartExperiment"; "" when the service has none there.

    Args:
        service: the name that the request is signed for.
        environ: the request, as WSGI has it.
    """
    for name in _ALIASES.get(service, service).split():
        if _is_rest(name):
            try:
                model, _ = get_service_router(name).match(Request(environ))
            except HTTPException:
                continue
            return _TWINS.get((service, str(model.name)), str(model.name))
    return ""


@cache
def _is_rest(name: str) -> bool:
    """Whether there is such a service, and one of this kind."""
    try:
        model = botocore.session.get_session().get_service_model(name)
    except UnknownServiceError:
        return False
    return str(model.metadata["protocol"]).startswith("rest-")
