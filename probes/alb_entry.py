"""The entry of one request in an access log of an Application Load Balancer.

Source: Elastic Load Balancing, User Guide for Application Load Balancers, "Access logs for your
Application Load Balancer".
"""

import re

ALB_ENTRY = re.compile(
    r"(?:https?|h2|grpcs|wss?) (?P<ended>\S+) \S+ (?P<address>\S+):(?P<port>\d+) \S+ "
    r"\S+ \S+ \S+ (?P<status>\S+) \S+ \S+ \S+ "
    r'"(?P<target>(?:[^"\\]|\\.)*)" "(?:[^"\\]|\\.)*" \S+ \S+ \S+ '
    r'"(?P<trace>[^"]*)" "[^"]*" "[^"]*" \S+ (?P<time>\S+)'
)
"""`time` is when the request came and `ended` when it was answered, both ISO 8601; `target` is what
was asked for, method, URL and version; `trace` is the field X-Amzn-Trace-Id."""
